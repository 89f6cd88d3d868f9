"""One run: a cell with a seed. The commands that do it, the processes, and the result that it leaves.

Several runs of a cell may share one training process, as they do on a GPU.
"""

import ctypes
import fcntl
import itertools
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

from common.errors import UserError
from common.files import read_json_object, save_bytes, save_json
from paper.cells import Cell, unlike_recipe

HERE = Path(__file__).resolve().parents[1]  # where train.py and test.py are
RESULTS = Path("my_results")  # where results go unless told otherwise; results/ are those that come with the code
PICTURES = {  # the paper's example queries (Figures A.1 and A.2), by cell and seed
    ("me", 1): ("lug zup lug wif dax zup", "lug dax dax wif lug"),
    ("jump_perm", 1): ("walk left after run right thrice",),
}
TICK = 0.2  # seconds between two looks at what is in progress
TAIL_LINES = 12  # of a failed run's log
PR_SET_PDEATHSIG = 1  # prctl(2)

Check = Callable[[], None]
"""Raises KeyboardInterrupt if everything is to stop."""
Say = Callable[[str], None]


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
    def result(self) -> Path:
        """The result, or why there is none."""
        return self.results_dir / self.cell.name / f"seed{self.seed}.json"


def unlike(run: Run, result: Mapping[str, Any]) -> str:
    """Say why a result is not this run's, such as one of another recipe or without an accuracy; empty if it is."""
    arguments = result.get("arguments")
    if not isinstance(result.get("accuracy"), int | float):
        return "it has no accuracy"
    if not isinstance(arguments, dict) or arguments.get("seed", run.seed) != run.seed:
        return f"it is not of seed {run.seed}"
    names = unlike_recipe(run.cell, arguments)
    return f"it was trained with another {', '.join(f'--{name}' for name in names)} than the cell's" if names else ""


def result_of(run: Run, folder: Path) -> dict[str, Any] | None:
    """Read the result of a run; None if there is none, or if what is there is not this run's."""
    try:
        result = read_json_object(folder / run.result)
    except OSError:
        return None
    return None if result is None or unlike(run, result) else result


def training_command(runs: Sequence[Run], device: Sequence[str]) -> list[str]:
    """Put together what trains runs of one cell, from the script's name on."""
    seeds = ",".join(str(run.seed) for run in runs)
    which = ["--seeds", seeds] if len(runs) > 1 else ["--seed", seeds]
    name = "net_seed{seed}.tar" if len(runs) > 1 else f"net_seed{seeds}.tar"
    models = ["--dir_model", str(runs[0].models), "--fn_out_model", name]
    return ["train.py", *shlex.split(runs[0].cell.flags), *which, *models, *device]


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


def recorded(command: Sequence[str]) -> str:
    """Write a command as a user in the project's folder types it, wherever that is and wherever the command ran."""
    return shlex.join(["python", *command])


def typed(runs: Sequence[Run], device: Sequence[str], folder: Path) -> str:
    """Write all commands of runs that one process trains, as a user in `folder` types them."""
    commands = [training_command(runs, device), *(command for run in runs for command in scoring_commands(run, device))]
    return " && ".join(recorded([os.path.relpath(HERE / script, folder), *rest]) for script, *rest in commands)


def wait_for_lock(run: Run, log: IO[bytes], check: Check, say: Say) -> None:
    """Wait until no other process works on the run whose log this is.

    The processes that write to a log share the lock on it, so it also keeps us from a train.py that outlived the
    process that had started it. Some network file systems have no locks; there it is up to the user.
    """
    for n_looks in itertools.count():
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if n_looks == 0:
                say(f"{run.name} waits until another process that works on it has ended")
            check()
            time.sleep(TICK)
        except OSError:
            return None


def execute(command: Sequence[str], folder: Path, log: IO[bytes], check: Check) -> None:
    """Run a script as a process that writes to the log; where everything is to stop, tell the process once and wait.

    Raises:
        UserError: if it ends with an exit code other than 0.
    """
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    log.write(f"\n# {now} on {platform.node()}\n$ {recorded(command)}\n".encode())
    log.flush()
    process = subprocess.Popen(
        [sys.executable, str(HERE / command[0]), *command[1:]],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a Ctrl-C is for us alone; we stop the process
        preexec_fn=ending_with_us(),
    )
    try:
        while True:
            try:
                code = process.wait(TICK)
                break
            except subprocess.TimeoutExpired:
                check()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()  # however long it takes to save what it has
    if code != 0:
        path = Path(log.name)
        raise UserError(f"{command[0]} ended with exit code {code}; the end of {path}:\n{end_of_log(path)}")


def ending_with_us() -> Callable[[], object] | None:
    """Make what a new process has to do to end when this one does, even if this one is killed (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end_of_log(path: Path) -> str:
    """Give the last lines that the last command printed, indented."""
    lines = (
        path.read_text(encoding="utf-8", errors="replace").rpartition("\n$ ")[2].partition("\n")[2].strip().splitlines()
    )
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


def work_on(
    runs: Sequence[Run], device: Sequence[str], folder: Path, check: Check = lambda: None, say: Say = lambda _: None
) -> dict[Run, str]:
    """Train runs of one cell in one process, score each, and write its result or its error.

    Nothing is done for a run that has a result by the time no other process works on it. `check` is called now and
    then, and what it raises ends the work. Returns what went wrong with each run, empty if nothing did.
    """
    errors, left = dict.fromkeys(runs, ""), list(runs)
    try:
        with ExitStack() as stack:
            (folder / runs[0].models).mkdir(parents=True, exist_ok=True)
            logs = {run: stack.enter_context((folder / run.log).open("ab")) for run in runs}
            for run, log in logs.items():
                wait_for_lock(run, log, check, say)
            left = [run for run in runs if result_of(run, folder) is None]
            if left:
                command = training_command(left, device)
                for run in left[1:]:
                    logs[run].write(f"\ntrained with others, see {left[0].log.name}\n".encode())
                execute(command, folder, logs[left[0]], check)
                with ThreadPoolExecutor(len(left)) as pool:
                    scored = pool.map(lambda run: score(run, command, device, folder, logs[run], check), left)
                    errors.update(zip(left, scored, strict=True))
    except (OSError, ValueError) as problem:
        errors.update((run, write_error(run, problem, folder)) for run in left)
    return errors


def score(run: Run, training: Sequence[str], device: Sequence[str], folder: Path, log: IO[bytes], check: Check) -> str:
    """Score a run that was trained with a command and gather what it left, the result last; returns what went wrong."""
    started = time.monotonic()
    commands, results = scoring_commands(run, device), (folder / run.result).parent
    try:
        for command in commands:
            execute(command, folder, log, check)
        report = json.loads((folder / run.models / f"res_test_seed{run.seed}.json").read_text(encoding="utf-8"))
        problem = unlike(run, report)
        if problem:
            raise UserError(f"what test.py wrote is no result of this run: {problem}")
        pictures = [folder / picture_of(run, number).with_suffix(".json") for number in range(1, len(commands))]
        copies = {path.name: path for path in pictures} | {f"seed{run.seed}.csv": folder / run.curve}
        for name, path in copies.items():
            save_bytes(results / name, path.read_bytes())
        report.pop("wrong", None)  # long, and it stays in out_models
        spent = report["training_seconds"] + time.monotonic() - started  # of several sittings, perhaps
        added = {"wall_seconds": round(spent, 2), "command": [recorded(command) for command in (training, *commands)]}
        save_json(folder / run.result, {"cell": run.cell.name, "seed": run.seed, **report, **added})
    except (OSError, ValueError) as problem:
        return write_error(run, problem, folder)
    return ""


def write_error(run: Run, problem: Exception, folder: Path) -> str:
    """Write in a result's place why there is none, with relative paths; returns it, also if it is not written.

    It is not if there is a result, which can only be another recipe's, or if it cannot be written.
    """
    error = str(problem) if isinstance(problem, UserError) else f"{type(problem).__name__}: {problem}"
    for place in (HERE, folder):
        error = error.replace(f"{place}{os.sep}", "")
    try:
        path = folder / run.result
        earlier = read_json_object(path) if path.exists() else None
        if earlier is None or earlier.get("accuracy") is None:
            save_json(path, {"cell": run.cell.name, "seed": run.seed, "error": error})
    except OSError as other:
        error += f"; nor can {run.result} be written: {other}"
    return error
