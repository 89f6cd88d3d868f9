"""How our runs compare with the paper's: the paper's two result tables, and 95 % intervals of a mean and of a share.

The paper gives the mean and the SD of five runs of each network, never the single runs. The report puts them beside
ours and says whether the paper's mean lies in the interval of our mean.
"""

import functools
import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from paper.cells import Cell

CONFIDENCE = 0.95
STEPS = 1000  # of Simpson's rule; a smooth integrand needs no more for twelve digits
MARGIN = 0.5  # percentage points, for runs that are all alike; no conclusion of the paper's rests on less
MIN_RUNS = 3  # fewer say nothing about the spread
PAPER_RUNS = 5  # Lake 2019, Section 4.1


class Summary(NamedTuple):
    """Mean and standard deviation (n - 1 in the denominator) of n runs, in percent; None for one run's SD."""

    mean: float
    sd: float | None
    n: int


# The paper's tables, its own figures by the names of cells; syntactic attention (Russin et al. 2019) as it quotes them.
TABLES = """\
Table 2: add jump (% correct, paper / here)

| Model | standard training | permutation meta-training | augmentation meta-training |
| --- | --- | --- | --- |
| meta seq2seq learning | — | {jump_perm} | {jump_aug} |
| without support loss | — | {jump_perm_no_support_loss} | {jump_aug_no_support_loss} |
| without decoder attention | — | {jump_perm_no_attention} | {jump_aug_no_attention} |
| standard seq2seq | {jump_standard} | — | {jump_aug_standard} |
| syntactic attention | 78.40 | — | — |

Table 3: around right and length (% correct, paper / here)

| Model | around right | length |
| --- | --- | --- |
| meta seq2seq learning | {around_right} | {length} |
| standard seq2seq | {around_right_standard} | {length_standard} |
| syntactic attention | 28.90 | 15.20 |"""


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
    """Say whether another mean lies in the interval of ours, which is a point if our SD is 0."""
    interval = t_interval(ours)
    if interval is None:
        return "too few runs"
    low, high = interval
    is_inside = low <= other.mean <= high if ours.sd else abs(ours.mean - other.mean) <= MARGIN
    return "yes" if is_inside else "no"


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Give the 95 % interval of the chance of success, in percent, from k successes in n trials, n at least 1.

    It holds the chances p from which the share k / n lies at most z = 1.96 standard errors sqrt(p (1 - p) / n) away. So
    it keeps to 0 to 100 %, has a width where every trial succeeds or none does, and serves for as few as five trials.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22:209-212.
    """
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = successes / trials
    middle = share + z**2 / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = ((middle + side) / (1 + z**2 / trials) for side in (-reach, reach))
    return 100 * max(0.0, min(low, share)), 100 * min(1.0, max(high, share))  # rounding apart, at both ends


def t_share(t: float, freedom: float) -> float:
    """Give the share of Student's distribution between -t and t, for any degrees of freedom of at least 1.

    With t = sqrt(freedom) tan(a) the density is cos(a) ** (freedom - 1), integrated here by Simpson's rule.
    """
    end = math.atan(t / math.sqrt(freedom))
    heights = [math.pow(math.cos(end * step / STEPS), freedom - 1) for step in range(STEPS + 1)]
    area = (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])) * end / STEPS / 3
    return 2 * area * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)


@functools.cache
def t_quantile(freedom: float) -> float:
    """Give the t that leaves 2.5 % of Student's distribution on either side."""
    low, high = 0.0, 13.0  # with one degree of freedom it is 12.7, with more it is less
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if t_share(middle, freedom) < CONFIDENCE else (low, middle)
    return low
