"""The cells of the paper's evaluation: what each one trains, and what the paper reports for it.

One table for the script that runs the cells and the one that reports them, and a way to say whether a result was
trained as its cell says. Needs no torch.

Source: Lake 2019, Sections 4.2 to 4.6, Tables 2 and 3; means and standard deviations over five runs, in percent.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from common.run_loop import with_what_was_done

SEEDS = (1, 2, 3, 4, 5)  # the paper's means are over five runs


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


def flag_values(flags: Sequence[str]) -> dict[str, str | bool]:
    """Read flags of train.py as its arguments: the text of those with a value, True for the others."""
    values: dict[str, str | bool] = {}
    for flag, follower in zip_longest(flags, flags[1:], fillvalue="--"):
        if flag.startswith("--"):
            values[flag.removeprefix("--")] = True if follower.startswith("--") else follower
    return values


def unlike_recipe(cell: Cell, arguments: Mapping[str, Any]) -> list[str]:
    """Name the arguments of a training command in which it is not the cell's recipe.

    Every flag of the cell has to have the cell's value. A flag that only other cells have must not have theirs: so a
    run with `keep_moments` is of a cell only if the cell says so, and no run is of two cells. What is the same for all
    cells, such as the number of units, is not looked at.
    """
    done, own = with_what_was_done(arguments), flag_values(cell.flags)
    unlike = {name for name, value in own.items() if not _is_given(done.get(name), value)}
    for other in CELLS.values():
        others = flag_values(other.flags).items() - own.items()
        unlike |= {name for name, value in others if name not in own and _is_given(done.get(name), value)}
    return sorted(unlike)


def _is_given(found: Any, value: str | bool) -> bool:
    """Say whether an argument has the value that a flag gives it."""
    return found is True if value is True else str(found) == value
