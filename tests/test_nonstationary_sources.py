"""Sources switch where their priors say, draw anew at every switch, and take all randomness from one generator."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nonstationary.predictors import predict
from nonstationary.sources import SEGMENTS, Sequences, Source, ptw_depth, sample

every_source = pytest.mark.parametrize("name", SEGMENTS)


def draw(source, n, length, seed=0):
    return sample(source, n, length, torch.Generator().manual_seed(seed))


def assert_frequencies(found, probabilities):
    """Chi-square: cells numbered from 0 come as often as their probabilities say, to 5 standard deviations."""
    expected = torch.as_tensor(probabilities, dtype=torch.float64) * len(found)
    counts = torch.bincount(found, minlength=len(expected))
    assert len(counts) == len(expected)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum().item()
    freedom = int(possible.sum()) - 1
    assert statistic <= freedom + 5 * math.sqrt(2 * freedom)


def assert_mean(values, expected):
    """Equal to 4 standard errors."""
    assert abs(values.mean().item() - expected) <= 4 * values.std().item() / math.sqrt(len(values)) + 1e-12


# Switches


def ptw_prior(depth):
    """All partitions of 2^depth steps, by the steps that begin a segment, with their probabilities."""
    if depth == 0:
        return {(): 1.0}
    half, halves = 2 ** (depth - 1), ptw_prior(depth - 1)
    prior = {(): 0.5}
    for (left, p), (right, q) in itertools.product(halves.items(), repeat=2):
        prior[(*left, half, *(half + step for step in right))] = p * q / 2
    return prior


def length_probability(source, k):
    """The probability that a segment has k steps."""
    if source.name == "random_uniform":
        return float(k <= source.max_segment) / source.max_segment
    return math.prod(1 - 1 / (2 * i) for i in range(1, k)) / (2 * k)


def prior_over_switches(source, length):
    """The probability of every set of switches, by the steps that begin a segment."""
    prior = Counter()
    if source.name in ("static", "regular"):
        prior[tuple(range(source.shift_period, length, source.shift_period))] = 1.0
    elif source.name == "ptw":
        for switches, probability in ptw_prior(math.ceil(math.log2(length))).items():
            prior[tuple(step for step in switches if step < length)] += probability
    else:
        for is_switch in itertools.product((False, True), repeat=length - 1):
            switches = tuple(step for step, switched in enumerate(is_switch, 1) if switched)
            *complete, last = np.diff((0, *switches, length)).tolist()
            probability = math.prod(length_probability(source, k) for k in complete)
            prior[switches] = probability * (1 - sum(length_probability(source, k) for k in range(1, last)))
    return prior


def numbers_of_partitions(segments):
    """Number the (B, T) partitions from 0 to 2^(T-1) - 1, by the bits of their switches."""
    return (segments.diff(dim=1) * 2 ** torch.arange(segments.shape[1] - 1)).sum(1)


def probabilities_of_partitions(source, length):
    probabilities = [0.0] * 2 ** (length - 1)
    for switches, probability in prior_over_switches(source, length).items():
        probabilities[sum(2 ** (step - 1) for step in switches)] += probability
    assert sum(probabilities) == pytest.approx(1)
    return probabilities


@pytest.mark.parametrize(
    ("source", "length"),
    [
        *((Source("ptw"), length) for length in (2, 3, 4, 6, 8)),  # 4 steps: 1/2 and four times 1/8
        *((Source("lin"), length) for length in (2, 5, 7)),
        *((Source("random_uniform", max_segment=3), length) for length in (2, 5, 7)),
        (Source("random_uniform", max_segment=1), 5),
        (Source("regular", shift_period=2), 7),
        (Source("regular", shift_period=3), 6),
        (Source("static"), 6),
    ],
    ids=str,
)
def test_partitions_have_the_probabilities_of_their_prior(source, length):
    """Each of all the partitions of a few steps comes as often as it should."""
    found = numbers_of_partitions(draw(source, 20000, length).segments)
    assert_frequencies(found, probabilities_of_partitions(source, length))


@pytest.mark.parametrize("name", ["ptw", "lin", "random_uniform"])
def test_sequences_of_a_batch_switch_independently(name):
    """Pairs of neighbours in a batch have all pairs of partitions, as often as the products of their probabilities."""
    source = Source(name, max_segment=3)
    first, second = numbers_of_partitions(draw(source, 40000, 4).segments).view(-1, 2).T
    probabilities = torch.tensor(probabilities_of_partitions(source, 4))
    assert_frequencies(8 * first + second, torch.outer(probabilities, probabilities).flatten())


@pytest.mark.parametrize(
    ("source", "length", "expected", "single"),
    [
        (Source("static"), 256, 1, 1),
        *((Source("ptw"), 2**depth, 1 + depth / 2, 0.5) for depth in (5, 8)),
        *(
            (
                Source("lin"),
                n,
                sum(math.comb(2 * k, k) / 4**k for k in range(n)),
                math.comb(2 * n - 2, n - 1) / 4 ** (n - 1),
            )
            for n in (64, 256)
        ),
        (Source("regular"), 256, 13, 0),
    ],
    ids=str,
)
def test_number_of_segments(source, length, expected, single):
    """Its mean and the probability of one: 1 + D/2 and 1/2 for PTW of 2^D steps, central binomials for LIN."""
    segments = draw(source, 2000, length).segments
    assert_mean(segments[:, -1].double() + 1, expected)
    assert_mean((segments[:, -1] == 0).double(), single)


@given(st.integers(1, 10**6))
def test_the_depth_is_the_smallest_that_covers_the_length(length):
    assert 2 ** ptw_depth(length) >= length
    assert ptw_depth(length) == 0 or 2 ** (ptw_depth(length) - 1) < length


# Parameters


@every_source
@pytest.mark.parametrize(("length", "num_symbols"), [(1, 2), (13, 3), (45, 4)])
def test_parameters_change_with_the_segments_alone(name, length, num_symbols):
    """Segments count from 0 by ones; within one the parameters stay as they are, and no two share their parameters."""
    symbols, parameters, segments = draw(Source(name, num_symbols=num_symbols), 300, length)
    assert symbols.shape == segments.shape == (300, length)
    assert symbols.dtype == segments.dtype == torch.int64
    assert parameters.shape == (300, length, num_symbols)
    assert parameters.dtype == torch.float64 and parameters.min() >= 0
    torch.testing.assert_close(parameters.sum(2), torch.ones(300, length, dtype=torch.float64))
    assert (segments[:, 0] == 0).all()
    assert set(segments.diff(dim=1).unique().tolist()) <= {0, 1}
    changes = (parameters.diff(dim=1) != 0).any(2)
    torch.testing.assert_close(changes, segments.diff(dim=1) == 1)
    assert name == "static" or length < 45 or changes.any()
    assert len(parameters[..., 0].unique()) == segments[:, -1].sum() + 300
    assert length == 1 or symbols.unique().tolist() == list(range(num_symbols))


def first_two_parameters(source, n, seed=0):
    """The parameters of the first segments of n sequences, (n, K), and those of the second segments."""
    parameters = draw(source, n, 2 * source.shift_period, seed).parameters
    return parameters[:, 0], parameters[:, source.shift_period]


@pytest.mark.parametrize(
    ("num_symbols", "alpha", "distribution"),
    [
        (2, 0.5, lambda p: 2 / math.pi * p.sqrt().asin()),
        (2, 1, lambda p: p),
        (3, 1, lambda p: 1 - (1 - p) ** 2),
        (5, 1, lambda p: 1 - (1 - p) ** 4),
    ],
)
def test_parameters_come_from_the_dirichlet_prior(num_symbols, alpha, distribution):
    """A symbol's probability follows Beta(alpha, (K-1) alpha), in segments that follow each other independently."""
    source = Source("regular", alpha, num_symbols, shift_period=1)
    for k in range(num_symbols):
        before, after = ((distribution(p[:, k]) * 10).long().clamp(max=9) for p in first_two_parameters(source, 10000))
        assert_frequencies(10 * before + after, [1 / 100] * 100)
        first, second = before.view(-1, 2).T  # in neighbours of the batch
        assert_frequencies(10 * first + second, [1 / 100] * 100)


@pytest.mark.parametrize(("num_symbols", "alpha"), [(2, 0.01), (2, 3.0), (4, 0.1), (3, 20.0)])
def test_alpha_sets_the_spread_of_the_parameters(num_symbols, alpha):
    """Mean 1/K and variance (K-1) / (K^2 (K alpha + 1)), of any alphabet."""
    first, _ = first_two_parameters(Source("regular", alpha, num_symbols), 10000)
    for k in range(num_symbols):
        assert_mean(first[:, k], 1 / num_symbols)
        spread = (num_symbols - 1) / (num_symbols**2 * (num_symbols * alpha + 1))
        assert_mean((first[:, k] - 1 / num_symbols) ** 2, spread)


@every_source
@pytest.mark.parametrize("alpha", [1e-3, 1e9])
def test_extreme_priors_give_probabilities(name, alpha):
    """No NaN, however near to 0 or 1 the probabilities are, or to each other."""
    symbols, parameters, _ = draw(Source(name, alpha, 3), 200, 30)
    assert ((parameters >= 0) & (parameters <= 1)).all()
    torch.testing.assert_close(parameters.sum(2), torch.ones(200, 30, dtype=torch.float64))
    assert set(symbols.unique().tolist()) <= {0, 1, 2}
    assert alpha < 1 or (parameters - 1 / 3).abs().max() < 0.1


# Symbols


@pytest.mark.parametrize(("name", "num_symbols"), [("ptw", 2), ("lin", 2), ("random_uniform", 3), ("regular", 4)])
def test_symbols_follow_their_parameters(name, num_symbols):
    """Of the steps with some true probability that share of symbols is drawn, whatever was drawn at the step before."""
    symbols, parameters, _ = draw(Source(name, num_symbols=num_symbols), 2000, 32)
    excess = torch.nn.functional.one_hot(symbols, num_symbols) - parameters
    variance = parameters * (1 - parameters)
    for low in range(10):
        near = (parameters >= low / 10) & (parameters < (low + 1) / 10)
        assert abs(excess[near].sum()) < 4 * variance[near].sum().sqrt()
    together = (excess[:, 1:] * excess[:, :-1]).sum((0, 1))
    assert (together.abs() < 4 * (variance[:, 1:] * variance[:, :-1]).sum((0, 1)).sqrt()).all()


@pytest.mark.parametrize(("source_name", "predictor"), [("static", "kt"), ("ptw", "ptw"), ("lin", "lin")])
@pytest.mark.parametrize(("num_symbols", "alpha", "length"), [(2, 0.5, 6), (2, 2.0, 5), (3, 0.7, 4)])
def test_strings_come_as_often_as_the_exact_mixture_says(source_name, predictor, num_symbols, alpha, length):
    """A source and its mixture are one distribution over the strings of a few symbols."""
    source = Source(source_name, alpha, num_symbols)
    strings = torch.cartesian_prod(*[torch.arange(num_symbols)] * length)
    nothing = torch.zeros(0)  # of the truth the predictors see nothing
    log_q = predict(predictor, Sequences(strings, nothing, nothing), source)
    probabilities = log_q.gather(2, strings[..., None]).sum((1, 2)).exp()
    digits = num_symbols ** torch.arange(length - 1, -1, -1)
    assert_frequencies((draw(source, 20000, length).symbols * digits).sum(1), probabilities)


# Randomness


@every_source
def test_one_seed_gives_one_batch_and_no_other_chance_is_touched(name):
    """The same from the same seed, another from another seed or from the same generator when asked again."""
    source, generator = Source(name), torch.Generator().manual_seed(3)
    first, next_one = sample(source, 50, 33, generator), sample(source, 50, 33, generator)
    torch.manual_seed(12345)
    before, numpy_before, python_before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    again = draw(source, 50, 33, seed=3)
    assert torch.get_rng_state().equal(before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
    assert random.getstate() == python_before
    assert all(part.equal(same) for part, same in zip(first, again, strict=True))
    for other in (next_one, draw(source, 50, 33, seed=4)):
        assert not first.symbols.equal(other.symbols)
        assert not first.parameters.equal(other.parameters)
        assert first.segments.equal(other.segments) == (name in ("static", "regular"))


def test_rows_and_moves_take_all_parts():
    """Symbols, parameters and segments of the same sequences; the last slice may be short."""
    sequences = draw(Source("ptw"), 5, 9)
    for part, taken in zip(sequences, sequences.rows(1, 3), strict=True):
        assert taken.equal(part[1:3])
    assert [len(part) for part in sequences.rows(3, 8)] == [2, 2, 2]
    assert [part.device.type for part in sequences.to(torch.device("meta"))] == ["meta"] * 3
