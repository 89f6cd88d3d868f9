"""Read the result files of finished, unfinished and failed runs, and say when a run took off.

A run is `<results_dir>/<cell>/seed<k>.json`, what `test.py` counted or the error it ended in, with its learning curve
beside it as .csv. The runs of a folder are of one recipe and on the same data, in a folder with a cell's name those of
the cell and of SCAN, and none counts twice. Others are left out, and named.
"""

import operator
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.command_line import in_one_line
from common.errors import UserError
from common.files import read_json_object
from common.learning_curve import read_rows
from paper.cells import CELLS, changed_flags, differing, full_recipe, recipe_of, unlike_recipe

TAKEN_OFF = 99.0  # percent of the validation queries from which on a run counts as taken off
ATTENTION_CELLS = ("me", "jump_perm")  # of the paper's Figures A.1 and A.2
CODE = ("commit", "python", "torch", "numpy")  # what a result says of the code that made it
FINDING = "finding.md"  # in a cell's folder: what there is to say about its results, in Markdown
EMPTY = "—"


class CurvePoint(NamedTuple):
    """A line of a learning curve: loss in nats per symbol, accuracies on the validation episodes in percent."""

    episode: int
    lr: float
    loss: float
    retrieval: float | None
    generalize: float | None


@dataclass(frozen=True)
class Run:
    """One trained network, or the attempt, of which only the error is known."""

    cell: str
    seed: int
    error: str | None = None  # the end of the log of a run that failed
    arguments: dict[str, Any] = field(default_factory=dict)  # of train.py
    episode: int = 0
    num_episodes: int = 1
    accuracy: float = 0.0  # percent of the test commands answered right
    train_accuracy: float | None = None  # of the training commands, None where they were not scored
    other_data: dict[str, str] = field(default_factory=dict)  # digests of files that do not hold SCAN's published lines
    hours: tuple[float, ...] = (0.0, 0.0)  # of training and of scoring
    device: str = ""  # that trained
    code: tuple[str, ...] = ()  # that trained
    command: tuple[str, ...] = ()
    curve: Sequence[CurvePoint] = ()

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end and scored; only such runs are averaged."""
        return self.error is None and self.episode >= self.num_episodes

    @property
    def is_of_me(self) -> bool:
        """Whether it is of mutual exclusivity."""
        return self.arguments.get("episode_type") == "ME"


def take_off(curve: Sequence[CurvePoint]) -> int | None:
    """Find the episode from which the validation accuracy stays at `TAKEN_OFF` or above; None if it ends below."""
    episode = None
    for point in curve:
        if point.generalize is None or point.generalize < TAKEN_OFF:
            episode = None
        elif episode is None:
            episode = point.episode
    return episode


@contextmanager
def read_object(path: Path) -> Iterator[dict[str, Any]]:
    """Give the object in a JSON file; whatever it leads to that no run leaves becomes a line about the file."""
    try:
        contents = read_json_object(path)
        if contents is None:
            raise ValueError("it holds no JSON object")
        yield contents
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        advice = "run the cell again or move the file away"
        raise UserError(f"{path}: not what a run leaves ({in_one_line(error)}); {advice}") from None


def percent(correct: int, total: int) -> float:
    """Give the share of right answers."""
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} of {total} right")
    return float(100 * correct / total)


def read_run(path: Path, cell: str, seed: int) -> Run:
    """Read what a run left; the cell and the seed are those of its path.

    Raises:
        UserError: if it is not what a run leaves behind, or another run's.
    """
    curve = read_curve(path.with_suffix(".csv")) if path.with_suffix(".csv").exists() else ()
    with read_object(path) as result:
        if (result.get("cell", cell), result.get("seed", seed)) != (cell, seed):
            raise ValueError(f"it is of cell {result.get('cell')}, seed {result.get('seed')}")
        if "error" in result:
            return Run(cell, seed, str(result["error"]))
        code = result.get("training_provenance") or result.get("provenance") or {}
        data = [one for part in ("scan_files", "training_scan_files") for one in result.get(part) or []]
        return Run(
            cell,
            seed,
            arguments=dict(result["arguments"]),
            episode=operator.index(result["episode"]),
            num_episodes=operator.index(result["num_episodes"]),
            accuracy=percent(result["correct"], result["total"]),
            train_accuracy=percent(result["train_correct"], result["train_total"])
            if result.get("train_total")
            else None,
            other_data={one["name"]: one["sha256"] for one in data if one["difference"]},
            hours=tuple((result.get(name) or 0) / 3600 for name in ("training_seconds", "seconds")),
            device=str(result.get("training_device") or result.get("device") or "not recorded"),
            code=tuple(str(code.get(name) or EMPTY) for name in CODE),
            command=tuple(map(str, result.get("command") or ())),
            curve=curve,
        )


def read_curve(path: Path) -> tuple[CurvePoint, ...]:
    """Read a learning curve; accuracies that were not measured are None."""
    points = []
    for number, row in enumerate(read_rows(path), 2):
        episode, lr, loss = (row.get(name) for name in ("episode", "lr", "train_loss"))
        if episode is None or lr is None or loss is None:
            raise UserError(f"{path}:{number}: expected numbers under episode, lr and train_loss")
        points.append(CurvePoint(int(episode), lr, loss, row.get("retrieval"), row.get("generalize")))
    return tuple(points)


def read_attention(path: Path) -> dict[str, Any]:
    """Read the labelled attention weights of one query, as `test.py --plot_attention` writes them."""
    with read_object(path) as contents:
        labelled = {"memory": None, "decoder": None, **contents}
        panels = [labelled[name] for name in ("memory", "decoder") if labelled[name] is not None]
        if not panels or not all(isinstance(labelled[name], str) for name in ("query", "output")):
            raise ValueError("no text for a query and its output, or no weights under 'memory' or 'decoder'")
        for panel in panels:
            if np.shape(panel["weights"]) != (len(panel["rows"]), len(panel["columns"])):
                raise ValueError("not a weight for each of the rows and columns")
    return labelled


def read_cell(folder: Path) -> tuple[list[Run], list[str]]:
    """Read every run of a cell, by seed, and say which are left out and why; none if the folder is missing.

    Raises:
        UserError: at the first file that is not what a run leaves behind; in a folder without a cell's name, if runs
            differ in their recipe or their data.
    """
    names = [path.stem for path in folder.glob("seed*.json") if re.fullmatch(r"seed(0|[1-9]\d*)", path.stem)]
    runs, left_out = list[Run](), list[str]()
    for seed in sorted(int(name.removeprefix("seed")) for name in names):
        run = read_run(folder / f"seed{seed}.json", folder.name, seed)
        trained = [other for other in runs if other.error is None]
        if run.error is None and (why := unlike_cell(run) or copied(run, trained)):
            left_out.append(f"{folder.name}/seed{seed}.json: {why}")
            continue
        if run.error is None and trained and folder.name not in CELLS:
            check_same(trained[0], run, folder)
        runs.append(run)
    return runs, left_out


def unlike_cell(run: Run) -> str:
    """Say how a run of a cell was made otherwise than the cell says; empty if not."""
    if run.cell not in CELLS:
        return ""
    if run.other_data:
        return f"{' and '.join(run.other_data)} did not hold the published lines"
    names, recipe = unlike_recipe(CELLS[run.cell], run.arguments), recipe_of(CELLS[run.cell].flags)
    return ", ".join(f"--{name} is {run.arguments.get(name)}, the cell's {recipe.get(name)}" for name in names)


def copied(run: Run, others: Sequence[Run]) -> str:
    """Say of which run this is another copy, by arguments and the seed among them; empty if of none."""
    for other in others:
        is_same_seed = run.arguments.get("seed", run.seed) == other.arguments.get("seed", other.seed)
        if is_same_seed and not differing(full_recipe(other.arguments), full_recipe(run.arguments)):
            return f"trained with the seed and the arguments of seed{other.seed}.json"
    return ""


def check_same(first: Run, run: Run, folder: Path) -> None:
    """Refuse runs of one folder that differ in their recipe or their data."""
    recipes = [full_recipe(one.arguments) for one in (first, run)]
    problems = [
        f"differ in --{name} ({recipes[0].get(name)} and {recipes[1].get(name)})" for name in differing(*recipes)
    ]
    if run.other_data != first.other_data:
        problems.append("are of other data")
    if problems:
        paths = " and ".join(str(folder / f"seed{one.seed}.json") for one in (first, run))
        raise UserError(f"{paths} {problems[0]}, so they have no mean; move one away")


class Results(NamedTuple):
    """Everything that was found in the results folder."""

    runs: dict[str, list[Run]]  # by cell; the paper's first, with no runs where there are none, then other folders
    attention: dict[str, dict[str, Any]]  # labelled weights by picture, "me_1"
    findings: dict[str, str]  # by cell
    left_out: list[str]  # files of runs that do not count, each with the reason

    def finished(self, cell: str) -> list[Run]:
        """The runs of a cell that were trained to their end and scored."""
        return [run for run in self.runs.get(cell, []) if run.is_finished]

    def accuracies(self, cell: str) -> list[float]:
        """The accuracies of the finished runs of a cell, in percent."""
        return [run.accuracy for run in self.finished(cell)]

    def curves(self, cell: str) -> list[Sequence[CurvePoint]]:
        """The learning curves of the finished runs of a cell."""
        return [run.curve for run in self.finished(cell) if run.curve]

    def description(self, cell: str) -> str:
        """Say what a cell is; one that the paper does not have, by the flags of train.py."""
        if cell in CELLS:
            return CELLS[cell].description
        for run in self.runs[cell]:
            if run.error is None:
                return " ".join([f"--episode_type {run.arguments.get('episode_type')}", *changed_flags(run.arguments)])
        return "no run that tells its flags"


def read_results(folder: Path) -> Results:
    """Read and check every result file.

    Raises:
        UserError: if there is no such folder, or at the first file that is not what it should be.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; `python -m paper.reproduce` fills it, or pass another --results_dir")
    cells = [*CELLS, *sorted({path.parent.name for path in folder.glob("*/seed*.json")} - set(CELLS))]
    found = {cell: read_cell(folder / cell) for cell in cells}
    return Results(
        {cell: runs for cell, (runs, _) in found.items()},
        {
            f"{cell}_{path.stem.removeprefix('attention_seed1_')}": read_attention(path)
            for cell in ATTENTION_CELLS
            for path in sorted((folder / cell).glob("attention_seed1_*.json"))
        },
        {
            cell: path.read_text(encoding="utf-8", errors="replace").strip()
            for cell in cells
            if (path := folder / cell / FINDING).exists()
        },
        [line for _, lines in found.values() for line in lines],
    )
