"""Draw learning curves over each other: a line for each file, a panel for each measure.

    python -m tools.curves results/me/*.csv my_results/me_num_episodes2000/*.csv

takes the .csv that train.py writes beside a network, and those of the siblings. It does not replace another picture
unless you pass --overwrite.
"""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.command_line import OneLineParser, png_path, run_script
from common.errors import UserError
from common.files import save_unless_other
from common.learning_curve import read_rows

Rows = Sequence[Mapping[str, float | None]]  # of a file; the first column is the horizontal axis

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's
LINES = ("-", "--", ":", "-.")  # for more curves than colours
NOT_DRAWN = {"seconds", "lr", "epoch", "symbols"}
LABELS = {  # of train.py's measures; others keep their column's name
    "train_loss": "training loss, nats per symbol",
    "retrieval": "ValAccRetrieval, %",
    "generalize": "ValAccGeneralize, %",
}
IN_A_ROW = 3  # panels
LEGEND_COLUMNS = 4
DOTS_AN_INCH = 120


def measured(rows: Rows) -> dict[str, dict[float, float]]:
    """Give the values of each measure by episode or step; a measure without values is left out."""
    axis, *names = rows[0] if rows else ("",)
    series = {
        name: {at: value for row in rows if (at := row[axis]) is not None and (value := row[name]) is not None}
        for name in names
        if name not in NOT_DRAWN
    }
    return {name: values for name, values in series.items() if values}


def read_curves(paths: Sequence[Path]) -> dict[str, Rows]:
    """Read learning curves, each once, by the part of its path in which the files differ.

    Raises:
        UserError: if a file is no learning curve, or has no row with a measure in it.
    """
    folder, curves = os.path.commonpath([path.resolve().parent for path in paths]), dict[str, Rows]()
    for path in paths:
        rows = read_rows(path)
        if not measured(rows):
            raise UserError(f"{path}: expected rows of a learning curve, found none")
        curves[path.resolve().relative_to(folder).as_posix().removesuffix(".csv")] = rows
    return curves


def draw(curves: Mapping[str, Rows]) -> Any:
    """Draw curves, by their names in the legend, as a figure of matplotlib's.

    Raises:
        UserError: if some count episodes and others steps.
    """
    from cycler import cycler  # only now: run_script has seen to it that matplotlib can be imported
    from matplotlib.figure import Figure

    axes = sorted({next(iter(rows[0])) for rows in curves.values()})
    if len(axes) > 1:
        raise UserError(f"curves by {' and by '.join(axes)} have no common axis; draw them apart")
    series = [measured(rows) for rows in curves.values()]
    measures = list(dict.fromkeys(name for one in series for name in one))
    n_rows, n_columns = math.ceil(len(measures) / IN_A_ROW), min(len(measures), IN_A_ROW)
    height = 3.5 * n_rows + 0.25 * math.ceil(len(curves) / LEGEND_COLUMNS)
    figure = Figure(figsize=(max(4.3 * n_columns, 7), height), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax, measure in itertools.zip_longest(grid.flat, measures):
        if measure is None:
            ax.axis("off")
            continue
        ax.set_prop_cycle(cycler(linestyle=LINES) * cycler(color=COLOURS))
        for one in series:
            values = one.get(measure, {})
            ax.plot(list(values), list(values.values()), marker="." if len(values) == 1 else "", linewidth=1.2)
        ax.set_title(LABELS.get(measure, measure), fontsize=10)
        ax.set_xlabel(axes[0])
        ax.grid(color="lightgrey", linewidth=0.5)
        if "loss" in measure:
            ax.set_yscale("log")
        elif measure in LABELS:
            ax.set_ylim(-3, 103)
    lines = grid[0, 0].get_lines()
    figure.legend(lines, list(curves), loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=9)
    return figure


def main() -> None:
    """Draw a picture."""
    parser = OneLineParser(__doc__)
    parser.add_argument("curves", type=Path, nargs="+", metavar="CURVE.csv", help="learning curves")
    out = Path("out_models/curves.png")
    parser.add_argument("--out", type=png_path, default=out, metavar="PATH.png", help="the picture")
    parser.add_argument("--overwrite", action="store_true", help="replace another picture of that name")
    args = parser.parse_args()
    figure = draw(read_curves(args.curves))
    from common.pictures import png  # as in draw

    save_unless_other({args.out: png(figure, DOTS_AN_INCH)}, args.overwrite)
    print(f"written to {args.out}")


if __name__ == "__main__":
    run_script(main)
