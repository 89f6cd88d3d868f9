"""Draw the report's pictures: the learning curves of every cell, and the paper's attention figures.

Takes results that were read and checked, writes PNGs. The colours are those of Okabe and Ito, which the colour-blind
tell apart; no meaning hangs on colour alone.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from attention_plot import draw_attention
from common.files import save_bytes
from common.pictures import png
from paper.run_results import CurvePoint, Results

BLUE, SKY, BLACK = "#0072B2", "#56B4E9", "#000000"
DOTS_AN_INCH = 100
PANELS = (
    ("loss", "training loss, nats per symbol"),
    ("retrieval", "ValAccRetrieval, %"),
    ("generalize", "ValAccGeneralize, %"),
)


def curves_figure(title: str, curves: Sequence[Sequence[CurvePoint]]) -> Figure:
    """Draw the learning curves of a cell: every seed thin, their mean thick, their range shaded.

    Mean and range are taken at the episodes that all seeds have. A panel without values is left out. A dotted line
    marks the episode after which the first seed's learning rate changes.
    """
    panels = [(name, label) for name, label in PANELS if any(_series(curve, name) for curve in curves)]
    figure = Figure(figsize=(4.3 * len(panels), 3.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    drops = [before.episode for before, point in itertools.pairwise(curves[0]) if point.lr != before.lr]
    for ax, (name, label) in zip(axes, panels, strict=True):
        _draw_series(ax, [_series(curve, name) for curve in curves])
        for episode in drops:
            ax.axvline(episode, color=BLACK, linestyle=":", linewidth=1)
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
        handles.append(Line2D([], [], color=BLACK, linestyle=":", linewidth=1, label="learning rate drops"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


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
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="lightgrey", linewidth=0.5)


def draw_pictures(results: Results, folder: Path) -> None:
    """Draw every picture of the report."""
    for cell in results.runs:
        curves = results.curves(cell)
        if curves:
            figure = curves_figure(f"{cell}: {results.description(cell)} (n = {len(curves)})", curves)
            save_bytes(folder / f"curves_{cell}.png", png(figure, DOTS_AN_INCH))
    for name, labelled in results.attention.items():
        save_bytes(folder / f"attention_{name}.png", draw_attention(labelled))
