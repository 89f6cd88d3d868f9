"""How the mean of our runs compares with the paper's: the paper's two result tables and one statistical criterion.

The paper gives the mean and the SD of five runs of each network, never the single runs. Are they and ours runs of the
same kind? `p_value` takes all of them to come from one beta distribution, the simplest on the interval from 0 to
100 %: it can lean against either end and, for networks that either find the solution or do not, pile up at both. It
draws both sides from that distribution many times over and counts how often their means lie as far apart as they do.
The test that sees to it that a "no" is about as rare as `LEVEL` says is in tests/test_report.py.
"""

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

LEVEL = 0.05
MARGIN = 0.5  # percentage points; smaller differences touch none of the paper's conclusions
MIN_RUNS = 3  # fewer say nothing about the spread
PAPER_RUNS = 5  # Lake 2019, Section 4.1
DRAWS = 10_000  # the share that is 5 % is then known to +/- 0.2 points
BISECTIONS = 12  # of 100 %: bounds to 0.03 points


class Summary(NamedTuple):
    """Mean and standard deviation (n - 1 in the denominator) of n runs, in percent; None for one run's SD."""

    mean: float
    sd: float | None
    n: int


class PaperTable(NamedTuple):
    """A table of the paper: the name of a cell where it has a figure of its own, a number where it quotes another's."""

    title: str
    task: str  # what to put before a column's name to say what was tested
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str | float | None, ...]], ...]


SYNTACTIC_ATTENTION = "syntactic attention"  # Russin et al. 2019, its figures as Lake 2019 quotes them
TABLES = (
    PaperTable(
        "Table 2: add jump",
        "add jump, ",
        ("standard training", "permutation meta-training", "augmentation meta-training"),
        (
            ("meta seq2seq learning", (None, "jump_perm", "jump_aug")),
            ("without support loss", (None, "jump_perm_no_support_loss", "jump_aug_no_support_loss")),
            ("without decoder attention", (None, "jump_perm_no_attention", "jump_aug_no_attention")),
            ("standard seq2seq", ("jump_standard", None, "jump_aug_standard")),
            (SYNTACTIC_ATTENTION, (78.4, None, None)),
        ),
    ),
    PaperTable(
        "Table 3: around right and length",
        "",
        ("around right", "length"),
        (
            ("meta seq2seq learning", ("around_right", "length")),
            ("standard seq2seq", ("around_right_standard", "length_standard")),
            (SYNTACTIC_ATTENTION, (28.9, 15.2)),
        ),
    ),
)


def summarize(percents: Iterable[float]) -> Summary | None:
    """Take mean and standard deviation of the accuracies of finished runs; None without runs."""
    values = list(percents)
    if not values:
        return None
    return Summary(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def pool(one: Summary, other: Summary) -> tuple[float, float]:
    """Mean and variance of the runs of both sides taken together, both as shares between 0 and 1.

    The variance has the number of runs in the denominator, so that no set of shares has more than mean * (1 - mean).
    A missing SD counts as 0: the paper leaves it out where its mean is 0.0 and no run can lie below.
    """
    n = one.n + other.n
    mean = (one.n * one.mean + other.n * other.mean) / n
    squares = sum((side.n - 1) * (side.sd or 0.0) ** 2 + side.n * (side.mean - mean) ** 2 for side in (one, other))
    return mean / 100, squares / n / 100**2


def p_value(one: Summary, other: Summary) -> float:
    """Share of draws from one common distribution in which the two means lie at least as far apart as they do here.

    The draws are the same in every call with the same numbers, so that the same runs always get the same answer.
    """
    mean, variance = pool(one, other)
    if variance <= 0:
        return 1.0
    precision = mean * (1 - mean) / variance - 1  # the sum of the beta distribution's two parameters
    rng = np.random.default_rng(0)
    size = DRAWS, one.n + other.n
    if precision > 1e-9:
        runs = rng.beta(mean * precision, (1 - mean) * precision, size)
    else:  # every run at 0 or at 100 %
        runs = (rng.random(size) < mean).astype(float)
    apart = np.abs(runs[:, : one.n].mean(axis=1) - runs[:, one.n :].mean(axis=1))
    return float(np.mean(apart >= abs(one.mean - other.mean) / 100 - 1e-9))


def agrees(ours: Summary, other: Summary) -> bool:
    """Say whether two means differ by less than `MARGIN`, or by no more than runs of one kind would."""
    return abs(ours.mean - other.mean) < MARGIN or p_value(ours, other) >= LEVEL


def agreeing_means(ours: Summary, other: Summary) -> tuple[float, float]:
    """Find the lowest and the highest mean of the other side, its SD and n as given, that would agree with ours."""

    def is_close(mean: float) -> bool:
        return agrees(ours, other._replace(mean=mean))

    return _furthest(is_close, ours.mean, 0.0), _furthest(is_close, ours.mean, 100.0)


def _furthest(is_close: Callable[[float], bool], near: float, end: float) -> float:
    """Bisect for the last value that is close on the way from `near`, which is, to `end`."""
    if is_close(end):
        return end
    far = end
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        if is_close(middle):
            near = middle
        else:
            far = middle
    return near


def verdict(ours: Summary, other: Summary) -> str:
    """Answer in a word or two whether the other mean is within what runs like ours would give."""
    if min(ours.n, other.n) < MIN_RUNS:
        return "too few runs"
    return "yes" if agrees(ours, other) else "no"
