"""Score answers: which are right, of queries that were studied and of novel ones; how likely given answers are.

Source: Lake & Baroni 2023, Methods ("Evaluation").
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from biml.batch import assemble
from biml.decode import decode, log_likelihood
from biml.episode import Example
from biml.episode_types import ViewSet
from biml.grammar import Words
from biml.network_file import TrainedNetwork
from biml.stream import EVALUATION, dice_of
from biml.views import View
from biml.vocabulary import Language


class Answered(NamedTuple):
    """A query with the right answer (or a person's) and the network's."""

    query: Words
    target: Words
    answer: Words
    is_retrieve: bool  # its input is among the study examples

    @property
    def is_right(self) -> bool:
        """Whether every symbol is right, and none too many."""
        return self.answer == self.target


class AnsweredEpisode(NamedTuple):
    """An episode as the network met it, in canonical symbols where it was renamed."""

    support: list[Example]
    answered: list[Answered]


def views_of(views: ViewSet, seed: int, repetition: int = 0) -> Iterator[View]:
    """Make every view of an evaluation; another repetition shuffles and renames anew."""
    for index in range(views.size):
        yield from views.make(index, dice_of(seed, EVALUATION, repetition, index))


def answer_views(
    trained: TrainedNetwork,
    views: Sequence[View],
    batch_size: int,
    max_length: int,
    generator: torch.Generator | None = None,
) -> list[AnsweredEpisode]:
    """Answer the queries of views, greedily or, with a generator, by sampling."""
    model, language = trained.model.eval(), trained.language
    device = next(model.parameters()).device
    episodes = []
    for start in range(0, len(views), batch_size):
        together = views[start : start + batch_size]
        batch = assemble(together, language).tensors(device)
        rows = iter(decode(model, batch.source, max_length, generator, _allowed(together, language, device)))
        episodes += [_in_words(view, [next(rows) for _ in view.query], language) for view in together]
    return episodes


def _allowed(views: Sequence[View], language: Language, device: torch.device) -> torch.Tensor | None:
    """Mark what each answer may be made of, (N, V); None if none is limited."""
    if not any(view.allowed_outputs for view in views):
        return None
    allowed = torch.zeros(sum(len(view.query) for view in views), len(language.target), dtype=torch.bool)
    row = 0
    for view in views:
        words = list(view.allowed_outputs) or list(range(len(language.target)))
        allowed[row : row + len(view.query), [*words, language.target.eos]] = True
        row += len(view.query)
    return allowed.to(device)


def _in_words(view: View, answers: Sequence[Sequence[int]], language: Language) -> AnsweredEpisode:
    """Write a view and its answers in words, renamed back."""

    def words(given: bytes, output: Sequence[int]) -> Example:
        example = Example(language.source.decode(given), language.target.decode(output))
        return example if view.renaming is None else view.renaming.undo(example)

    studied = {given for given, _ in view.support}
    answered = [
        Answered(*words(given, target), words(given, answer).output, given in studied)
        for (given, target), answer in zip(view.query, answers, strict=True)
    ]
    return AnsweredEpisode([words(*pair) for pair in view.support], answered)


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
    total_sd: float | None  # over repetitions; None for one
    n_symbols: float  # mean over repetitions
    per_symbol: float  # of all repetitions together


def likelihood(
    trained: TrainedNetwork, views: ViewSet, batch_size: int, seed: int, repetitions: int, lapse: float
) -> Likelihood:
    """Compute how likely the targets are, each repetition with study orders and names of its own."""
    model, language = trained.model.eval(), trained.language
    device = next(model.parameters()).device
    totals, counts = [], []
    for repetition in range(repetitions):
        made = list(views_of(views, seed, repetition))
        total, count = 0.0, 0
        for start in range(0, len(made), batch_size):
            batch = assemble(made[start : start + batch_size], language).tensors(device)
            log_p, lengths = log_likelihood(model, batch, lapse)
            total, count = total + log_p.sum().item(), count + int(lengths.sum())
        totals.append(total)
        counts.append(count)
    spread = statistics.stdev(totals) if repetitions > 1 else None
    per_symbol = math.fsum(totals) / sum(counts)
    return Likelihood(statistics.mean(totals), spread, statistics.mean(counts), per_symbol)


LAPSES = (*(n / 100 for n in range(1, 10)), *(n / 10 for n in range(1, 10)))


def fit_lapse(
    trained: TrainedNetwork, views: ViewSet, batch_size: int, seed: int, repetitions: int
) -> tuple[float, Likelihood]:
    """Find the lapse that makes the targets likeliest: the first of an ascending list before the first decrease."""
    best: tuple[float, Likelihood] | None = None
    for lapse in LAPSES:
        found = likelihood(trained, views, batch_size, seed, repetitions, lapse)
        if best is not None and found.per_symbol < best[1].per_symbol:
            break
        best = lapse, found
    assert best is not None
    return best
