"""How much worse than the truth a predictor does: regret, its mean over sequences, and paired differences.

At step t the regret is sum_k theta_t(k) log(theta_t(k) / q_t(k)), the expected extra log loss over the true parameter
theta_t. The first symbol is not scored, as networks do not predict it. Values are in nats unless said otherwise.

Source: Genewein et al. 2023, Section 3.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nonstationary.networks import log_probs
from nonstationary.predictors import predict
from nonstationary.sources import Sequences, Source, sample

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
    """Wrap an exact predictor; its prior is the source's."""
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
