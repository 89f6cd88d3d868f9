"""Score answers: which are right, of queries that were studied and of novel ones; how likely given answers are.

Source: Lake & Baroni 2023, Methods ("Evaluation").
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from biml.answering import AnsweredEpisode
from biml.decode import target_log_p, with_lapse
from biml.episode_types import ViewSet
from biml.network_file import TrainedNetwork
from biml.stream import evaluation_batches


class Accuracy(NamedTuple):
    """Percent of right answers, averaged over episodes; None where no episode has such queries."""

    retrieve: float | None
    novel: float | None
    novel_sd: float | None  # over episodes
    n_episodes: int


def accuracy(episodes: Sequence[AnsweredEpisode]) -> Accuracy:
    """Average the accuracies of episodes."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    for episode in episodes:
        for kind, found in shares.items():
            right = [one.is_right for one in episode.answered if one.is_retrieve == kind]
            if right:
                found.append(100 * statistics.mean(right))
    means = [statistics.mean(found) if found else None for found in shares.values()]
    spread = statistics.pstdev(shares[False]) if shares[False] else None
    return Accuracy(means[0], means[1], spread, len(episodes))


class Likelihood(NamedTuple):
    """Log-likelihood of given answers over repetitions, in nats."""

    total: float  # mean over repetitions
    total_sd: float | None  # over these repetitions, as published; None for one
    n_symbols: float  # mean over repetitions
    per_symbol: float  # of all repetitions together


def symbol_log_p(
    trained: TrainedNetwork, views: ViewSet, batch_size: int, seed: int, repetitions: int
) -> list[torch.Tensor]:
    """Compute the log-probabilities of all target symbols, each repetition with study orders and names of its own."""
    model = trained.model.eval()
    device = next(model.parameters()).device
    found = []
    for repetition in range(repetitions):
        batches = evaluation_batches(views, batch_size, seed, repetition)
        found.append(torch.cat([target_log_p(model, arrays.tensors(device)) for arrays in batches]).cpu())
    return found


def likelihood(log_p: Sequence[torch.Tensor], lapse: float, n_choices: int) -> Likelihood:
    """Sum the log-probabilities of the symbols of each repetition, mixed with lapses."""
    totals = [with_lapse(one, lapse, n_choices).sum().item() for one in log_p]
    counts = [len(one) for one in log_p]
    spread = statistics.pstdev(totals) if len(totals) > 1 else None
    return Likelihood(statistics.mean(totals), spread, statistics.mean(counts), math.fsum(totals) / sum(counts))


LAPSES = (*(n / 100 for n in range(1, 10)), *(n / 10 for n in range(1, 10)))


def fit_lapse(likelihood_of: Callable[[float], Likelihood]) -> tuple[float, Likelihood]:
    """Find the lapse that makes the targets likeliest: the last of an ascending list before the first decrease."""
    best: tuple[float, Likelihood] | None = None
    for lapse in LAPSES:
        found = likelihood_of(lapse)
        if best is not None and found.per_symbol < best[1].per_symbol:
            break
        best = lapse, found
    assert best is not None
    return best
