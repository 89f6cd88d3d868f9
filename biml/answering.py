"""A network's answers to the queries of views, and their scores: which are right, how likely given answers are.

Source: Lake & Baroni 2023, Methods ("Evaluation").
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from biml.batch import assemble
from biml.decode import decode, target_log_p, with_lapse
from biml.episode import Example
from biml.episode_types import ViewSet
from biml.grammar import Words
from biml.network_file import TrainedNetwork
from biml.stream import evaluation_batches
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
        """Whether every symbol is right, and none is missing or too many."""
        return self.answer == self.target


class AnsweredEpisode(NamedTuple):
    """An episode as the network met it, in canonical symbols where it was renamed."""

    support: list[Example]
    answered: list[Answered]


def answer_views(
    trained: TrainedNetwork,
    views: Sequence[View],
    batch_size: int,
    max_length: int,
    generator: torch.Generator | None = None,
) -> list[AnsweredEpisode]:
    """Answer the queries of views, greedily or, with a generator, by sampling."""
    episodes = []
    for start in range(0, len(views), batch_size):
        together = views[start : start + batch_size]
        rows = iter(_answers(trained, together, max_length, generator))
        episodes += [_in_words(view, [next(rows) for _ in view.query], trained.language) for view in together]
    return episodes


def answer_one_by_one(
    trained: TrainedNetwork, views: Sequence[View], max_length: int, generator: torch.Generator
) -> list[AnsweredEpisode]:
    """Sample answers to the queries of each view in order; each answer is a study example of the next queries.

    SOS and PAD are never sampled here, since study examples cannot hold them. All views must have as many queries.
    """
    every_word = bytes(range(len(trained.language.target.words)))
    so_far = [view._replace(support=list(view.support), allowed_outputs=every_word) for view in views]
    for number in range(len(views[0].query)):
        asked = [view._replace(query=view.query[number : number + 1]) for view in so_far]
        for view, answer in zip(so_far, _answers(trained, asked, max_length, generator), strict=True):
            view.support.append((view.query[number][0], bytes(answer)))
    answers = [
        [answer for _, answer in now.support[len(view.support) :]] for view, now in zip(views, so_far, strict=True)
    ]
    return [_in_words(view, given, trained.language) for view, given in zip(views, answers, strict=True)]


def _answers(
    trained: TrainedNetwork, views: Sequence[View], max_length: int, generator: torch.Generator | None
) -> list[list[int]]:
    """Answer all queries of some views in one batch."""
    device = next(trained.model.parameters()).device
    batch = assemble(views, trained.language).tensors(device)
    allowed = _allowed(views, trained.language, device)
    return decode(trained.model.eval(), batch.source, max_length, generator, allowed)


def _allowed(views: Sequence[View], language: Language, device: torch.device) -> torch.Tensor | None:
    """Mark what each answer may be made of, (N, V); None if none is limited."""
    if not any(view.allowed_outputs for view in views):
        return None
    rows = []
    for view in views:
        words = list(view.allowed_outputs) or list(range(len(language.target)))
        row = torch.zeros(len(language.target), dtype=torch.bool)
        row[[*words, language.target.eos]] = True
        rows.append(row.expand(len(view.query), -1))
    return torch.cat(rows).to(device)


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

    def shares(is_retrieve: bool) -> list[float]:
        each = [[one.is_right for one in episode.answered if one.is_retrieve == is_retrieve] for episode in episodes]
        return [100 * statistics.mean(right) for right in each if right]

    retrieve, novel = shares(True), shares(False)
    mean, novel_mean = (statistics.mean(found) if found else None for found in (retrieve, novel))
    return Accuracy(mean, novel_mean, statistics.pstdev(novel) if novel else None, len(episodes))


class Likelihood(NamedTuple):
    """Log-likelihood of given answers over repetitions, in nats."""

    total: float  # mean over repetitions
    total_sd: float | None  # over these repetitions, as published; None for one
    n_symbols: float  # mean over repetitions
    per_symbol: float  # of all repetitions together


def symbol_log_p(
    trained: TrainedNetwork, views: ViewSet, batch_size: int, seed: int, repetitions: int
) -> list[torch.Tensor]:
    """Compute the log-probabilities of all target symbols; each repetition has its own study orders and names."""
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
    best = LAPSES[0], likelihood_of(LAPSES[0])
    for lapse in LAPSES[1:]:
        found = likelihood_of(lapse)
        if found.per_symbol < best[1].per_symbol:
            break
        best = lapse, found
    return best
