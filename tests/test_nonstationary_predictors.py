"""The exact predictors are what their definitions say, and predict each symbol from those before it alone."""

import functools
import itertools
import math

import pytest
import torch

from nonstationary.predictors import PREDICTORS, kt, predict, random_uniform
from nonstationary.sources import Sequences, Source

PRIORS = [(2, 0.5), (2, 1.3), (3, 0.5), (3, 0.2)]  # K and alpha


def random_strings(n, length, num_symbols=2):
    return torch.randint(num_symbols, (n, length), generator=torch.Generator().manual_seed(length))


def switches(symbols):
    """Segments for the oracle: one ends after each symbol 1, and after 5 steps of all sequences."""
    is_switch = symbols.roll(1, 1) == 1
    is_switch[:, 0] = False
    is_switch[:, 5:6] = True
    return is_switch.cumsum(1)


def predicted(name, symbols, source, depth=None):
    """What a predictor says about symbols whose true parameters are nowhere to be read."""
    return predict(name, Sequences(symbols, torch.zeros(0), switches(symbols)), source, depth)


# Definitions: the probability of a string, a tuple, under a prior (K, alpha)


@functools.cache
def kt_joint(string, num_symbols, alpha):
    """The Dirichlet-multinomial distribution."""
    counts = [string.count(k) for k in range(num_symbols)]
    log_joint = math.lgamma(num_symbols * alpha) - math.lgamma(len(string) + num_symbols * alpha)
    return math.exp(log_joint + sum(math.lgamma(count + alpha) - math.lgamma(alpha) for count in counts))


def oracle_joint(string, *prior):
    """Each segment is a string of its own."""
    numbers = switches(torch.tensor([string])).tolist()[0] if string else []
    parts = itertools.groupby(zip(numbers, string, strict=True), lambda pair: pair[0])
    return math.prod(kt_joint(tuple(symbol for _, symbol in part), *prior) for _, part in parts)


@functools.cache
def ptw_joint(string, depth, *prior):
    """A block is one segment, or split in the middle, with probability 1/2 each; one step cannot be split."""
    if depth == 0 or not string:
        return kt_joint(string, *prior)
    half = 2 ** (depth - 1)
    split = ptw_joint(string[:half], depth - 1, *prior) * ptw_joint(string[half:], depth - 1, *prior)
    return (kt_joint(string, *prior) + split) / 2


@functools.cache
def renewal_joint(string, lasts, has_ended, *prior):
    """The sum over where the last segment began; a segment has k steps or more with probability `lasts(k)`.

    The last one may continue, unless it `has_ended` with the string.
    """
    return not string or sum(
        renewal_joint(string[:start], lasts, True, *prior)
        * kt_joint(string[start:], *prior)
        * (lasts(len(string) - start) - (lasts(len(string) - start + 1) if has_ended else 0))
        for start in range(len(string))
    )


@functools.cache
def lasts_in_lin(k):
    """A segment that has lasted i steps ends with probability 1/(2i)."""
    return math.prod(1 - 1 / (2 * i) for i in range(1, k))


DEFINITIONS = [  # predictor, prior, length, and what else it knows
    *(("kt", prior, length, None) for prior in PRIORS for length in (1, 12, 40)),
    *(("kt_oracle", prior, 20, None) for prior in PRIORS),
    *(("ptw", prior, *size) for prior in PRIORS for size in ((1, 0), (2, 1), (3, 2), (5, 3), (16, 4))),
    *(("ptw", (2, 0.5), *size) for size in ((33, 6), (50, 9), (200, 8), (256, 8), (2, 20))),
    *(("lin", *given, None) for given in [*((prior, 10) for prior in PRIORS), ((2, 0.5), 60), ((3, 0.8), 40)]),
    *(("random_uniform", prior, *size) for prior in PRIORS for size in ((6, 1), (6, 3), (7, 6), (9, 4), (5, 20))),
    ("random_uniform", (2, 0.5), 40, 20),
]


@pytest.mark.parametrize(("name", "prior", "length", "further"), DEFINITIONS)
def test_a_predictor_is_its_definition(name, prior, length, further):
    """q_t(k) = P(x_1 .. x_{t-1} k) / P(x_1 .. x_{t-1}) in float64, for all sequences and steps.

    Of PTW also with more levels than it takes; the least depth that is enough is the default.
    """
    symbols = random_strings(3 if length < 30 else 1, length, prior[0])
    source = Source(name, prior[1], prior[0], max_segment=further if name == "random_uniform" else 20)
    joint_of = {
        "kt": lambda string: kt_joint(string, *prior),
        "kt_oracle": lambda string: oracle_joint(string, *prior),
        "ptw": lambda string: ptw_joint(string, further, *prior),
        "lin": lambda string: renewal_joint(string, lasts_in_lin, False, *prior),
        "random_uniform": lambda string: renewal_joint(string, lasts_in_uniform, False, *prior),
    }[name]

    def lasts_in_uniform(k):
        return max(0, further - k + 1) / further

    before = symbols.clone()
    log_q = predicted(name, symbols, source, further if name == "ptw" else None)
    assert symbols.equal(before)
    for string, found in zip(map(tuple, symbols.tolist()), log_q.exp(), strict=True):
        rows = [[joint_of((*string[:t], k)) for k in range(prior[0])] for t in range(length)]
        sums = torch.tensor([joint_of(string[:t]) for t in range(length)], dtype=torch.float64)
        expected = torch.tensor(rows, dtype=torch.float64) / sums[:, None]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    if name == "ptw":
        assert (2**further < 2 * length) == log_q.equal(predicted("ptw", symbols, source))


def test_segments_longer_than_the_sequence_cost_nothing():
    """A million times longer ones neither: without switches that are to be expected it is KT."""
    symbols = random_strings(3, 8, 2)
    torch.testing.assert_close(random_uniform(symbols, max_segment=10**15), kt(symbols))


@pytest.mark.parametrize("name", PREDICTORS)
def test_long_and_certain_sequences_give_numbers(name):
    """Nothing overflows or is lost: 600 equal symbols, then 20 of the other, then both in turn."""
    symbols = torch.cat([torch.zeros(600), torch.ones(20), torch.arange(20) % 2]).long()[None]
    for alpha in (1e-6, 0.5, 1e9):
        log_q = predicted(name, symbols, Source(alpha=alpha))
        assert log_q.isfinite().all()
        torch.testing.assert_close(log_q.exp().sum(2), torch.ones(1, 640, dtype=torch.float64))
    if name == "lin":  # a long run is predicted to continue, ever more surely; 8 bits would forget its count
        run = predicted(name, symbols, Source())[0, 1:600, 0]
        assert (run.diff() > 0).all() and run[256].exp().item() == pytest.approx(0.996, abs=5e-4)
