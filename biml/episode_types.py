"""What each --episode_type trains on, is validated on and is evaluated on: the table KINDS.

A set of views makes the views of its k-th episode from dice. People's answers are not part of this project; without
them only the types made from random grammars and from the gold episode can be used.

Source: Lake & Baroni 2023, Methods and supplement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from biml.benchmarks import gold_episode, open_ended_episode
from biml.dice import Dice
from biml.episode import Episode
from biml.episode_files import episode_paths, read_episode
from biml.packed_episodes import PackedEpisodes, load_packed
from biml.views import HEURISTIC, NOISE, UNDEFINED, Recipe, Renaming, View, random_episode_view, rename, view_of
from biml.vocabulary import MAIN, VANILLA, Language
from common.errors import UserError

FULL = Recipe(noise=NOISE, heuristic=HEURISTIC)
FEWER_STUDY = FULL._replace(fewest_study=0)
RECIPES = {
    "retrieve": Recipe(novel=False),
    "algebraic": Recipe(),
    "algebraic_noise": Recipe(noise=NOISE),
    "algebraic+biases": FULL,
}
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
    """Load random episodes, numbered like the vocabularies; UserError if missing, damaged or in other words."""
    path = data_dir / "data_algebraic" / f"{split}.npz"
    packed = load_packed(path)
    if not len(packed):
        raise UserError(f"{path} holds no episodes")
    try:
        return packed.renumbered(MAIN)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def random_views(packed: PackedEpisodes, recipe: Recipe, bent: bool) -> ViewSet:
    """Make views of random episodes by a recipe; `bent` says whether the dice decide anything."""
    if not recipe.novel and not packed.num_support.all():
        raise UserError("some episodes have no study examples, which are all that `retrieve` asks for")
    return ViewSet(
        len(packed), lambda index, dice: [random_episode_view(packed, index, recipe, dice if bent else None)]
    )


# People's answers


def _people(data_dir: Path, folder: str) -> list[Episode]:
    """Read people's answers from the user's own download; raises UserError if they are missing or damaged."""
    path = data_dir / "data_human" / folder
    episodes = [read_episode(text) for text in episode_paths(path)]
    if not episodes:
        raise UserError(
            f"no people's answers in {path}; they are not part of this project: put the folder data_human of the "
            "published data into --data_dir"
        )
    return episodes


def few_shot_answers(data_dir: Path) -> list[Episode]:
    """Read people's answers to the gold queries, an episode a query; UserError if they are missing or damaged."""
    return _people(data_dir, "few_shot/val_behavior")


def participants(data_dir: Path) -> list[Episode]:
    """Read people's answers to the open-ended instructions, an episode a participant; UserError as above."""
    return _people(data_dir, "open_ended_all/train")


def _fold(data_dir: Path, fold: str, held_out: bool) -> list[Episode]:
    """Take the participants that a fold is tested on, or the others."""
    people, n_people = participants(data_dir), sum(map(len, HELD_OUT.values()))
    if len(people) != n_people:
        raise UserError(f"{data_dir}: expected the {n_people} participants of open_ended_all, found {len(people)}")
    return [one for number, one in enumerate(people) if (number in HELD_OUT[fold]) == held_out]


# Views of one episode


def _renamed(episode: Episode, dice: Dice, copies: bool = False) -> View:
    """Shuffle the study examples and rename all symbols."""
    shuffled = episode._replace(support=tuple(dice.shuffled(episode.support)))
    renamed, renaming = rename(shuffled, dice)
    return view_of(renamed, MAIN, copies, renaming)


def _in_random_order(episode: Episode, dice: Dice) -> tuple[Episode, Renaming]:
    """Shuffle the queries and rename all symbols."""
    return rename(episode._replace(query=tuple(dice.shuffled(episode.query))), dice)


def _open_ended(episode: Episode, dice: Dice, copies: bool = True) -> View:
    """Make study examples of up to 6 of a participant's answers; ask for the others and, unless told not to, copies."""
    renamed, renaming = _in_random_order(episode, dice)
    n_study = dice.below(len(renamed.query))
    parted = Episode(renamed.query[:n_study], renamed.query[n_study:], None, renamed.allowed_outputs)
    return view_of(parted, MAIN, copies, renaming)


def _one_by_one(episode: Episode, dice: Dice) -> list[View]:
    """Ask for a participant's answers in random order, each with those before it as study examples."""
    renamed, renaming = _in_random_order(episode, dice)
    answers = renamed.query
    parts = [Episode(answers[:index], answers[index : index + 1], None) for index in range(len(answers))]
    return [view_of(part, MAIN, renaming=renaming) for part in parts]


def _freeform(dice: Dice) -> View:
    """Ask the open-ended instructions in random order; the answers may be made of anything."""
    renamed, renaming = _in_random_order(open_ended_episode(), dice)
    return view_of(renamed, MAIN, renaming=renaming)._replace(allowed_outputs=b"")


def _probe(episode: Episode, dice: Dice) -> View:
    return _renamed(episode, dice, copies=True)


def _probe_with_pool(episode: Episode, dice: Dice) -> View:
    """Show what an answer may be made of as a first study example without input, which is not asked for."""
    view = _probe(episode, dice)
    return view._replace(support=[(b"", view.allowed_outputs), *view.support])


# Sets of views


def _drawn(episodes: Sequence[Episode], make: Callable[[Episode, Dice], View]) -> ViewSet:
    """Draw one of a few episodes each time."""
    return ViewSet(NOMINAL, lambda index, dice: [make(dice.choice(episodes), dice)])


def _each(episodes: Sequence[Episode], make: Callable[[Episode, Dice], list[View]], note: str = "") -> ViewSet:
    """Take every episode once."""
    return ViewSet(len(episodes), lambda index, dice: make(episodes[index], dice), note=note)


def _of_others(fold: str, data_dir: Path) -> ViewSet:
    """Draw the open-ended answers of the participants that a fold is not tested on."""
    return _drawn(_fold(data_dir, fold, held_out=False), _open_ended)


def _joint(fold: str, data_dir: Path) -> ViewSet:
    """Mix random episodes, the same with fewer study examples, and 100,000 draws of people's open-ended answers."""
    packed = load_random(data_dir, "train")
    parts = [random_views(packed, recipe, bent=True) for recipe in (FULL, FEWER_STUDY)] + [_of_others(fold, data_dir)]

    def make(index: int, dice: Dice) -> list[View]:
        for part in parts:
            if index < part.size:
                return part.make(index, dice)
            index -= part.size
        raise IndexError(index)

    return ViewSet(sum(part.size for part in parts), make)


def _vanilla(asks_support: bool, size: int) -> ViewSet:
    """Ask for the study examples or the queries of the gold episode, with nothing to study."""
    gold = gold_episode()
    view = view_of(Episode((), gold.support if asks_support else gold.query, None), VANILLA)
    return ViewSet(size, lambda index, dice: [view], VANILLA)


def _human_vanilla(data_dir: Path) -> ViewSet:
    """Leave out the study examples, and the answers that hold something without a canonical name."""
    people = few_shot_answers(data_dir)
    answers = [tuple(answer for answer in episode.query if UNDEFINED not in answer.output) for episode in people]
    views = [view_of(Episode((), kept, None), VANILLA) for kept in answers if kept]
    if not views:
        raise UserError(f"every answer holds {UNDEFINED}; nothing is left for human_vanilla")
    n_dropped = sum(len(episode.query) for episode in people) - sum(map(len, answers))
    note = f"{n_dropped} answers with {UNDEFINED} left out; {OF_PEOPLE}" if n_dropped else OF_PEOPLE
    return ViewSet(len(views), lambda index, dice: [views[index]], VANILLA, note)


def _asked_ten_times(episodes: Sequence[Episode], make: Callable[[Episode, Dice], View]) -> ViewSet:
    """Ask for everything ten times, study examples too where they are asked for at all."""

    def repeated(episode: Episode, dice: Dice) -> list[View]:
        view = make(episode, dice)
        return [view._replace(query=view.query * 10)]

    return _each(episodes, repeated, OF_PEOPLE)


class Kind(NamedTuple):
    """How the views of a type come from the folder of the data: for evaluation, training and validation."""

    evaluate: Callable[[Path], ViewSet]
    train: Callable[[Path], ViewSet] | None = None  # None: evaluated only
    validate: Callable[[Path], ViewSet] | None = None  # None: as evaluated


def _of_random_grammars(recipe: Recipe) -> Kind:
    """Train on bent episodes, evaluate on others as they are stored."""
    return Kind(
        lambda data_dir: random_views(load_random(data_dir, "val"), Recipe(novel=recipe.novel), bent=False),
        lambda data_dir: random_views(load_random(data_dir, "train"), recipe, bent=True),
    )


def _of_fold(fold: str, train: Callable[[Path], ViewSet]) -> Kind:
    """Evaluate and validate on a fold's participants."""

    def tested(make: Callable[[Episode, Dice], list[View]], note: str, data_dir: Path) -> ViewSet:
        return _each(_fold(data_dir, fold, held_out=True), make, note)

    split = partial(tested, lambda episode, dice: [_open_ended(episode, dice, copies=False)], "")
    return Kind(partial(tested, _one_by_one, ONE_BY_ONE), train, split)


KINDS: dict[str, Kind] = {
    **{name: _of_random_grammars(recipe) for name, recipe in RECIPES.items()},
    "few_shot_vanilla": Kind(lambda _: _vanilla(False, 1), lambda _: _vanilla(True, VANILLA_REPEATS)),
    "open_end_human_all": Kind(
        lambda data_dir: _each(participants(data_dir), _one_by_one, ONE_BY_ONE),
        lambda data_dir: _drawn(participants(data_dir), _open_ended),
    ),
    **{f"open_end_human_cross{fold}": _of_fold(fold, partial(_of_others, fold)) for fold in HELD_OUT},
    **{f"joint_cross{fold}": _of_fold(fold, partial(_joint, fold)) for fold in HELD_OUT},
    "probe_human_w_pool": Kind(
        lambda data_dir: _asked_ten_times(_people(data_dir, PROBES), _probe_with_pool),
        lambda data_dir: _drawn(_people(data_dir, PROBES), _probe_with_pool),
    ),
    "few_shot_gold": Kind(lambda _: _each([gold_episode()] * REPEATS, lambda gold, dice: [_probe(gold, dice)])),
    "few_shot_human": Kind(
        lambda data_dir: _each(few_shot_answers(data_dir), lambda one, dice: [_renamed(one, dice)], OF_PEOPLE)
    ),
    "few_shot_human_mult10": Kind(lambda data_dir: _asked_ten_times(few_shot_answers(data_dir), _renamed)),
    "human_vanilla": Kind(_human_vanilla),
    "open_end_freeform": Kind(lambda _: ViewSet(REPEATS, lambda index, dice: [_freeform(dice)])),
    "probe_human": Kind(lambda data_dir: _asked_ten_times(_people(data_dir, PROBES), _probe)),
}
TRAINED = tuple(name for name, kind in KINDS.items() if kind.train is not None)
EVALUATED_ONLY = tuple(name for name, kind in KINDS.items() if kind.train is None)


def training_views(episode_type: str, data_dir: Path) -> ViewSet:
    """Find what a type of TRAINED trains on; UserError if files are missing or damaged."""
    train = KINDS[episode_type].train
    assert train is not None, f"{episode_type} is for evaluation only"
    return train(data_dir)


def validation_views(episode_type: str, data_dir: Path) -> ViewSet:
    """Find what a type that can be trained is validated on; UserError as evaluation_views."""
    return (KINDS[episode_type].validate or KINDS[episode_type].evaluate)(data_dir)


def evaluation_views(episode_type: str, data_dir: Path) -> ViewSet:
    """Find what a type is evaluated on; UserError if there is no such type, or if files are missing or damaged."""
    if episode_type not in KINDS:  # a checkpoint may name one of other code
        raise UserError(f"no --episode_type {episode_type}; choose one of {', '.join(KINDS)}")
    return KINDS[episode_type].evaluate(data_dir)
