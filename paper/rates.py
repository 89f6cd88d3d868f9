"""How far a share of successes can be trusted. Standard library only."""

import math
from statistics import NormalDist

CONFIDENCE = 0.95


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
