"""The table of cells: which training commands are a cell's recipe, and which are not."""

import json

import pytest

from paper.cells import CELLS, Cell, flag_values, unlike_recipe
from train import complete, make_parser


def arguments_of(flags):
    """The arguments that train.py takes from flags, as they stand in a result file."""
    parser = make_parser()
    return json.loads(json.dumps(vars(complete(parser.parse_args(flags), 1, parser)), default=str))


@pytest.mark.parametrize("cell", CELLS)
def test_a_training_command_is_the_recipe_of_one_cell(cell):
    """What train.py makes of a cell's flags is that cell's recipe and no other's."""
    arguments = arguments_of(CELLS[cell].flags)
    assert [name for name, other in CELLS.items() if not unlike_recipe(other, arguments)] == [cell]


@pytest.mark.parametrize("cell", CELLS)
def test_arguments_without_keep_moments_kept_them(cell):
    """A result from before there was the flag is that of the cell which has it, and of no other."""
    arguments = arguments_of(CELLS[cell].flags)
    del arguments["keep_moments"]
    keeps = "--keep_moments" in CELLS[cell].flags
    assert unlike_recipe(CELLS[cell], arguments) == ([] if keeps else ["keep_moments"])


def test_what_differs_is_named():
    done = {"episode_type": "ME", "mask_padding": True, "keep_moments": False}
    assert unlike_recipe(CELLS["me"], done) == ["mask_padding"]
    assert unlike_recipe(CELLS["me_kept_moments"], done) == ["keep_moments", "mask_padding"]
    assert unlike_recipe(CELLS["around_right"], done) == ["episode_type", "mask_padding"]
    assert unlike_recipe(CELLS["me"], {}) == ["episode_type", "keep_moments"]


def test_flags_are_read_as_train_py_does():
    assert flag_values(("--a", "1", "--b", "--c", "x y", "--d")) == {"a": "1", "b": True, "c": "x y", "d": True}
    assert flag_values(()) == {}


def test_a_number_is_compared_as_it_is_written():
    """A value that happens to be 1 is no switch that is on, and the reverse."""
    cell = Cell("one", ("--nlayers", "1", "--mask_padding"), "", None)
    done = {"nlayers": 1, "mask_padding": True, "keep_moments": False}
    assert unlike_recipe(cell, done) == []
    assert unlike_recipe(cell, done | {"mask_padding": 1}) == ["mask_padding"]
    assert unlike_recipe(cell, done | {"nlayers": True}) == ["nlayers"]
