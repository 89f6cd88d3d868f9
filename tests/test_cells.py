"""The table of cells: which training commands are a cell's recipe, and which are not."""

import json

import pytest

from checkpoint import PLACES
from generate_episode import EXPERIMENTS
from paper.cells import CELLS, NOT_THE_RECIPE, RECIPE, Cell, flag_values, recipe_of, shown_flags, unlike_recipe
from paper.own_cells import own_cell, read_cells, varied
from train import complete, make_parser


def arguments_of(flags):
    """The arguments that train.py takes from flags, as they stand in a result file."""
    parser = make_parser()
    return json.loads(json.dumps(vars(complete(parser.parse_args(flags), 1, parser)), default=str))


ANOTHER = {  # a value that no cell has, for each argument that has values
    "num_episodes": 10,
    "lr": 0.01,
    "lr_decay_schedule": 7500,
    "extra_directions": 3,
    "max_length_eval": 60,
    "emb_size": 100,
    "nlayers": 1,
    "dropout": 0,
}
FURTHER = [*(f"--{name} {value}" for name, value in ANOTHER.items()), "--episode_type scan_length", "--disable_memory"]


def test_every_argument_of_train_py_is_of_the_recipe_or_of_the_run():
    parser = make_parser()
    names = vars(complete(parser.parse_args([]), 1, parser))
    assert set(names) == {*RECIPE, *NOT_THE_RECIPE}
    assert set(NOT_THE_RECIPE) == {"seed", *PLACES}


@pytest.mark.parametrize(
    "flags",
    [
        *(("--episode_type", kind) for kind in EXPERIMENTS),
        *(cell.flags for cell in CELLS.values()),
        *(("--episode_type", "scan_around_right", *further.split()) for further in FURTHER[:-2]),
        ("--episode_type=scan_around_right", "--extra_directions=0", "--lr", "1e-3"),
        ("--nlayers", "1", "--nlayers", "3", "--mask_padding"),
        (),
    ],
    ids=" ".join,
)
def test_a_recipe_is_what_train_py_makes_of_the_flags(flags):
    """Its defaults, and what follows from the type of episode, are those of train.py."""
    assert recipe_of(flags) == {name: value for name, value in arguments_of(flags).items() if name in RECIPE}


@pytest.mark.parametrize("name", ANOTHER)
@pytest.mark.parametrize("cell", ["me", "around_right", "length_standard"])
def test_a_run_with_another_value_of_any_argument_is_not_of_the_cell(cell, name):
    """Ten episodes, a smaller network, another rate: whatever a mean must not mix."""
    arguments = arguments_of(CELLS[cell].flags)
    assert unlike_recipe(CELLS[cell], {**arguments, name: ANOTHER[name]}) == [name]
    assert unlike_recipe(CELLS[cell], {**arguments, "threads": 7, "seed": 9}) == []
    assert unlike_recipe(CELLS[cell], {**arguments, "a_flag_of_later_code": 1}) == ["a_flag_of_later_code"]


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
    assert unlike_recipe(CELLS["around_right"], done) == ["episode_type", "extra_directions", "mask_padding"]
    assert {"episode_type", "keep_moments"} <= {*unlike_recipe(CELLS["me"], {})}


def test_flags_are_read_as_train_py_does():
    given = ("--lr", "1e-1", "--mask_padding", "--nlayers=3")
    assert flag_values(given) == {"lr": 0.1, "mask_padding": True, "nlayers": 3}
    assert flag_values(()) == {}


BAD_FLAGS = {
    "--nlayer 1": "unrecognized arguments: --nlayer 1; the flags of a recipe are --episode_type, ",
    "--seed 1": "unrecognized arguments: --seed 1",
    "--dir_model x": "unrecognized",
    "-h": "unrecognized",
    "word": "unrecognized",
    "--lr": "expected one argument",
    "--lr 0": "above 0",
    "--num_episodes 1e3": "a whole number",
    "--dropout 1": "below 1",
    "--episode_type SCAN": "invalid choice: 'SCAN'",
    "--mask_padding 1": "unrecognized",
}


@pytest.mark.parametrize("flags", BAD_FLAGS)
def test_flags_that_make_no_recipe_are_refused(flags):
    with pytest.raises(ValueError, match=BAD_FLAGS[flags]):
        recipe_of(flags.split())


@pytest.mark.parametrize("further", FURTHER)
@pytest.mark.parametrize("cell", ["me", "around_right", "length_standard"])
def test_further_flags_make_a_cell_of_another_name_and_recipe(cell, further):
    """It is the recipe of the flags together, and of no cell of the paper; the paper has no figure for it."""
    changed = varied(CELLS[cell], further.split())
    both = (*CELLS[cell].flags, *further.split())
    if recipe_of(both) == recipe_of(CELLS[cell].flags):
        assert changed is CELLS[cell]
    else:
        assert changed.flags == both
        assert changed.name.startswith(f"{cell}_{further.removeprefix('--').split()[0]}")
        assert changed.name not in CELLS and "/" not in changed.name
        assert changed.paper_mean is None
        assert not any(unlike_recipe(changed, arguments_of(both)))
        assert unlike_recipe(CELLS[cell], arguments_of(both))


def test_the_same_further_flags_have_the_same_name_in_any_order():
    flags = ["--nlayers 1", "--lr 1e-2", "--mask_padding", "--emb_size 200"]  # the last one is the default
    names = {varied(CELLS["me"], " ".join(order).split()).name for order in (flags, flags[::-1])}
    assert names == {"me_lr0.01_nlayers1_mask_padding"}


def test_what_takes_a_tenth_of_the_episodes_costs_a_tenth():
    assert varied(CELLS["length"], ["--num_episodes", "1000"]).cost == pytest.approx(CELLS["length"].cost / 10)
    assert own_cell("short", ["--num_episodes", "100"]).cost == pytest.approx(0.01)


@pytest.mark.parametrize("cell", CELLS)
def test_flags_are_shown_so_that_they_give_the_same_recipe(cell):
    arguments = arguments_of((*CELLS[cell].flags, "--dropout", "0", "--nlayers", "3"))
    assert recipe_of(shown_flags(arguments).split()) == {name: arguments[name] for name in RECIPE}


def test_a_file_of_cells(tmp_path):
    """Lines of a name and flags; nothing else counts."""
    path = tmp_path / "cells.txt"
    path.write_text("# two: --lr 1\n\nsmall.net: --episode_type ME --emb_size 50\n  plain:\n")
    cells = read_cells(path)
    assert {name: cell.flags for name, cell in cells.items()} == {
        "small.net": ("--episode_type", "ME", "--emb_size", "50"),
        "plain": (),
    }
    assert all(name == cell.name for name, cell in cells.items())


BAD_FILES = {
    "": "no cells; expected lines",
    "# nothing\n": "no cells",
    "one: --lr 1\nwords\n": ":2: expected 'name: flags of train.py', found 'words'",
    "../up: --lr 1\n": ":1: expected",
    "a/b: --lr 1\n": ":1: expected",
    ": --lr 1\n": ":1: expected",
    "me: --lr 1\n": ":1: there is a cell me already",
    "a: --lr 1\na: --lr 2\n": ":2: there is a cell a already",
    "a: --lr\n": ":1: argument --lr: expected one argument",
    "a: --seed 1\n": ":1: unrecognized arguments: --seed 1",
    "a: 'x\n": ":1: No closing quotation",
    "\xff\xfe": ":1: expected",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_bad_file_of_cells_is_named_with_the_line(tmp_path, text):
    path = tmp_path / "cells.txt"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError) as caught:
        read_cells(path)
    assert str(caught.value).startswith(str(path))
    assert BAD_FILES[text] in str(caught.value)


def test_a_number_is_compared_as_it_is_written():
    """A value that happens to be 1 is no switch that is on, and the reverse."""
    cell = Cell("one", ("--nlayers", "1", "--mask_padding"), "", None)
    done = {"episode_type": "ME", "nlayers": 1, "mask_padding": True, "keep_moments": False}
    assert unlike_recipe(cell, done) == []
    assert unlike_recipe(cell, done | {"mask_padding": 1}) == ["mask_padding"]
    assert unlike_recipe(cell, done | {"nlayers": True}) == ["nlayers"]
