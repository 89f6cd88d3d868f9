"""The exact predictors are what their definitions say, and predict each symbol from those before it alone."""

import functools
import math

import pytest
import torch

from common.errors import UserError
from nonstationary.predictors import OWN_MIXTURE, PREDICTORS, kt, kt_oracle, lin, predict, ptw, random_uniform
from nonstationary.sources import SEGMENTS, Sequences, Source, sample

every_predictor = pytest.mark.parametrize("name", PREDICTORS)
PRIORS = [(2, 0.5), (2, 1.3), (3, 0.5), (3, 0.2)]
priors = pytest.mark.parametrize(("num_symbols", "alpha"), PRIORS)


def strings(length, num_symbols=2):
    """All strings, (K^T, T)."""
    return torch.cartesian_prod(*[torch.arange(num_symbols)] * length).view(-1, length)


def random_strings(n, length, num_symbols=2):
    return torch.randint(num_symbols, (n, length), generator=torch.Generator().manual_seed(length))


def joint(log_q, symbols):
    """The log probability of whole sequences."""
    return log_q.gather(2, symbols[..., None]).sum((1, 2))


def switching(symbols):
    """Segments for the oracle: one ends after each symbol 1, and after 5 steps of all sequences."""
    is_switch = symbols.roll(1, 1) == 1
    is_switch[:, 0] = False
    is_switch[:, 5:6] = True
    return is_switch.cumsum(1)


def predicted(name, symbols, num_symbols=2, alpha=0.5, segments=None, depth=None):
    """What a predictor says about symbols whose true parameters are nowhere to be read."""
    segments = switching(symbols) if segments is None else segments
    source = Source(alpha=alpha, num_symbols=num_symbols)
    return predict(name, Sequences(symbols, torch.zeros(0), segments), source, depth)


# Definitions: the probability of a string as a tuple, under a prior (K, alpha)


@functools.cache
def kt_joint(string, num_symbols, alpha):
    """The Dirichlet-multinomial distribution."""
    counts = [string.count(k) for k in range(num_symbols)]
    log_joint = math.lgamma(num_symbols * alpha) - math.lgamma(len(string) + num_symbols * alpha)
    return math.exp(log_joint + sum(math.lgamma(count + alpha) - math.lgamma(alpha) for count in counts))


@functools.cache
def ptw_joint(string, depth, *prior):
    """A block is one segment, or split in the middle, with probability 1/2 each; one step cannot be split."""
    if depth == 0 or not string:
        return kt_joint(string, *prior)
    half = 2 ** (depth - 1)
    split = ptw_joint(string[:half], depth - 1, *prior) * ptw_joint(string[half:], depth - 1, *prior)
    return (kt_joint(string, *prior) + split) / 2


@functools.cache
def complete_joint(string, lasts, *prior):
    """The probability of a string and of a switch at its end, where a segment has k steps or more with `lasts(k)`."""
    if not string:
        return 1.0
    return sum(
        complete_joint(string[:start], lasts, *prior)
        * kt_joint(string[start:], *prior)
        * (lasts(len(string) - start) - lasts(len(string) - start + 1))
        for start in range(len(string))
    )


def renewal_joint(string, lasts, *prior):
    """The sum over where the last segment began, which may go on."""
    if not string:
        return 1.0
    return sum(
        complete_joint(string[:start], lasts, *prior) * kt_joint(string[start:], *prior) * lasts(len(string) - start)
        for start in range(len(string))
    )


def lasts_in_lin(k):
    """A segment that has lasted i steps ends with probability 1/(2i)."""
    return math.prod(1 - 1 / (2 * i) for i in range(1, k))


def assert_predicts(log_q, symbols, joint_of, num_symbols):
    """q_t(k) = P(x_1 .. x_{t-1} k) / P(x_1 .. x_{t-1}) for all sequences and steps."""
    for string, found in zip(map(tuple, symbols.tolist()), log_q.exp(), strict=True):
        rows = [[joint_of((*string[:t], k)) for k in range(num_symbols)] for t in range(len(string))]
        expected = torch.tensor(rows, dtype=torch.float64)
        before = torch.tensor([joint_of(string[:t]) for t in range(len(string))], dtype=torch.float64)
        torch.testing.assert_close(found, expected / before[:, None], rtol=1e-10, atol=0)


@priors
@pytest.mark.parametrize("length", [1, 12, 40])
def test_kt_counts(num_symbols, alpha, length):
    """(n_k + alpha) / (n + K alpha), symbol by symbol."""
    symbols = random_strings(3, length, num_symbols)
    assert_predicts(kt(symbols, num_symbols, alpha), symbols, lambda s: kt_joint(s, num_symbols, alpha), num_symbols)


@priors
def test_the_oracle_is_kt_anew_in_each_segment(num_symbols, alpha):
    """Each segment is predicted as if it were a sequence of its own."""
    source = Source("random_uniform", alpha, num_symbols, max_segment=7)
    sequences = sample(source, 6, 40, torch.Generator().manual_seed(0))
    log_q = kt_oracle(sequences.symbols, sequences.segments, num_symbols, alpha)
    for symbols, segments, row in zip(sequences.symbols, sequences.segments, log_q, strict=True):
        for number in segments.unique():
            part = symbols[segments == number]
            torch.testing.assert_close(row[segments == number], kt(part[None], num_symbols, alpha)[0])


@pytest.mark.parametrize(
    ("prior", "length", "depth"),
    [
        *((prior, *size) for prior in PRIORS for size in ((1, 0), (2, 1), (3, 2), (5, 3), (16, 4))),
        *(((2, 0.5), *size) for size in ((33, 6), (50, 9), (200, 8), (256, 8), (2, 20))),
    ],
)
def test_ptw_is_its_recursion(prior, length, depth):
    """Of whole trees and of cut ones, with levels to spare too; the least depth that is enough is the default."""
    symbols = random_strings(1 if length > 16 else 3, length, prior[0])
    log_q = ptw(symbols, *prior, depth)
    assert_predicts(log_q, symbols, lambda s: ptw_joint(s, depth, *prior), prior[0])
    assert (2**depth < 2 * length) == log_q.equal(ptw(symbols, *prior))


@pytest.mark.parametrize(("length", "depth"), [(2, 0), (5, 2), (257, 8)])
def test_a_depth_that_does_not_cover_the_sequence_is_refused(length, depth):
    """The message says what the depth covers, and what there is."""
    with pytest.raises(UserError, match=f"depth {depth} covers {2**depth} symbols, not {length}"):
        ptw(torch.zeros(1, length, dtype=torch.int64), depth=depth)


@pytest.mark.parametrize(("prior", "length"), [*((prior, 10) for prior in PRIORS), ((2, 0.5), 60), ((3, 0.8), 40)])
def test_lin_is_the_mixture_over_all_segmentations(prior, length):
    """A segment that has lasted k steps ends with probability 1/(2k)."""
    symbols = sample(Source("lin", prior[1], prior[0]), 1, length, torch.Generator().manual_seed(2)).symbols
    assert_predicts(lin(symbols, *prior), symbols, lambda s: renewal_joint(s, lasts_in_lin, *prior), prior[0])


@pytest.mark.parametrize(("length", "longest"), [(6, 1), (6, 3), (7, 6), (9, 4), (5, 20), (40, 20)])
@pytest.mark.parametrize("prior", PRIORS)
def test_random_uniform_is_the_mixture_over_all_segmentations(length, longest, prior):
    """Lengths of 1 to `longest` are equally likely; the last segment may go on."""
    symbols = random_strings(1, length, prior[0])

    def lasts(k):
        return max(0, longest - k + 1) / longest

    log_q = random_uniform(symbols, *prior, longest)
    assert_predicts(log_q, symbols, lambda s: renewal_joint(s, lasts, *prior), prior[0])
    source = Source("random_uniform", prior[1], prior[0], max_segment=longest)
    assert log_q.equal(predict("random_uniform", Sequences(symbols, symbols, symbols), source))


def test_segments_longer_than_the_sequence_cost_nothing():
    """A million times longer ones neither: without switches that are to be expected it is KT."""
    symbols = random_strings(3, 8, 2)
    torch.testing.assert_close(random_uniform(symbols, max_segment=10**15), kt(symbols))


@pytest.mark.parametrize(
    ("name", "string", "depth", "expected"),
    [
        ("ptw", "00", 1, 5 / 16),
        ("ptw", "01", 1, 3 / 16),
        ("ptw", "0000", 2, 95 / 512),
        ("ptw", "0101", 2, 15 / 512),
        ("ptw", "00001111", 3, 0.017747879028320),
        ("lin", "00", None, 5 / 16),
        ("lin", "000", None, 7 / 32),
        ("lin", "0011", None, 0.05126953125),
        ("lin", "00001111", None, 0.007605448365211),
    ],
)
def test_short_strings_have_the_probabilities_worked_out_by_hand(name, string, depth, expected):
    symbols = torch.tensor([[int(symbol) for symbol in string]])
    assert joint(predicted(name, symbols, depth=depth), symbols).exp().item() == pytest.approx(expected, rel=1e-12)


def test_lin_counts_beyond_256_equal_symbols():
    """A long run of one symbol is predicted to go on, whichever it is; 8 bits would have forgotten their count."""
    q = lin(torch.tensor([[0], [1]]).expand(2, 301)).exp()
    assert q[0, :, 0].equal(q[1, :, 1])
    assert q[0, 257, 0].item() == pytest.approx(0.996, abs=5e-4)
    assert (q[0, 1:, 0] > q[0, :-1, 0]).all()


# All of them


@every_predictor
@priors
@pytest.mark.parametrize("length", [1, 13, 64])
def test_predictions_are_distributions(name, num_symbols, alpha, length):
    """A row for each symbol, the first included, in double precision; the first is uniform."""
    log_q = predicted(name, random_strings(4, length, num_symbols), num_symbols, alpha)
    assert (log_q.dtype, log_q.shape) == (torch.float64, (4, length, num_symbols))
    torch.testing.assert_close(log_q.exp().sum(2), torch.ones(4, length, dtype=torch.float64))
    torch.testing.assert_close(log_q[:, 0].exp(), torch.full((4, num_symbols), 1 / num_symbols, dtype=torch.float64))


@every_predictor
def test_later_symbols_change_no_prediction(name):
    """Neither other symbols, nor fewer: what is predicted at a step was known before it."""
    symbols = random_strings(2, 33)
    segments = switching(symbols)
    expected = predicted(name, symbols, segments=segments)
    for step in range(0, 33, 4):
        changed = torch.where(torch.arange(33) < step, symbols, 1 - symbols)
        for other in (changed, symbols[:, : step + 1]):
            found = predicted(name, other, segments=segments[:, : other.shape[1]], depth=6)
            torch.testing.assert_close(found[:, : step + 1], expected[:, : step + 1])


@every_predictor
@pytest.mark.parametrize(("symbols", "new"), [(strings(9), [1, 0]), (random_strings(5, 20, 3), [2, 0, 1])])
def test_renaming_symbols_renames_the_predictions(name, symbols, new):
    """No predictor prefers a symbol, whatever the string."""
    segments, new = switching(symbols), torch.tensor(new)
    found = predicted(name, new[symbols], len(new), 0.7, segments)
    torch.testing.assert_close(found[..., new], predicted(name, symbols, len(new), 0.7, segments))


@every_predictor
def test_a_sequence_is_predicted_alike_alone_and_in_a_batch(name):
    """Rows of a batch do not meet, and stay as they are."""
    symbols = random_strings(6, 21)
    before = symbols.clone()
    together = predicted(name, symbols)
    assert symbols.equal(before)
    for row in range(6):
        torch.testing.assert_close(predicted(name, symbols[row : row + 1]), together[row : row + 1])


@every_predictor
def test_long_and_certain_sequences_give_numbers(name):
    """Nothing overflows or is lost: 600 equal symbols, then 20 of the other, then both in turn."""
    symbols = torch.cat([torch.zeros(600), torch.ones(20), torch.arange(20) % 2]).long()[None]
    for alpha in (1e-6, 0.5, 1e9):
        log_q = predicted(name, symbols, 2, alpha)
        assert log_q.isfinite().all()
        torch.testing.assert_close(log_q.exp().sum(2), torch.ones(1, 640, dtype=torch.float64))


@priors
def test_predictors_are_called_by_name_with_the_prior_of_the_source(num_symbols, alpha):
    """--alpha and --num_symbols reach each of them, and --ptw_depth reaches PTW."""
    source = Source("random_uniform", alpha, num_symbols, max_segment=5)
    sequences = sample(source, 4, 20, torch.Generator().manual_seed(0))
    symbols, prior = sequences.symbols, (num_symbols, alpha)
    assert predict("kt", sequences, source).equal(kt(symbols, *prior))
    assert predict("kt_oracle", sequences, source).equal(kt_oracle(symbols, sequences.segments, *prior))
    assert predict("lin", sequences, source).equal(lin(symbols, *prior))
    for depth in (None, 5, 7):
        assert predict("ptw", sequences, source, depth).equal(ptw(symbols, *prior, depth or 5))


@every_predictor
def test_only_the_oracle_sees_the_switches(name):
    """Other segments, with the same symbols, change its predictions alone."""
    symbols = random_strings(3, 20)
    found = predicted(name, symbols, segments=torch.arange(20).expand(3, 20))
    assert found.equal(predicted(name, symbols)) == (name != "kt_oracle")


def test_an_unknown_predictor_is_named():
    """The message has the name that was given and those there are."""
    with pytest.raises(ValueError, match=r"kt, kt_oracle, ptw, lin, random_uniform, found 'ctw'"):
        predicted("ctw", random_strings(1, 4))


def test_each_own_mixture_is_a_predictor_of_a_source():
    """Every source has one, and every predictor is one's."""
    assert set(OWN_MIXTURE.values()) == set(PREDICTORS)
    assert set(SEGMENTS) == set(OWN_MIXTURE)
