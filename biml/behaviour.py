"""Kinds of answers, people's and networks' alike: right, one-to-one, iconic, mutually exclusive.

Answers are in the benchmarks' own symbols. Shares are counts (how many, of how many), so they can be added up.

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
REVERSING = "after"  # the function whose arguments are produced in reverse order


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


def gold_answers() -> dict[str, Words]:
    """List the right answer to each gold query."""
    return {" ".join(example.input): example.output for example in gold_episode().query}


def analyse_few_shot(answers: Mapping[str, Sequence[Words]]) -> FewShot:
    """Sort the answers to each gold query; errors are pooled, accuracies averaged over queries."""
    gold = gold_answers()
    given = {query: answers.get(query, ()) for query in GOLD_QUERIES}
    items = {query: Share(list(found).count(gold[query]), len(found)) for query, found in given.items()}
    errors = [(split(query), one, gold[query]) for query, found in given.items() for one in found if one != gold[query]]

    def mean(queries: Sequence[str]) -> float | None:
        percents = [percent for query in queries if (percent := items[query].percent) is not None]
        return statistics.mean(percents) if percents else None

    return FewShot(
        items,
        mean(GOLD_QUERIES),
        mean(GOLD_QUERIES[:SIMPLE]),
        mean(GOLD_QUERIES[SIMPLE:]),
        mean([query for query in GOLD_QUERIES if len(gold[query]) == LONGEST_GOLD]),
        Share(sum(is_one_to_one(query, answer) for query, answer, _ in errors), len(errors)),
        Share(sum(is_iconic_error(*error) for error in errors), sum(REVERSING in query for query, *_ in errors)),
    )


def is_one_to_one(query: Words, answer: Words) -> bool:
    """Tell whether each word has one symbol, each primitive its own; functions may have any."""
    return len(query) == len(answer) and all(
        MINI_SCAN.meanings.get(word, (symbol,)) == (symbol,) for word, symbol in zip(query, answer, strict=True)
    )


def is_iconic_error(query: Words, answer: Words, right: Words) -> bool:
    """Tell whether the parts of a query with `after` kept their order; each of them is a palindrome."""
    return REVERSING in query and answer != right and answer == right[::-1]


class Correlation(NamedTuple):
    """How the accuracies of the queries go together."""

    r: float  # Pearson
    n: int  # queries
    p: float | None  # two-sided: how likely so large an r is without any relation; None for two queries


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
    """Look at the answers to the seven open-ended instructions; UserError if one of them has no answer."""
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


def _is_iconic(answers: Mapping[str, Words]) -> bool:
    """Tell whether words can have meanings that all answers are put together from.

    p2 and p3, whose meanings follow from one answer each, may mean nothing, as in the published analysis.
    """
    first = answers["p1"]
    n = len(first)
    meaning = {"p1": first, "p2": answers["p1 p2"][n:], "p3": answers["p3 p1"][:-n], "p4": answers["p1 p4 p1"][n:-n]}
    meaning["p5"] = answers["p1 p4 p5"][n + len(meaning["p4"]) :]
    return all(meaning[word] for word in ("p1", "p4", "p5")) and all(
        answers[query] == tuple(symbol for word in split(query) for symbol in meaning[word]) for query in OPEN_ENDED
    )


def with_roles(pairs: Sequence[tuple[Words, Words]]) -> dict[str, Words]:
    """Find out which word is p1 and so on, and list the answers by instruction; UserError if they are not the seven."""
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
