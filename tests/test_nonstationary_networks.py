"""The networks look only back, compute what their equations say, and start from the weights they should.

Letters as in the modules: B sequences, T steps, K symbols. The plain versions here take one sequence and go number by
number, in float64.
"""

import copy
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from nonstationary.network_config import POSITIONS, RECURRENT, NetworkConfig
from nonstationary.networks import log_probs, make_network
from nonstationary.recurrent import FusedCore, StackCore
from nonstationary.transformer import AT_ONCE, alibi_slopes

K, B, T, BLOCK = 3, 2, 12, 4
SMALL = NetworkConfig(num_symbols=K, hidden_size=5, n_stacks=2, stack_size=3, stack_cell_size=2)
SMALL = replace(SMALL, emb_size=12, nheads=3, nlayers=2, ff_mult=2, dropout=0.0)
WITH_STATE = {model: replace(SMALL, model=model) for model in RECURRENT}
WITH_STATE |= {f"{model}, mlps": replace(WITH_STATE[model], before_mlp=(8, 6), after_mlp=(9, 8)) for model in RECURRENT}
WHOLE = {name: replace(SMALL, model="transformer", pos_enc=name) for name in POSITIONS}
WINDOWED = {f"{name}, window": replace(config, attention_window=5) for name, config in WHOLE.items()}
BLOCKWISE = {f"{name}, blocks": replace(config, context_length=BLOCK) for name, config in WHOLE.items()}
HEADS = {f"{name}, heads": replace(config, head_size=6, max_time=50.0) for name, config in WHOLE.items()}
TRANSFORMERS = WHOLE | WINDOWED | BLOCKWISE | HEADS
VARIANTS = WITH_STATE | TRANSFORMERS


def shaken(config, seed=3):
    """A network whose weights, biases and scales are all off their first values."""
    network = make_network(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def drawn(batch=B, length=T, num_symbols=K):
    return torch.randint(num_symbols, (batch, length), generator=torch.Generator().manual_seed(7))


def logits_of(network, symbols):
    with torch.inference_mode():
        return network(symbols)[0]


def with_other(symbols, steps):
    changed = symbols.clone()
    changed[:, steps] = (changed[:, steps] + 1) % K
    return changed


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_row_depends_on_the_symbols_so_far_and_on_nothing_else(name):
    """Not on later symbols, nor on how many will come, nor on other sequences; but on the last one, and the first."""
    network, symbols = shaken(VARIANTS[name]), drawn()
    logits = logits_of(network, symbols)
    assert (logits.shape, logits.dtype) == ((B, T, K), torch.float32)
    for row in range(B):
        torch.testing.assert_close(logits_of(network, symbols[row : row + 1]), logits[row : row + 1])
    for step in range(T):
        again = logits_of(network, with_other(symbols, slice(step, None)))
        close(again[:, :step], logits[:, :step], atol=1e-6)
        assert (again[:, step] - logits[:, step]).abs().amax(1).min() > 1e-4
    for length in (4, 8) if name in BLOCKWISE else (1, 2, 7, 11):
        torch.testing.assert_close(logits_of(network, symbols[:, :length]), logits[:, :length])
    if name in WITH_STATE | WHOLE:  # without window or blocks
        changed = logits_of(network, with_other(symbols[:, :6], 0))
        assert (changed - logits[:, :6])[:, -1].abs().max() > 1e-4
    predicted = log_probs(network, symbols)  # of the symbols from the second on, normalised
    assert predicted.dtype == torch.float64
    close(predicted, logits[:, :-1].double().log_softmax(2))


@pytest.mark.parametrize("name", WHOLE)
def test_predictions_know_no_dropout(name):
    """Training passes differ from one another; log_probs is the same every time, even right after training."""
    network, symbols = make_network(replace(WHOLE[name], dropout=0.5), 1), drawn()
    network.train()
    assert not torch.equal(network(symbols)[0], network(symbols)[0])
    assert torch.equal(log_probs(network, symbols), log_probs(network.train(), symbols))


# The recurrent networks, number by number


def plain_mlp(layers, x):
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linears):
        x = layer.weight @ (x.relu() if number else x) + layer.bias
    return x


def plain_core_weights(core):
    if isinstance(core, StackCore):
        bias = core.from_input.bias + (0 if core.from_hidden.bias is None else core.from_hidden.bias)
        return core.from_input.weight, core.from_hidden.weight, bias
    return core.rnn.weight_ih_l0, core.rnn.weight_hh_l0, core.rnn.bias_ih_l0 + core.rnn.bias_hh_l0


def plain_stack(stack, pushed, logits):
    """One step of one stack, a list of cells: above the top is what is pushed, below the bottom zeros."""
    push, pop, stay = logits.softmax(0)
    below = [*stack[1:], torch.zeros_like(pushed)]
    above = [pushed, *stack[:-1]]
    return [push * a + pop * b + stay * cell for a, b, cell in zip(above, below, stack, strict=True)]


def plain_recurrent(network, config, symbols):
    """Logits of one sequence."""
    network = copy.deepcopy(network).double()
    n, size, width = config.n_stacks, config.stack_size, config.stack_cell_size
    has_stacks = config.model.startswith("stack_")
    from_input, from_hidden, bias = plain_core_weights(network.core)
    hidden = cell = torch.zeros(config.hidden_size, dtype=torch.float64)
    stacks = [[hidden.new_zeros(width)] * size for _ in range(n)]
    rows = []
    for symbol in symbols:
        given = plain_mlp(network.before, functional.one_hot(symbol, config.num_symbols).double())
        if has_stacks:
            given = torch.cat([given, *(stack[0] for stack in stacks)])
        gates = from_input @ given + from_hidden @ hidden + bias
        if config.model.endswith("lstm"):
            i, f, g, o = gates.view(4, -1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
        else:
            hidden = gates.relu()
        if has_stacks:
            to_stacks = network.core.to_stacks.weight @ hidden + network.core.to_stacks.bias
            pushed, logits = to_stacks[: n * width].view(n, width), to_stacks[n * width :].view(n, 3)
            stacks = [plain_stack(*of_one) for of_one in zip(stacks, pushed, logits, strict=True)]
        rows.append(network.output.weight @ plain_mlp(network.after, hidden).relu() + network.output.bias)
    return torch.stack(rows)


@pytest.mark.parametrize("name", WITH_STATE)
def test_a_recurrent_network_computes_its_equations(name):
    """ReLU-RNN, LSTM with torch's order of gates, stacks of both, and the layers around: number by number."""
    network, symbols = shaken(WITH_STATE[name]), drawn()
    logits = logits_of(network, symbols)
    for row in range(B):
        close(logits[row].double(), plain_recurrent(network, WITH_STATE[name], symbols[row]).detach(), atol=1e-4)


@pytest.mark.parametrize(("length", "with_state"), [(1, True), (7, False)])
def test_the_relu_rnn_is_that_of_torch(length, with_state):
    """The same states as torch.nn.RNN and the same gradients in inputs, weights and the state before, to rounding."""
    torch.manual_seed(1)
    core = FusedCore(3, replace(SMALL, model="rnn"), torch.Generator().manual_seed(1)).double()
    inputs = torch.randn(length, 4, 3, dtype=torch.float64, requires_grad=True)
    state = torch.rand(1, 4, 5, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(length, 4, 5, dtype=torch.float64), torch.randn(1, 4, 5, dtype=torch.float64)
    given = [inputs, *core.rnn.parameters(), *([state] if with_state else [])]
    steps, (last,) = core(inputs, (state,) if with_state else None)
    plain_steps, plain_last = core.rnn(inputs, state if with_state else None)
    torch.testing.assert_close(steps, plain_steps)
    torch.testing.assert_close(last, plain_last)
    assert last.untyped_storage().nbytes() == last.nbytes  # whoever keeps it keeps no other steps
    found = torch.autograd.grad((steps, last), given, pull)
    for one, expected in zip(found, torch.autograd.grad((plain_steps, plain_last), given, pull), strict=True):
        torch.testing.assert_close(one, expected)


# The transformer, number by number


def plain_sinusoid(position, width, max_time):
    angles = [position / max_time ** (f / width) for f in range(0, width, 2)]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)


SLOPES_OF_THREE_HEADS = (1 / 16, 1 / 256, 1 / 4)


def plain_attention(layer, config, hidden):
    """Causal attention within one sequence, (T, E) -> (T, E), score by score."""
    width, window = config.head_size or config.emb_size // config.nheads, config.attention_window
    query, key, value = (hidden @ part.weight.T for part in (layer.query, layer.key, layer.value))
    read = torch.zeros_like(query)
    for head in range(config.nheads):
        own = slice(head * width, (head + 1) * width)

        def score(i, j, head=head, own=own):
            q, k = query[i, own], key[j, own]
            if config.pos_enc == "relative":
                distance = layer.relative.weight @ plain_sinusoid(i - j + 1, query.shape[1], config.max_time)
                return ((q + layer.u[head, 0]) @ k + (q + layer.v[head, 0]) @ distance[own]) / math.sqrt(width)
            is_biased = config.pos_enc == "alibi" and i != j
            return q @ k / math.sqrt(width) + is_biased * SLOPES_OF_THREE_HEADS[head] * (0.5 - (i - j))

        for i in range(len(hidden)):
            seen = [j for j in range(i + 1) if window is None or i - j <= window // 2]
            weights = torch.stack([score(i, j) for j in seen]).softmax(0)
            read[i, own] = weights @ value[seen, own]
    return read @ layer.merge.weight.T


def plain_norm(norm, hidden):
    return functional.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, eps=1e-5)


def plain_transformer(network, config, symbols):
    """Logits of one sequence, or of one block."""
    network = copy.deepcopy(network).double()
    hidden = network.embedding.weight[symbols] * math.sqrt(config.emb_size)
    if config.pos_enc == "sincos":
        places = [plain_sinusoid(step, config.emb_size, config.max_time) for step in range(len(symbols))]
        hidden = hidden + torch.stack(places)
    for block in network.blocks:
        hidden = plain_norm(block.attention_norm, hidden + plain_attention(block.attention, config, hidden))
        wide = (hidden @ block.wide.weight.T + block.wide.bias).relu()
        hidden = plain_norm(block.feed_forward_norm, hidden + wide @ block.narrow.weight.T + block.narrow.bias)
    return hidden @ network.output.weight.T + network.output.bias


@pytest.mark.parametrize("name", WHOLE | WINDOWED | HEADS)
def test_a_transformer_computes_its_equations(name):
    """Each encoding, with and without a window: score by score, norm after each sublayer."""
    network, symbols = shaken(VARIANTS[name]), drawn(length=8)
    logits = logits_of(network, symbols)
    with torch.no_grad():
        for row in range(B):
            close(logits[row].double(), plain_transformer(network, VARIANTS[name], symbols[row]), atol=1e-4)


@pytest.mark.parametrize("pos_enc", POSITIONS)
def test_blocks_know_nothing_of_one_another(pos_enc):
    """With a context length a sequence is read as its blocks would be, each as a sequence of its own."""
    network, symbols = shaken(BLOCKWISE[f"{pos_enc}, blocks"]), drawn()
    whole = shaken(WHOLE[pos_enc])  # the same weights
    blocks = [logits_of(whole, block) for block in symbols.split(BLOCK, dim=1)]
    torch.testing.assert_close(logits_of(network, symbols), torch.cat(blocks, dim=1))
    with pytest.raises(ValueError, match="a length of 11 is not divisible by the network's context_length 4"):
        network(symbols[:, :-1])


@pytest.mark.parametrize(
    ("nheads", "slopes"),
    [
        (1, [1 / 256]),
        (3, SLOPES_OF_THREE_HEADS),  # of two heads, then the first of four
        (12, [2**-k for k in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_alibi_slopes(nheads, slopes):
    """Geometric for powers of two; else those of the power below and every second one of its double."""
    assert alibi_slopes(nheads) == pytest.approx(slopes)


@pytest.mark.parametrize("at_once", [1, 2 * 3 * T**2])
def test_relative_positions_do_not_depend_on_how_much_is_done_at_once(at_once, monkeypatch):
    """One sequence at a time, two, or all: the same logits."""
    network, symbols = shaken(VARIANTS["relative"]), drawn(batch=5)
    expected = logits_of(network, symbols)
    monkeypatch.setitem(AT_ONCE, "cpu", at_once)
    torch.testing.assert_close(logits_of(network, symbols), expected)


PEAK = """
import resource, torch
from common.devices import keep_freed_memory
from nonstationary.transformer import AT_ONCE, attend_relatively
keep_freed_memory()
AT_ONCE["cpu"] = 1
def attend(batch):
    parts = [torch.randn(batch, 1, 512, 4) for _ in range(4)]
    with torch.inference_mode():
        attend_relatively(*parts, torch.randn(1, 1, 512, 4), torch.zeros(1, 1, 512, 512))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(attend(2), attend(200))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in kilobytes there")
def test_relative_positions_keep_no_scores_of_the_whole_batch():
    """Scores of 200 sequences of 512 symbols are 210 MB; one sequence at a time needs a fraction of that."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert many - few < 60_000


# Sizes and first weights


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "lstm"}, 67_330),
        ({"model": "rnn"}, 17_154),
        ({"model": "stack_rnn"}, 17_154 + 8 * 128 + 129 * (8 + 3)),
        ({"model": "stack_lstm"}, 67_330 + 8 * 512 + 129 * (8 + 3)),
        *(({"model": "transformer", "pos_enc": name}, 248_898) for name in ("none", "sincos", "alibi")),
        ({"model": "transformer", "pos_enc": "relative"}, 248_898 + 21_120),
    ],
)
def test_the_defaults_have_as_many_weights_as_they_should(changes, expected):
    """Trainable weights at K = 2; the second bias that torch gives an LSTM is not one of them."""
    network = make_network(NetworkConfig(**changes), 1)
    assert sum(weight.numel() for weight in network.parameters() if weight.requires_grad) == expected


@pytest.mark.parametrize("model", [*RECURRENT, "transformer"])
def test_first_weights_are_cut_normals(model):
    """Standard deviation 1/sqrt(fan-in) before the cut at twice that, which leaves 0.88 of it; 0.02 for embeddings."""
    wide = NetworkConfig(hidden_size=64, n_stacks=2, before_mlp=(48,), after_mlp=(40,), nlayers=2)
    if model == "transformer":
        wide = replace(wide, num_symbols=50)
    for name, weight in make_network(replace(wide, model=model, pos_enc="relative"), 5).named_parameters():
        if weight.ndim != 2:
            continue
        fan_in = weight.shape[1]
        if model.endswith("lstm") and "core" in name and "to_stacks" not in name:  # an LSTM has one map of all
            fan_in = 48 + 64 + 2 * 8 * (model == "stack_lstm")
        scaled = weight.detach() * (50 if "embedding" in name else math.sqrt(fan_in))
        assert scaled.abs().max() <= 2 + 1e-5, name
        assert scaled.std().item() == pytest.approx(0.88, rel=3 / math.sqrt(2 * weight.numel())), name
        assert abs(scaled.mean().item()) < 4 / math.sqrt(weight.numel()), name


@pytest.mark.parametrize("name", VARIANTS)
def test_the_other_first_weights(name):
    """Biases are 0 but for an LSTM's forget gates, 1 in one bias; norms are the identity, u and v normals of 0.02."""
    hidden = SMALL.hidden_size
    for parameter_name, parameter in make_network(VARIANTS[name], 1).named_parameters():
        if parameter_name.endswith((".u", ".v")):
            assert 0.01 < parameter.std() < 0.03
        elif parameter_name.endswith("norm.weight"):
            assert (parameter == 1).all()
        elif "bias" in parameter_name:
            expected = torch.zeros_like(parameter)
            if parameter_name in ("core.rnn.bias_ih_l0", "core.from_input.bias") and "lstm" in name:
                expected[hidden : 2 * hidden] = 1
            torch.testing.assert_close(parameter.data, expected)


@pytest.mark.parametrize("name", [*RECURRENT, "relative"])
def test_first_weights_depend_on_their_seed_alone(name):
    """What else torch has drawn does not matter; another seed gives other weights, and u others than v."""
    torch.manual_seed(1)
    one = make_network(VARIANTS[name], 4).state_dict()
    torch.manual_seed(2)
    again, other = (make_network(VARIANTS[name], seed).state_dict() for seed in (4, 5))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in one if one[key].ndim > 1)
    if name == "relative":
        assert not torch.equal(one["blocks.0.attention.u"], one["blocks.0.attention.v"])
