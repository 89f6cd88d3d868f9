"""How our runs compare with the paper's: the paper's two result tables, and the t interval of our mean.

The paper gives the mean and the SD of five runs of each network, never the single runs. The report puts them beside
ours and says whether the paper's mean lies in the 95 % interval of our mean.
"""

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from paper.cells import Cell
from paper.rates import t_quantile

MARGIN = 0.5  # percentage points, for runs that are all alike; no conclusion of the paper's rests on less
MIN_RUNS = 3  # fewer say nothing about the spread
PAPER_RUNS = 5  # Lake 2019, Section 4.1


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


def paper_summary(cell: Cell) -> Summary | None:
    """Give the paper's figures for a cell; None where it has none."""
    return None if cell.paper_mean is None else Summary(cell.paper_mean, cell.paper_sd, PAPER_RUNS)


def shown(summary: Summary) -> str:
    """Write a mean with its SD and the number of runs."""
    spread = "" if summary.sd is None else f"{summary.sd:.2f}, "
    return f"{summary.mean:.2f} ({spread}n = {summary.n})"


def t_interval(ours: Summary) -> tuple[float, float] | None:
    """Give the 95 % interval of our mean, mean +/- t SD / sqrt(n), cut to 0 to 100 %; None with too few runs."""
    if ours.sd is None or ours.n < MIN_RUNS:
        return None
    reach = t_quantile(ours.n - 1) * ours.sd / math.sqrt(ours.n)
    return max(0.0, ours.mean - reach), min(100.0, ours.mean + reach)


def verdict(ours: Summary, other: Summary) -> str:
    """Answer in a word or two whether another mean lies in the interval of ours, which is a point if our SD is 0."""
    interval = t_interval(ours)
    if interval is None or other.n < MIN_RUNS:
        return "too few runs"
    low, high = interval
    is_inside = low <= other.mean <= high if ours.sd else abs(ours.mean - other.mean) <= MARGIN
    return "yes" if is_inside else "no"
