"""Sampled answers in files that are analysed later, and people's published ones in the same form.

JSON: about the network and the run, and for each episode a list of [query, answer] in the benchmark's own symbols.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from biml.behaviour import FewShot, OpenEnded, analyse_few_shot, analyse_open_ended, with_roles
from biml.benchmarks import GOLD_QUERIES, split
from biml.episode_types import few_shot_answers, participants
from biml.grammar import Words
from common.errors import UserError

FEW_SHOT = ("few_shot_gold", "few_shot_human", "few_shot_human_mult10")
OPEN_ENDED = "open_end_freeform"
LISTED = "episodes"  # the key of the answers
PEOPLE = "people"


class AnswerFile(NamedTuple):
    """Answers and where they are from."""

    name: str  # of the network, or PEOPLE
    episode_type: str
    episodes: list[list[tuple[Words, Words]]]  # query and answer

    @property
    def is_open_ended(self) -> bool:
        """Whether these are answers to the open-ended instructions, not to the gold queries."""
        return self.episode_type == OPEN_ENDED

    def by_query(self) -> dict[str, list[Words]]:
        """Collect the answers to each query."""
        answers: dict[str, list[Words]] = {}
        for query, answer in (pair for episode in self.episodes for pair in episode):
            answers.setdefault(" ".join(query), []).append(answer)
        return answers

    def few_shot(self) -> FewShot:
        """Analyse the answers to the gold queries."""
        return analyse_few_shot(self.by_query())

    def rounds(self) -> list[dict[str, Words]]:
        """List the answers by instruction, each episode on its own."""
        return [{" ".join(query): answer for query, answer in episode} for episode in self.episodes]

    def open_ended(self) -> list[OpenEnded]:
        """Analyse each round of answers to the open-ended instructions."""
        return [analyse_open_ended(answers) for answers in self.rounds()]

    def listed(self) -> list[list[list[str]]]:
        """Write the answers for JSON."""
        return [[[" ".join(given), " ".join(answer)] for given, answer in episode] for episode in self.episodes]


def read_answers(path: Path) -> AnswerFile:
    """Read a file of `biml.eval --sample_html` or `--sample_iterative`; UserError if it is another file."""
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        episodes = [[(split(query), split(answer)) for query, answer in episode] for episode in saved[LISTED]]
        answers = AnswerFile(str(saved["name"]), str(saved["episode_type"]), episodes)
        _check(answers)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        raise UserError(
            f"{path}: expected answers written by biml.eval --sample_html or --sample_iterative ({reason})"
        ) from None
    return answers


def _check(answers: AnswerFile) -> None:
    """Make sure that the answers can be analysed; raises UserError if they cannot."""
    if answers.episode_type not in (*FEW_SHOT, OPEN_ENDED):
        raise UserError(f"answers of the type {answers.episode_type} are not analysed")
    if answers.is_open_ended:
        answers.open_ended()
        if any(len(pairs) > len(answered) for pairs, answered in zip(answers.episodes, answers.rounds(), strict=True)):
            raise UserError("an instruction is answered twice")
    elif not answers.by_query().keys() & {*GOLD_QUERIES}:
        raise UserError("there are no answers to the gold queries")
    if not answers.episodes:
        raise UserError("there are no answers")


def people_few_shot(data_dir: Path) -> AnswerFile:
    """Read people's answers to the gold queries; UserError if they are missing, or are answers to other queries."""
    episodes = [[(one.input, one.output) for one in episode.query] for episode in few_shot_answers(data_dir)]
    people = AnswerFile(PEOPLE, "few_shot_human", episodes)
    if strange := people.by_query().keys() - {*GOLD_QUERIES}:
        raise UserError(f"{data_dir}: expected answers to the gold queries; found one to {min(strange)!r}")
    return people


def people_open_ended(data_dir: Path) -> AnswerFile:
    """Read people's open-ended answers, with roles for the words; UserError tells whose are to other instructions."""
    episodes = []
    for number, participant in enumerate(participants(data_dir)):
        try:
            answers = with_roles([(one.input, one.output) for one in participant.query])
        except UserError as error:
            raise UserError(f"participant {number} of data_human/open_ended_all: {error}") from None
        episodes.append([(split(query), answer) for query, answer in answers.items()])
    return AnswerFile(PEOPLE, OPEN_ENDED, episodes)
