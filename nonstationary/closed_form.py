"""What KT, told of the switches, must lose on each source: computed, not sampled, for two symbols.

The regret of KT at the (n+1)-th symbol of a segment depends on n alone, so its expectation over a source needs only
the probability that a step is the (n+1)-th of its segment. Checks sampler, predictor and regret all at once.
"""

import math

import torch
from torch import Tensor

from common.errors import UserError
from nonstationary.sources import Source, ptw_depth


def kt_regrets(alpha: float, steps: int) -> Tensor:
    """Compute KT's expected regret, in nats, after n = 0 .. steps-1 symbols of a segment: (steps,) float64.

    It is the entropy of KT's prediction, averaged over the counts that n symbols may have, less the mean entropy of
    the true distribution. That average is over the Beta-binomial distribution.
    """
    one = torch.tensor(1.0, dtype=torch.float64)
    log_beta = 2 * torch.lgamma(one * alpha) - torch.lgamma(one * 2 * alpha)
    truth = torch.digamma(2 * alpha * one + 1) - torch.digamma(alpha * one + 1)
    regrets = []
    for n in range(steps):
        ones = torch.arange(n + 1, dtype=torch.float64)
        log_ways = math.lgamma(n + 1) - torch.lgamma(ones + 1) - torch.lgamma(n - ones + 1)
        log_marginal = torch.lgamma(ones + alpha) + torch.lgamma(n - ones + alpha) - math.lgamma(n + 2 * alpha)
        predicted = (ones + alpha) / (n + 2 * alpha)
        entropy = -torch.xlogy(predicted, predicted) - torch.xlogy(1 - predicted, 1 - predicted)
        regrets.append(((log_ways + log_marginal - log_beta).exp() * entropy).sum() - truth)
    return torch.stack(regrets)


def segment_ages(source: Source, length: int) -> Tensor:
    """Give the probability that step t is the (n+1)-th of its segment: (T, T) float64, row t, column n.

    Raises:
        UserError: for a source without a rule here.
    """
    steps = torch.arange(length)
    ages = torch.zeros(length, length, dtype=torch.float64)
    if source.name in ("static", "regular"):
        ages[steps, steps % (source.shift_period if source.name == "regular" else length)] = 1
    elif source.name == "ptw":  # a block at level j stays whole with probability 2^-(j+1), if it can be split at all
        depth = ptw_depth(length)
        for level in range(depth + 1):
            probability = 0.5 ** (level + 1) if level < depth else 0.5**depth
            ages[steps, steps % 2 ** (depth - level)] += probability
    elif source.name in ("lin", "random_uniform"):  # a segment starts at t - n and lasts more than n steps
        ends = _length_probabilities(source, length)
        starts = torch.zeros(length, dtype=torch.float64)
        starts[0] = 1
        for step in range(1, length):
            starts[step] = starts[:step] @ ends[:step].flip(0)
        lasts = 1 - torch.cat([torch.zeros(1, dtype=torch.float64), ends.cumsum(0)])[:length]
        for step in range(length):
            ages[step, : step + 1] = starts[: step + 1].flip(0) * lasts[: step + 1]
    else:
        raise UserError(f"no closed form for source {source.name!r}")
    return ages


def _length_probabilities(source: Source, length: int) -> Tensor:
    """Give the probability that a segment lasts 1, 2, ... steps, (T,)."""
    steps = torch.arange(1, length + 1, dtype=torch.float64)
    if source.name == "random_uniform":
        return (steps <= source.max_segment).double() / source.max_segment
    survival = ((steps - 0.5) / steps).cumprod(0)
    return torch.cat([torch.ones(1, dtype=torch.float64), survival[:-1]]) - survival


def oracle_regret(source: Source, length: int) -> float:
    """Compute the expected cumulative regret, in nats over symbols 2 to T, of KT that is told of the switches.

    Raises:
        UserError: if there are more than two symbols.
    """
    if source.num_symbols != 2:
        raise UserError(f"the closed form is for two symbols, found {source.num_symbols}")
    return float((segment_ages(source, length)[1:] @ kt_regrets(source.alpha, length)).sum())


def mean_segments(source: Source, length: int) -> float:
    """Compute the expected number of segments of a sequence."""
    return float(segment_ages(source, length)[:, 0].sum())
