"""How far a share of successes, or a mean of few runs, can be trusted. Standard library only."""

import functools
import math
from statistics import NormalDist

CONFIDENCE = 0.95
STEPS = 1000  # of Simpson's rule; a smooth integrand needs no more for twelve digits


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Give the range of chances with which so many successes would be no surprise: Wilson's score interval, 95 %.

    It holds the chances p from which the share k / n lies at most z = 1.96 standard errors sqrt(p (1 - p) / n) away. So
    it keeps to 0 to 100 %, has a width where every trial succeeds or none does, and serves for as few as five trials.

    Args:
        successes: k, from 0 to n.
        trials: n, at least 1.
    Returns:
        Lowest and highest chance, in percent.
    Raises:
        ValueError: if there are no trials, or more successes than trials.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22:209-212.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"expected from 0 to n successes in n trials, at least one, found {successes} in {trials}")
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
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
