"""The cells of the evaluation: what each one trains, what the paper reports for it, and which results are a cell's.

A cell is a name for flags of train.py. The paper's cells are in the table below; your own are made of further flags or
read from a file. train.py's own parser reads the flags, so this file knows none of them.

Source: Lake 2019, Sections 4.2 to 4.6, Tables 2 and 3; means and standard deviations over five runs, in percent.
"""

import argparse
import functools
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from checkpoint import PLACES
from common.errors import UserError
from generate_episode import EXPERIMENTS
from train import complete, make_parser

SEEDS = (1, 2, 3, 4, 5)  # the paper's means are over five runs
NOT_THE_RECIPE = ("seed", "seeds", *PLACES)
"""Arguments of train.py that may differ between runs that are averaged: the seed, where and how it ran.

Your own files are among the places, as no cell trains on them.
"""


class Cell(NamedTuple):
    """One cell: a training command and the paper's accuracy on its test commands, None where the paper has none."""

    name: str
    flags: str  # of train.py, as they are typed
    description: str
    paper_mean: float | None = None
    paper_sd: float | None = None  # None where the paper gives none
    cost: float = 1.0  # rough training time relative to jump_perm, to run cheap cells first


_ME, _LENGTH = "--episode_type ME", "--episode_type scan_length"
_PERM, _AUG = "--episode_type scan_prim_permutation", "--episode_type scan_prim_augmentation"
_RIGHT, _RIGHT_STANDARD = "--episode_type scan_around_right", "--episode_type standard_around_right"
_RIGHT_20 = f"{_RIGHT} --extra_directions 20"
_JUMP_STANDARD, _LENGTH_STANDARD = "--episode_type standard_addprim_jump", "--episode_type standard_length"
_AUG_STANDARD = f"{_JUMP_STANDARD}_augmentation"
_NO_LOSS, _NO_ATTENTION = "--disable_recon_loss", "--disable_attention"
_KEPT = "as me, Adam's moments kept when the learning rate drops"
_TABLE = (
    Cell("me", _ME, "meta seq2seq, mutual exclusivity", 100.0, 0.0, 0.28),
    Cell("jump_perm", _PERM, "meta seq2seq, permutation, add jump", 99.95, 0.08),
    Cell("jump_perm_no_support_loss", f"{_PERM} {_NO_LOSS}", "without support loss, permutation", 5.43, 7.6, 0.7),
    Cell("jump_perm_no_attention", f"{_PERM} {_NO_ATTENTION}", "without decoder attention, permutation", 10.32, 6.4),
    Cell("jump_aug", _AUG, "meta seq2seq, augmentation, add jump", 98.71, 1.49, 1.1),
    Cell("jump_aug_no_support_loss", f"{_AUG} {_NO_LOSS}", "without support loss, augmentation", 99.48, 0.37, 0.8),
    Cell(
        "jump_aug_no_attention", f"{_AUG} {_NO_ATTENTION}", "without decoder attention, augmentation", 9.29, 13.07, 1.1
    ),
    Cell("jump_standard", _JUMP_STANDARD, "standard seq2seq, add jump", 0.03, 0.02, 0.7),
    Cell("jump_aug_standard", _AUG_STANDARD, "standard seq2seq, augmentation, add jump", 12.26, 8.33, 0.7),
    Cell("around_right", _RIGHT, "meta seq2seq, around right", 99.96, 0.08),
    Cell("around_right_standard", _RIGHT_STANDARD, "standard seq2seq, around right", 0.0, None, 0.7),
    Cell("around_right_20", _RIGHT_20, "meta seq2seq, around right, 20 further directions", 36.33, 7.3),
    Cell("length", _LENGTH, "meta seq2seq, length", 16.64, 2.10, 2.4),
    Cell("length_standard", _LENGTH_STANDARD, "standard seq2seq, length", 7.71, 1.90, 0.7),
    Cell("me_kept_moments", f"{_ME} --keep_moments", _KEPT, cost=0.28),
    Cell("me_masked", f"{_ME} --mask_padding", "as me, padded steps masked", cost=0.28),
    Cell("jump_perm_masked", f"{_PERM} --mask_padding", "as jump_perm, padded steps masked"),
)
CELLS = {cell.name: cell for cell in _TABLE}


@functools.cache
def recipe_of(flags: str) -> Mapping[str, Any]:
    """Give what train.py makes of flags: all of its arguments but those in `NOT_THE_RECIPE`.

    Raises:
        UserError: if train.py refuses a flag, or if one says where or how to run and not what.
    """

    def refuse(message: str) -> NoReturn:
        raise UserError(message)

    parser = make_parser()
    parser.error = refuse  # type: ignore[method-assign]  # it would end the process
    unset = argparse.Namespace(**dict.fromkeys(NOT_THE_RECIPE))
    try:
        args = parser.parse_args(shlex.split(flags), unset)
    except ValueError as error:
        raise UserError(f"{error} in {flags}") from None
    for name in NOT_THE_RECIPE:
        if getattr(args, name) is not None:
            raise UserError(
                f"--{name} cannot be a flag of a cell, which says what to train; seed and place are a run's"
            )
    done = vars(complete(args, SEEDS[0], parser))
    return {name: value for name, value in done.items() if name not in NOT_THE_RECIPE}


def differing(arguments: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Name the arguments in which two trainings differ, in their recipe; None and False are what is not given."""

    def given(done: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in done.items() if value is not None and value is not False}

    one, other = given(arguments), given(others)
    names = {*one, *other}.difference(NOT_THE_RECIPE)
    return sorted(name for name in names if one.get(name) != other.get(name))


def usual_recipe(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the default arguments of a training's type of episode; nothing if there is no such type."""
    kind = arguments.get("episode_type")
    return recipe_of(f"--episode_type {kind}") if kind in EXPERIMENTS else {}


def full_recipe(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the arguments of a training: one that its code did not know counts as its default."""
    return {**usual_recipe(arguments), **arguments}


def unlike_recipe(cell: Cell, arguments: Mapping[str, Any]) -> list[str]:
    """Name the arguments of a training command in which it is not the cell's recipe."""
    return differing(full_recipe(arguments), recipe_of(cell.flags))


def changed_flags(arguments: Mapping[str, Any]) -> list[str]:
    """Write the flags that a training adds to its type of episode."""
    usual, done = usual_recipe(arguments), full_recipe(arguments)
    changed = {name: done.get(name) for name in differing(done, usual)}
    return [f"--{name}" if value is True else f"--{name} {value}" for name, value in changed.items()]


def varied(cell: Cell, flags: str) -> Cell:
    """Give a cell further flags, and a name that says what they change; the cell itself if they change nothing.

    Raises:
        UserError: if they are no flags of a recipe.
    """
    together = f"{cell.flags} {flags}".strip()
    before, after = recipe_of(cell.flags), recipe_of(together)
    changed = [f"{name}{'' if value is True else value}" for name, value in after.items() if value != before[name]]
    if not changed:
        return cell
    cost = cell.cost * after["num_episodes"] / before["num_episodes"]
    return Cell("_".join([cell.name, *changed]), together, together, cost=cost)


def read_cells(path: Path) -> dict[str, Cell]:
    """Read a file of cells, by name: lines `name: flags of train.py`, empty ones and those with # in front skipped.

    Raises:
        UserError: at the first line that is no cell, or whose name is taken; if there are no cells.
    """
    cells: dict[str, Cell] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name, colon, flags = (part.strip() for part in line.partition(":"))
        if not line.strip() or name.startswith("#"):
            continue
        if not colon or not re.fullmatch(r"\w[\w.-]*", name):  # it is a folder's name, too
            raise UserError(f"{path}:{number}: expected 'name: flags of train.py', found {line!r}")
        if name in CELLS or name in cells:
            raise UserError(f"{path}:{number}: there is a cell {name} already; choose another name")
        try:
            cost = (
                recipe_of(flags)["num_episodes"] / recipe_of("")["num_episodes"]
            )  # an episode is taken for jump_perm's
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from None
        cells[name] = Cell(name, flags, flags, cost=cost)
    if not cells:
        raise UserError(f"{path}: no cells; expected lines 'name: flags of train.py'")
    return cells
