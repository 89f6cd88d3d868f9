"""What kind of answers they are: right, one-to-one, iconic, mutually exclusive; people's and networks' alike.

Answers are in the benchmarks' own symbols. Shares are counts (how many, of how many), so that nothing is divided by
nothing and sets of answers can be added up.

Source: Lake & Baroni 2023, Results and Methods ("Behavioural methods").
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from biml.benchmarks import GOLD_QUERIES, OPEN_ENDED, gold_episode, split
from biml.grammar import MINI_SCAN, Words
from common.errors import UserError

SIMPLE = 5  # of the gold queries, the first
LONGEST_GOLD = 6  # symbols of a gold answer
REVERSING = "after"  # the function whose arguments come in the order other than that of the words


class Share(NamedTuple):
    """How many of how many."""

    n: int
    total: int

    @property
    def percent(self) -> float | None:
        """In percent; None of nothing."""
        return 100 * self.n / self.total if self.total else None


class FewShot(NamedTuple):
    """What answers to the gold queries are like."""

    items: dict[str, Share]  # right answers to each query
    accuracy: float | None  # mean over the queries, percent
    simple: float | None  # over the first five
    complex: float | None  # over the others
    longest: float | None  # over those with an answer of six symbols
    one_to_one: Share  # of all errors
    iconic: Share  # of the errors on queries with `after`


def analyse_few_shot(answers: Mapping[str, Sequence[Words]]) -> FewShot:
    """Sort the answers to each gold query; errors are pooled, accuracies averaged over queries."""
    gold = {" ".join(example.input): example.output for example in gold_episode().query}
    items = {
        query: Share(sum(answer == gold[query] for answer in answers.get(query, ())), len(answers.get(query, ())))
        for query in GOLD_QUERIES
    }
    errors = [(query, answer) for query in GOLD_QUERIES for answer in answers.get(query, ()) if answer != gold[query]]
    n_reversible = sum(REVERSING in split(query) for query, _ in errors)
    return FewShot(
        items,
        _mean([items[query] for query in GOLD_QUERIES]),
        _mean([items[query] for query in GOLD_QUERIES[:SIMPLE]]),
        _mean([items[query] for query in GOLD_QUERIES[SIMPLE:]]),
        _mean([items[query] for query in GOLD_QUERIES if len(gold[query]) == LONGEST_GOLD]),
        Share(sum(is_one_to_one(split(query), answer) for query, answer in errors), len(errors)),
        Share(sum(is_iconic_error(split(query), answer, gold[query]) for query, answer in errors), n_reversible),
    )


def _mean(shares: Sequence[Share]) -> float | None:
    percents = [share.percent for share in shares if share.percent is not None]
    return statistics.mean(percents) if percents else None


def is_one_to_one(query: Words, answer: Words) -> bool:
    """Tell whether each word has one symbol, each primitive its own; functions may have any."""
    primitives = {rule.left[0]: rule.right[0] for rule in MINI_SCAN.rules if rule.is_primitive}
    return len(query) == len(answer) and all(
        primitives.get(word, symbol) == symbol for word, symbol in zip(query, answer, strict=True)
    )


def is_iconic_error(query: Words, answer: Words, right: Words) -> bool:
    """Tell whether the parts of a query with `after` were left in their order; each of them is a palindrome."""
    return REVERSING in query and answer != right and answer == right[::-1]


class Correlation(NamedTuple):
    """How the accuracies of the queries go together."""

    r: float  # Pearson
    n: int  # queries
    p: float | None  # two-sided: how likely so large an r is without any relation; None of two queries


def item_correlation(first: FewShot, second: FewShot) -> Correlation | None:
    """Correlate the accuracies of the queries that both have answers to; None if that is undefined.

    p takes r sqrt((n - 2) / (1 - r^2)) to be Student's t with n - 2 degrees of freedom.
    """
    pairs = [(first.items[query].percent, second.items[query].percent) for query in GOLD_QUERIES]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    if len({x for x, _ in known}) < 2 or len({y for _, y in known}) < 2:
        return None
    r = max(-1.0, min(1.0, statistics.correlation(*zip(*known, strict=True))))
    freedom = len(known) - 2
    if not freedom:
        return Correlation(r, len(known), None)
    t = math.inf if abs(r) == 1 else r * math.sqrt(freedom / (1 - r * r))
    return Correlation(r, len(known), two_sided_p(t, freedom))


def two_sided_p(t: float, freedom: int) -> float:
    """Compute how likely Student's t is to be at least that far from 0: finite sums for whole degrees of freedom.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for k in range(1 + is_odd, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    within = 2 / math.pi * (angle + sine * total) if is_odd else sine * total
    return max(0.0, 1 - within)


class OpenEnded(NamedTuple):
    """Which of the inductive biases one participant's answers follow."""

    one_to_one: bool  # as many symbols as words, in each answer
    mutually_exclusive: bool  # no two answers alike
    iconic: bool  # each answer is what its words mean, one after the other
    perfect: bool  # one-to-one, and each word has a symbol of its own, the same everywhere


def analyse_open_ended(answers: Mapping[str, Words]) -> OpenEnded:
    """Look at the answers to the seven open-ended instructions.

    Raises:
        UserError: if one of them has no answer.
    """
    missing = [query for query in OPEN_ENDED if query not in answers]
    if missing:
        raise UserError(f"expected an answer to each of {', '.join(OPEN_ENDED)}; found none to {missing[0]}")
    pairs = [(split(query), answers[query]) for query in OPEN_ENDED]
    has_equal_lengths = all(len(query) == len(answer) for query, answer in pairs)
    meanings = {pair for query, answer in pairs for pair in zip(query, answer, strict=False)}
    words, symbols = {word for word, _ in meanings}, {symbol for _, symbol in meanings}
    return OpenEnded(
        has_equal_lengths,
        len({answer for _, answer in pairs}) == len(pairs),
        _is_iconic(answers),
        has_equal_lengths and len(meanings) == len(words) == len(symbols),
    )


def with_roles(pairs: Sequence[tuple[Words, Words]]) -> dict[str, Words]:
    """Tell which of a participant's words is p1 and so on, and list the answers by instruction.

    Raises:
        UserError: if these are not the seven open-ended instructions.
    """
    roles: dict[str, str] = {}
    for pattern in map(split, OPEN_ENDED):
        for query, _ in pairs:
            known = all(roles.get(word, role) == role for word, role in zip(query, pattern, strict=False))
            new = {word: role for word, role in zip(query, pattern, strict=False) if word not in roles}
            fresh = len(set(new.values())) == len(new) and not {*new.values()} & {*roles.values()}
            if len(query) == len(pattern) and known and fresh:
                roles |= new
                break
    answers = {" ".join(roles.get(word, "?") for word in query): answer for query, answer in pairs}
    if answers.keys() != {*OPEN_ENDED} or len(pairs) != len(OPEN_ENDED):
        raise UserError(
            f"expected the seven open-ended instructions {', '.join(OPEN_ENDED)}; found {', '.join(answers)}"
        )
    return answers


def _is_iconic(answers: Mapping[str, Words]) -> bool:
    """Tell whether words can have meanings that all answers are put together from.

    Those of p2 and p3, of which one answer each tells, may be empty, as in the published analysis.
    """
    first = answers["p1"]
    n = len(first)
    meaning = {"p1": first, "p2": answers["p1 p2"][n:], "p3": answers["p3 p1"][:-n], "p4": answers["p1 p4 p1"][n:-n]}
    meaning["p5"] = answers["p1 p4 p5"][n + len(meaning["p4"]) :]
    return all(meaning[word] for word in ("p1", "p4", "p5")) and all(
        answers[query] == tuple(symbol for word in split(query) for symbol in meaning[word]) for query in OPEN_ENDED
    )
