"""What the network has to compute, derived from the paper's equations by code that shares nothing with the network.

    python tests/oracle/derive.py    # writes expected.json beside this file, the same each time; about a minute

Everything is written out as the equations read: one sequence, one step, one attention weight after the other, in numpy.
Nothing of this project and no torch is imported; only the parameters' names and the layout of a saved network (gates i,
f, g, o stacked; matrices that multiply from the left) are taken over, so that both sides can be given equal weights.
`tests/test_oracle.py` holds the network equal to the file.

Where the paper leaves a choice open, the project's stated choices hold: the README's table of differences and the
docstring of `model.py`. These are: the two directions are added up; keys, values and, without memory, the decoder's
start are the top layer's final states; the start is the hidden and the cell state of every decoder layer; biases
everywhere; both attentions scaled by 1/sqrt(m); padded steps take part in the decoder's attention unless masked.

Shapes: S support items, T input steps, U output steps, m units, V output symbols, L steps that queries are padded to.
A list of vectors stands for a matrix with one row a step or item. Source: Lake 2019, Section 3.
"""

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]  # float64; complex128 while a derivative is taken
Weights = dict[str, Array]
Vectors = list[Array]

EXPECTED = Path(__file__).with_name("expected.json")

INPUT_WORDS = ["dax", "lug", "wif", "zup"]
OUTPUT_WORDS = ["RED", "GREEN", "BLUE"]
SUPPORT = [["dax", "RED"], ["lug wif", "GREEN BLUE GREEN RED BLUE"], ["zup", "BLUE BLUE"]]
QUERIES = [["lug", "GREEN"], ["wif dax lug", "BLUE RED RED GREEN RED"], ["zup wif", "RED BLUE GREEN"]]
PADDED_LENGTH = 4  # L, EOS included; the second query is as long
N_UNITS = 4  # m

IMAGINARY_STEP = 1e-20
ZERO = np.zeros(N_UNITS)


@dataclass(frozen=True)
class Case:
    """One variant of the network."""

    layers: int
    memory: bool
    attention: bool
    mask_padding: bool


CASES = [Case(*choice) for choice in product((1, 2), (True, False), (True, False), (False, True))]


# Weights


def lstm_shapes(prefix: str, layers: int, directions: int) -> dict[str, tuple[int, ...]]:
    """Name the parameters of an LSTM; from the second layer on it reads all directions of the layer below."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, suffix in product(range(layers), ("", "_reverse")[:directions]):
        n_inputs = N_UNITS if layer == 0 else directions * N_UNITS
        shapes[f"{prefix}.weight_ih_l{layer}{suffix}"] = (4 * N_UNITS, n_inputs)
        shapes[f"{prefix}.weight_hh_l{layer}{suffix}"] = (4 * N_UNITS, N_UNITS)
        shapes[f"{prefix}.bias_ih_l{layer}{suffix}"] = (4 * N_UNITS,)
        shapes[f"{prefix}.bias_hh_l{layer}{suffix}"] = (4 * N_UNITS,)
    return shapes


def shapes_of(case: Case) -> dict[str, tuple[int, ...]]:
    """Name all parameters of a network, with their shapes; a vocabulary has two symbols more than words."""
    n_inputs, n_outputs = len(INPUT_WORDS) + 2, len(OUTPUT_WORDS) + 2
    concatenation = {"weight": (N_UNITS, 2 * N_UNITS), "bias": (N_UNITS,)}
    shapes: dict[str, tuple[int, ...]] = {"input_encoder.embedding.weight": (n_inputs, N_UNITS)}
    shapes |= lstm_shapes("input_encoder.lstm", case.layers, directions=2)
    if case.memory:
        shapes["output_encoder.embedding.weight"] = (n_outputs, N_UNITS)
        shapes |= lstm_shapes("output_encoder.lstm", case.layers, directions=2)
        shapes |= {f"context_layer.{name}": shape for name, shape in concatenation.items()}
    shapes["decoder.embedding.weight"] = (n_outputs, N_UNITS)
    shapes |= lstm_shapes("decoder.lstm", case.layers, directions=1)
    if case.attention:
        shapes |= {f"decoder.attention_layer.{name}": shape for name, shape in concatenation.items()}
    shapes |= {"decoder.output_layer.weight": (n_outputs, N_UNITS), "decoder.output_layer.bias": (n_outputs,)}
    return shapes


def weight_of(name: str, shape: tuple[int, ...]) -> Array:
    """Fill a parameter: entry k, counted row by row, is 0.8 sin(crc32(name) mod 1000 + 1.7 k + 0.3 k^2)."""
    k = np.arange(math.prod(shape), dtype=float)
    return np.asarray(0.8 * np.sin(zlib.crc32(name.encode()) % 1000 + 1.7 * k + 0.3 * k**2)).reshape(shape)


def weights_of(case: Case) -> Weights:
    """Fill all parameters of a network."""
    return {name: weight_of(name, shape) for name, shape in shapes_of(case).items()}


# Equations


def symbols_of(text: str, words: list[str]) -> list[int]:
    """Number the words of a sequence and end it in EOS; of n words' symbols SOS is number n, EOS number n + 1."""
    return [words.index(word) for word in text.split()] + [len(words) + 1]


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return np.asarray(1 / (1 + np.exp(-x)))


def lstm_step(weights: Weights, lstm: str, place: str, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """Take one step of one LSTM layer, Equations 1 and 3: input, hidden and cell state -> hidden and cell state.

    `place` is layer and direction as the parameters' names have them, such as `l1_reverse`.
    """
    from_input = weights[f"{lstm}.weight_ih_{place}"] @ x + weights[f"{lstm}.bias_ih_{place}"]
    from_before = weights[f"{lstm}.weight_hh_{place}"] @ h + weights[f"{lstm}.bias_hh_{place}"]
    i, f, g, o = np.split(from_input + from_before, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def read(weights: Weights, lstm: str, place: str, inputs: Vectors) -> Vectors:
    """Run one LSTM layer in one direction from a state of zeros: the hidden state after each of the inputs."""
    h, c, states = ZERO, ZERO, []
    for x in inputs:
        h, c = lstm_step(weights, lstm, place, x, h, c)
        states.append(h)
    return states


def encode(weights: Weights, encoder: str, layers: int, symbols: list[int]) -> tuple[Vectors, Array]:
    """Embed symbols and run the biLSTM, Equation 1: h_1 .. h_T, (T, m), and the sum of the final states, (m,)."""
    inputs = [weights[f"{encoder}.embedding.weight"][symbol] for symbol in symbols]
    for layer in range(layers):
        forward = read(weights, f"{encoder}.lstm", f"l{layer}", inputs)
        backward = read(weights, f"{encoder}.lstm", f"l{layer}_reverse", inputs[::-1])[::-1]
        inputs = [np.concatenate(both) for both in zip(forward, backward, strict=True)]
    return [a + b for a, b in zip(forward, backward, strict=True)], forward[-1] + backward[0]


def attention(query: Array, keys: Vectors, values: Vectors) -> Array:
    """Compute one row of softmax(Q K^T / sqrt(m)) V, Equation 2: (m,), (N, m), (N, m) -> (m,)."""
    likeness = [np.exp(query @ key / math.sqrt(N_UNITS)) for key in keys]
    read_out = ZERO
    for one, value in zip(likeness, values, strict=True):
        read_out = read_out + one / sum(likeness) * value
    return read_out


def concatenation_layer(weights: Weights, name: str, first: Array, second: Array) -> Array:
    """tanh(W [first; second] + b), (m,)."""
    x = np.concatenate((first, second))
    return np.asarray(np.tanh(weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]))


def store(weights: Weights, case: Case) -> tuple[Vectors, Vectors]:
    """Encode the support items: keys K and values V, (S, m) each."""
    keys, values = [], []
    for text_in, text_out in SUPPORT:
        keys.append(encode(weights, "input_encoder", case.layers, symbols_of(text_in, INPUT_WORDS))[1])
        values.append(encode(weights, "output_encoder", case.layers, symbols_of(text_out, OUTPUT_WORDS))[1])
    return keys, values


def context_of(
    weights: Weights, case: Case, memory: tuple[Vectors, Vectors] | None, symbols: list[int]
) -> tuple[Vectors, Array]:
    """Compute what the decoder knows of a query: the context steps that it attends to and its start, (m,).

    A padded step has encoder state 0 and goes through memory and context layer as every other step does.
    """
    h, final = encode(weights, "input_encoder", case.layers, symbols)
    n_real = len(symbols)
    h = h + [ZERO] * (PADDED_LENGTH - n_real)
    context, start = h, final
    if memory is not None:
        context = [concatenation_layer(weights, "context_layer", h_t, attention(h_t, *memory)) for h_t in h]
        start = context[n_real - 1]  # C_T
    return context[:n_real] if case.mask_padding else context, start


def decode(weights: Weights, case: Case, context: Vectors, start: Array, targets: list[int]) -> Vectors:
    """Score the output symbols at each step, Equation 3 and what follows it: logits, (U, V)."""
    hidden, cell = [start] * case.layers, [start] * case.layers
    logits = []
    for previous in [len(OUTPUT_WORDS), *targets[:-1]]:  # SOS, then the target's own symbols
        x = weights["decoder.embedding.weight"][previous]
        for layer in range(case.layers):
            hidden[layer], cell[layer] = lstm_step(weights, "decoder.lstm", f"l{layer}", x, hidden[layer], cell[layer])
            x = hidden[layer]
        if case.attention:
            x = concatenation_layer(weights, "decoder.attention_layer", x, attention(x, context, context))
        logits.append(weights["decoder.output_layer.weight"] @ x + weights["decoder.output_layer.bias"])
    return logits


def logits_of(weights: Weights, case: Case) -> list[Vectors]:
    """Score the targets of all queries: one list of logits, (U, V), a query."""
    memory = store(weights, case) if case.memory else None
    answers = []
    for text_in, text_out in QUERIES:
        context, start = context_of(weights, case, memory, symbols_of(text_in, INPUT_WORDS))
        answers.append(decode(weights, case, context, start, symbols_of(text_out, OUTPUT_WORDS)))
    return answers


def loss_of(weights: Weights, case: Case) -> Any:
    """Average the negative log-likelihood over the target symbols of all queries, EOS included: a scalar in nats."""
    losses = []
    for (_, text_out), logits in zip(QUERIES, logits_of(weights, case), strict=True):
        for scores, target in zip(logits, symbols_of(text_out, OUTPUT_WORDS), strict=True):
            losses.append(np.log(np.sum(np.exp(scores))) - scores[target])
    return sum(losses) / len(losses)


# Gradients


def shifted(weights: Weights, name: str, index: tuple[int, ...], by: complex) -> Weights:
    """Change one entry of one parameter."""
    moved = weights[name].astype(type(by))
    moved[index] += by
    return {**weights, name: moved}


def derivatives(weights: Weights, case: Case) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Differentiate the loss by every entry of every parameter.

    f(w + ih) = f(w) + ih f'(w) + O(h^2): the imaginary part over h is the derivative. Unlike a difference of two nearby
    values it loses no digits, so h can be too small for the rest to count.
    Yields:
        Name, index and derivative.
    """
    for name in weights:
        for index in np.ndindex(weights[name].shape):
            moved = shifted(weights, name, index, complex(0, IMAGINARY_STEP))
            yield name, index, float(loss_of(moved, case).imag) / IMAGINARY_STEP


def assert_differences_agree(case: Case, step: float = 1e-4) -> None:
    """Hold the derivatives equal to central differences, (f(w + h) - f(w - h)) / 2h."""
    weights = weights_of(case)
    for name, index, derivative in derivatives(weights, case):
        above, below = (loss_of(shifted(weights, name, index, by), case) for by in (step, -step))
        assert abs((above - below) / (2 * step) - derivative) < 1e-7, (name, index)


def gradient_norms(case: Case) -> dict[str, float]:
    """Take the l2 norm of the gradient in the decoder and in all the rest; the paper clips it (Section 4.1)."""
    squares = {"encoders": 0.0, "decoder": 0.0}
    for name, _, derivative in derivatives(weights_of(case), case):
        squares["decoder" if name.startswith("decoder.") else "encoders"] += derivative**2
    return {part: significant(math.sqrt(total)) for part, total in squares.items()}


# The file


def significant(number: float) -> float:
    """Round to ten significant digits."""
    return float(f"{number:.10g}")


def values_of(case: Case) -> dict[str, Any]:
    """Derive the logits at each query's real steps and the loss."""
    weights = weights_of(case)
    logits = [[[significant(x) for x in scores] for scores in answer] for answer in logits_of(weights, case)]
    return {"logits": logits, "loss": significant(float(loss_of(weights, case)))}


def described_episode() -> dict[str, Any]:
    """Say what the network is asked and how large it is."""
    return {
        "input_words": INPUT_WORDS,
        "output_words": OUTPUT_WORDS,
        "support": SUPPORT,
        "queries": QUERIES,
        "padded_length": PADDED_LENGTH,
        "emb_size": N_UNITS,
    }


def main() -> None:
    """Derive every case and write the file."""
    assert_differences_agree(CASES[0])
    cases = [asdict(case) | values_of(case) | {"gradient_norms": gradient_norms(case)} for case in CASES]
    text = json.dumps(described_episode() | {"cases": cases}, indent=1) + "\n"
    EXPECTED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
