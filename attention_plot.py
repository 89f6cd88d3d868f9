"""Draw what a network attends to while it answers a query, in the manner of Lake 2019, Figures A.1 and A.2.

Takes labelled attention weights as plain data, so that a picture can be drawn again from its JSON file, without torch.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.errors import UserError
from common.files import json_bytes, save_unless_other
from common.pictures import png

DOTS_AN_INCH = 150
CELL = 0.3  # inches of a picture for one row or column
AXES = {"memory": ("encoder step", "support item"), "decoder": ("decoder step", "encoder step")}


def draw_attention(labelled: dict[str, Any]) -> bytes:
    """Draw the weights that `explain` labels as a PNG: the memory's on the left, the decoder's on the right.

    Raises:
        UserError: if the network has neither.
    """
    panels = [(labelled[name], name, axes) for name, axes in AXES.items() if labelled[name] is not None]
    if not panels:
        raise UserError("this network has neither memory nor decoder attention; there is nothing to draw")
    widths = [max(len(panel["columns"]) * CELL, 2.0) for panel, _, _ in panels]
    height = max(len(panel["rows"]) for panel, _, _ in panels) * CELL
    figure = Figure(figsize=(sum(widths) + 2.2 * len(panels) + 0.6, max(height, 1.5) + 2.4), layout="constrained")
    axes = figure.subplots(1, len(panels), width_ratios=widths, squeeze=False)[0]
    for ax, (panel, name, axis_names) in zip(axes, panels, strict=True):
        _draw_panel(ax, panel, f"{name.capitalize()} attention", axis_names)
    figure.colorbar(axes[-1].images[0], ax=list(axes), label="attention weight", shrink=0.8)
    figure.suptitle(f"{labelled['query']}\n→ {_shortened(labelled['output'], 110)}", fontsize=10)
    return png(figure, DOTS_AN_INCH)


def save_attention(labelled: dict[str, Any], path: Path, overwrite: bool) -> None:
    """Draw labelled weights as a PNG and write them beside it as JSON.

    Raises:
        UserError: if another picture has that name, and `overwrite` is not set.
    """
    save_unless_other({path: draw_attention(labelled), path.with_suffix(".json"): json_bytes(labelled)}, overwrite)


def _draw_panel(ax: Axes, panel: dict[str, Any], title: str, axis_names: tuple[str, str]) -> None:
    rows, columns = panel["rows"], [_shortened(column, 40) for column in panel["columns"]]
    ax.imshow(np.array(panel["weights"]), cmap=matplotlib.colormaps["Greys"], vmin=0, vmax=1, aspect="auto")
    small = 8 if len(columns) <= 30 else 5
    ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=small)
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.set_title(title, fontsize=10)
    ax.set_ylabel(axis_names[0], fontsize=9)
    ax.set_xlabel(axis_names[1], fontsize=9)
    ax.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="lightgrey", linewidth=0.5)
    ax.tick_params(which="minor", length=0)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
