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
    """If one of several files differs from what is there, the others are not written either."""
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


def curves(path, seed, *flags):
    shutil.copy(ROOT / "results" / "me" / f"seed{seed}.csv", path.with_name("me.csv"))
    return run_file(ROOT / "tools" / "curves.py", path.with_name("me.csv"), "--out", path, *flags)


def partitions(path, seed, *flags):
    arguments = ("--what", "partitions", "--seq_length", 8, "--seed", seed, "--fn_out_plot", path, *flags)
    return run_file(ROOT / "nonstationary" / "plot.py", *arguments)


def dashboard(path, seed, *flags):
    rows = [{"step": step, "lr": 0.1, "avg_train_loss": 2.0, "val_loss": 2.1} for step in range(seed, 4)]
    save_training(path, rows, "net.tar, algebraic", overwrite=bool(flags))


@pytest.mark.parametrize("draw", [curves, partitions, dashboard])
def test_a_picture_is_not_replaced_by_another_one(tmp_path, draw):
    """The same one may be drawn again."""
    path = tmp_path / "drawn.png"
    draw(path, 1)
    before = path.read_bytes()
    again = draw(path, 1)
    assert draw is dashboard or again.code == 0
    if draw is dashboard:
        with pytest.raises(UserError, match="--overwrite"):
            draw(path, 2)
    else:
        name = {"curves": "curves.py", "partitions": "plot.py"}[draw.__name__]
        assert_one_line(draw(path, 2), name, "drawn.png is there already", "--overwrite")
    assert path.read_bytes() == before
    draw(path, 2, "--overwrite")
    assert path.read_bytes() != before
