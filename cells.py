"""The cells of the paper's evaluation: what each one trains, and what the paper reports for it.

One table for the script that runs the cells and the one that reports them. Standard library only.

Source: Lake 2019, Sections 4.2 to 4.6, Tables 2 and 3; means and standard deviations over five runs, in percent.
"""

from typing import NamedTuple


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
        Cell("me_masked", ("--episode_type", "ME", "--mask_padding"), "as me, padded steps masked", None, None, 0.28),
        Cell("jump_perm_masked", (*_PERMUTATION, "--mask_padding"), "as jump_perm, padded steps masked", None, None),
    )
}
