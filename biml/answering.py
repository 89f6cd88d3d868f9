"""Let a network answer the queries of views, each on its own, or one after the other with its own answers to study.

Source: Lake & Baroni 2023, Methods ("Evaluation").
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from biml.batch import assemble
from biml.decode import decode
from biml.episode import Example
from biml.grammar import Words
from biml.network_file import TrainedNetwork
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


def answer_one_by_one(
    trained: TrainedNetwork, views: Sequence[View], max_length: int, generator: torch.Generator
) -> list[AnsweredEpisode]:
    """Sample answers to the queries of each view in their order; each is then a study example of those that follow.

    SOS and PAD are never sampled here, since study examples cannot hold them. All views must have as many queries.
    """
    language, device = trained.language, next(trained.model.parameters()).device
    every_word = bytes(range(len(language.target.words)))
    answers: list[list[list[int]]] = [[] for _ in views]
    so_far = [view._replace(support=list(view.support), allowed_outputs=every_word) for view in views]
    for number in range(len(views[0].query)):
        asked = [view._replace(query=view.query[number : number + 1]) for view in so_far]
        batch = assemble(asked, language).tensors(device)
        allowed = _allowed(asked, language, device)
        for view, given, answer in zip(
            so_far, answers, decode(trained.model.eval(), batch.source, max_length, generator, allowed), strict=True
        ):
            given.append(answer)
            view.support.append((view.query[number][0], bytes(answer)))
    return [_in_words(view, given, language) for view, given in zip(views, answers, strict=True)]


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
