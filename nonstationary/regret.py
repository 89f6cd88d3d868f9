"""How much worse than the truth a predictor does: regret, measured on sequences, and where there is one, its formula.

At step t the regret is sum_k theta_t(k) log(theta_t(k) / q_t(k)), the expected extra log loss over the true parameter
theta_t. The first symbol is not scored, as networks do not predict it. Values are in nats unless said otherwise.

The formula is that of KT told of the switches, for two symbols. Its regret at the (n+1)-th symbol of a segment depends
on n alone, so the expectation needs only the probability that a step is the (n+1)-th of its segment. That checks
sampler, predictor and regret all at once.

Source: Genewein et al. 2023, Section 3.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nonstationary.networks import log_probs
from nonstationary.predictors import predict
from nonstationary.sources import Sequences, Source, ptw_depth, sample

NATS_IN = {"bits": math.log(2), "nats": 1.0}  # a unit, in nats

Predictor = Callable[[Sequences], Tensor]  # B sequences -> (B, T-1, K) log probabilities of symbols 1..T-1 (from 0)


class Estimate(NamedTuple):
    """A mean over sequences and its standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        """Write both for people."""
        return f"{self.mean:.3f} ± {self.error:.3f}"


def estimate(values: Tensor) -> Estimate:
    """Average (N,) values of independent sequences, N at least 2."""
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item())


def regret(parameters: Tensor, log_q: Tensor) -> Tensor:
    """Compute the regret of each step in nats, (B, T), from true parameters and log predictions, both (B, T, K)."""
    predicted = torch.where(parameters > 0, parameters * log_q, 0)  # what cannot come costs nothing
    return (torch.xlogy(parameters, parameters) - predicted).sum(2)


class Scores(NamedTuple):
    """What a predictor did on a set of N sequences of T symbols."""

    totals: Tensor  # (N,) cumulative regret, nats
    by_step: Tensor  # (T-1,) mean regret of each scored step, nats
    gap: float  # mean |q - q'| from the reference predictor q', over sequences, steps and symbols


def exact_predictor(name: str, source: Source, depth: int | None = None) -> Predictor:
    """Wrap an exact predictor with the source's prior."""
    return lambda sequences: predict(name, sequences, source, depth)[:, 1:]


def network_predictor(network: nn.Module, chunk_length: int | None = None) -> Predictor:
    """Wrap a network."""
    return lambda sequences: log_probs(network, sequences.symbols, chunk_length)


def fixed_sequences(source: Source, n: int, length: int, seed: int) -> Sequences:
    """Draw an evaluation set that depends on its arguments alone, on the CPU."""
    return sample(source, n, length, torch.Generator().manual_seed(seed))


def score(
    predictors: Mapping[str, Predictor], sequences: Sequences, batch_size: int, device: torch.device
) -> dict[str, Scores]:
    """Score predictors on the same sequences, `batch_size` at a time; the last predictor is the reference for gaps."""
    totals: dict[str, list[Tensor]] = {name: [] for name in predictors}
    n, steps = len(sequences.symbols), sequences.symbols.shape[1] - 1
    by_step = {name: torch.zeros(steps, dtype=torch.float64, device=device) for name in predictors}
    gaps = dict.fromkeys(predictors, 0.0)
    for start in range(0, n, batch_size):
        part = sequences.rows(start, start + batch_size).to(device)
        predictions = {name: predictor(part) for name, predictor in predictors.items()}
        reference = list(predictions.values())[-1].exp()
        for name, log_q in predictions.items():
            values = regret(part.parameters[:, 1:], log_q)
            totals[name].append(values.sum(1))
            by_step[name] += values.sum(0) / n
            gaps[name] += (log_q.exp() - reference).abs().mean(dim=(1, 2)).sum().item() / n
    return {name: Scores(torch.cat(totals[name]).cpu(), by_step[name].cpu(), gaps[name]) for name in predictors}


def expected_entropy(source: Source) -> float:
    """Compute the mean entropy of a step's true distribution, in nats: that of every source alike.

    E[H] = psi(K alpha + 1) - psi(alpha + 1) for the symmetric Dirichlet.
    """
    one = torch.tensor(1.0, dtype=torch.float64)
    return (torch.digamma(one + source.num_symbols * source.alpha) - torch.digamma(one + source.alpha)).item()


def kt_regrets(alpha: float, steps: int) -> Tensor:
    """Compute KT's expected regret, in nats, after n = 0 .. steps-1 symbols of a segment: (steps,) float64.

    It is the entropy of KT's prediction, averaged over the counts that n symbols may have, less the mean entropy of
    the true distribution. That average is over the Beta-binomial distribution.
    """
    one = torch.tensor(1.0, dtype=torch.float64)
    log_beta = 2 * torch.lgamma(one * alpha) - torch.lgamma(one * 2 * alpha)
    truth = expected_entropy(Source(alpha=alpha))
    regrets = []
    for n in range(steps):
        ones = torch.arange(n + 1, dtype=torch.float64)
        log_ways = math.lgamma(n + 1) - torch.lgamma(ones + 1) - torch.lgamma(n - ones + 1)
        log_marginal = torch.lgamma(ones + alpha) + torch.lgamma(n - ones + alpha) - math.lgamma(n + 2 * alpha)
        predicted = (ones + alpha) / (n + 2 * alpha)
        entropy = -torch.xlogy(predicted, predicted) - torch.xlogy(1 - predicted, 1 - predicted)
        regrets.append(((log_ways + log_marginal - log_beta).exp() * entropy).sum() - truth)
    return torch.stack(regrets)


def _length_probabilities(source: Source, length: int) -> Tensor:
    """Give the probability that a segment lasts 1, 2, ... steps, (T,)."""
    steps = torch.arange(1, length + 1, dtype=torch.float64)
    if source.name == "random_uniform":
        return (steps <= source.max_segment).double() / source.max_segment
    survival = ((steps - 0.5) / steps).cumprod(0)
    return torch.cat([torch.ones(1, dtype=torch.float64), survival[:-1]]) - survival


def segment_ages(source: Source, length: int) -> Tensor:
    """Give the probability that step t is the (n+1)-th of its segment: (T, T) float64, row t, column n."""
    steps = torch.arange(length)
    ages = torch.zeros(length, length, dtype=torch.float64)
    if source.name in ("static", "regular"):
        ages[steps, steps % (source.shift_period if source.name == "regular" else length)] = 1
    elif source.name == "ptw":  # a block at level j stays whole with probability 2^-(j+1), if it can be split at all
        depth = ptw_depth(length)
        for level in range(depth + 1):
            probability = 0.5 ** (level + 1) if level < depth else 0.5**depth
            ages[steps, steps % 2 ** (depth - level)] += probability
    else:  # a segment starts at t - n and lasts more than n steps
        ends = _length_probabilities(source, length)
        starts = torch.zeros(length, dtype=torch.float64)
        starts[0] = 1
        for step in range(1, length):
            starts[step] = starts[:step] @ ends[:step].flip(0)
        lasts = 1 - torch.cat([torch.zeros(1, dtype=torch.float64), ends.cumsum(0)])[:length]
        for step in range(length):
            ages[step, : step + 1] = starts[: step + 1].flip(0) * lasts[: step + 1]
    return ages


def oracle_regret(source: Source, length: int) -> float:
    """Compute the expected cumulative regret, in nats over symbols 2 to T, of KT that is told of the switches."""
    assert source.num_symbols == 2
    return float((segment_ages(source, length)[1:] @ kt_regrets(source.alpha, length)).sum())


def mean_segments(source: Source, length: int) -> float:
    """Compute the expected number of segments of a sequence."""
    return float(segment_ages(source, length)[:, 0].sum())
