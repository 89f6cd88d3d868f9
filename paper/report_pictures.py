"""Draw the report's pictures: learning curves, the paper's result tables as bars, its attention figures.

Takes results that were read and checked, writes PNGs. The colours are those of Okabe and Ito, which the colour-blind
tell apart; no meaning hangs on colour alone.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from attention_plot import draw_attention
from common.files import save_bytes
from common.pictures import png
from paper.cells import CELLS
from paper.comparison import TABLES, PaperTable, Summary, paper_summary, shown, summarize
from paper.run_results import CurvePoint, Results, take_off

BLUE, SKY, VERMILLION, BLACK = "#0072B2", "#56B4E9", "#D55E00", "#000000"
DOTS_AN_INCH = 100
TAKES_OFF: dict[str, Any] = {"color": BLUE, "linewidth": 0.9}  # the line of an ME run
STAYS_BELOW: dict[str, Any] = {"color": VERMILLION, "linewidth": 1.1, "linestyle": (0, (4, 1))}
RECIPES = {"me": "Adam starts anew at the drop", "me_kept_moments": "Adam's moments are kept"}
MUTUAL_EXCLUSIVITY = PaperTable(
    "Section 4.2: mutual exclusivity", "", ("mutual exclusivity",), (("meta seq2seq learning", ("me",)),)
)  # the paper gives it in its text, not in a table
OURS, PAPERS = -0.17, 0.17  # heights of the two sides in the row of an entry, which is 1 high
PANELS = (
    ("loss", "training loss, nats per symbol"),
    ("retrieval", "ValAccRetrieval, %"),
    ("generalize", "ValAccGeneralize, %"),
)


def draw_curves(title: str, curves: Sequence[Sequence[CurvePoint]], path: Path) -> None:
    """Draw the learning curves of a cell: every seed thin, their mean thick, their range shaded.

    Mean and range are taken at the episodes that all seeds have. A panel without values is left out. A dotted line
    marks the episode after which the first seed's learning rate changes.
    """
    panels = [(name, label) for name, label in PANELS if any(_series(curve, name) for curve in curves)]
    figure = Figure(figsize=(4.3 * len(panels), 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    drops = _drops(curves[0])
    for ax, (name, label) in zip(axes, panels, strict=True):
        _draw_series(ax, [_series(curve, name) for curve in curves])
        _mark_drops(ax, drops)
        ax.set_title(label, fontsize=10)
        ax.set_xlabel("episode")
        if name == "loss":
            ax.set_yscale("log")
        else:
            ax.set_ylim(-3, 103)
    figure.suptitle(title, fontsize=11)
    handles: list[Line2D | Patch] = [Line2D([], [], color=SKY, linewidth=0.8, label="one run")]
    if len(curves) > 1:
        handles += [Line2D([], [], color=BLUE, linewidth=2, label="mean"), Patch(color=SKY, alpha=0.3, label="range")]
    if drops:
        handles.append(_drop_handle())
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    _save(figure, path)


def _series(curve: Sequence[CurvePoint], name: str) -> dict[int, float]:
    return {point.episode: getattr(point, name) for point in curve if getattr(point, name) is not None}


def _draw_series(ax: Axes, runs: Sequence[Mapping[int, float]]) -> None:
    shared = sorted(set.intersection(*(set(run) for run in runs)))
    if len(runs) > 1 and shared:
        table = np.array([[run[episode] for episode in shared] for run in runs])
        ax.fill_between(shared, table.min(axis=0), table.max(axis=0), color=SKY, alpha=0.3, linewidth=0)
    for run in runs:
        ax.plot(list(run), list(run.values()), color=SKY, linewidth=0.8)
    if len(runs) > 1 and shared:
        ax.plot(shared, table.mean(axis=0), color=BLUE, linewidth=2)
    _finish_panel(ax)


def _finish_panel(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="lightgrey", linewidth=0.5)


def _drops(curve: Sequence[CurvePoint]) -> list[int]:
    return [before.episode for before, point in itertools.pairwise(curve) if point.lr != before.lr]


def _mark_drops(ax: Axes, episodes: Sequence[int]) -> None:
    for episode in episodes:
        ax.axvline(episode, color=BLACK, linestyle=":", linewidth=1)


def _drop_handle() -> Line2D:
    return Line2D([], [], color=BLACK, linestyle=":", linewidth=1, label="learning rate drops")


def draw_me_recipes(curves: Mapping[str, Sequence[Sequence[CurvePoint]]], path: Path) -> None:
    """Draw the validation accuracy of every run of ME, Adam started anew on the left, moments kept on the right.

    Runs that take off are drawn solid, the others dashed; a dotted line marks the drop as in `draw_curves`.
    """
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    axes = figure.subplots(1, len(curves), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (cell, runs) in zip(axes, curves.items(), strict=True):
        takes_off = [take_off(run) is not None for run in runs]
        for run, succeeds in sorted(zip(runs, takes_off, strict=True), key=lambda pair: not pair[1]):
            series = _series(run, "generalize")
            ax.plot(list(series), list(series.values()), **(TAKES_OFF if succeeds else STAYS_BELOW))
        _mark_drops(ax, _drops(runs[0]))
        _finish_panel(ax)
        ax.set_title(f"{cell}: {RECIPES[cell]}\n{sum(takes_off)} of {len(runs)} runs take off", fontsize=10)
        ax.set_xlabel("episode")
        ax.set_ylim(-3, 103)
    axes[0].set_ylabel("ValAccGeneralize, %")
    handles = [
        Line2D([], [], **TAKES_OFF, label="a run that takes off"),
        Line2D([], [], **STAYS_BELOW, label="a run that does not"),
        _drop_handle(),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    _save(figure, path)


def draw_tables(results: Results, path: Path) -> None:
    """Draw mutual exclusivity and the paper's two result tables as one chart.

    Our means are bars, our runs rings, the paper's means diamonds. A line reaches one SD to either side of a mean, as
    far as 0 and 100 % let it.
    """
    groups = [(table, number) for table in (MUTUAL_EXCLUSIVITY, *TABLES) for number in range(len(table.columns))]
    entries = [
        [(model, row[number]) for model, row in table.rows if row[number] is not None] for table, number in groups
    ]
    height = sum(map(len, entries)) * 0.4 + len(groups) * 0.55 + 0.9  # inches
    figure = Figure(figsize=(9.5, height), layout="constrained")
    axes = figure.subplots(len(groups), 1, sharex=True, height_ratios=[len(models) + 0.4 for models in entries])
    for ax, (table, number), models in zip(axes, groups, entries, strict=True):
        for place, (_, entry) in enumerate(models):
            _draw_entry(ax, place, entry, results)
        _finish_group(ax, [model for model, _ in models])
        ax.set_title(f"{table.task}{table.columns[number]}", fontsize=10)
    axes[-1].set_xlabel("answered right on the test, %")
    handles = [
        Patch(facecolor=SKY, label="here: mean"),
        Line2D([], [], marker="o", linestyle="none", color=BLACK, markerfacecolor="white", label="here: one run"),
        Line2D([], [], marker="D", linestyle="none", color=VERMILLION, label="paper: mean"),
        Line2D([], [], color=BLACK, label="mean ± SD, within 0 to 100"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    _save(figure, path)


def _draw_entry(ax: Axes, place: int, entry: str | float | None, results: Results) -> None:
    """Draw what there is of one entry of a table: a cell by its name, or a figure that the paper quotes."""
    if isinstance(entry, str):
        paper = paper_summary(CELLS[entry])
        assert paper is not None, "the paper's tables hold the paper's figures"
        _draw_ours(ax, place, entry, results)
        _draw_spread(ax, place + PAPERS, paper, VERMILLION)
        mean, paper_text = paper.mean, f"paper: {shown(paper)}"
    else:
        assert entry is not None, "empty entries are not drawn"
        mean, paper_text = entry, f"paper: {entry:.2f}, quoted"
    ax.plot(mean, place + PAPERS, "D", color=VERMILLION, clip_on=False, zorder=3)
    _write_beside(ax, place + PAPERS, paper_text)


def _draw_ours(ax: Axes, place: int, cell: str, results: Results) -> None:
    """Draw the mean, the SD and the runs of a cell, or say that there are none."""
    percents = results.accuracies(cell)
    ours = summarize(percents)
    if ours is None:
        _write_beside(ax, place + OURS, "here: no finished run" if results.runs[cell] else "here: not run")
        return
    ax.barh(place, ours.mean, height=0.7, color=SKY)
    _draw_spread(ax, place + OURS, ours, BLACK)
    rings = [place + OURS] * len(percents)
    ax.plot(percents, rings, "o", color=BLACK, markerfacecolor="white", clip_on=False, zorder=3)
    _write_beside(ax, place + OURS, f"here: {shown(ours)}")


def _draw_spread(ax: Axes, height: float, summary: Summary, color: str) -> None:
    """Draw a line of one SD to either side of a mean, cut at 0 and 100 %; none without an SD."""
    if summary.sd is not None:
        below, above = min(summary.sd, summary.mean), min(summary.sd, 100 - summary.mean)
        ax.errorbar(summary.mean, height, xerr=[[below], [above]], color=color, capsize=3, clip_on=False)


def _write_beside(ax: Axes, height: float, text: str) -> None:
    ax.text(103, height, text, va="center", fontsize=8)


def _finish_group(ax: Axes, models: Sequence[str]) -> None:
    ax.set_yticks(range(len(models)), models, fontsize=9)
    ax.set_ylim(len(models) - 0.45, -0.55)
    ax.set_xlim(0, 100)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="lightgrey", linewidth=0.5)
    ax.set_axisbelow(True)


def draw_pictures(results: Results, folder: Path) -> None:
    """Draw every picture of the report."""
    for cell in results.runs:
        curves = results.curves(cell)
        if curves:
            title = f"{cell}: {results.description(cell)} (n = {len(curves)})"
            draw_curves(title, curves, folder / f"curves_{cell}.png")
    if results.me_curves():
        draw_me_recipes(results.me_curves(), folder / "curves_me_recipes.png")
    draw_tables(results, folder / "tables.png")
    for name, labelled in results.attention.items():
        save_bytes(folder / f"attention_{name}.png", draw_attention(labelled))


def _save(figure: Figure, path: Path) -> None:
    save_bytes(path, png(figure, DOTS_AN_INCH))
