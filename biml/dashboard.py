"""A picture of a training: its losses and its learning rate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from common.files import save_unless_other
from common.pictures import png

TRAINING, VALIDATION = "#0072B2", "#D55E00"  # Okabe and Ito's, which the colour-blind tell apart
DOTS_AN_INCH = 120
DRAWN = ("step", "lr", "avg_train_loss", "val_loss")  # of each row of a history

History = Sequence[Mapping[str, Any]]
"""That of a checkpoint."""


def draw_training(figure: Figure, history: History, title: str) -> None:
    """Draw losses and learning rate by step."""
    figure.set_size_inches(8, 6)
    figure.set_layout_engine("constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    steps = [row["step"] for row in history]
    top.plot(steps, [row["avg_train_loss"] for row in history], color=TRAINING, label="training")
    top.plot(steps, [row["val_loss"] for row in history], "--", color=VALIDATION, label="validation")
    top.set_ylabel("loss, nats a symbol")
    top.legend(frameon=False)
    bottom.plot(steps, [row["lr"] for row in history], color="black")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    figure.suptitle(title, fontsize=11)


def save_training(path: Path, history: History, title: str, overwrite: bool) -> None:
    """Write the picture as PNG, say so, and show it where there is a display; UserError if another one is there."""
    figure = plt.figure()
    try:
        draw_training(figure, history, title)
        save_unless_other({path: png(figure, DOTS_AN_INCH)}, overwrite)
        print(f"written to {path}", flush=True)
        if plt.get_backend().lower() != "agg":
            plt.show()
    finally:
        plt.close(figure)
