"""Learning curves: what is read of their files, the picture of several, and which runs took off."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from script_runs import assert_one_line, run_file

from common.learning_curve import Curve, read_rows
from paper.rates import wilson_interval
from tools.curves import COLOURS, LINES, LearningCurve, draw, read_measures, short_names

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "curves.py"
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
MAIN = "episode,seconds,lr,train_loss,retrieval,generalize\n1,0.5,0.001,2.5,,0.0\n100,50.0,0.001,1.5,,20.0\n"
SIBLING = "step,epoch,seconds,lr,avg_train_loss,val_loss\n1,1,0.3,0.1,2.4,2.3\n"


@given(values=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory, values):
    """Every number comes back as it was, and what was not measured as None."""
    path = tmp_path_factory.mktemp("curve") / "net.csv"
    curve = Curve(path, ["step", "a", "b"], 0, lambda _: True)
    for step, row in enumerate(values, 1):
        curve.add((step, *row))
    assert read_rows(path) == [{"step": step, "a": a, "b": b} for step, (a, b) in enumerate(values, 1)]


@pytest.mark.parametrize("row", ["1,2", "1,2,3,4", "1,2,x", "1,2,nan", "1,2,1e999"])
def test_a_row_that_is_none_is_named_by_its_line(tmp_path, row):
    path = tmp_path / "net.csv"
    path.write_text(f"episode,a,b\n1,2,3\n{row}\n")
    with pytest.raises(ValueError, match=r"net\.csv:3: "):
        read_rows(path)


def curves_of(n):
    return {f"run {k}": LearningCurve("episode", {"train_loss": {1: 2.0, 2: 1.0 + k}}) for k in range(n)}


@pytest.mark.parametrize("n", [1, 2, len(COLOURS), len(COLOURS) * len(LINES)])
def test_every_curve_has_a_line_of_its_own_and_its_name_in_the_legend(n):
    """Name and look belong together, and no two lines look alike."""
    figure = draw(curves_of(n))
    (ax,) = figure.axes
    (legend,) = figure.legends
    lines = ax.get_lines()
    assert [list(line.get_ydata()) for line in lines] == [[2.0, 1.0 + k] for k in range(n)]
    looks = [(to_rgba(line.get_color()), line.get_linestyle()) for line in lines]
    assert len(set(looks)) == n
    assert [text.get_text() for text in legend.get_texts()] == [f"run {k}" for k in range(n)]
    assert [(to_rgba(line.get_color()), line.get_linestyle()) for line in legend.get_lines()] == looks


def test_each_measure_has_a_panel_also_where_one_curve_lacks_it():
    """A panel is drawn once some curve has values; the legend names the others all the same."""
    some = {"a": {1: 1.0}, "b": {1: 2.0}, "c": {1: 2.0}}
    figure = draw({"one": LearningCurve("step", {"d": {1: 3.0}}), "two": LearningCurve("step", some)})
    shown = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title() for ax in shown] == ["d", "a", "b", "c"]
    assert [len(line.get_xdata()) for ax in shown for line in ax.get_lines()] == [1, 0, 0, 1, 0, 1, 0, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_what_is_drawn_of_a_file(tmp_path):
    """Neither times nor the learning rate, nor what was never measured."""
    path = tmp_path / "net.csv"
    path.write_text(MAIN)
    expected = {"train_loss": {1: 2.5, 100: 1.5}, "generalize": {1: 0.0, 100: 20.0}}
    assert read_measures(path) == ("episode", expected)
    path.write_text(SIBLING)
    assert read_measures(path) == ("step", {"avg_train_loss": {1: 2.4}, "val_loss": {1: 2.3}})


def test_names_are_as_short_as_they_may_be(tmp_path):
    a, b, c = (tmp_path / name for name in ("x/a.csv", "x/b.csv", "y/a.csv"))
    assert short_names([a]) == ["a"]
    assert short_names([a, b]) == ["a", "b"]
    assert short_names([a, a.with_suffix(".txt")]) == ["a.csv", "a.txt"]
    assert short_names([a, b, c]) == ["x/a", "x/b", "y/a"]


def test_the_script_draws_files_over_each_other(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(MAIN)
    out = tmp_path / "pictures" / "curves.png"
    code, said, err = run_file(SCRIPT, tmp_path / "a.csv", tmp_path / "b.csv", "--out", out)
    assert (code, said, err) == (0, f"written to {out}\n", "")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert math.isclose(int.from_bytes(out.read_bytes()[16:20]), 2 * 4.3 * 120, rel_tol=0.01)  # two panels wide


BAD = {
    "no file": (None, "net.csv: No such file"),
    "an empty file": ("", "net.csv: expected rows"),
    "no rows": (MAIN.splitlines()[0], "net.csv: expected rows"),
    "no measures": ("episode,seconds,lr\n1,2,3\n", "net.csv: expected rows"),
    "another file": ("# Title\n\nwords\n", "net.csv:3: expected a number"),
    "another axis": (SIBLING, "by episode and by step"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_drawn_is_one_line(tmp_path, case):
    """And no picture."""
    text, said = BAD[case]
    (tmp_path / "a.csv").write_text(MAIN)
    if text is not None:
        (tmp_path / "net.csv").write_text(text)
    outcome = run_file(SCRIPT, tmp_path / "a.csv", tmp_path / "net.csv", "--out", tmp_path / "curves.png")
    assert_one_line(outcome, "curves.py", said)
    assert not (tmp_path / "curves.png").exists()


# Counting which runs took off

TAKE_OFF = ROOT / "tools" / "take_off.py"


def write_run(path, *accuracies):
    """A curve with these accuracies at episodes 100, 200 and so on."""
    path.parent.mkdir(exist_ok=True)
    lines = [f"{100 * k},1.0,0.001,0.5,,{value}" for k, value in enumerate(accuracies, 1)]
    path.write_text("\n".join([MAIN.splitlines()[0], *lines, ""]))


def test_runs_that_stay_up_are_counted_by_folder(tmp_path):
    """A run that comes down again has not taken off; those cut off earlier count as far as they go."""
    write_run(tmp_path / "a" / "seed1.csv", 20.0, 99.0, 100.0)
    write_run(tmp_path / "a" / "seed2.csv", 100.0, 98.0, 99.0)
    write_run(tmp_path / "a" / "seed10.csv", 100.0, 98.0)
    write_run(tmp_path / "b" / "seed1.csv", 0.0, 7.0, 7.0)
    code, said, err = run_file(TAKE_OFF, *tmp_path.glob("*/*.csv"), "--at", "200")
    assert (code, err) == (0, "")
    _, first, second = (line.split(maxsplit=1) for line in said.splitlines())
    assert first[0].endswith("/a") and second[0].endswith("/b")
    low, high = wilson_interval(2, 3)
    assert first[1].split() == f"2 of 3 {low:.0f} to {high:.0f} % 250 (200 to 300) 200 to 300 3 of 3 seed10 98".split()
    assert second[1].split() == ["0", "of", "1", "0", "to", "79", "%", "—", "300", "0", "of", "1", "seed1", "7"]


@pytest.mark.parametrize("case", [case for case in BAD if case not in ("no measures", "another axis")])
def test_a_file_that_cannot_be_counted_is_one_line(tmp_path, case):
    text, said = BAD[case]
    if text is not None:
        (tmp_path / "net.csv").write_text(text)
    assert_one_line(run_file(TAKE_OFF, tmp_path / "net.csv"), "take_off.py", said)
