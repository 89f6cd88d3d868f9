"""Learning curves: what is written is read, and the picture of several."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from script_runs import assert_one_line, run_file

from common.learning_curve import Curve, read_rows
from tools.curves import COLOURS, LINES, draw, measured, read_curves

SCRIPT = Path(__file__).resolve().parent.parent / "tools/curves.py"
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
MAIN = "episode,seconds,lr,train_loss,retrieval,generalize\n1,0.5,0.001,2.5,,0.0\n100,50.0,0.001,1.5,,20.0\n"
SIBLING = "step,epoch,seconds,lr,avg_train_loss,val_loss\n1,1,0.3,0.1,2.4,2.3\n"


@settings(max_examples=25)
@given(values=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_what_is_written_is_read(tmp_path_factory, values):
    """Every number comes back as it was, and what was not measured as None."""
    path = tmp_path_factory.mktemp("curve") / "net.csv"
    curve = Curve(path, ["step", "a", "b"], 0, lambda _: True)
    for step, row in enumerate(values, 1):
        curve.add((step, *row))
    assert read_rows(path) == [{"step": step, "a": a, "b": b} for step, (a, b) in enumerate(values, 1)]


@pytest.mark.parametrize("n", [1, len(COLOURS) * len(LINES)])
def test_every_curve_has_a_line_of_its_own_and_its_name_in_the_legend(n):
    """Name and look belong together, and no two lines look alike."""

    def looks(lines):
        return [(to_rgba(line.get_color()), line.get_linestyle()) for line in lines]

    curves = {f"run {k}": [{"episode": 1, "loss": 2.0}, {"episode": 2, "loss": 1.0 + k}] for k in range(n)}
    figure = draw(curves)
    (ax,), (legend,) = figure.axes, figure.legends
    assert [list(line.get_ydata()) for line in ax.get_lines()] == [[2.0, 1.0 + k] for k in range(n)]
    assert [text.get_text() for text in legend.get_texts()] == [*curves]
    assert looks(legend.get_lines()) == looks(ax.get_lines())
    assert len(set(looks(ax.get_lines()))) == n


def test_each_measure_has_a_panel_also_where_one_curve_lacks_it():
    """A panel is drawn once some curve has values, and has room for the others' colours."""
    figure = draw({"one": [{"step": 1, "d": 3.0}], "two": [{"step": 1, "a": 1.0, "b": 2.0, "c": 2.0}]})
    shown = {ax.get_title(): [len(line.get_xdata()) for line in ax.get_lines()] for ax in figure.axes if ax.axison}
    assert list(shown.items()) == [("d", [1, 0]), ("a", [0, 1]), ("b", [0, 1]), ("c", [0, 1])]


def test_what_is_read_of_files_and_how_they_are_called(tmp_path):
    """Neither times nor the learning rate, nor what was never measured; the shortest names that differ."""
    for name, text in (("x/a.csv", MAIN), ("x/b.csv", SIBLING), ("x/a.txt", MAIN), ("y/a.csv", MAIN)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def named(*names):
        return read_curves([tmp_path / name for name in names])

    a, b = named("x/a.csv", "x/b.csv", "x/a.csv").values()
    assert measured(a) == {"train_loss": {1: 2.5, 100: 1.5}, "generalize": {1: 0.0, 100: 20.0}}
    assert measured(b) == {"avg_train_loss": {1: 2.4}, "val_loss": {1: 2.3}}
    assert [*named("x/a.csv")] == ["a"]
    assert [*named("x/a.csv", "x/a.txt", "x/b.csv")] == ["a", "a.txt", "b"]
    assert [*named("x/a.csv", "x/b.csv", "y/a.csv")] == ["x/a", "x/b", "y/a"]


def test_the_script_draws_files_over_each_other(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(MAIN)
    out = tmp_path / "pictures" / "curves.png"
    code, said, err = run_file(SCRIPT, tmp_path / "a.csv", tmp_path / "b.csv", "--out", out)
    assert (code, said, err) == (0, f"written to {out}\n", "")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert int.from_bytes(out.read_bytes()[16:20]) == pytest.approx(2 * 4.3 * 120, rel=0.01)  # two panels wide


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "net.csv: No such file"),
        ("", "net.csv: expected rows"),
        (MAIN.splitlines()[0], "net.csv: expected rows"),
        ("episode,seconds,lr\n1,2,3\n", "net.csv: expected rows"),
        ("# Title\n\nwords\n", "net.csv:3: expected a number"),
        *(
            (f"episode,a,b\n1,2,3\n{row}\n", "net.csv:3: ")
            for row in ("1,2", "1,2,3,4", "1,2,x", "1,2,nan", "1,2,1e999")
        ),
        (SIBLING, "by episode and by step"),
    ],
)
def test_a_file_that_cannot_be_drawn_is_one_line(tmp_path, text, said):
    """And no picture."""
    (tmp_path / "a.csv").write_text(MAIN)
    if text is not None:
        (tmp_path / "net.csv").write_text(text)
    outcome = run_file(SCRIPT, tmp_path / "a.csv", tmp_path / "net.csv", "--out", tmp_path / "curves.png")
    assert_one_line(outcome, "curves.py", said)
    assert not (tmp_path / "curves.png").exists()
