"""The packed LSTM is nn.LSTM: same values, same gradients, whatever the lengths, layers, directions and start."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from packed_lstm import dropped, packed_lstm, random_keep_mask

N_UNITS, N_INPUTS = 4, 3


def make(lengths, layers, bidirectional, with_state):
    torch.manual_seed(0)
    lstm = nn.LSTM(N_INPUTS, N_UNITS, layers, bidirectional=bidirectional).double()
    padded = torch.randn(len(lengths), max(lengths), N_INPUTS, dtype=torch.double, requires_grad=True)
    n_states = layers * (2 if bidirectional else 1)
    states = [torch.randn(n_states, len(lengths), N_UNITS, dtype=torch.double, requires_grad=True) for _ in range(2)]
    return lstm, padded, tuple(states) if with_state else None


def values_and_gradients(run, lstm, padded, lengths, state):
    packed = pack_padded_sequence(padded, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    output, (h, c) = run(packed, state)
    loss = output.data.sin().sum() + (2 * h).cos().sum() + (c**3).sum()
    return [output.data, h, c, *torch.autograd.grad(loss, [padded, *(state or ()), *lstm.parameters()])]


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", [[3, 5, 1, 5], [4], [2, 2, 2], [1], [1, 1], [9, 1, 7]])
def test_values_and_gradients_equal_those_of_nn_lstm(lengths, layers, bidirectional, with_state):
    """Whichever of the two runs, outputs, states and every gradient are the same."""
    lstm, padded, state = make(lengths, layers, bidirectional, with_state)
    expected = values_and_gradients(lstm, lstm, padded, lengths, state)
    found = values_and_gradients(lambda p, s: packed_lstm(lstm, p, s), lstm, padded, lengths, state)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.booleans())
def test_values_equal_those_of_nn_lstm_for_any_lengths(lengths, bidirectional):
    """No choice of lengths is special."""
    lstm, padded, _ = make(lengths, 1, bidirectional, False)
    packed = pack_padded_sequence(padded, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(packed_lstm(lstm, packed)[0].data, lstm(packed)[0].data, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_are_those_of_finite_differences(bidirectional):
    """torch's own numerical check agrees with the hand-written backward pass."""
    lengths = [3, 1, 2]
    lstm, padded, state = make(lengths, 2, bidirectional, True)
    packed = pack_padded_sequence(padded, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    parameters = list(lstm.parameters())

    def run(data, h0, c0, *_):
        output, (h, c) = packed_lstm(lstm, packed._replace(data=data), (h0, c0))
        return output.data, h, c

    rows = packed.data.detach().requires_grad_()
    assert torch.autograd.gradcheck(run, (rows, *state, *parameters))


def test_sorted_input_without_an_order_is_accepted():
    """A PackedSequence that was sorted to begin with carries no order; it means the order it has."""
    lstm, padded, _ = make([5, 3, 1], 2, True, False)
    packed = pack_padded_sequence(padded, torch.tensor([5, 3, 1]), batch_first=True)
    assert packed.sorted_indices is None
    for ours, theirs in zip(packed_lstm(lstm, packed)[1], lstm(packed)[1], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dropout_between_layers_is_on_in_training_only():
    """In training two runs differ, in evaluation they do not, and the first layer's input is never dropped."""
    torch.manual_seed(0)
    lstm = nn.LSTM(N_INPUTS, 50, 2, dropout=0.5)
    packed = PackedSequence(torch.randn(6, N_INPUTS), torch.tensor([3, 3]))
    first, second = (packed_lstm(lstm, packed)[0].data for _ in range(2))
    assert not torch.equal(first, second)
    lstm.eval()
    torch.testing.assert_close(packed_lstm(lstm, packed)[0].data, lstm(packed)[0].data)


@pytest.mark.parametrize("dropout", [0.5, 0.1, 0.8])
def test_dropout_keeps_the_right_share_and_the_mean(dropout):
    """As many units are dropped as asked for, independently of their place, and the rest is scaled to keep the mean."""
    torch.manual_seed(0)
    n = 400_000
    keep, share = random_keep_mask(torch.Size([n]), dropout)
    assert share == pytest.approx(1 - dropout, abs=2**-16)
    assert keep.float().mean().item() == pytest.approx(1 - dropout, abs=4 * (dropout * (1 - dropout) / n) ** 0.5)
    for lag in (1, 2, 3, 4, 8):
        centred = keep.double() - keep.double().mean()
        assert abs((centred[lag:] * centred[:-lag]).mean().item()) < 4 * dropout * (1 - dropout) / n**0.5
    values = dropped(torch.ones(n), dropout, training=True)
    assert values.mean().item() == pytest.approx(1, abs=0.02)
    assert values.unique().tolist() == [0.0, pytest.approx(1 / share)]


def test_dropout_is_off_in_evaluation_and_at_zero():
    """Nothing is drawn and nothing changes where there is nothing to drop."""
    values = torch.randn(5)
    state = torch.get_rng_state()
    assert dropped(values, 0.5, training=False) is values
    assert dropped(values, 0.0, training=True) is values
    assert torch.equal(torch.get_rng_state(), state)
