"""The table of cells: which training commands are a cell's recipe, and which are not."""

import json

import pytest

from generate_episode import EXPERIMENTS
from paper.cells import CELLS, NOT_THE_RECIPE, changed_flags, read_cells, recipe_of, unlike_recipe, varied
from train import complete, make_parser

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
SOME = pytest.mark.parametrize("cell", ["me", "around_right", "length_standard"])


def arguments_of(flags):
    """The arguments that train.py takes from flags, as they stand in a result file."""
    parser = make_parser()
    return json.loads(json.dumps(vars(complete(parser.parse_args(flags.split()), 1, parser)), default=str))


def test_every_argument_of_train_py_is_of_the_recipe_or_of_the_run():
    """Also a flag of a later day, without a line in paper/."""
    names = set(vars(make_parser().parse_args([])))
    assert names == {*recipe_of(""), *NOT_THE_RECIPE}
    assert {*ANOTHER, "episode_type", "keep_moments", "mask_padding"} <= {*recipe_of("")}


@pytest.mark.parametrize("flags", [*(f"--episode_type {kind}" for kind in EXPERIMENTS), ""])
def test_a_recipe_is_what_train_py_makes_of_the_flags(flags):
    """Its defaults, and what follows from the type of episode."""
    assert unlike_recipe(CELLS["me"]._replace(flags=flags), arguments_of(flags)) == []


@pytest.mark.parametrize("name", ANOTHER)
@SOME
def test_a_run_with_another_value_of_any_argument_is_not_of_the_cell(cell, name):
    """Ten episodes, a smaller network, another rate: whatever a mean must not mix."""
    arguments = arguments_of(CELLS[cell].flags)
    assert unlike_recipe(CELLS[cell], {**arguments, name: ANOTHER[name]}) == [name]
    assert unlike_recipe(CELLS[cell], {**arguments, "threads": 7, "seed": 9}) == []
    assert unlike_recipe(CELLS[cell], {**arguments, "a_flag_of_later_code": 1}) == ["a_flag_of_later_code"]


@pytest.mark.parametrize("cell", CELLS)
def test_a_training_command_is_the_recipe_of_one_cell(cell):
    """What train.py makes of a cell's flags is that cell's recipe and no other's; the flags shown give it again."""
    arguments = arguments_of(CELLS[cell].flags)
    assert [name for name, other in CELLS.items() if not unlike_recipe(other, arguments)] == [cell]
    changed = arguments_of(f"{CELLS[cell].flags} --dropout 0 --nlayers 3")
    shown = f"--episode_type {changed['episode_type']} {' '.join(changed_flags(changed))}"
    assert recipe_of(shown) == {name: value for name, value in changed.items() if name not in NOT_THE_RECIPE}


def test_what_differs_is_named():
    """An argument that is not there counts as its default."""
    done = {"episode_type": "ME", "mask_padding": True}
    assert unlike_recipe(CELLS["me"], done) == ["mask_padding"]
    assert unlike_recipe(CELLS["me_kept_moments"], done) == ["keep_moments", "mask_padding"]
    assert unlike_recipe(CELLS["around_right"], done) == ["episode_type", "extra_directions", "mask_padding"]
    assert "episode_type" in unlike_recipe(CELLS["me"], {})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--nlayer_s 1", "unrecognized arguments: --nlayer_s 1"),
        ("--seed 1", "--seed cannot be a flag of a cell"),
        ("--seeds 1,2", "--seeds cannot be"),
        ("--cpu", "--cpu cannot be"),
        ("--dir_model x", "--dir_model cannot be"),
        ("--train_file x --test_file y", "--train_file cannot be"),
        ("word", "unrecognized arguments: word"),
        ("'x", "No closing quotation"),
        ("--lr", "expected one argument"),
        ("--lr 0", "above 0"),
        ("--num_episodes 1e3", "a whole number"),
        ("--dropout 1", "below 1"),
        ("--mask_padding 1", "unrecognized"),
        ("--episode_type SCAN", "invalid choice: 'SCAN'"),
        ("--episode_type standard_length --disable_recon_loss", "no support items"),
    ],
)
def test_flags_that_make_no_recipe_are_refused(flags, said):
    with pytest.raises(ValueError, match=said):
        recipe_of(flags)


@pytest.mark.parametrize(
    "further", [*(f"--{name} {value}" for name, value in ANOTHER.items()), "--episode_type scan_length"]
)
@SOME
def test_further_flags_make_a_cell_of_another_name_and_recipe(cell, further):
    """It is the recipe of the flags together, and of no cell of the paper; the paper has no figure for it."""
    changed, both = varied(CELLS[cell], further), f"{CELLS[cell].flags} {further}"
    assert changed.flags == both
    assert changed.name.startswith(f"{cell}_{further.removeprefix('--').split()[0]}")
    assert changed.name not in CELLS and "/" not in changed.name
    assert changed.paper_mean is None
    assert not unlike_recipe(changed, arguments_of(both))
    assert unlike_recipe(CELLS[cell], arguments_of(both))


def test_the_same_further_flags_have_the_same_name_in_any_order():
    """Those that change nothing make no other cell."""
    flags = ["--nlayers 1", "--lr 1e-2", "--mask_padding", "--emb_size 200"]  # the last one is the default
    names = {varied(CELLS["me"], " ".join(order)).name for order in (flags, flags[::-1])}
    assert names == {"me_lr0.01_nlayers1_mask_padding"}
    assert varied(CELLS["me"], flags[-1]) is CELLS["me"]


def test_a_file_of_cells(tmp_path):
    """Lines of a name and flags; nothing else counts. A tenth of the episodes costs a tenth."""
    path = tmp_path / "cells.txt"
    path.write_text("# two: --lr 1\n\nsmall.net: --episode_type ME --num_episodes 100\n  plain:\n")
    cells = read_cells(path)
    found = [(name, cell.name, cell.flags) for name, cell in cells.items()]
    assert found == [("small.net", "small.net", "--episode_type ME --num_episodes 100"), ("plain", "plain", "")]
    assert [cell.cost for cell in cells.values()] == pytest.approx([0.01, 1])
    assert varied(CELLS["length"], "--num_episodes 1000").cost == pytest.approx(CELLS["length"].cost / 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no cells; expected lines"),
        ("# nothing\n", "no cells"),
        ("one: --lr 1\nwords\n", ":2: expected 'name: flags of train.py', found 'words'"),
        ("../up: --lr 1\n", ":1: expected"),
        ("a/b: --lr 1\n", ":1: expected"),
        (": --lr 1\n", ":1: expected"),
        ("me: --lr 1\n", ":1: there is a cell me already"),
        ("a: --lr 1\na: --lr 2\n", ":2: there is a cell a already"),
        ("a: --lr\n", ":1: argument --lr: expected one argument"),
        ("a: --seed 1\n", ":1: --seed cannot be a flag of a cell"),
        ("a: 'x\n", ":1: No closing quotation"),
        ("\xff\xfe", ":1: expected"),
    ],
)
def test_a_bad_file_of_cells_is_named_with_the_line(tmp_path, text, said):
    path = tmp_path / "cells.txt"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError) as caught:
        read_cells(path)
    assert str(caught.value).startswith(str(path)) and said in str(caught.value)
