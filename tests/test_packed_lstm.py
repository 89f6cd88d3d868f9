"""The packed LSTM is nn.LSTM: same values, same gradients, whatever the lengths and layers; packing is torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from packed_lstm import Packing, packed_lstm

N_UNITS, N_INPUTS = 4, 3
CPU = torch.device("cpu")
LENGTHS = [[3, 5, 1, 5], [4], [2, 2, 2], [1], [1, 1], [9, 1, 7]]
SHAPES = {"one direction": (False, False), "from a state": (False, True), "two directions": (True, False)}


def make(lengths, layers, bidirectional, with_state):
    torch.manual_seed(0)
    lstm = nn.LSTM(N_INPUTS, N_UNITS, layers, bidirectional=bidirectional).double()
    padded = torch.randn(len(lengths), max(lengths), N_INPUTS, dtype=torch.double, requires_grad=True)
    states = [torch.randn(layers, len(lengths), N_UNITS, dtype=torch.double, requires_grad=True) for _ in range(2)]
    return lstm, padded, tuple(states) if with_state else None, Packing(torch.tensor(lengths), CPU)


def through_torch(lstm, rows, packing, start):
    return lstm(packing.sequence(rows), start)[0].data


def values_and_gradients(run, lstm, padded, packing, start):
    """The output, padded again, and the gradients of something that depends on all of it."""
    output = packing.unpack(run(lstm, packing.pack(padded), packing, start))
    loss = (output.sin() * torch.arange(1.0, output.numel() + 1).view(output.shape)).sum()
    return [output, *torch.autograd.grad(loss, [padded, *(start or ()), *lstm.parameters()])]


@pytest.mark.parametrize(("bidirectional", "with_state"), SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_values_and_gradients_equal_those_of_nn_lstm(lengths, layers, bidirectional, with_state):
    """Whichever of the two runs, the output and every gradient are the same."""
    lstm, padded, state, packing = make(lengths, layers, bidirectional, with_state)
    expected = values_and_gradients(through_torch, lstm, padded, packing, state)
    found = values_and_gradients(packed_lstm, lstm, padded, packing, state)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.booleans())
def test_values_equal_those_of_nn_lstm_for_any_lengths(lengths, bidirectional):
    """No choice of lengths is special."""
    lstm, padded, _, packing = make(lengths, 1, bidirectional, False)
    rows = packing.pack(padded)
    expected = through_torch(lstm, rows, packing, None)
    torch.testing.assert_close(packed_lstm(lstm, rows, packing), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("bidirectional", "with_state"), SHAPES.values(), ids=SHAPES.keys())
def test_gradients_are_those_of_finite_differences(bidirectional, with_state):
    """torch's own numerical check agrees with the hand-written backward pass."""
    lstm, padded, state, packing = make([3, 1, 2], 2, bidirectional, with_state)

    def run(rows, *others):
        return packed_lstm(lstm, rows, packing, others[:2] if with_state else None)

    rows = packing.pack(padded).detach().requires_grad_()
    assert torch.autograd.gradcheck(run, (rows, *(state or ()), *lstm.parameters()))


def test_one_layer_need_not_have_gradients_for_its_inputs():
    """The weights' gradients do not depend on whether anybody asks for those of the inputs."""
    lstm, padded, _, packing = make([3, 1, 2], 1, True, False)
    rows = packing.pack(padded.detach())
    with_inputs = torch.autograd.grad(
        packed_lstm(lstm, rows.clone().requires_grad_(), packing).sin().sum(), lstm.parameters()
    )
    without = torch.autograd.grad(packed_lstm(lstm, rows, packing).sin().sum(), lstm.parameters())
    assert all(torch.equal(*pair) for pair in zip(with_inputs, without, strict=True))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_packing_is_that_of_torch(lengths):
    """Blocks and their order are those of a PackedSequence, and the first and last rows those of each sequence."""
    padded = torch.arange(len(lengths) * max(lengths)).view(len(lengths), -1, 1)
    packing = Packing(torch.tensor(lengths), CPU)
    sequence = packing.sequence(packing.pack(padded))
    in_order = sorted(range(len(lengths)), key=lambda n: -lengths[n])
    expected = pack_padded_sequence(padded[in_order], torch.tensor(lengths)[in_order], batch_first=True)
    assert torch.equal(sequence.data, expected.data)
    assert torch.equal(sequence.batch_sizes, expected.batch_sizes)
    assert packing.sizes == expected.batch_sizes.tolist()
    found, found_lengths = pad_packed_sequence(sequence, batch_first=True)
    assert found_lengths.tolist() == lengths
    assert torch.equal(found, packing.unpack(packing.pack(padded)))
    for n, length in enumerate(lengths):
        assert sequence.data[packing.first[n]] == padded[n, 0]
        assert sequence.data[packing.last[n]] == padded[n, length - 1]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_part_of_the_sequences_keeps_its_order_in_a_larger_batch(lengths, others):
    """The rows of some sequences among others stand in the order in which they stand alone."""
    alone, together = Packing(torch.tensor(lengths), CPU), Packing(torch.tensor(others + lengths), CPU)
    rows = together.sequence_of_row[together.sequence_of_row >= len(others)] - len(others)
    assert torch.equal(rows, alone.sequence_of_row)


def test_dropout_between_layers_is_on_in_training_only():
    """In training two runs differ, in evaluation they do not, and the first layer's input is never dropped."""
    torch.manual_seed(0)
    lstm, packing = nn.LSTM(N_INPUTS, 50, 2, dropout=0.5), Packing(torch.tensor([2, 2, 2]), CPU)
    rows = torch.randn(6, N_INPUTS)
    first, second = (packed_lstm(lstm, rows, packing) for _ in range(2))
    assert not torch.equal(first, second)
    lstm.eval()
    torch.testing.assert_close(packed_lstm(lstm, rows, packing), through_torch(lstm, rows, packing, None))
