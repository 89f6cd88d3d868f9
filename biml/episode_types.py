"""What each --episode_type trains on, is validated on and is evaluated on: the table KINDS.

A set of views makes the views of its k-th episode from dice; without people's answers, which are not part of this
project, only the types made from random grammars and from the gold episode can be used.

Source: Lake & Baroni 2023, Methods and supplement.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from biml.benchmarks import gold_episode, open_ended_episode
from biml.dice import Dice
from biml.episode import Episode, Example
from biml.episode_files import episode_paths, read_episode
from biml.packed_episodes import PackedEpisodes, load_packed
from biml.views import (
    AS_STORED,
    HEURISTIC,
    NOISE,
    UNDEFINED,
    Recipe,
    View,
    random_episode_view,
    rename,
    shuffled_query,
    shuffled_support,
    view_of,
)
from biml.vocabulary import MAIN, VANILLA, Language
from common.errors import UserError

FULL = Recipe(noise=NOISE, heuristic=HEURISTIC)
RECIPES = {
    "retrieve": Recipe(novel=False),
    "algebraic": Recipe(),
    "algebraic_noise": Recipe(noise=NOISE),
    "algebraic+biases": FULL,
}
FEWER_STUDY = Recipe(noise=NOISE, heuristic=HEURISTIC, fewest_study=0)
HELD_OUT = {  # participants of the open-ended task that each fold is tested on
    "1": (2, 8, 13, 14, 15, 22),
    "2": (4, 17, 19, 21, 25, 26),
    "3": (0, 9, 12, 16, 20, 28),
    "4": (3, 5, 7, 11, 23, 24),
    "5": (1, 6, 10, 18, 27),
}
PROBES = "data_behavior_probes/val"  # in data_human/
NOMINAL = 100_000  # episodes of an epoch that are drawn from a few files
REPEATS = 100  # of the gold and the open-ended episode in an evaluation
VANILLA_REPEATS = 200  # of the gold episode in an epoch
OF_PEOPLE = "a right answer is what a person has answered"
ONE_BY_ONE = f"{OF_PEOPLE}; each answer counts as an episode, those before it are its study examples"


@dataclass(frozen=True)
class ViewSet:
    """Episodes as a network meets them."""

    size: int
    make: Callable[[int, Dice], list[View]]  # the views of an episode, mostly one
    language: Language = MAIN
    note: str = ""  # what a user should know about them


def load_random(data_dir: Path, split: str) -> PackedEpisodes:
    """Load the packed episodes of random grammars, numbered like the vocabularies.

    Raises:
        UserError: if there are none, or if they are damaged or in other words.
    """
    path = data_dir / "data_algebraic" / f"{split}.npz"
    packed = load_packed(path)
    if not len(packed):
        raise UserError(f"{path} holds no episodes")
    try:
        return packed.renumbered(MAIN)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def random_views(packed: PackedEpisodes, recipe: Recipe, bent: bool) -> ViewSet:
    """Make views of random episodes by a recipe; `bent` says whether the dice decide anything.

    Raises:
        UserError: if the recipe asks for study examples alone and an episode has none.
    """
    if not recipe.novel and not packed.num_support.all():
        raise UserError("some episodes have no study examples, which are all that `retrieve` asks for")
    return ViewSet(
        len(packed), lambda index, dice: [random_episode_view(packed, index, recipe, dice if bent else None, MAIN)]
    )


def _joint_views(fold: str, data_dir: Path) -> ViewSet:
    """Mix random episodes, the same with fewer study examples, and 100,000 draws of people's open-ended answers."""
    packed = load_random(data_dir, "train")
    parts = (
        random_views(packed, FULL, bent=True),
        random_views(packed, FEWER_STUDY, bent=True),
        _others_answers(fold, data_dir),
    )

    def make(index: int, dice: Dice) -> list[View]:
        for part in parts:
            if index < part.size:
                return part.make(index, dice)
            index -= part.size
        raise IndexError(index)

    return ViewSet(sum(part.size for part in parts), make)


def _drawn(episodes: Sequence[Episode], make: Callable[[Episode, Dice], View]) -> ViewSet:
    """Draw one of a few episodes each time."""
    return ViewSet(NOMINAL, lambda index, dice: [make(dice.choice(episodes), dice)])


def _each(episodes: Sequence[Episode], make: Callable[[Episode, Dice], list[View]], note: str = "") -> ViewSet:
    """Take every episode once."""
    return ViewSet(len(episodes), lambda index, dice: make(episodes[index], dice), note=note)


def _renamed_view(episode: Episode, dice: Dice, copies: bool = False) -> View:
    """Shuffle the study examples and rename all symbols."""
    renamed, renaming = rename(shuffled_support(episode, dice), dice)
    return view_of(renamed, MAIN, copies, renaming)


def _freeform_view(dice: Dice) -> View:
    """Ask the open-ended instructions in random order; the answers may be made of anything."""
    return _renamed_view(shuffled_query(open_ended_episode(), dice), dice)._replace(allowed_outputs=b"")


def _open_ended_view(episode: Episode, dice: Dice, copies: bool = True) -> View:
    """Make study examples of up to 6 of a participant's answers, and ask for the others, and for copies."""
    renamed, renaming = rename(shuffled_query(episode, dice), dice)
    n_study = dice.below(len(renamed.query))
    parted = Episode(renamed.query[:n_study], renamed.query[n_study:], None, renamed.allowed_outputs)
    return view_of(parted, MAIN, copies, renaming)


def _one_after_the_other(episode: Episode, dice: Dice) -> list[View]:
    """Ask for a participant's answers in random order, each with those before it as study examples."""
    renamed, renaming = rename(shuffled_query(episode, dice), dice)
    answers = renamed.query
    parts = [Episode(answers[:index], answers[index : index + 1], None) for index in range(len(answers))]
    return [view_of(part, MAIN, renaming=renaming) for part in parts]


def _pool_view(episode: Episode, dice: Dice) -> View:
    """Show what an answer may be made of as a first study example without input, for which nobody asks."""
    view = _renamed_view(episode, dice, copies=True)
    return view._replace(support=[(b"", view.allowed_outputs), *view.support])


def _repeated(episode: Episode, times: int) -> Episode:
    return episode._replace(query=episode.query * times)


def _human_vanilla(people: Sequence[Episode]) -> ViewSet:
    """Leave out the study examples, and the answers that hold something without a canonical name.

    Raises:
        UserError: if no answer is left.
    """
    answers = [[answer for answer in episode.query if UNDEFINED not in answer.output] for episode in people]
    views = [view_of(Episode((), tuple(kept), None), VANILLA) for kept in answers if kept]
    if not views:
        raise UserError(f"every answer holds {UNDEFINED}; nothing is left for human_vanilla")
    n_dropped = sum(len(episode.query) for episode in people) - sum(map(len, answers))
    note = f"{n_dropped} answers with {UNDEFINED} left out; {OF_PEOPLE}" if n_dropped else OF_PEOPLE
    return ViewSet(len(views), lambda index, dice: [views[index]], VANILLA, note)


def few_shot_answers(data_dir: Path) -> list[Episode]:
    """Read people's answers to the gold queries, an episode a query.

    Raises:
        UserError: if they are not there, or damaged.
    """
    return _people(data_dir, "few_shot/val_behavior")


def participants(data_dir: Path) -> list[Episode]:
    """Read people's answers to the open-ended instructions, an episode a participant.

    Raises:
        UserError: if they are not there, or damaged.
    """
    return _people(data_dir, "open_ended_all/train")


def _fold(data_dir: Path, fold: str, held_out: bool) -> list[Episode]:
    """Take a fold's participants, those it is tested on or the others."""
    tested, people = HELD_OUT[fold], participants(data_dir)
    n_people = sum(map(len, HELD_OUT.values()))
    if len(people) != n_people:
        raise UserError(f"{data_dir}: expected the {n_people} participants of open_ended_all, found {len(people)}")
    return [participant for number, participant in enumerate(people) if (number in tested) == held_out]


def _people(data_dir: Path, folder: str) -> list[Episode]:
    """Read people's answers from the user's own download.

    Raises:
        UserError: if they are not there, or damaged.
    """
    path = data_dir / "data_human" / folder
    episodes = [read_episode(text) for text in episode_paths(path)]
    if not episodes:
        raise UserError(
            f"no people's answers in {path}; they are not part of this project: put the folder data_human of the "
            "published data into --data_dir"
        )
    return episodes


class Kind(NamedTuple):
    """How the views of a type come from the folder of the data: for training, evaluation and validation."""

    train: Callable[[Path], ViewSet] | None  # None: evaluated only
    evaluate: Callable[[Path], ViewSet]
    validate: Callable[[Path], ViewSet] | None = None  # None: as evaluated


def _of_random_grammars(recipe: Recipe) -> Kind:
    """Train on bent episodes, evaluate on others as they are stored."""
    as_stored = AS_STORED._replace(novel=recipe.novel)
    return Kind(
        lambda data_dir: random_views(load_random(data_dir, "train"), recipe, bent=True),
        lambda data_dir: random_views(load_random(data_dir, "val"), as_stored, bent=False),
    )


def _of_fold(fold: str, train: Callable[[Path], ViewSet]) -> Kind:
    """Evaluate on a fold's participants; their open-ended answers one after the other, those before as study."""
    return Kind(
        train,
        lambda data_dir: _each(_fold(data_dir, fold, held_out=True), _one_after_the_other, ONE_BY_ONE),
        lambda data_dir: _each(
            _fold(data_dir, fold, held_out=True), lambda episode, dice: [_open_ended_view(episode, dice, False)]
        ),
    )


def _others_answers(fold: str, data_dir: Path) -> ViewSet:
    """Draw open-ended answers of the participants that a fold is not tested on."""
    return _drawn(_fold(data_dir, fold, held_out=False), _open_ended_view)


def _vanilla(examples: Sequence[Example], size: int) -> ViewSet:
    """Ask for examples of the gold episode without anything to study."""
    asked = view_of(Episode((), tuple(examples), None), VANILLA)
    return ViewSet(size, lambda index, dice: [asked], VANILLA)


def _few_shot_gold(gold: Episode) -> ViewSet:
    return ViewSet(REPEATS, lambda index, dice: [_renamed_view(gold, dice, copies=True)])


def _few_shot_human(data_dir: Path, times: int) -> ViewSet:
    episodes = [_repeated(episode, times) for episode in few_shot_answers(data_dir)]
    return _each(episodes, lambda episode, dice: [_renamed_view(episode, dice)], OF_PEOPLE)


def _probes(data_dir: Path, make: Callable[[Episode, Dice], View]) -> ViewSet:
    """Ask for everything ten times, the study examples too."""

    def repeated(episode: Episode, dice: Dice) -> list[View]:
        view = make(episode, dice)
        return [view._replace(query=view.query * 10)]

    return _each(_people(data_dir, PROBES), repeated, OF_PEOPLE)


KINDS: dict[str, Kind] = {
    **{name: _of_random_grammars(recipe) for name, recipe in RECIPES.items()},
    "few_shot_vanilla": Kind(
        lambda _: _vanilla(gold_episode().support, VANILLA_REPEATS), lambda _: _vanilla(gold_episode().query, 1)
    ),
    "open_end_human_all": Kind(
        lambda data_dir: _drawn(participants(data_dir), _open_ended_view),
        lambda data_dir: _each(participants(data_dir), _one_after_the_other, ONE_BY_ONE),
    ),
    **{f"open_end_human_cross{fold}": _of_fold(fold, functools.partial(_others_answers, fold)) for fold in HELD_OUT},
    **{f"joint_cross{fold}": _of_fold(fold, functools.partial(_joint_views, fold)) for fold in HELD_OUT},
    "probe_human_w_pool": Kind(
        lambda data_dir: _drawn(_people(data_dir, PROBES), _pool_view),
        lambda data_dir: _probes(data_dir, _pool_view),
    ),
    "few_shot_gold": Kind(None, lambda _: _few_shot_gold(gold_episode())),
    "few_shot_human": Kind(None, lambda data_dir: _few_shot_human(data_dir, 1)),
    "few_shot_human_mult10": Kind(None, lambda data_dir: _few_shot_human(data_dir, 10)),
    "human_vanilla": Kind(None, lambda data_dir: _human_vanilla(few_shot_answers(data_dir))),
    "open_end_freeform": Kind(None, lambda _: ViewSet(REPEATS, lambda index, dice: [_freeform_view(dice)])),
    "probe_human": Kind(
        None, lambda data_dir: _probes(data_dir, lambda episode, dice: _renamed_view(episode, dice, copies=True))
    ),
}
TRAINED = tuple(name for name, kind in KINDS.items() if kind.train is not None)
EVALUATED_ONLY = tuple(name for name, kind in KINDS.items() if kind.train is None)


def training_views(episode_type: str, data_dir: Path) -> ViewSet:
    """Find what a type trains on.

    Raises:
        UserError: if it cannot be trained on, or if files are missing or damaged.
    """
    train = KINDS[episode_type].train if episode_type in KINDS else None
    if train is None:
        raise UserError(f"--episode_type {episode_type} cannot be trained; choose one of {', '.join(TRAINED)}")
    return train(data_dir)


def validation_views(episode_type: str, data_dir: Path) -> ViewSet:
    """Find what a type that can be trained is validated on.

    Raises:
        UserError: as evaluation_views.
    """
    validate = KINDS[episode_type].validate if episode_type in KINDS else None
    return evaluation_views(episode_type, data_dir) if validate is None else validate(data_dir)


def evaluation_views(episode_type: str, data_dir: Path) -> ViewSet:
    """Find what a type is evaluated on.

    Raises:
        UserError: if there is no such type, or if files are missing or damaged.
    """
    if episode_type not in KINDS:
        raise UserError(f"no --episode_type {episode_type}; choose one of {', '.join(KINDS)}")
    return KINDS[episode_type].evaluate(data_dir)
