"""Runs and companies: what a cell with a seed takes, the processes that do it, and the result that it leaves.

A run is a generator that yields while it waits, so that many are in progress at once, here or on a cluster. Several of
a cell may share one training process, as a company.
"""

import json
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

from common.files import read_json_object, save_bytes, save_json
from paper.cells import Cell, recipe_of, unlike_recipe
from paper.processes import TICK, execute, recorded, wait_for_lock, with_relative_paths
from paper.run_logs import end_of_log

RESULTS = Path("my_results")  # where results go unless told otherwise; results/ are those that come with the code
PICTURES = {  # the paper's example queries (Figures A.1 and A.2), by cell and seed
    ("me", 1): ("lug zup lug wif dax zup", "lug dax dax wif lug"),
    ("jump_perm", 1): ("walk left after run right thrice",),
}


class Run(NamedTuple):
    """One cell with one seed. Paths are relative to the folder in which everything happens."""

    cell: Cell
    seed: int
    results_dir: Path = RESULTS

    @property
    def name(self) -> str:
        """What people read."""
        return f"{self.cell.name} seed {self.seed}"

    @property
    def models(self) -> Path:
        """Folder of the checkpoint and of all that train.py and test.py write."""
        return Path("out_models") / self.cell.name

    @property
    def log(self) -> Path:
        """What train.py and test.py print, one sitting after the other."""
        return self.models / f"seed{self.seed}.log"

    @property
    def curve(self) -> Path:
        """The learning curve of the training in progress."""
        return self.models / f"net_seed{self.seed}.csv"

    @property
    def num_episodes(self) -> int:
        """How long it is trained."""
        return int(recipe_of(self.cell.flags)["num_episodes"])

    @property
    def result(self) -> Path:
        """The result, or why there is none."""
        return self.results_dir / self.cell.name / f"seed{self.seed}.json"


def read_result(path: Path) -> dict[str, Any] | None:
    """Read a run's result; None if there is none, if the run failed, or if the file is damaged."""
    try:
        contents = read_json_object(path)
    except OSError:
        return None
    return None if contents is None or contents.get("accuracy") is None else contents


def result_of(run: Run, folder: Path) -> dict[str, Any] | None:
    """Read the result of a run; None also if what is there was trained with another recipe than the cell's, or seed."""
    result = read_result(folder / run.result) or {}
    arguments = result.get("arguments")
    if not isinstance(arguments, dict) or arguments.get("seed", run.seed) != run.seed:
        return None
    return None if unlike_recipe(run.cell, arguments) else result


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file; the copy is there whole or not at all."""
    save_bytes(target, source.read_bytes())


def training_command(runs: Sequence[Run], device: Sequence[str]) -> list[str]:
    """Put together what trains runs of one cell, from the script's name on."""
    seeds = ",".join(str(run.seed) for run in runs)
    which = ["--seeds", seeds] if len(runs) > 1 else ["--seed", seeds]
    name = "net_seed{seed}.tar" if len(runs) > 1 else f"net_seed{seeds}.tar"
    models = ["--dir_model", str(runs[0].models), "--fn_out_model", name]
    return ["train.py", *runs[0].cell.flags, *which, *models, *device]


def scoring_commands(run: Run, device: Sequence[str]) -> list[list[str]]:
    """Put together what scores a trained run and draws its pictures."""
    model = ["--fn_in_model", f"net_seed{run.seed}.tar"]
    test = ["test.py", *model, "--overwrite", "--dir_model", str(run.models), *device]  # a run owns its folder
    queries = PICTURES.get((run.cell.name, run.seed), ())
    plots = [["--plot_attention", one, "--fn_out_plot", str(picture_of(run, n))] for n, one in enumerate(queries, 1)]
    return [test, *([*test, *plot] for plot in plots)]


def picture_of(run: Run, number: int) -> Path:
    """Name the picture of a run's attention to one of its queries, counted from 1."""
    return run.models / f"attention_seed{run.seed}_{number}.png"


def all_commands(runs: Sequence[Run], device: Sequence[str]) -> list[list[str]]:
    """Put together all that is to be done for runs of one cell that one process trains."""
    return [training_command(runs, device), *(command for run in runs for command in scoring_commands(run, device))]


def companies(runs: Sequence[Run], in_lock_step: bool) -> list[list[Run]]:
    """Say which runs one process trains, each its own or, in lock step, all of a cell; the first one's place counts."""
    together: dict[Any, list[Run]] = {}
    for run in runs:
        together.setdefault(run.cell if in_lock_step else run, []).append(run)
    return list(together.values())


class Company:
    """Runs of one cell that one process trains, on a GPU in lock step; each is a generator of its own, see `work_on`.

    The process starts once every run has come or is known not to need training. They come one after the other, since
    each keeps its lock while it waits for the rest: two companies that took theirs crosswise would wait for ever.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs, self._here = list(runs), list[Run]()
        self._expected = set(self._runs)
        self._code: int | None = None  # of the process, once it has ended

    def wait_for_turn(self, run: Run) -> Generator[str | None, None, None]:
        """Wait until every run before this one has come or gone."""
        before = self._runs[: self._runs.index(run)]
        while not self._expected.isdisjoint(before):
            yield None

    def go_without(self, run: Run) -> None:
        """A run needs no training, or none any more."""
        self._expected.discard(run)

    def command(self, device: Sequence[str]) -> list[str]:
        """What trains the runs that have come."""
        return training_command(self._here, device)

    def train(self, run: Run, device: Sequence[str], folder: Path, log: IO[bytes]) -> Generator[str | None, None, str]:
        """Train this run with the others; returns what went wrong."""
        self._here.append(run)
        self._expected.discard(run)
        first = self._here[0]
        if run is not first:
            log.write(f"\ntrained with others, see {first.log.name}\n".encode())
            log.flush()
        while self._expected or (run is not first and self._code is None):
            yield None
        if run is first:
            try:
                self._code = yield from execute(self.command(device), folder, log)
            finally:
                self._code = 1 if self._code is None else self._code
        return failure("train.py", self._code or 0, first, folder)


def work_on(
    run: Run, device: Sequence[str], folder: Path, company: Company | None = None
) -> Generator[str | None, None, str]:
    """Train, score, and write the result or the error; yields while it waits, at times with something to say.

    Closing the generator stops the process that it has started.

    Args:
        run: what to do; nothing, if there is a result by the time no other process works on it.
        device: options of both scripts.
        folder: where the scripts run.
        company: the runs that it is trained with, if there are others.
    Returns:
        What went wrong, in a line or more; empty if nothing did.
    """
    company = company or Company([run])
    try:
        (folder / run.models).mkdir(parents=True, exist_ok=True)
        with (folder / run.log).open("ab") as log:
            yield from company.wait_for_turn(run)
            yield from wait_for_lock(log)
            if result_of(run, folder) is not None:
                return ""
            error = yield from train_and_score(run, device, folder, log, company)
    except (OSError, ValueError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    finally:
        company.go_without(run)
    return write_error(run, error, folder) if error else ""


def write_error(run: Run, error: str, folder: Path) -> str:
    """Write in a result's place why there is none, with relative paths; returns it, also if it is not written.

    It is not if there is a result, which can only be another recipe's, or if it cannot be written.
    """
    error = with_relative_paths(error, folder)
    if read_result(folder / run.result) is not None:
        return error
    try:
        save_json(folder / run.result, {"cell": run.cell.name, "seed": run.seed, "error": error})
    except OSError as problem:
        error += f"; nor can {run.result} be written: {problem}"
    return error


def failure(script: str, code: int, run: Run, folder: Path) -> str:
    """Say how a script ended that wrote to a run's log; empty if well."""
    if code == 0:
        return ""
    return f"{script} ended with exit code {code}; the end of {run.log}:\n{end_of_log(folder / run.log)}"


def train_and_score(
    run: Run, device: Sequence[str], folder: Path, log: IO[bytes], company: Company
) -> Generator[str | None, None, str]:
    """Run a run's commands and gather what they wrote, the result last; returns what went wrong."""
    models, results = folder / run.models, (folder / run.result).parent
    error = yield from company.train(run, device, folder, log)
    if error:
        return error
    trained = time.monotonic()
    commands = scoring_commands(run, device)
    for command in commands:
        code = yield from execute(command, folder, log)
        if code != 0:
            return failure(command[0], code, run, folder)
    for number in range(1, len(commands)):
        path = picture_of(run, number).with_suffix(".json")
        copy_whole(folder / path, results / path.name)
    copy_whole(folder / run.curve, results / f"seed{run.seed}.csv")
    report = json.loads((models / f"res_test_seed{run.seed}.json").read_text(encoding="utf-8"))
    report.pop("wrong", None)  # long, and it stays in out_models
    since = time.monotonic() - trained  # the training may have had several sittings, which its checkpoint has added up
    report["wall_seconds"] = round(report["training_seconds"] + since, 2)
    report["command"] = [recorded(command) for command in (company.command(device), *commands)]
    save_json(folder / run.result, {"cell": run.cell.name, "seed": run.seed, **report})
    return ""


def finish(run: Run, device: Sequence[str], folder: Path) -> str:
    """Do one run from its beginning to its end; this is what a node of a cluster does."""
    with closing(work_on(run, device, folder)) as work:
        while True:
            try:
                next(work)
            except StopIteration as end:
                return str(end.value)
            time.sleep(TICK)
