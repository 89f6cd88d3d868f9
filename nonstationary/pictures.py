"""Draw evaluation results: one sequence, regret by source and predictor, regret over time; and the sources.

The colours are those of Okabe and Ito, which the colour-blind tell apart.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from common.files import save_unless_other
from common.pictures import png
from nonstationary.regret import NATS_IN, regret
from nonstationary.result_files import OF_DEPTH, Result, label, place, pooled, source_label, source_name
from nonstationary.sources import SEGMENTS, Source, sample

STYLES = {  # colours and lines of the exact predictors
    "KT": ("#999999", ":"),
    "KT oracle": ("#000000", "--"),
    "PTW": ("#E69F00", "-"),
    "LIN": ("#009E73", "-"),
    "random uniform": ("#F0E442", "-"),
}
NETWORK_COLOURS = ("#0072B2", "#D55E00", "#CC79A7", "#56B4E9")
LINES = ("-", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))  # for more networks than colours
HATCHES = ("", "...", "xxx", "|||")  # of their bars; exact predictors have ///
TRUTH = "#BBBBBB"
ROWS_DRAWN = 30  # sequences of a source in the picture of partitions
DOTS_AN_INCH = 120


def networks_of(names: Iterable[str]) -> list[str]:
    """Pick the networks, each once."""
    return [name for name in dict.fromkeys(names) if place(name)[0] == 0]


def style(name: str, networks: Sequence[str]) -> dict[str, Any]:
    """Give a predictor its line."""
    if name in networks:
        turn, number = divmod(networks.index(name), len(NETWORK_COLOURS))
        colour, line = NETWORK_COLOURS[number], LINES[turn % len(LINES)]
    else:
        colour, line = STYLES[name.partition(OF_DEPTH)[0]]
    return {"color": colour, "linestyle": line, "label": name}


def draw_sequence(result: Result) -> Figure:
    """Draw the example of a result file: predictions, regret of each step, regret so far; dotted at each switch."""
    unit, example = result["unit"], result["example"]
    truth, segments = torch.tensor(example["parameters"], dtype=torch.float64), np.array(example["segments"])
    steps, last = np.arange(1, len(truth) + 1), truth.shape[1] - 1
    figure = Figure(figsize=(9, 8), layout="constrained")
    top, middle, bottom = axes = figure.subplots(3, 1, sharex=True, height_ratios=(1.4, 1, 1))
    top.plot(steps, np.array(example["symbols"]) == last, "|", color="#777777", markersize=5, label="symbols")
    top.step(steps, truth[:, last], where="mid", color=TRUTH, linewidth=3, label="true probability")
    names = {name: label(result, name) for name in example["predictions"]}
    networks = networks_of(names.values())
    without_kt = len(names) > 1 and "kt" in names  # its curve leaves the picture
    for name, shown in names.items():
        if name == "kt" and without_kt:
            continue
        predicted = torch.tensor(example["predictions"][name], dtype=torch.float64)
        by_step = regret(truth[None, 1:], predicted[None].log())[0] / NATS_IN[unit]
        line = style(shown, networks)
        top.plot(steps[1:], predicted[:, last], linewidth=1.3, **line)
        middle.plot(steps[1:], by_step, linewidth=1.0, **line)
        bottom.plot(steps[1:], by_step.cumsum(0), linewidth=1.5, **line)
    for ax in axes:
        for switch in steps[1:][np.diff(segments) != 0]:
            ax.axvline(switch - 0.5, color="black", linestyle=":", linewidth=0.8, label="switch")
    top.set_ylabel(f"probability of symbol {last}")
    middle.set_ylabel(f"regret of the step, {unit}")
    bottom.set_ylabel(f"regret so far, {unit}")
    bottom.set_xlabel("step")
    left_out = ", KT left out" if without_kt else ""
    figure.suptitle(f"One sequence of the source {source_name(result)}{left_out}", fontsize=11)
    add_legend(figure, [top], ncols=4)
    return figure


def add_legend(figure: Figure, axes: Iterable[Any], **style: Any) -> None:
    """Name everything drawn, each name once."""
    named: dict[str, Any] = {}
    for ax in axes:
        named |= {text: handle for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", frameon=False, **style)


def draw_bars(results: Sequence[Result]) -> Figure:
    """Draw cumulative regrets by source and predictor; networks that differ in their seeds alone share a bar."""
    means = pooled(results, source_name)
    names = sorted({name for found in means.values() for name in found}, key=place)
    networks = networks_of(names)
    width = 0.84 / len(names)
    figure = Figure(figsize=(2.2 + 0.28 * len(names) * len(means), 4.8), layout="constrained")
    ax = figure.subplots()
    for number, name in enumerate(names):
        there = {index: found[name] for index, found in enumerate(means.values()) if name in found}
        places = [index + (number - (len(names) - 1) / 2) * width for index in there]
        heights, errors = ([mean[part] for mean in there.values()] for part in (0, 1))
        colour = style(name, networks)["color"]
        hatch = HATCHES[networks.index(name) // len(NETWORK_COLOURS) % len(HATCHES)] if name in networks else "///"
        ax.bar(places, heights, width, yerr=errors, color=colour, edgecolor="white", hatch=hatch, label=name)
    ax.set_xticks(range(len(means)), list(means))
    ax.set_xlabel("source of the test sequences")
    ax.set_ylabel(f"cumulative regret, {results[0]['unit']}")
    figure.suptitle(f"{results[0]['seq_length']} symbols\nexact predictors hatched", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def draw_curves(results: Sequence[Result]) -> Figure:
    """Draw the mean regret so far over time, one panel a result file."""
    figure = Figure(figsize=(5.2 * len(results), 4.6), layout="constrained")
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    named = [[label(one, row["predictor"]) for row in one["predictors"]] for one in results]
    networks = networks_of(name for names in named for name in names)
    for ax, one, names in zip(axes, results, named, strict=True):
        totals = {}
        for row, name in zip(one["predictors"], names, strict=True):
            so_far = np.cumsum(row["regret_by_step"])
            ax.plot(np.arange(2, len(so_far) + 2), so_far, linewidth=1.6, **style(name, networks))
            totals[name] = so_far[-1]
        highest = max((total for name, total in totals.items() if name != "KT"), default=max(totals.values()))
        ax.set_ylim(0, 1.15 * highest)  # KT leaves the picture where it is far worse
        ax.set_title(f"source {source_name(one)}", fontsize=10)
        ax.set_xlabel("step")
        ax.set_ylabel(f"mean regret so far, {one['unit']}")
    add_legend(figure, axes, ncols=3, fontsize=9)
    return figure


def draw_partitions(length: int, seed: int) -> Figure:
    """Draw sequences of every source: a row each, its shade the probability of symbol 1."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    grid = figure.subplots(2, 3)
    axes, unused = grid.flat[: len(SEGMENTS)], grid.flat[len(SEGMENTS) :]
    generator = torch.Generator().manual_seed(seed)
    place: dict[str, Any] = {"extent": (0.5, length + 0.5, ROWS_DRAWN + 0.5, 0.5), "aspect": "auto"}  # counted from 1
    for ax, name in zip(axes, SEGMENTS, strict=True):
        sequences = sample(Source(name), ROWS_DRAWN, length, generator)
        shades = ax.imshow(sequences.parameters[..., 1].numpy(), cmap="cividis", vmin=0, vmax=1, **place)
        ax.set_title(source_label(name), fontsize=10)
        ax.set_xlabel("step")
        ax.set_ylabel("sequence")
    for ax in unused:
        ax.axis("off")
    figure.colorbar(shades, ax=list(grid.flat), label="probability of symbol 1")
    return figure


def save(figure: Figure, path: Path, overwrite: bool = True) -> None:
    """Write a picture as PNG.

    Raises:
        UserError: if there is another one under that name, and `overwrite` is not set.
    """
    save_unless_other({path: png(figure, DOTS_AN_INCH)}, overwrite)
