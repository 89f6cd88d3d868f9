"""Read the result files of finished, unfinished and failed runs, and say when a run took off.

A run is `<results_dir>/<cell>/seed<k>.json`, what `test.py` counted or the error it ended in, with its learning curve
beside it as .csv. Everything is checked while it is read, so that whoever takes it from here need not: the runs of a
folder are of one recipe and on the same data, in a folder with a cell's name those of the cell and of SCAN, and none is
there twice. Others are left out, and named.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from common.errors import UserError
from common.learning_curve import read_rows
from common.run_loop import with_what_was_done
from paper.cells import CELLS, NOT_THE_RECIPE, differing, full_recipe, recipe_of, shown_flags, unlike_recipe
from scan_util import SplitFile

TAKEN_OFF = 99.0  # percent of the validation queries from which on a run counts as taken off
ATTENTION_CELLS = ("me", "jump_perm")  # of the paper's Figures A.1 and A.2
NO_RECIPE = "no run that tells its flags"
FINDING = "finding.md"  # in a cell's folder: what there is to say about its results, in Markdown
CURVE_COLUMNS = ("episode", "lr", "train_loss", "retrieval", "generalize")
DATA = ("scan_files", "training_scan_files")  # what a result says of the data that it was scored and trained on
NUMBER = int | float
EXPECTED: dict[str, Any] = {  # of a run that did not fail; "?" marks what may be missing or null
    "correct": int,
    "total": int,
    "episode": int,
    "num_episodes": int,
    "train_correct?": int,
    "train_total?": int,
    "training_seconds?": NUMBER,
    "seconds?": NUMBER,
    "device?": str,
    "training_device?": str,
    "arguments?": dict,
    "provenance?": dict,
    "training_provenance?": dict,
    "command?": list,
    "breakdown?": dict,
    "scan_files?": list,
    "training_scan_files?": list,
}


class CurvePoint(NamedTuple):
    """A line of a learning curve: loss in nats per symbol, accuracies on the validation episodes in percent."""

    episode: int
    lr: float
    loss: float
    retrieval: float | None
    generalize: float | None


@dataclass(frozen=True)
class Run:
    """One trained network, or the attempt."""

    cell: str
    seed: int
    result: Mapping[str, Any]  # the JSON file, checked
    curve: Sequence[CurvePoint] = ()

    @property
    def error(self) -> str | None:
        """The end of the log of a run that failed, None otherwise."""
        error: str | None = self.result.get("error")
        return error

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end and scored; only such runs are averaged."""
        return self.error is None and bool(self.result["episode"] >= self.result["num_episodes"])

    @property
    def accuracy(self) -> float:
        """Percent of the test commands answered right."""
        return float(100 * self.result["correct"] / self.result["total"])

    @property
    def train_accuracy(self) -> float | None:
        """Percent of the training commands answered right, None where they were not scored."""
        if not self.result.get("train_total"):
            return None
        return float(100 * self.result["train_correct"] / self.result["train_total"])

    @property
    def all_arguments(self) -> dict[str, Any]:
        """The arguments of its training, with the seed."""
        done = {"num_episodes": self.result["num_episodes"], **(self.result.get("arguments") or {})}
        return with_what_was_done(done)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that make its recipe; a flag that was not given, or was not known yet, is left out."""
        return {
            name: value
            for name, value in self.all_arguments.items()
            if name not in NOT_THE_RECIPE and value is not None and value is not False
        }

    @property
    def recipe(self) -> dict[str, Any]:
        """All arguments of its training; one that its code did not know yet counts as what that code did."""
        return full_recipe(self.all_arguments)

    @property
    def trained_seed(self) -> Any:
        """The seed that it was trained with, whatever its file is called."""
        return self.all_arguments.get("seed", self.seed)

    @property
    def other_data(self) -> dict[str, str]:
        """The files of data, scored or trained on, whose lines are not the published ones: a digest by name."""
        files = [file for part in DATA for file in self.result.get(part) or []]
        return {file["name"]: file["sha256"] for file in files if file["difference"]}

    def group_percents(self, table: str) -> dict[str, float]:
        """Accuracy in percent by the groups of one table of the breakdown, empty if there is no such table."""
        rows = (self.result.get("breakdown") or {}).get(table, [])
        return {row["group"]: 100 * row["correct"] / row["total"] for row in rows}


def take_off(curve: Sequence[CurvePoint]) -> int | None:
    """Find the first log line from which the validation accuracy stays at `TAKEN_OFF` or above.

    Returns:
        Its episode; None if the curve ends below.
    """
    episode = None
    for point in curve:
        if point.generalize is None or point.generalize < TAKEN_OFF:
            episode = None
        elif episode is None:
            episode = point.episode
    return episode


def read_cell(folder: Path) -> tuple[list[Run], list[str]]:
    """Read every run of a cell, by seed, and say which are left out and why; none if the folder is missing.

    Raises:
        UserError: at the first file that is not what a run leaves behind.
    """
    paths = {
        int(match[1]): path
        for path in folder.glob("seed*.json")
        if (match := re.fullmatch(r"seed(0|[1-9]\d*)", path.stem))
    }
    runs, left_out = list[Run](), list[str]()
    for seed, path in sorted(paths.items()):
        result = read_object(path)
        if result.get("cell", folder.name) != folder.name or result.get("seed", seed) != seed:
            refuse(path, f"cell {folder.name}, seed {seed}", f"cell {result.get('cell')}, seed {result.get('seed')}")
        check_result(result, path)
        curve_path = path.with_suffix(".csv")
        run = Run(folder.name, seed, result, read_curve(curve_path) if curve_path.exists() else ())
        why = unlike_cell(run) or there_already(run, runs)
        if why:
            left_out.append(f"{path.parent.name}/{path.name}: {why}")
        else:
            runs.append(run)
    if folder.name not in CELLS:
        check_one_recipe(runs, folder)
    return runs, left_out


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object with finite numbers."""
    try:
        text = path.read_text(encoding="utf-8")
        contents = json.loads(text, parse_float=_finite, parse_int=_finite_int, parse_constant=_finite)
    except (ValueError, RecursionError) as error:  # of the decoder or of the parser
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(contents, dict):
        refuse(path, "a JSON object", type(contents).__name__)
    return contents


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise UserError(f"{text[:20]} is no finite number")
    return number


def _finite_int(text: str) -> int:
    _finite(text)
    return int(text)


def refuse(path: Path, expected: str, found: object) -> NoReturn:
    """Complain about a file."""
    raise UserError(f"{path}: expected {expected}, found {found}; run the cell again or move the file away")


def check_result(result: Mapping[str, Any], path: Path) -> None:
    """Refuse a result that lacks what every run reports, or whose counts cannot be."""
    if "error" in result:
        if not isinstance(result["error"], str):
            refuse(path, "'error' to be text", type(result["error"]).__name__)
        return
    for name, kind in EXPECTED.items():
        value = result.get(name.removesuffix("?"))
        if value is None and name.endswith("?"):
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            refuse(path, f"'{name.removesuffix('?')}' of type {getattr(kind, '__name__', 'number')}", repr(value))
    for file in (one for part in DATA for one in result.get(part) or []):
        if not isinstance(file, dict) or not all(isinstance(file.get(name), str) for name in SplitFile._fields):
            refuse(path, f"{' and '.join(DATA)} to tell of files", repr(file)[:60])
    counts = [(result["correct"], result["total"])]
    if result.get("train_total") is not None:
        counts.append((result.get("train_correct", -1), result["train_total"]))
    for rows in (result.get("breakdown") or {}).values():
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and isinstance(row.get("group"), str) for row in rows
        ):
            refuse(path, "'breakdown' to hold lists of groups", repr(rows)[:60])
        counts.extend((row.get("correct", -1), row.get("total", 0)) for row in rows)
    for correct, total in counts:
        if not (isinstance(correct, int) and isinstance(total, int) and 0 <= correct <= total and total > 0):
            refuse(path, "counts of right answers among at least one", f"{correct} of {total}")


def unlike_cell(run: Run) -> str:
    """Say how a run of a cell was made otherwise than the cell says; empty if not."""
    if run.cell not in CELLS or run.error is not None:
        return ""
    if run.other_data:
        return f"{' and '.join(run.other_data)} did not hold the published lines"
    cell, done = CELLS[run.cell], run.all_arguments
    names = unlike_recipe(cell, done)
    recipe = recipe_of(cell.flags)
    return ", ".join(f"--{name} is {done.get(name)}, the cell's {recipe.get(name)}" for name in names)


def there_already(run: Run, others: Sequence[Run]) -> str:
    """Say of which run this is another copy, by seed and arguments; empty if of none."""
    for other in others if run.error is None else ():
        is_twin = other.error is None and other.trained_seed == run.trained_seed
        if is_twin and not differing(other.recipe, run.recipe):
            return f"trained with the seed and the arguments of seed{other.seed}.json"
    return ""


def check_one_recipe(runs: Sequence[Run], folder: Path) -> None:
    """Refuse runs of one folder that differ in their recipe or their data."""
    trained = [run for run in runs if run.error is None]
    for run in trained[1:]:
        if run.other_data != trained[0].other_data:
            path, other_path = (folder / f"seed{each.seed}.json" for each in (trained[0], run))
            raise UserError(f"{path} and {other_path} are of other data, so they have no mean; move one away")
        for name in differing(trained[0].recipe, run.recipe):
            path, other_path = (folder / f"seed{each.seed}.json" for each in (trained[0], run))
            values = f"{trained[0].recipe.get(name)} and {run.recipe.get(name)}"
            raise UserError(
                f"{path} and {other_path} differ in --{name} ({values}), so they have no mean; move one away"
            )


def read_curve(path: Path) -> tuple[CurvePoint, ...]:
    """Read a learning curve; accuracies that were not measured are None."""
    points = []
    for number, row in enumerate(read_rows(path), 2):
        episode, lr, loss, retrieval, generalize = (row.get(name) for name in CURVE_COLUMNS)
        if episode is None or lr is None or loss is None:
            raise UserError(f"{path}:{number}: expected numbers under {', '.join(CURVE_COLUMNS[:3])}")
        points.append(CurvePoint(int(episode), lr, loss, retrieval, generalize))
    return tuple(points)


def read_attention(path: Path) -> dict[str, Any]:
    """Read the labelled attention weights of one query, as `test.py --plot_attention` writes them."""
    labelled = read_object(path)
    if not all(isinstance(labelled.get(name), str) for name in ("query", "output")):
        refuse(path, "'query' and 'output' as text", f"the names {', '.join(labelled)}")
    panels = [labelled.get(name) for name in ("memory", "decoder")]
    if panels == [None, None]:
        refuse(path, "weights under 'memory' or 'decoder'", "neither")
    for panel in panels:
        if panel is not None and not _is_table(panel):
            refuse(path, "rows, columns and a number for each row and column", repr(panel)[:60])
    return {"memory": None, "decoder": None} | labelled


def _is_table(panel: Any) -> bool:
    if not isinstance(panel, dict) or not all(
        isinstance(panel.get(key), list) for key in ("rows", "columns", "weights")
    ):
        return False
    rows, columns, weights = panel["rows"], panel["columns"], panel["weights"]
    return (
        bool(rows and columns)
        and all(isinstance(label, str) for label in (*rows, *columns))
        and [len(row) if isinstance(row, list) else None for row in weights] == [len(columns)] * len(rows)
        and all(isinstance(weight, NUMBER) for row in weights for weight in row)
    )


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
        trained = [run for run in self.runs[cell] if run.error is None]
        return shown_flags(trained[0].all_arguments) if trained else NO_RECIPE

    def me_curves(self) -> dict[str, list[Sequence[CurvePoint]]]:
        """The curves of ME with Adam started anew and with its moments kept, by cell; nothing unless both have some."""
        curves = {cell: self.curves(cell) for cell in ("me", "me_kept_moments")}
        return curves if all(curves.values()) else {}


def read_results(folder: Path) -> Results:
    """Read and check every result file.

    Raises:
        UserError: if there is no such folder, or at the first file that is not what it should be.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; `python -m paper.reproduce` fills it, or pass another --results_dir")
    others = sorted({path.parent.name for path in folder.glob("*/seed*.json")} - set(CELLS))
    cells = [*CELLS, *others]
    pictures = {
        f"{cell}_{path.stem.removeprefix('attention_seed1_')}": read_attention(path)
        for cell in ATTENTION_CELLS
        for path in sorted((folder / cell).glob("attention_seed1_*.json"), key=lambda path: (len(path.name), path.name))
    }
    notes = {cell: path for cell in cells if (path := folder / cell / FINDING).exists()}
    found = {cell: read_cell(folder / cell) for cell in cells}
    return Results(
        {cell: runs for cell, (runs, _) in found.items()},
        pictures,
        {cell: path.read_text(encoding="utf-8", errors="replace").strip() for cell, path in notes.items()},
        [line for _, lines in found.values() for line in lines],
    )
