"""Draw learning curves over each other: a line a file, a panel a measure.

    python -m tools.curves results/me/*.csv my_results/me_num_episodes2000/*.csv

takes the .csv that train.py writes beside a network, and those of the siblings. A picture that is there is not replaced
by another one, unless --overwrite is given.
"""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.command_line import OneLineParser, png_path, run_script
from common.errors import UserError
from common.files import save_unless_other
from common.learning_curve import read_rows

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's
LINES = ("-", "--", ":", "-.")  # for more curves than colours
NOT_DRAWN = {"seconds", "lr", "epoch", "symbols"}  # nor is the first column, which is the horizontal axis
LABELS = {  # of the measures in train.py's files; others are called as in the file
    "train_loss": "training loss, nats per symbol",
    "retrieval": "ValAccRetrieval, %",
    "generalize": "ValAccGeneralize, %",
}
IN_A_ROW = 3  # panels
LEGEND_COLUMNS = 4
DOTS_AN_INCH = 120


class LearningCurve(NamedTuple):
    """What a file holds: its first column's name, and by measure what was found at which episode or step."""

    unit: str
    measures: Mapping[str, Mapping[float, float]]


def read_measures(path: Path) -> LearningCurve:
    """Read a learning curve.

    Raises:
        UserError: if it has no row with a measure in it, or is no learning curve.
    """
    rows = read_rows(path)
    unit, *names = rows[0] if rows else ("",)
    series = {
        name: {at: value for row in rows if (at := row[unit]) is not None and (value := row[name]) is not None}
        for name in names
        if name not in NOT_DRAWN
    }
    measures = {name: values for name, values in series.items() if values}
    if not measures:
        raise UserError(f"{path}: expected rows of a learning curve, found none")
    return LearningCurve(unit, measures)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Name files by what tells their paths apart: without the folders all lie in and, if that will do, suffixes."""
    shared = os.path.commonpath([path.resolve().parent for path in paths])
    whole = [path.resolve().relative_to(shared) for path in paths]
    short = [path.with_suffix("").as_posix() for path in whole]
    return short if len({*short}) == len(short) else [path.as_posix() for path in whole]


def draw(curves: Mapping[str, LearningCurve]) -> Any:
    """Draw curves, by the name that each has in the legend, as a figure of matplotlib's.

    Raises:
        UserError: if some count episodes and others steps.
    """
    from matplotlib.figure import Figure  # only now: run_script has seen to it that it can be imported

    units = {curve.unit for curve in curves.values()}
    if len(units) > 1:
        raise UserError(f"curves by {' and by '.join(sorted(units))} have no common axis; draw them apart")
    measures = list(dict.fromkeys(name for curve in curves.values() for name in curve.measures))
    n_rows, n_columns = math.ceil(len(measures) / IN_A_ROW), min(len(measures), IN_A_ROW)
    height = 3.5 * n_rows + 0.25 * math.ceil(len(curves) / LEGEND_COLUMNS)
    figure = Figure(figsize=(max(4.3 * n_columns, 7), height), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True)
    for ax, measure in zip(grid.flat, measures, strict=False):
        for number, curve in enumerate(curves.values()):
            values = curve.measures.get(measure, {})
            turn, place = divmod(number, len(COLOURS))
            line = {"color": COLOURS[place], "linestyle": LINES[turn % len(LINES)], "linewidth": 1.2}
            ax.plot(list(values), list(values.values()), marker="." if len(values) == 1 else "", **line)
        ax.set_title(LABELS.get(measure, measure), fontsize=10)
        ax.set_xlabel(next(iter(units)))
        ax.tick_params(labelbottom=True)
        ax.locator_params(axis="x", nbins=6)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="lightgrey", linewidth=0.5)
        if "loss" in measure:
            ax.set_yscale("log")
        elif measure in LABELS:
            ax.set_ylim(-3, 103)
    for ax in list(grid.flat)[len(measures) :]:
        ax.axis("off")
    lines = grid[0, 0].get_lines()
    figure.legend(lines, list(curves), loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=9)
    return figure


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("curves", type=Path, nargs="+", metavar="CURVE.csv", help="learning curves")
    out = Path("out_models/curves.png")
    parser.add_argument("--out", type=png_path, default=out, metavar="PATH.png", help="the picture")
    parser.add_argument("--overwrite", action="store_true", help="replace another picture of that name")
    return parser.parse_args()


def main() -> None:
    """Draw a picture."""
    args = parse_arguments()
    paths = list({path.resolve(): path for path in args.curves}.values())  # each once
    curves = [read_measures(path) for path in paths]
    figure = draw(dict(zip(short_names(paths), curves, strict=True)))
    from common.pictures import png  # as in draw

    save_unless_other({args.out: png(figure, DOTS_AN_INCH)}, args.overwrite)
    print(f"written to {args.out}")


if __name__ == "__main__":
    run_script(main)
