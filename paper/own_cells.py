"""Cells of your own: the paper's with other flags, and a file of cells. No torch."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from paper.cells import CELLS, RECIPE, Cell, recipe_of


def own_cell(name: str, flags: Sequence[str], cost: float = 1.0) -> Cell:
    """Make a cell that the paper does not have; it costs by the episode what jump_perm does, times `cost`."""
    episodes = recipe_of(flags)["num_episodes"] / RECIPE["num_episodes"][1]
    return Cell(name, tuple(flags), " ".join(flags), None, None, cost * episodes)


def varied(cell: Cell, flags: Sequence[str]) -> Cell:
    """Give a cell further flags, and a name of its own that says what they change; the cell itself if nothing.

    Raises:
        UserError: if train.py has no such flags, or if they are not about the recipe.
    """
    before, after = recipe_of(cell.flags), recipe_of((*cell.flags, *flags))
    changed = [f"{name}{'' if value is True else value}" for name, value in after.items() if value != before[name]]
    cost = cell.cost * RECIPE["num_episodes"][1] / before["num_episodes"]
    return own_cell("_".join([cell.name, *changed]), (*cell.flags, *flags), cost) if changed else cell


def read_cells(path: Path) -> dict[str, Cell]:
    """Read a file of cells, by name: lines `name: flags of train.py`; empty ones and those with # in front are skipped.

    Raises:
        UserError: at the first line that is none, or whose name is taken; if there are no cells.
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
            cells[name] = own_cell(name, shlex.split(flags))
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}") from None
    if not cells:
        raise UserError(f"{path}: no cells; expected lines 'name: flags of train.py'")
    return cells
