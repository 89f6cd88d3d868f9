"""Sources switch where their priors say, draw anew at every switch, and take all randomness from one generator."""

import math
import random

import numpy as np
import pytest
import torch

from nonstationary.predictors import OWN_MIXTURE, predict
from nonstationary.sources import SEGMENTS, Sequences, Source, sample

every_source = pytest.mark.parametrize("name", SEGMENTS)


def draw(source, n, length, seed=0):
    return sample(source, n, length, torch.Generator().manual_seed(seed))


def assert_frequencies(found, probabilities):
    """Chi-square: cells numbered from 0 come as often as their probabilities say, to 5 standard deviations."""
    expected = torch.as_tensor(probabilities, dtype=torch.float64) * len(found)
    counts = torch.bincount(found, minlength=len(expected)).double()
    assert len(counts) == len(expected)
    assert counts[expected == 0].sum() == 0
    rare = (expected < 5) & (expected > 0)  # one cell together
    counts, expected = (
        torch.cat([each[expected >= 5], each[rare].sum(0, keepdim=True)]) for each in (counts, expected)
    )
    statistic = torch.where(expected > 0, (counts - expected) ** 2 / expected, 0).sum().item()
    freedom = int((expected > 0).sum()) - 1
    assert statistic <= freedom + 5 * math.sqrt(2 * freedom)


def probabilities_of_strings(source, length):
    """What the source's exact mixture says of every string, in the order of their codes."""
    strings = torch.cartesian_prod(*[torch.arange(source.num_symbols)] * length)
    segments = (torch.arange(length) // source.shift_period).expand_as(strings)  # the oracle of `regular` knows them
    log_q = predict(OWN_MIXTURE[source.name], Sequences(strings, torch.zeros(0), segments), source)
    return log_q.gather(2, strings[..., None]).sum((1, 2)).exp()


def codes_of_strings(source, n, length):
    symbols = draw(source, n, length).symbols
    return (symbols * source.num_symbols ** torch.arange(length - 1, -1, -1)).sum(1)


@every_source
@pytest.mark.parametrize(
    ("num_symbols", "alpha", "length"), [(2, 0.05, 2), (2, 0.05, 6), (2, 0.05, 8), (2, 2.0, 5), (3, 0.7, 4)]
)
def test_strings_come_as_often_as_the_exact_mixture_says(name, num_symbols, alpha, length):
    """A source and its own mixture are one distribution; with a small alpha strings show the switches."""
    for setting in (1, 3):
        source = Source(name, alpha, num_symbols, shift_period=setting, max_segment=setting)
        found = codes_of_strings(source, 20000, length)
        assert_frequencies(found, probabilities_of_strings(source, length))


@every_source
def test_sequences_of_a_batch_are_independent(name):
    """Neighbours have all pairs of strings as often as the products of their probabilities."""
    source = Source(name, 0.1, shift_period=3, max_segment=3)
    first, second = codes_of_strings(source, 40000, 4).view(-1, 2).T
    probabilities = probabilities_of_strings(source, 4)
    assert_frequencies(16 * first + second, torch.outer(probabilities, probabilities).flatten())


@every_source
@pytest.mark.parametrize(("length", "num_symbols", "alpha"), [(1, 2, 0.5), (13, 3, 1e-3), (13, 3, 1e9), (45, 4, 0.5)])
def test_parameters_change_with_the_segments_alone(name, length, num_symbols, alpha):
    """Segments count from 0 by ones, each with parameters of its own: probabilities, whatever the prior."""
    symbols, parameters, segments = draw(Source(name, alpha, num_symbols), 300, length)
    assert symbols.shape == segments.shape == (300, length)
    assert symbols.dtype == segments.dtype == torch.int64
    assert (parameters.shape, parameters.dtype) == ((300, length, num_symbols), torch.float64)
    assert ((parameters >= 0) & (parameters <= 1)).all()
    torch.testing.assert_close(parameters.sum(2), torch.ones(300, length, dtype=torch.float64))
    assert symbols.unique().tolist() == list(range(num_symbols))
    assert (segments[:, 0] == 0).all() and set(segments.diff(dim=1).unique().tolist()) <= {0, 1}
    if alpha == 0.5:  # an extreme prior gives the same parameters twice
        torch.testing.assert_close((parameters.diff(dim=1) != 0).any(2), segments.diff(dim=1) == 1)
        assert len(parameters[..., 0].unique()) == segments[:, -1].sum() + 300
        assert name == "static" or length < 45 or segments.any()
    assert alpha < 1 or (parameters - 1 / 3).abs().max() < 0.1


@pytest.mark.parametrize(("num_symbols", "alpha"), [(2, 0.01), (2, 3.0), (4, 0.1), (3, 20.0)])
def test_alpha_sets_the_spread_of_the_parameters(num_symbols, alpha):
    """Mean 1/K and variance (K-1) / (K^2 (K alpha + 1)), of any alphabet."""
    parameters = draw(Source("static", alpha, num_symbols), 10000, 1).parameters[:, 0]
    spread = (num_symbols - 1) / (num_symbols**2 * (num_symbols * alpha + 1))
    for values in parameters.T:
        for found, expected in ((values, 1 / num_symbols), ((values - 1 / num_symbols) ** 2, spread)):
            assert abs(found.mean().item() - expected) <= 4 * found.std().item() / math.sqrt(len(found))


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
