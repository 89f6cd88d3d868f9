"""Regret is what the definition says, in nats, and the exact predictors have the regret that theory gives them."""

import math

import pytest
import torch

from nonstationary.predictors import OWN_MIXTURE, PREDICTORS, predict
from nonstationary.regret import (
    NATS_IN,
    Estimate,
    estimate,
    exact_predictor,
    expected_entropy,
    fixed_sequences,
    regret,
    score,
)
from nonstationary.sources import SEGMENTS, Sequences, Source

CPU = torch.device("cpu")
EXACT_REGRETS = [
    # source, T, predictor, mean cumulative regret in bits: KT's at each age of a segment, weighted by how likely the
    # age is at steps 2..T
    ("static", 20, "kt", 1.4995),
    ("static", 256, "kt", 3.2092),
    ("static", 512, "kt", 3.6951),
    ("ptw", 32, "kt_oracle", 3.575),
    ("ptw", 64, "kt_oracle", 4.926),
    ("ptw", 128, "kt_oracle", 6.512),
    ("ptw", 256, "kt_oracle", 8.338),
    ("ptw", 512, "kt_oracle", 10.407),
    ("lin", 256, "kt_oracle", 16.828),
    ("regular", 256, "kt_oracle", 24.667),
    ("random_uniform", 256, "kt_oracle", 35.121),
]
MEASURED_REGRETS = {
    # bits at T = 256 with their standard errors, from another implementation and other sequences
    "ptw": {"kt": Estimate(42.2, 0.9), "ptw": Estimate(11.62, 0.18), "lin": Estimate(16.4, 0.6)},
    "lin": {"kt": Estimate(62.9, 1.1), "ptw": Estimate(33.5, 0.5), "lin": Estimate(27.7, 0.7)},
    "regular": {"kt": Estimate(109.8, 0.8), "ptw": Estimate(53.0, 0.4), "lin": Estimate(46.6, 0.4)},
    "random_uniform": {"kt": Estimate(111.7, 0.7), "ptw": Estimate(73.8, 0.4), "lin": Estimate(61.6, 0.5)},
}
# The sequence of the overview figure of Genewein et al. 2023 (CC-BY 4.0), read from the figure: 256 bits, the true
# probabilities of a 1 to four digits with the steps they hold for, and cumulative regret in bits after some steps.
PUBLISHED_BITS = "3fd5f7fdfffb4bbec1080802f9bffeef02000000090000000020200004000001"
PUBLISHED_TRUTH = [(64, 0.6285), (32, 0.1361), (32, 0.7538), (128, 0.0436)]
PUBLISHED_STEPS = (64, 96, 128, 256)
PUBLISHED_REGRETS = {"kt_oracle": (6.161, 12.794, 13.855, 16.121), "ptw": (6.067, 16.481, 18.169, 21.184)}


def scores_of(names, source, sequences, batch_size=1000):
    return score({name: exact_predictor(name, source) for name in names}, sequences, batch_size, CPU)


def constant(*probabilities):
    """A predictor that always says the same."""
    log_q = torch.tensor(probabilities, dtype=torch.float64).log()
    return lambda sequences: log_q.expand(len(sequences.symbols), sequences.symbols.shape[1] - 1, len(probabilities))


# The definition


def test_regret_is_the_divergence_from_the_truth():
    """sum_k theta_k log(theta_k / q_k) in nats, by hand."""
    truth = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[0.1, 0.9], [0.75, 0.25]]], dtype=torch.float64)
    q = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.25, 0.75]]], dtype=torch.float64)
    quarter = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    tenth = 0.1 * math.log(0.2) + 0.9 * math.log(1.8)
    expected = torch.tensor([[quarter, 0], [tenth, 0.5 * math.log(3)]], dtype=torch.float64)
    torch.testing.assert_close(regret(truth, q.log()), expected)


@pytest.mark.parametrize("num_symbols", [2, 3, 7])
def test_regret_is_zero_for_the_truth_alone(num_symbols):
    """Never negative, and positive for anything that is not the truth."""
    truth, other = (fixed_sequences(Source("static", 1.0, num_symbols), 200, 3, seed).parameters for seed in (0, 1))
    zero = torch.zeros(200, 3, dtype=torch.float64)
    torch.testing.assert_close(regret(truth, truth.log()), zero, rtol=0, atol=1e-14)
    assert (regret(truth, other.log()) > 0).all()


def test_regret_of_certain_symbols_is_their_log_loss():
    """True probabilities of exactly 0 and 1 give numbers: -log q of the symbol that is sure to come."""
    truth = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    q = torch.tensor([[[0.25, 0.75], [1e-300, 1.0]]], dtype=torch.float64)
    expected = torch.tensor([[-math.log(0.75), 300 * math.log(10)]], dtype=torch.float64)
    torch.testing.assert_close(regret(truth, q.log()), expected)


def test_estimate_has_the_standard_error_of_the_mean():
    """sqrt(sum (x - mean)^2 / (N - 1) / N), written as people read it."""
    found = estimate(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    assert found.mean == pytest.approx(2.5)
    assert found.error == pytest.approx(math.sqrt(5 / 3 / 4))
    assert str(found) == "2.500 ± 0.645"


def test_units_are_in_nats():
    """A fair coin's log loss is one bit."""
    assert -math.log(0.5) / NATS_IN["bits"] == 1
    assert NATS_IN["nats"] == 1


@pytest.mark.parametrize(("num_symbols", "alpha", "expected"), [(2, 0.5, 0.386294), (2, 1.0, 0.5), (3, 0.5, None)])
def test_expected_entropy(num_symbols, alpha, expected):
    """2 log 2 - 1 for two symbols and alpha = 1/2, and what sampled parameters have, whatever the source."""
    found = expected_entropy(Source("static", alpha, num_symbols))
    assert expected is None or found == pytest.approx(expected, abs=5e-7)
    for name in SEGMENTS:
        parameters = fixed_sequences(Source(name, alpha, num_symbols), 4000, 10, seed=5).parameters
        entropy = estimate(-torch.xlogy(parameters, parameters).sum(2).mean(1))
        assert abs(entropy.mean - found) < 4 * entropy.error


@pytest.mark.parametrize("name", SEGMENTS)
def test_fixed_sequences_depend_on_their_arguments_alone(name):
    """The same on every call, whatever else was drawn meanwhile; others for another seed."""
    first = fixed_sequences(Source(name), 10, 20, seed=7)
    torch.manual_seed(99)
    other = fixed_sequences(Source(name), 10, 20, seed=8)
    again = fixed_sequences(Source(name), 10, 20, seed=7)
    assert all(part.equal(same) for part, same in zip(first, again, strict=True))
    assert not first.symbols.equal(other.symbols)
    assert {part.device for part in first} == {CPU}


# Scores


@pytest.mark.parametrize("name", PREDICTORS)
def test_the_first_symbol_is_not_scored(name):
    """An exact predictor has the source's prior, and its first row is dropped: a network has none."""
    source = Source("lin", 0.7, 3)
    sequences = fixed_sequences(source, 5, 20, seed=0)
    found = exact_predictor(name, source)(sequences)
    assert found.shape == (5, 19, 3)
    assert found.equal(predict(name, sequences, source)[:, 1:])


def test_the_depth_of_ptw_can_be_given():
    """--ptw_depth reaches the predictor."""
    sequences = fixed_sequences(Source("ptw"), 5, 20, seed=0)
    found = exact_predictor("ptw", Source("ptw"), 8)(sequences)
    assert found.equal(predict("ptw", sequences, Source("ptw"), 8)[:, 1:])


def test_scores_by_hand():
    """Two sequences of three symbols and two predictors that always say the same."""
    one, two = [[0.9, 0.1], [0.5, 0.5], [0.25, 0.75]], [[0.9, 0.1], [0.25, 0.75], [0.0, 1.0]]
    parameters = torch.tensor([one, two], dtype=torch.float64)
    sequences = Sequences(torch.zeros(2, 3, dtype=torch.int64), parameters, torch.tensor([[0, 1, 2], [0, 1, 2]]))
    found = score({"even": constant(0.5, 0.5), "skew": constant(0.2, 0.8)}, sequences, 10, CPU)
    assert list(found) == ["even", "skew"]
    quarter = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    expected = torch.tensor([quarter, quarter + math.log(2)], dtype=torch.float64)
    torch.testing.assert_close(found["even"].totals, expected)
    by_step = torch.tensor([quarter / 2, (quarter + math.log(2)) / 2], dtype=torch.float64)
    torch.testing.assert_close(found["even"].by_step, by_step)
    quarter = 0.25 * math.log(0.25 / 0.2) + 0.75 * math.log(0.75 / 0.8)
    half = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    expected = torch.tensor([half + quarter, quarter + math.log(1 / 0.8)], dtype=torch.float64)
    torch.testing.assert_close(found["skew"].totals, expected)
    assert found["even"].gap == pytest.approx(0.3)
    assert found["skew"].gap == 0


@pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
def test_scores_do_not_depend_on_the_batch_size(batch_size):
    """The last batch may be smaller than the others; sequences keep their order."""
    source = Source("ptw", 0.8, 3)
    sequences = fixed_sequences(source, 10, 33, seed=0)
    expected = scores_of(PREDICTORS, source, sequences, 5)
    for name, found in scores_of(PREDICTORS, source, sequences, batch_size).items():
        torch.testing.assert_close(found.totals, expected[name].totals)
        torch.testing.assert_close(found.by_step, expected[name].by_step)
        assert found.gap == pytest.approx(expected[name].gap)


def test_scores_are_sums_over_steps_and_means_over_sequences():
    """Totals, steps and gaps tell of one table of regrets."""
    source = Source("lin")
    sequences = fixed_sequences(source, 30, 20, seed=0)
    found = scores_of(PREDICTORS, source, sequences, 7)
    last = list(PREDICTORS)[-1]
    reference = predict(last, sequences, source)[:, 1:].exp()
    for name, (totals, by_step, gap) in found.items():
        log_q = predict(name, sequences, source)[:, 1:]
        values = regret(sequences.parameters[:, 1:], log_q)
        torch.testing.assert_close(totals, values.sum(1))
        torch.testing.assert_close(by_step, values.mean(0))
        assert gap == pytest.approx((log_q.exp() - reference).abs().mean().item())
    assert found[last].gap == 0


def test_the_truth_has_no_regret():
    """A predictor that was told the parameters scores zero."""
    sequences = fixed_sequences(Source("ptw", 1.0), 50, 40, seed=0)
    found = score({"truth": lambda part: part.parameters[:, 1:].log()}, sequences, 20, CPU)
    torch.testing.assert_close(found["truth"].totals, torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-12)


# Numbers


@pytest.mark.parametrize(("name", "length", "predictor", "expected"), EXACT_REGRETS)
def test_regret_has_its_exact_mean(name, length, predictor, expected):
    """Of KT, started anew at each switch, the mean regret of every step is known."""
    source = Source(name)
    sequences = fixed_sequences(source, min(20000, 2**20 // length), length, seed=1)
    found = estimate(scores_of([predictor], source, sequences)[predictor].totals / NATS_IN["bits"])
    assert abs(found.mean - expected) < 4 * found.error + 5e-4  # of rounding


@pytest.mark.parametrize("name", MEASURED_REGRETS)
def test_regret_is_what_others_measured(name):
    """KT, PTW and LIN agree with measured means to 4 combined errors."""
    source = Source(name)
    scores = scores_of(MEASURED_REGRETS[name], source, fixed_sequences(source, 300, 256, seed=2), 100)
    for predictor, measured in MEASURED_REGRETS[name].items():
        found = estimate(scores[predictor].totals / NATS_IN["bits"])
        assert abs(found.mean - measured.mean) < 4 * math.hypot(found.error, measured.error)


@pytest.mark.parametrize("name", OWN_MIXTURE)
@pytest.mark.parametrize(("num_symbols", "alpha", "length"), [(2, 0.5, 64), (3, 1.0, 32)])
def test_the_own_mixture_of_a_source_is_best_on_it(name, num_symbols, alpha, length):
    """Of all that do not know the switches; those who do are better still."""
    source, own = Source(name, alpha, num_symbols), OWN_MIXTURE[name]
    scores = scores_of(PREDICTORS, source, fixed_sequences(source, 2000, length, seed=3))
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
