"""The cells of the paper's evaluation: what each one trains, and what the paper reports for it.

One table for the script that runs the cells and the one that reports them, and a way to say whether a result was
trained as its cell says. Needs no torch, so the defaults of train.py stand here once more; a test holds them equal.

Source: Lake 2019, Sections 4.2 to 4.6, Tables 2 and 3; means and standard deviations over five runs, in percent.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from common.command_line import dropout_probability, natural_int, positive_float, positive_int
from common.errors import UserError
from common.run_loop import with_what_was_done
from generate_episode import EXPERIMENTS, EXTRA_DIRECTIONS

SEEDS = (1, 2, 3, 4, 5)  # the paper's means are over five runs
NOT_THE_RECIPE = (
    "seed", "gpu", "cpu", "threads", "data_dir", "train_file", "test_file", "dir_model", "fn_out_model", "overwrite"
)  # fmt: skip
"""Arguments of train.py that may differ between runs that are averaged: the seed, where and how it ran.

Files of one's own are of no cell: training on them is a type of episode, which no cell has.
"""
RECIPE: dict[str, tuple[Callable[[str], Any] | None, Any]] = {
    "episode_type": (str, "ME"),
    "num_episodes": (positive_int, 10000),
    "lr": (positive_float, 0.001),
    "lr_decay_schedule": (positive_int, 5000),
    "keep_moments": (None, False),
    "disable_recon_loss": (None, False),
    "extra_directions": (natural_int, None),
    "max_length_eval": (positive_int, 50),
    "emb_size": (positive_int, 200),
    "nlayers": (positive_int, 2),
    "dropout": (dropout_probability, 0.5),
    "disable_memory": (None, False),
    "disable_attention": (None, False),
    "mask_padding": (None, False),
}
"""All other arguments of train.py: what reads the text of each, None for a switch, and its default."""


class Cell(NamedTuple):
    """One cell: a training command and the paper's accuracy on its test commands, None where the paper has none."""

    name: str
    flags: tuple[str, ...]  # of train.py
    description: str
    paper_mean: float | None
    paper_sd: float | None = None  # None where the paper gives none
    cost: float = 1.0  # rough training time relative to jump_perm, to run cheap cells first


_PERMUTATION = ("--episode_type", "scan_prim_permutation")
_AUGMENTATION = ("--episode_type", "scan_prim_augmentation")
_AROUND_RIGHT = ("--episode_type", "scan_around_right")
_NO_SUPPORT_LOSS = ("--disable_recon_loss",)
_NO_ATTENTION = ("--disable_attention",)

CELLS = {
    cell.name: cell
    for cell in (
        Cell("me", ("--episode_type", "ME"), "meta seq2seq, mutual exclusivity", 100.0, 0.0, 0.28),
        Cell("jump_perm", _PERMUTATION, "meta seq2seq, permutation, add jump", 99.95, 0.08),
        Cell(
            "jump_perm_no_support_loss",
            _PERMUTATION + _NO_SUPPORT_LOSS,
            "without support loss, permutation",
            5.43,
            7.6,
            0.7,
        ),
        Cell(
            "jump_perm_no_attention", _PERMUTATION + _NO_ATTENTION, "without decoder attention, permutation", 10.32, 6.4
        ),
        Cell("jump_aug", _AUGMENTATION, "meta seq2seq, augmentation, add jump", 98.71, 1.49, 1.1),
        Cell(
            "jump_aug_no_support_loss",
            _AUGMENTATION + _NO_SUPPORT_LOSS,
            "without support loss, augmentation",
            99.48,
            0.37,
            0.8,
        ),
        Cell(
            "jump_aug_no_attention",
            _AUGMENTATION + _NO_ATTENTION,
            "without decoder attention, augmentation",
            9.29,
            13.07,
            1.1,
        ),
        Cell(
            "jump_standard", ("--episode_type", "standard_addprim_jump"), "standard seq2seq, add jump", 0.03, 0.02, 0.7
        ),
        Cell(
            "jump_aug_standard",
            ("--episode_type", "standard_addprim_jump_augmentation"),
            "standard seq2seq, augmentation, add jump",
            12.26,
            8.33,
            0.7,
        ),
        Cell("around_right", _AROUND_RIGHT, "meta seq2seq, around right", 99.96, 0.08),
        Cell(
            "around_right_standard",
            ("--episode_type", "standard_around_right"),
            "standard seq2seq, around right",
            0.0,
            None,
            0.7,
        ),
        Cell(
            "around_right_20",
            (*_AROUND_RIGHT, "--extra_directions", "20"),
            "meta seq2seq, around right, 20 further directions",
            36.33,
            7.30,
        ),
        Cell("length", ("--episode_type", "scan_length"), "meta seq2seq, length", 16.64, 2.10, 2.4),
        Cell("length_standard", ("--episode_type", "standard_length"), "standard seq2seq, length", 7.71, 1.90, 0.7),
        Cell(
            "me_kept_moments",
            ("--episode_type", "ME", "--keep_moments"),
            "as me, Adam's moments kept when the learning rate drops",
            None,
            None,
            0.28,
        ),
        Cell("me_masked", ("--episode_type", "ME", "--mask_padding"), "as me, padded steps masked", None, None, 0.28),
        Cell("jump_perm_masked", (*_PERMUTATION, "--mask_padding"), "as jump_perm, padded steps masked", None, None),
    )
}


class _FlagParser(argparse.ArgumentParser):
    """Reads flags of a recipe; what it cannot read is a ValueError."""

    def error(self, message: str) -> NoReturn:
        """Say which flags there are."""
        raise UserError(f"{message}; the flags of a recipe are {', '.join(f'--{name}' for name in RECIPE)}")


def flag_values(flags: Sequence[str]) -> dict[str, Any]:
    """Read flags of train.py as the arguments that they give it.

    Raises:
        UserError: if train.py has no such flag, if its value cannot be, or if it says where to run and not what.
    """
    parser = _FlagParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name, (kind, _) in RECIPE.items():
        if kind is None:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=kind, choices=EXPERIMENTS if name == "episode_type" else None)
    return vars(parser.parse_args(flags))


def recipe_of(flags: Sequence[str]) -> dict[str, Any]:
    """Give all arguments that train.py makes of flags, apart from seed and places."""
    recipe = {name: default for name, (_, default) in RECIPE.items()} | flag_values(flags)
    if recipe["episode_type"] == "scan_around_right" and recipe["extra_directions"] is None:
        recipe["extra_directions"] = EXTRA_DIRECTIONS
    recipe["disable_memory"] |= EXPERIMENTS[recipe["episode_type"]].is_standard
    return recipe


def differing(arguments: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Name the arguments in which two trainings differ, in their recipe; None and False are what is not given."""
    names = {*arguments, *others}.difference(NOT_THE_RECIPE)
    return sorted(name for name in names if not _is_same(arguments.get(name), others.get(name)))


def _is_same(value: Any, other: Any) -> bool:
    """Compare two arguments; a switch that is on is not a value that happens to be 1."""
    value, other = (None if one is False else one for one in (value, other))
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def usual_recipe(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Give the default arguments of a training's type of episode; nothing if there is no such type."""
    kind = str(arguments.get("episode_type"))
    return recipe_of(("--episode_type", kind)) if kind in EXPERIMENTS else {}


def full_recipe(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the arguments of a training: one that its code did not know yet counts as what that code did."""
    return {**usual_recipe(arguments), **with_what_was_done(arguments)}


def unlike_recipe(cell: Cell, arguments: Mapping[str, Any]) -> list[str]:
    """Name the arguments of a training command in which it is not the cell's recipe."""
    return differing(full_recipe(arguments), recipe_of(cell.flags))


def shown_flags(arguments: Mapping[str, Any]) -> str:
    """Write the flags that give a training's arguments, as far as they are not the defaults."""
    usual, done = usual_recipe(arguments), full_recipe(arguments)
    changed = {name: done.get(name) for name in ["episode_type", *differing(done, usual)]}
    return " ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in changed.items())
