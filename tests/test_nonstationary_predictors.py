"""The exact predictors are what their definitions say, and predict each symbol from those before it alone."""

import copy
import functools
import itertools
import math

import pytest
import torch

from common.errors import UserError
from nonstationary.predictors import OWN_MIXTURE, PREDICTORS, kt, kt_oracle, lin, predict, ptw, random_uniform
from nonstationary.sources import SEGMENTS, Sequences, Source, sample

every_predictor = pytest.mark.parametrize("name", PREDICTORS)
priors = pytest.mark.parametrize(("num_symbols", "alpha"), [(2, 0.5), (2, 1.3), (3, 0.5), (3, 0.2)])


def tensor_of(text):
    return torch.tensor([[int(symbol) for symbol in text]])


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


# Definitions in words of one symbol at a time


@functools.cache
def kt_joint(string, num_symbols, alpha):
    """The probability of a string under KT."""
    probability = 1.0
    for step, symbol in enumerate(string):
        seen = string[:step].count(symbol)
        probability *= (seen + alpha) / (step + num_symbols * alpha)
    return probability


@functools.cache
def partitions_of_tree(depth):
    """All binary partitions of 2^depth steps: (weight, first steps of the segments, then the end)."""
    if depth == 0:
        return [(1.0, (0, 1))]
    half, halves = 2 ** (depth - 1), partitions_of_tree(depth - 1)
    whole = [(0.5, (0, 2**depth))]
    return whole + [
        (0.5 * p * q, left + tuple(half + step for step in right[1:]))
        for (p, left), (q, right) in itertools.product(halves, repeat=2)
    ]


@functools.cache
def segmentations(length):
    """All 2^(T-1) segmentations under the LIN prior, in the same form."""
    found = []
    for is_switch in itertools.product((False, True), repeat=length - 1):
        weight, lasted = 1.0, 1
        for switched in is_switch:
            weight *= 1 / (2 * lasted) if switched else 1 - 1 / (2 * lasted)
            lasted = 1 if switched else lasted + 1
        found.append((weight, (0, *(step for step, switched in enumerate(is_switch, 1) if switched), length)))
    return found


@functools.cache
def uniform_segmentations(length, longest):
    """All segmentations into segments of at most `longest` steps, each length as likely; the last may go on."""
    found = []
    for is_switch in itertools.product((False, True), repeat=length - 1):
        borders = 0, *(step for step, switched in enumerate(is_switch, 1) if switched), length
        *whole, last = (end - start for start, end in itertools.pairwise(borders))
        if max(*whole, last, 0) <= longest:
            found.append(((1 / longest) ** len(whole) * (longest - last + 1) / longest, borders))
    return found


def mixture_joint(partitions, string, num_symbols, alpha):
    """The sum over partitions of weight times KT in each segment; a string may end before its partition does."""
    return math.fsum(
        math.prod(
            (kt_joint(string[start:end], num_symbols, alpha) for start, end in itertools.pairwise(borders)),
            start=weight,
        )
        for weight, borders in partitions
    )


def predictions_of_joint(joint_of, string, num_symbols):
    """q_t(k) = P(x_1 .. x_{t-1} k) / P(x_1 .. x_{t-1}), as (T, K)."""
    rows = []
    for step in range(len(string)):
        so_far = [joint_of((*string[:step], k)) for k in range(num_symbols)]
        rows.append([one / joint_of(string[:step]) for one in so_far])
    return torch.tensor(rows, dtype=torch.float64)


def online_ptw(string, depth):
    """One pass of PTW with KT that keeps one block a level, as Veness et al. 2013 do; p(1) before each symbol."""

    def read(state, step, symbol):
        kts, weights, lefts, counts = copy.deepcopy(state)
        changed = 0 if step == 1 else depth - ((step - 1) ^ (step - 2)).bit_length()
        if step > 1:
            lefts[changed] = weights[changed + 1]
        for level in range(changed + 1, depth + 1):
            kts[level] = weights[level] = lefts[level] = 0.0
            counts[level] = [0, 0]
        for level in range(depth + 1):
            kts[level] += math.log((counts[level][symbol] + 0.5) / (sum(counts[level]) + 1))
            counts[level][symbol] += 1
        weights[depth] = kts[depth]
        for level in reversed(range(depth)):
            whole, split = kts[level], weights[level + 1] + lefts[level]
            weights[level] = max(whole, split) + math.log1p(math.exp(-abs(whole - split))) - math.log(2)
        return kts, weights, lefts, counts

    state = [0.0] * (depth + 1), [0.0] * (depth + 1), [0.0] * (depth + 1), [[0, 0] for _ in range(depth + 1)]
    predictions = []
    for step, symbol in enumerate(string, 1):
        before = state[1][0]
        predictions.append(math.exp(read(state, step, 1)[1][0] - before))
        state = read(state, step, symbol)
    return predictions


def online_lin(string, num_symbols=2, alpha=0.5):
    """One pass of LIN over unnormalised weights of where the current segment began; (T, K) predictions."""
    weights, predictions = [1.0], []
    for step, symbol in enumerate(string):
        ahead = [
            [(string[start:step].count(k) + alpha) / (step - start + num_symbols * alpha) for k in range(num_symbols)]
            for start in range(step + 1)
        ]
        total = sum(weights)
        predictions.append(
            [sum(w * q[k] for w, q in zip(weights, ahead, strict=True)) / total for k in range(num_symbols)]
        )
        weights = [w * q[symbol] / total for w, q in zip(weights, ahead, strict=True)]
        ends = [w / (2 * (step + 1 - start)) for start, w in enumerate(weights)]
        weights = [w - e for w, e in zip(weights, ends, strict=True)] + [sum(ends)]
    return torch.tensor(predictions, dtype=torch.float64)


# KT


@priors
def test_kt_counts(num_symbols, alpha):
    """(n_k + alpha) / (n + K alpha), symbol by symbol."""
    symbols = random_strings(5, 12, num_symbols)
    for string, log_q in zip(symbols.tolist(), kt(symbols, num_symbols, alpha), strict=True):
        expected = predictions_of_joint(lambda s: kt_joint(s, num_symbols, alpha), tuple(string), num_symbols)
        torch.testing.assert_close(log_q.exp(), expected)


def test_kt_has_its_closed_form():
    """KT(a zeros, b ones) = Gamma(a + 1/2) Gamma(b + 1/2) / (pi Gamma(a + b + 1)), in any order."""
    symbols = random_strings(20, 30)
    ones = symbols.sum(1).double()
    expected = (30 - ones + 0.5).lgamma() + (ones + 0.5).lgamma() - math.log(math.pi) - math.lgamma(31)
    torch.testing.assert_close(joint(kt(symbols), symbols), expected)


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


def test_the_oracle_of_one_segment_is_kt():
    symbols = random_strings(4, 20)
    torch.testing.assert_close(kt_oracle(symbols, torch.zeros_like(symbols)), kt(symbols))


# PTW


@pytest.mark.parametrize(("depth", "count"), [(1, 2), (2, 5), (3, 26), (4, 677)])
@priors
def test_ptw_is_the_mixture_over_all_partitions(depth, count, num_symbols, alpha):
    """2, 5, 26 and 677 partitions, weighted by 2 to the minus number of coins; of whole trees and of cut ones."""
    partitions = partitions_of_tree(depth)
    assert len(partitions) == len({borders for _, borders in partitions}) == count
    assert math.fsum(weight for weight, _ in partitions) == 1
    joint_of = functools.cache(lambda string: mixture_joint(partitions, string, num_symbols, alpha))
    for length in (2 ** (depth - 1) + 1, 2**depth):
        symbols = random_strings(1 if depth == 4 else 3, length, num_symbols)
        for string, log_q in zip(symbols.tolist(), ptw(symbols, num_symbols, alpha, depth), strict=True):
            torch.testing.assert_close(log_q.exp(), predictions_of_joint(joint_of, tuple(string), num_symbols))


@pytest.mark.parametrize(("length", "depth"), [(256, 8), (200, 8), (64, 6), (33, 6), (50, 9)])
def test_ptw_at_once_and_online_agree(length, depth):
    """All steps at once give what a pass over the symbols gives, of any length, with levels to spare too."""
    symbols = sample(Source("ptw"), 1, length, torch.Generator().manual_seed(1)).symbols
    expected = torch.tensor(online_ptw(symbols[0].tolist(), depth), dtype=torch.float64)
    torch.testing.assert_close(ptw(symbols, depth=depth)[0, :, 1].exp(), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("string", "depth", "expected"),
    [
        ("00", 1, 5 / 16),
        ("01", 1, 3 / 16),
        ("0000", 2, 95 / 512),
        ("0101", 2, 15 / 512),
        ("00001111", 3, 0.017747879028320),
    ],
)
def test_ptw_of_short_strings(string, depth, expected):
    """Values worked out by hand from the definition."""
    symbols = tensor_of(string)
    assert joint(ptw(symbols, depth=depth), symbols).exp().item() == pytest.approx(expected, rel=1e-12)


def test_ptw_sees_a_switch_in_the_middle():
    """p(1) before each symbol of 00001111 jumps up after the first 1, since the middle is where a switch is likely."""
    found = ptw(tensor_of("00001111"), depth=3)[0, :, 1].exp().tolist()
    expected = [0.5, 0.28125, 0.23913043, 0.16071429, 0.26170213, 0.5879065, 0.65038894, 0.77284053]
    assert found == pytest.approx(expected, abs=5e-9)


@pytest.mark.parametrize("depth", [1, 2, 3, 8, 20])
def test_ptw_after_one_symbol(depth):
    """p(1) = (1 + 2^-D) / 4 after a 0: only the finest partitions have a switch there."""
    assert ptw(tensor_of("00"), depth=depth)[0, 1, 1].exp().item() == pytest.approx((1 + 2**-depth) / 4, rel=1e-12)


def test_ptw_is_at_least_each_of_its_parts():
    """PTW(x) >= 2^-Gamma(P) prod KT(x in segment) for each partition P: the bound on its regret."""
    symbols = strings(8)
    for string, log_joint in zip(symbols.tolist(), joint(ptw(symbols), symbols).tolist(), strict=True):
        for part in partitions_of_tree(3):
            assert log_joint >= math.log(mixture_joint([part], tuple(string), 2, 0.5)) - 1e-12


@pytest.mark.parametrize(("num_symbols", "alpha"), [(2, 0.5), (4, 0.3)])
@pytest.mark.parametrize("length", [1, 2, 5, 16, 100])
def test_each_needless_level_averages_ptw_with_kt(num_symbols, alpha, length):
    """PTW_{D+1} = 1/2 KT + 1/2 PTW_D if D is enough."""
    symbols = random_strings(3, length, num_symbols)
    depth = math.ceil(math.log2(length))
    stationary = joint(kt(symbols, num_symbols, alpha), symbols).exp()
    for enough in range(depth, depth + 4):
        less, more = (joint(ptw(symbols, num_symbols, alpha, d), symbols).exp() for d in (enough, enough + 1))
        torch.testing.assert_close(more, (stationary + less) / 2, rtol=1e-10, atol=0)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 9])
def test_the_depth_of_ptw_is_the_least_that_covers_the_sequence(length):
    """--ptw_depth is ceil(log2 T) unless given."""
    symbols = random_strings(3, length)
    assert ptw(symbols).equal(ptw(symbols, depth=math.ceil(math.log2(length))))


def test_ptw_of_depth_0_is_kt():
    """PTW_0 covers a single symbol."""
    for symbol in (0, 1):
        log_q = ptw(torch.tensor([[symbol]]), 2, 0.5, 0)
        torch.testing.assert_close(log_q, kt(torch.tensor([[symbol]])))
        assert log_q.exp().tolist() == [[[0.5, 0.5]]]


@pytest.mark.parametrize(("length", "depth"), [(2, 0), (5, 2), (257, 8)])
def test_a_depth_that_does_not_cover_the_sequence_is_refused(length, depth):
    """The message says what the depth covers, and what there is."""
    with pytest.raises(UserError, match=f"depth {depth} covers {2**depth} symbols, not {length}"):
        ptw(torch.zeros(1, length, dtype=torch.int64), depth=depth)


# LIN


@pytest.mark.parametrize("length", [6, 11])
@priors
def test_lin_is_the_mixture_over_all_segmentations(length, num_symbols, alpha):
    """A segment that has lasted k steps ends with probability 1/(2k); 2^(T-1) segmentations."""
    partitions = segmentations(length)
    assert math.fsum(weight for weight, _ in partitions) == pytest.approx(1)
    symbols = random_strings(3 if length < 8 else 1, length, num_symbols)
    joint_of = functools.cache(lambda string: mixture_joint(partitions, string, num_symbols, alpha))
    for string, log_q in zip(symbols.tolist(), lin(symbols, num_symbols, alpha), strict=True):
        torch.testing.assert_close(log_q.exp(), predictions_of_joint(joint_of, tuple(string), num_symbols))


@pytest.mark.parametrize(("num_symbols", "alpha", "length"), [(2, 0.5, 120), (3, 0.8, 60)])
def test_lin_is_the_recursion_over_where_the_segment_began(num_symbols, alpha, length):
    """The same weights, kept in lists."""
    source = Source("lin", alpha, num_symbols)
    symbols = sample(source, 1, length, torch.Generator().manual_seed(2)).symbols
    expected = online_lin(symbols[0].tolist(), num_symbols, alpha)
    torch.testing.assert_close(lin(symbols, num_symbols, alpha)[0].exp(), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("string", "expected"),
    [("00", 5 / 16), ("000", 7 / 32), ("0011", 0.05126953125), ("00001111", 0.007605448365211)],
)
def test_lin_of_short_strings(string, expected):
    """Values worked out by hand from the definition."""
    symbols = tensor_of(string)
    assert joint(lin(symbols), symbols).exp().item() == pytest.approx(expected, rel=1e-12)


def test_lin_learns_of_a_switch_anywhere():
    """p(1) before each symbol of 00001111 jumps up after the first 1, since then a segment has likely begun."""
    found = lin(tensor_of("00001111"))[0, :, 1].exp().tolist()
    expected = [0.5, 0.375, 0.3, 0.24776786, 0.20919881, 0.49202128, 0.63141892, 0.71115486]
    assert found == pytest.approx(expected, abs=5e-9)


def test_lin_counts_beyond_256_equal_symbols():
    """A long run of one symbol is predicted to go on, whichever it is; 8 bits would have forgotten their count."""
    symbols = torch.tensor([[0], [1]]).expand(2, 301)
    q = lin(symbols).exp()
    torch.testing.assert_close(q.sum(2), torch.ones(2, 301, dtype=torch.float64))
    assert q[0, :, 0].equal(q[1, :, 1])
    assert q[0, 257, 0].item() == pytest.approx(0.996, abs=5e-4)
    assert q[0, 300, 0].item() == pytest.approx(online_lin([0] * 301)[300, 0].item(), rel=1e-10)
    assert (q[0, 1:, 0] > q[0, :-1, 0]).all()


# Random uniform


@pytest.mark.parametrize(("length", "longest"), [(6, 1), (6, 3), (7, 6), (9, 4), (5, 20)])
@priors
def test_random_uniform_is_the_mixture_over_all_segmentations(length, longest, num_symbols, alpha):
    """Every choice of switches that leaves no segment too long, weighted by the chances of the lengths."""
    partitions = uniform_segmentations(length, longest)
    assert math.fsum(weight for weight, _ in partitions) == pytest.approx(1)
    symbols = random_strings(3 if length < 8 else 1, length, num_symbols)
    joint_of = functools.cache(lambda string: mixture_joint(partitions, string, num_symbols, alpha))
    for string, log_q in zip(symbols.tolist(), random_uniform(symbols, num_symbols, alpha, longest), strict=True):
        torch.testing.assert_close(log_q.exp(), predictions_of_joint(joint_of, tuple(string), num_symbols))


def test_random_uniform_is_that_of_its_source():
    """--max_segment reaches it; another number makes another mixture."""
    sequences = sample(Source("random_uniform", max_segment=5), 4, 30, torch.Generator().manual_seed(0))
    found = predict("random_uniform", sequences, Source("random_uniform", max_segment=5))
    assert found.equal(random_uniform(sequences.symbols, max_segment=5))
    assert not found.equal(random_uniform(sequences.symbols, max_segment=6))


def test_segments_longer_than_the_sequence_cost_nothing():
    """A million times longer ones neither: without switches that are to be expected it is KT."""
    symbols = random_strings(3, 8, 2)
    torch.testing.assert_close(random_uniform(symbols, max_segment=10**15), kt(symbols))


# All of them


@pytest.mark.parametrize(
    ("name", "length", "num_symbols"),
    [(name, length, 2) for name in PREDICTORS for length in (5, 8, 10)] + [(name, 6, 3) for name in PREDICTORS],
)
def test_probabilities_of_all_strings_sum_to_1(name, length, num_symbols):
    """A predictor is a distribution over strings of any length."""
    symbols = strings(length, num_symbols)
    segments = (torch.arange(length) // 3).expand_as(symbols)
    log_q = predicted(name, symbols, num_symbols, segments=segments)
    assert joint(log_q, symbols).exp().sum().item() == pytest.approx(1, abs=1e-12)


@every_predictor
@priors
@pytest.mark.parametrize("length", [1, 2, 13, 64])
def test_predictions_are_distributions(name, num_symbols, alpha, length):
    """A row for each symbol, the first included, in double precision; the first is uniform."""
    log_q = predicted(name, random_strings(4, length, num_symbols), num_symbols, alpha)
    assert log_q.dtype == torch.float64
    assert log_q.shape == (4, length, num_symbols)
    torch.testing.assert_close(log_q.exp().sum(2), torch.ones(4, length, dtype=torch.float64))
    torch.testing.assert_close(log_q[:, 0].exp(), torch.full((4, num_symbols), 1 / num_symbols, dtype=torch.float64))


@every_predictor
def test_later_symbols_change_no_prediction(name):
    """Neither other symbols, nor fewer: what is predicted at a step was known before it."""
    symbols = random_strings(4, 33)
    segments = switching(symbols)
    expected = predicted(name, symbols, segments=segments)
    for step in range(33):
        changed = torch.where(torch.arange(33) < step, symbols, 1 - symbols)
        for other in (changed, symbols[:, : step + 1]):
            found = predicted(name, other, segments=segments[:, : other.shape[1]], depth=6)
            torch.testing.assert_close(found[:, : step + 1], expected[:, : step + 1])


@every_predictor
def test_complementing_the_symbols_complements_the_predictions(name):
    """No predictor prefers a symbol, whatever the string."""
    symbols = strings(9)
    segments = switching(symbols)
    found = predicted(name, 1 - symbols, segments=segments)
    torch.testing.assert_close(found, predicted(name, symbols, segments=segments).flip(2))


@every_predictor
def test_renaming_symbols_renames_the_predictions(name):
    """The same of an alphabet of three."""
    symbols, new = random_strings(5, 20, 3), torch.tensor([2, 0, 1])
    segments = switching(symbols)
    found = predicted(name, new[symbols], 3, 0.7, segments)
    torch.testing.assert_close(found[..., new], predicted(name, symbols, 3, 0.7, segments))


@every_predictor
def test_a_sequence_is_predicted_alike_alone_and_in_company(name):
    """Rows of a batch do not meet, and stay as they are."""
    symbols = random_strings(6, 21)
    before = symbols.clone()
    together = predicted(name, symbols)
    assert symbols.equal(before)
    for row in range(6):
        torch.testing.assert_close(predicted(name, symbols[row : row + 1]), together[row : row + 1])


@every_predictor
@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 0.5, 1e3, 1e9])
def test_long_and_certain_sequences_give_numbers(name, alpha):
    """Nothing overflows or is lost: 600 equal symbols, then 20 of the other, then both in turn."""
    symbols = torch.cat([torch.zeros(600), torch.ones(20), torch.arange(20) % 2]).long()[None]
    log_q = predicted(name, symbols, 2, alpha)
    assert log_q.isfinite().all()
    torch.testing.assert_close(log_q.exp().sum(2), torch.ones(1, 640, dtype=torch.float64))


# By name


@priors
def test_predictors_are_called_by_name_with_the_prior_of_the_source(num_symbols, alpha):
    """--alpha and --num_symbols reach each of them, and --ptw_depth reaches PTW."""
    source = Source("random_uniform", alpha, num_symbols, max_segment=5)
    sequences = sample(source, 4, 20, torch.Generator().manual_seed(0))
    symbols, prior = sequences.symbols, (num_symbols, alpha)
    assert predict("kt", sequences, source).equal(kt(symbols, *prior))
    assert predict("kt_oracle", sequences, source).equal(kt_oracle(symbols, sequences.segments, *prior))
    assert predict("lin", sequences, source).equal(lin(symbols, *prior))
    assert predict("ptw", sequences, source).equal(ptw(symbols, *prior, 5))
    assert predict("ptw", sequences, source, 7).equal(ptw(symbols, *prior, 7))
    assert not predict("ptw", sequences, source, 7).equal(predict("ptw", sequences, source))


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
