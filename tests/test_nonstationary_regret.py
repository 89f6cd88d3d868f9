"""Regret is what the definition says, in nats, and the exact predictors have the regret that theory gives them."""

import math

import pytest
import torch

from nonstationary.predictors import OWN_MIXTURE, PREDICTORS, predict
from nonstationary.regret import (
    NATS_IN,
    estimate,
    exact_predictor,
    expected_entropy,
    fixed_sequences,
    kt_regrets,
    mean_segments,
    oracle_regret,
    regret,
    score,
    segment_ages,
)
from nonstationary.sources import SEGMENTS, Sequences, Source

CPU = torch.device("cpu")
EXACT_REGRETS = [  # source, T, mean cumulative regret in bits of KT that is told of the switches
    ("static", 20, 1.4995),
    ("static", 512, 3.6951),
    ("ptw", 64, 4.926),
    ("ptw", 256, 8.338),
    ("lin", 256, 16.828),
    ("regular", 256, 24.667),
    ("random_uniform", 256, 35.121),
]
# The sequence of the overview figure of Genewein et al. 2023 (CC-BY 4.0), read from the figure: 256 bits, the true
# probabilities of a 1 to four digits with the steps they hold for, and cumulative regret in bits after some steps.
PUBLISHED_BITS = "3fd5f7fdfffb4bbec1080802f9bffeef02000000090000000020200004000001"
PUBLISHED_TRUTH = [(64, 0.6285), (32, 0.1361), (32, 0.7538), (128, 0.0436)]
PUBLISHED_STEPS = (64, 96, 128, 256)
PUBLISHED_REGRETS = {"kt_oracle": (6.161, 12.794, 13.855, 16.121), "ptw": (6.067, 16.481, 18.169, 21.184)}


def scores_of(names, source, sequences, batch_size=1000):
    return score({name: exact_predictor(name, source) for name in names}, sequences, batch_size, CPU)


@pytest.mark.parametrize(
    ("truth", "q", "expected"),
    [
        ((0.75, 0.25), (0.25, 0.75), 0.5 * math.log(3)),
        ((0.3, 0.1, 0.6), (0.3, 0.1, 0.6), 0),
        ((0.0, 1.0), (0.25, 0.75), -math.log(0.75)),
        ((0.0, 1.0), (0.0, 1.0), 0),
        ((1.0, 0.0), (1e-300, 1.0), 300 * math.log(10)),
    ],
)
def test_regret_is_the_divergence_from_the_truth(truth, q, expected):
    """sum_k theta_k log(theta_k / q_k) in nats; what cannot come costs nothing."""
    truth, q = (torch.tensor([[[*given], [0.5] * len(given)]], dtype=torch.float64) for given in (truth, q))
    torch.testing.assert_close(regret(truth, q.log()), torch.tensor([[expected, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(("num_symbols", "alpha", "expected"), [(2, 0.5, 0.386294), (2, 1.0, 0.5), (3, 0.5, None)])
def test_expected_entropy(num_symbols, alpha, expected):
    """2 log 2 - 1 for two symbols and alpha = 1/2, and what sampled parameters have, whatever the source."""
    found = expected_entropy(Source("static", alpha, num_symbols))
    assert expected is None or found == pytest.approx(expected, abs=5e-7)
    for name in SEGMENTS:
        parameters = fixed_sequences(Source(name, alpha, num_symbols), 4000, 10, seed=5).parameters
        entropy = estimate(-torch.xlogy(parameters, parameters).sum(2).mean(1))
        assert abs(entropy.mean - found) < 4 * entropy.error


@pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
def test_scores_are_sums_over_steps_and_means_over_sequences(batch_size):
    """Totals, steps and gaps tell of one table of regrets; the last batch may be smaller than the others."""
    source = Source("ptw", 0.8, 3)
    sequences = fixed_sequences(source, 10, 33, seed=0)
    found = scores_of(PREDICTORS, source, sequences, batch_size)
    last = list(PREDICTORS)[-1]
    reference = predict(last, sequences, source)[:, 1:].exp()
    for name, (totals, by_step, gap) in found.items():
        log_q = predict(name, sequences, source)[:, 1:]
        values = regret(sequences.parameters[:, 1:], log_q)
        torch.testing.assert_close(totals, values.sum(1))
        torch.testing.assert_close(by_step, values.mean(0))
        assert gap == pytest.approx((log_q.exp() - reference).abs().mean().item())
    assert found[last].gap == 0


@pytest.mark.parametrize(("name", "length", "expected"), EXACT_REGRETS)
def test_regret_has_its_exact_mean(name, length, expected):
    """Of KT, started anew at each switch, the mean regret is known: by formula, and measured on sequences."""
    source = Source(name)
    assert oracle_regret(source, length) / NATS_IN["bits"] == pytest.approx(expected, abs=6e-4)
    sequences = fixed_sequences(source, 2**19 // length, length, seed=1)
    found = estimate(scores_of(["kt_oracle"], source, sequences)["kt_oracle"].totals / NATS_IN["bits"])
    assert abs(found.mean - expected) < 4 * found.error + 5e-4  # of rounding


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize(("alpha", "length"), [(0.5, 16), (1.3, 23)])
def test_the_formula_is_what_simulation_gives(name, alpha, length):
    """Regret of the oracle and number of segments, whatever the prior; the ages of a step are a distribution."""
    source = Source(name, alpha, shift_period=5, max_segment=6)
    ages = segment_ages(source, length)
    torch.testing.assert_close(ages.sum(1), torch.ones(length, dtype=torch.float64))
    assert not ages.triu(1).any()  # no segment is older than the sequence
    sequences = fixed_sequences(source, 4000, length, 7)
    found = estimate(scores_of(["kt_oracle"], source, sequences)["kt_oracle"].totals)
    assert abs(found.mean - oracle_regret(source, length)) < 4 * found.error
    segments = estimate((sequences.segments[:, -1] + 1).double())
    assert abs(segments.mean - mean_segments(source, length)) <= 4 * segments.error + 1e-9


def test_the_first_symbol_costs_most():
    """Before any symbol KT says 1/2, which loses ln 2 less the mean entropy; with every symbol the loss falls."""
    regrets = kt_regrets(0.5, 50)
    torch.testing.assert_close(regrets[0].item(), math.log(2) - (2 * math.log(2) - 1))
    assert (regrets.diff() < 0).all()


@pytest.mark.parametrize("name", OWN_MIXTURE)
@pytest.mark.parametrize(("num_symbols", "alpha", "length"), [(2, 0.5, 64), (3, 1.0, 32)])
def test_the_own_mixture_of_a_source_is_best_on_it(name, num_symbols, alpha, length):
    """Of all that do not know the switches; those who do are better still."""
    source, own = Source(name, alpha, num_symbols), OWN_MIXTURE[name]
    scores = scores_of(PREDICTORS, source, fixed_sequences(source, 1000, length, seed=3))
    for other in set(PREDICTORS) - {own}:
        ahead = estimate(scores[other].totals - scores[own].totals)
        if other != "kt_oracle":
            assert ahead.mean > 4 * ahead.error
        elif name == "static":
            assert ahead.mean == 0
        else:
            assert ahead.mean < -4 * ahead.error


@pytest.mark.parametrize("name", PUBLISHED_REGRETS)
def test_regret_on_the_published_sequence(name):
    """The curves of the figure: PTW of depth 8 and KT told of the switches, from the second of 256 symbols on."""
    symbols = torch.tensor([[int(bit) for bit in f"{int(PUBLISHED_BITS, 16):0256b}"]])
    lengths = torch.tensor([length for length, _ in PUBLISHED_TRUTH])
    truth = torch.tensor([chance for _, chance in PUBLISHED_TRUTH], dtype=torch.float64).repeat_interleave(lengths)
    segments = torch.arange(len(lengths)).repeat_interleave(lengths)
    sequences = Sequences(symbols, torch.stack([1 - truth, truth], dim=1)[None], segments[None])
    curve = scores_of([name], Source(), sequences)[name].by_step.cumsum(0) / NATS_IN["bits"]
    found = [curve[step - 2].item() for step in PUBLISHED_STEPS]  # the first scored step is the second
    assert found == pytest.approx(PUBLISHED_REGRETS[name], abs=0.01)
