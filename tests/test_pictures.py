"""One rule in all packages: a picture or result that is there is not replaced by another one without --overwrite."""

import shutil
from pathlib import Path

import pytest
from script_runs import assert_one_line, contents, run_file

from biml.dashboard import save_training
from common.errors import UserError
from common.files import LONGEST_IN_NAME, in_name, save_unless_other

ROOT = Path(__file__).resolve().parent.parent


def test_all_is_written_or_nothing(tmp_path):
    """If one of several files is another than what is there, the others are not written either."""
    one, two = tmp_path / "new" / "one", tmp_path / "two"
    two.write_bytes(b"2")
    with pytest.raises(UserError, match=r"two is there already and differs; .*--overwrite"):
        save_unless_other({one: b"1", two: b"3"}, overwrite=False)
    assert contents(tmp_path) == {"two": b"2"}
    save_unless_other({one: b"1", two: b"2"}, overwrite=False)
    save_unless_other({two: b"3"}, overwrite=True)
    assert contents(tmp_path) == {"new/one": b"1", "two": b"3"}


def test_texts_have_names_of_their_own():
    """Short plain ones are readable; what is cut off or cannot stand in a name is told by a digest."""
    assert in_name("dax+zup") == "dax+zup"
    texts = ["dax", "dax/zup", "dax-zup", "dax zup", "../dax", "x" * 200, "x" * 201, "词" * 80, "词" * 81]
    names = [in_name(text) for text in texts]
    assert len({*names}) == len(texts)
    assert all("/" not in name and len(name.encode()) <= LONGEST_IN_NAME + 9 for name in names)


PICTURES = {  # a script with what it draws from, and other things to draw under the same name
    "nonstationary/plot.py": (
        ["--what", "partitions", "--seq_length", "8", "--fn_out_plot"],
        ["--what", "partitions", "--seq_length", "8", "--seed", "2", "--fn_out_plot"],
    ),
    "tools/curves.py": (["{0}/one.csv", "--out"], ["{0}/two.csv", "--out"]),
}


@pytest.mark.parametrize("script", PICTURES)
def test_a_picture_is_not_replaced_by_another_one(tmp_path, script):
    """The same one may be drawn again."""
    for seed, name in ((1, "one"), (2, "two")):
        shutil.copy(ROOT / "results" / "me" / f"seed{seed}.csv", tmp_path / f"{name}.csv")
    path = tmp_path / "drawn.png"
    same, other = ([word.format(tmp_path) for word in words] for words in PICTURES[script])
    for _ in range(2):
        assert run_file(ROOT / script, *same, path).code == 0
    before = contents(tmp_path)
    outcome = run_file(ROOT / script, *other, path)
    assert_one_line(outcome, Path(script).name, "drawn.png is there already", "--overwrite")
    assert contents(tmp_path) == before
    assert run_file(ROOT / script, *other, path, "--overwrite").code == 0
    assert contents(tmp_path)["drawn.png"] != before["drawn.png"]


def test_the_picture_of_another_training_is_not_replaced(tmp_path):
    """That of biml.eval --dashboard."""
    rows = [{"step": step, "lr": 0.1, "avg_train_loss": 2.0, "val_loss": 2.1} for step in (1, 25)]
    path = tmp_path / "net_dashboard.png"
    for _ in range(2):
        save_training(path, rows, "net.tar, algebraic", overwrite=False)
    before = path.read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        save_training(path, rows[:1], "net.tar, algebraic", overwrite=False)
    assert path.read_bytes() == before
    save_training(path, rows[:1], "net.tar, algebraic", overwrite=True)
    assert path.read_bytes() != before
