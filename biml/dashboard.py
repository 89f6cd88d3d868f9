"""A picture of a training run: its losses and its learning rate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from common.files import written_whole

TRAINING, VALIDATION = "#0072B2", "#D55E00"  # Okabe and Ito's, which the colour-blind tell apart
DOTS_AN_INCH = 120
DRAWN = ("step", "lr", "avg_train_loss", "val_loss")  # of each row of a history


def draw_training(history: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw losses and learning rate by step; `history` is that of a checkpoint."""
    figure = plt.figure(figsize=(8, 6), layout="constrained")
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
    return figure


def save_and_show(figure: Figure, path: Path) -> None:
    """Write a picture as PNG and, where there is a display, show it until it is closed."""
    with written_whole(path) as file:
        figure.savefig(file, format="png", dpi=DOTS_AN_INCH)
    if plt.get_backend().lower() != "agg":
        plt.show()
    plt.close(figure)
