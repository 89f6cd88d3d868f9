"""Run the paper's whole evaluation: every cell of the table with five seeds, here or on a Ray cluster.

    python -m paper.reproduce                                         all runs that have no result yet
    python -m paper.reproduce --only me,jump_perm --seeds 1,2 --jobs 2
    python -m paper.reproduce --dry_run                               print the command lines instead

A run is one cell with one seed: train.py, then test.py, as processes of their own. They write to out_models/<cell>/,
and what they print goes to seed<k>.log there. The result is results/<cell>/seed<k>.json, the learning curve the .csv
beside it. Stopped at any point, the same command goes on from the last checkpoints and repeats no finished run. Where a
result was trained with another recipe than its cell's, such as one from before Adam started anew when the learning rate
drops, the run is done anew and replaces it.
"""

import argparse
import ctypes
import fcntl
import json
import logging
import math
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, Any, NamedTuple

from common.command_line import OneLineParser, natural_int, positive_float, positive_int, run_script, seed_list
from common.files import save_json, written_whole
from paper.cells import CELLS, Cell, unlike_recipe

HERE = Path(__file__).resolve().parents[1]
SEEDS = (1, 2, 3, 4, 5)  # the paper's means are over five runs
PICTURES = {  # the paper's example queries (Figures A.1 and A.2), by cell and seed
    ("me", 1): ("lug zup lug wif dax zup", "lug dax dax wif lug"),
    ("jump_perm", 1): ("walk left after run right thrice",),
}
TICK = 0.2  # seconds between two looks at the processes
REDRAW_EVERY = 1.0  # seconds, on a terminal
PRINT_EVERY = 60.0  # seconds, elsewhere
PATIENCE = 10.0  # seconds that a process gets to end when it is told to
NODE_DEATHS = 10  # that a run survives on a cluster
SEE = "see "  # in place of a command: the log of the run that this one is trained with follows
TAIL_LINES = 12  # of a failed run's log
TAIL_BYTES = 20_000  # more than test.py prints
PR_SET_PDEATHSIG = 1  # prctl(2)


class Run(NamedTuple):
    """One cell with one seed. Paths are relative to the folder in which everything happens."""

    cell: Cell
    seed: int

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
    def result(self) -> Path:
        """The result, or why there is none."""
        return Path("results") / self.cell.name / f"seed{self.seed}.json"


class Progress(NamedTuple):
    """How far a run has come, as its log tells."""

    fraction: float  # of the training
    seconds: float  # of training so far, earlier sittings included
    shown: str


def read_result(path: Path) -> dict[str, Any] | None:
    """Read a run's result; None if there is none, if the run failed, or if the file is damaged."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return contents if isinstance(contents, dict) and contents.get("accuracy") is not None else None


def result_of(run: Run, folder: Path) -> dict[str, Any] | None:
    """Read the result of a run; None also if what is there was trained with another recipe than the cell's."""
    result = read_result(folder / run.result) or {}
    arguments = result.get("arguments")
    return result if isinstance(arguments, dict) and not unlike_recipe(run.cell, arguments) else None


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file; the copy is there whole or not at all."""
    with written_whole(target) as file:
        file.write(source.read_bytes())


# Options


def parse_arguments(cells: Mapping[str, Cell]) -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    group = parser.add_argument_group("what to run")
    group.add_argument(
        "--only",
        type=lambda text: names_of_cells(text, cells),
        metavar="CELL,...",
        help=f"these cells: {', '.join(cells)} (default: all)",
    )
    group.add_argument("--seeds", type=seed_list, metavar="K,...", help="these seeds (default: 1,2,3,4,5)")
    group.add_argument("--dry_run", action="store_true", help="print the command lines, one run a line, and do nothing")
    group = parser.add_argument_group("on this machine", "The first GPU if there is one, else the CPU.")
    group.add_argument("--jobs", type=positive_int, metavar="N", help="runs at once; they share the cores (default: 1)")
    which = group.add_mutually_exclusive_group()
    told = "use GPU N for all runs; those of a cell are trained in lock step and count as one job"
    which.add_argument("--gpu", type=natural_int, metavar="N", help=told)
    which.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    group = parser.add_argument_group("on a Ray cluster", "Its nodes share this folder; see the README.")
    group.add_argument("--ray", metavar="ADDRESS", help="send the runs there: HOST:PORT of the head node, or auto")
    group.add_argument("--cpus_per_run", type=positive_float, metavar="C", help="cores for each run (default: 1)")
    group.add_argument(
        "--gpus_per_run",
        type=positive_float,
        metavar="G",
        help="GPUs for each run; 0.25 puts four on one (default: none)",
    )
    args = parser.parse_args()
    args.only, args.seeds = args.only or list(cells), args.seeds or list(SEEDS)
    for option in ("jobs", "gpu", "cpu") if args.ray else ("cpus_per_run", "gpus_per_run"):
        if not any(getattr(args, option) is unset for unset in (None, False)):
            parser.error(f"--{option} goes {'without' if args.ray else 'with'} --ray")
    return args


def names_of_cells(text: str, cells: Iterable[str]) -> list[str]:
    """Parse the names of cells, with commas between them."""
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in cells:
            raise argparse.ArgumentTypeError(f"no cell {name!r}; the cells are {', '.join(cells)}")
    return names


def select_runs(cells: Mapping[str, Cell], names: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """List the runs in their order: the first seed of every cell before any second one, cheap cells first."""
    runs = [Run(cells[name], seed) for name in names for seed in seeds]
    return sorted(runs, key=lambda run: (run.seed, run.cell.cost))


def device_flags(args: argparse.Namespace) -> list[str]:
    """Options that tell train.py and test.py where to run; runs side by side share the cores.

    Commands that are only printed may run anywhere, so this machine's cores say nothing about them.
    """
    if args.ray:  # a node's Ray shows a run the GPUs that it may use
        return ["--threads", str(max(1, int(args.cpus_per_run or 1))), *([] if args.gpus_per_run else ["--cpu"])]
    flags = []
    if args.jobs or not args.dry_run:
        n_cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        flags = ["--threads", str(max(1, n_cores // (args.jobs or 1)))]
    if args.gpu is not None:
        flags += ["--gpu", str(args.gpu)]
    return flags + ["--cpu"] * args.cpu


# One run


def training_command(runs: Sequence[Run], device: Sequence[str]) -> list[str]:
    """Put together what trains runs of one cell, from the script's name on."""
    seeds = ",".join(str(run.seed) for run in runs)
    which = ["--seeds", seeds] if len(runs) > 1 else ["--seed", seeds]
    name = "net_seed{seed}.tar" if len(runs) > 1 else f"net_seed{seeds}.tar"
    models = ["--dir_model", str(runs[0].models), "--fn_out_model", name]
    return ["train.py", *runs[0].cell.flags, *which, *models, *device]


def scoring_commands(run: Run, device: Sequence[str]) -> list[list[str]]:
    """Put together what scores a trained run and draws its pictures."""
    test = ["test.py", "--fn_in_model", f"net_seed{run.seed}.tar", "--dir_model", str(run.models), *device]
    queries = PICTURES.get((run.cell.name, run.seed), ())
    return [test, *([*test, "--plot_attention", query] for query in queries)]


def all_commands(runs: Sequence[Run], device: Sequence[str]) -> list[list[str]]:
    """Put together all that is to be done for runs of one cell that one process trains."""
    return [training_command(runs, device), *(command for run in runs for command in scoring_commands(run, device))]


def typed(command: Sequence[str], folder: Path) -> str:
    """Write a command as a user in `folder` types it."""
    script, *arguments = command
    return shlex.join(["python", os.path.relpath(HERE / script, folder), *arguments])


class Company:
    """Runs of one cell that one process trains, on a GPU in lock step; each is a generator of its own, see `work_on`.

    The process starts once every run has come or is known not to need training.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._expected, self._here = set(runs), list[Run]()
        self._code: int | None = None  # of the process, once it has ended

    def go_without(self, run: Run) -> None:
        """A run needs no training, or none any more."""
        self._expected.discard(run)

    def command(self, device: Sequence[str]) -> list[str]:
        """What trains the runs that have come."""
        return training_command(self._here, device)

    def train(self, run: Run, device: Sequence[str], folder: Path, log: IO[bytes]) -> Generator[None, None, str]:
        """Train this run with the others; returns what went wrong."""
        self._here.append(run)
        self._expected.discard(run)
        first = self._here[0]
        if run is not first:
            log.write(f"\n$ {SEE}{first.log.name}\n".encode())
            log.flush()
        while self._expected or (run is not first and self._code is None):
            yield
        if run is first:
            try:
                self._code = yield from execute(self.command(device), folder, log)
            finally:
                self._code = 1 if self._code is None else self._code
        return failure("train.py", self._code or 0, first, folder)


def work_on(
    run: Run, device: Sequence[str], folder: Path, company: Company | None = None
) -> Generator[None, None, str]:
    """Train, score, and write the result or the error; yields while it waits.

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
    error = error.replace(f"{HERE}{os.sep}", "").replace(f"{folder}{os.sep}", "")
    if read_result(folder / run.result) is not None:
        return error
    try:
        save_json(folder / run.result, {"cell": run.cell.name, "seed": run.seed, "error": error})
    except OSError as problem:
        error += f"; nor can {run.result} be written: {problem}"
    return error


def wait_for_lock(log: IO[bytes]) -> Generator[None, None, None]:
    """Wait until no other process works on the run whose log this is.

    The processes that write to a log share the lock on it, so it also keeps us from a train.py that outlived the
    process that had started it. Some network file systems have no locks; there it is up to the user.
    """
    while True:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield
        except OSError:
            return
        else:
            return


def failure(script: str, code: int, run: Run, folder: Path) -> str:
    """Say how a script ended that wrote to a run's log; empty if well."""
    if code == 0:
        return ""
    return f"{script} ended with exit code {code}; the end of {run.log}:\n{end_of_log(folder / run.log)}"


def train_and_score(
    run: Run, device: Sequence[str], folder: Path, log: IO[bytes], company: Company
) -> Generator[None, None, str]:
    """Run a run's commands and gather what they wrote, the result last; returns what went wrong."""
    models, results = folder / run.models, (folder / run.result).parent
    error = yield from company.train(run, device, folder, log)
    trained = time.monotonic()
    commands = scoring_commands(run, device)
    n_pictures = 0
    if error:
        return error
    for command in commands:
        code = yield from execute(command, folder, log)
        if code != 0:
            return failure(command[0], code, run, folder)
        if "--plot_attention" in command:  # each writes over the one before
            n_pictures += 1
            name = f"attention_seed{run.seed}"
            copy_whole(models / f"{name}.json", results / f"{name}_{n_pictures}.json")
    copy_whole(models / f"net_seed{run.seed}.csv", results / f"seed{run.seed}.csv")
    report = json.loads((models / f"res_test_seed{run.seed}.json").read_text(encoding="utf-8"))
    report.pop("wrong", None)  # long, and it stays in out_models
    since = time.monotonic() - trained  # the training may have had several sittings, which its checkpoint has added up
    report["wall_seconds"] = round(report["training_seconds"] + since, 2)
    report["command"] = [typed(command, folder) for command in (company.command(device), *commands)]
    save_json(folder / run.result, {"cell": run.cell.name, "seed": run.seed, **report})
    return ""


def execute(command: Sequence[str], folder: Path, log: IO[bytes]) -> Generator[None, None, int]:
    """Run a script as a process that writes to the log, and return its exit code; closing stops the process."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    log.write(f"\n# {now} on {platform.node()}\n$ {typed(command, folder)}\n".encode())
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
        while process.poll() is None:
            yield
    finally:
        stop(process)
    return process.returncode


def ending_with_us() -> Callable[[], object] | None:
    """Make what a new process has to do to end when this one does, even if this one is killed (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process if it still runs."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# What a log tells

LOG_LINE = re.compile(
    r"^(?:seed \d+: )?(?P<minutes>\d+)m (?P<seconds>\d+)s \(- (?P<left>\d+m \d+s)\) "
    r"\((?P<episode>\d+) (?P<percent>\d+)% finished\) .*ValAccGeneralize: (?P<accuracy>\S+)$",
    re.MULTILINE,
)


def last_command(path: Path) -> tuple[str, str]:
    """Read a log from the last command on: the command and what it printed; empty if there is no such log."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = log.read().decode(errors="replace")
    except OSError:
        return "", ""
    command, _, printed = tail.rpartition("\n$ ")[2].partition("\n")
    return command, printed


def end_of_log(path: Path) -> str:
    """Give the last lines that the last command printed, indented."""
    lines = last_command(path)[1].strip().splitlines()
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


def progress_of(path: Path) -> Progress:
    """Tell from its log how far a run has come."""
    command, printed = last_command(path)
    if command.startswith(SEE):
        return progress_of(path.with_name(command.removeprefix(SEE)))
    lines = list(LOG_LINE.finditer(printed))
    if "test.py" in command:
        return Progress(1.0, 0.0, "scoring")
    if not lines:
        return Progress(0.0, 0.0, "starting")
    line = lines[-1]
    shown = (
        f"episode {line['episode']:>5} {line['percent']:>3}%, {line['left']:>7} left,"
        f" ValAccGeneralize {line['accuracy']}"
    )
    return Progress(int(line["percent"]) / 100, int(line["minutes"]) * 60 + int(line["seconds"]), shown)


# What is shown


class Board:
    """The runs of a sitting and what is shown of them: a line per run in progress and one for the total.

    On a terminal the lines are redrawn in place; elsewhere they are printed now and then. What begins, ends or fails is
    printed at once.
    """

    def __init__(self, runs: Iterable[Run], n_before: int, folder: Path) -> None:
        """Start with all runs waiting, but for `n_before` that had a result."""
        self.waiting, self.running = list(runs), list[Run]()
        self.finished, self.failed = list[Run](), dict[Run, str]()
        self._n_before, self._folder = n_before, folder
        self._spent: list[tuple[float, float]] = []  # cost and seconds of the runs finished here
        self._started = time.monotonic()
        self._shown = -math.inf
        self._n_drawn = 0  # lines on the terminal that the next ones replace
        self._stream = sys.stdout
        self._is_terminal = self._stream.isatty()

    def begin(self, run: Run) -> None:
        """A run is in progress now."""
        self.waiting.remove(run)
        self.running.append(run)
        self.say(f"started {run.name}")

    def end(self, run: Run, error: str) -> None:
        """A run is over, well if there is no error."""
        (self.running if run in self.running else self.waiting).remove(run)
        if error:
            self.failed[run] = error
            self.say(f"failed {run.name}: {error}")
            return
        self.finished.append(run)
        result = result_of(run, self._folder) or {}
        if result.get("training_seconds"):
            self._spent.append((run.cell.cost, result["training_seconds"]))
        score = f"{result.get('accuracy', math.nan):.2f} % ({result.get('correct')} of {result.get('total')})"
        self.say(f"finished {run.name}: {score} of the test right")

    def say(self, text: str) -> None:
        """Print something that stays, then show the total anew."""
        self._erase()
        self._print(text)
        if self._is_terminal:
            self._shown = -math.inf
        else:
            self._print(self._total({run: progress_of(self._folder / run.log) for run in self.running}))

    def show(self) -> None:
        """Show the lines if it is time to."""
        if time.monotonic() - self._shown < (REDRAW_EVERY if self._is_terminal else PRINT_EVERY):
            return
        self._shown = time.monotonic()
        progress = {run: progress_of(self._folder / run.log) for run in self.running}
        width = max((len(run.name) for run in self.running), default=0)
        lines = [f"{run.name:<{width}}  {progress[run].shown}" for run in self.running]
        self._draw(lines, self._total(progress))

    def summary(self) -> str:
        """What has become of the runs, with the errors of those that failed."""
        lines = [f"failed {run.name}: {error}" for run, error in self.failed.items()]
        return "\n".join([*lines, f"{self._count()}, {len(self.failed)} failed"])

    def _draw(self, lines: Sequence[str], total: str) -> None:
        """Print the lines, on a terminal over the earlier ones and as many as it holds."""
        if self._is_terminal:
            self._erase()
            width, height = shutil.get_terminal_size()
            lines = [line[: width - 1] for line in lines[: height - 2]]
            total = total[: width - 1]
            self._n_drawn = len(lines) + 1
        self._print("\n".join([*lines, total]))

    def _erase(self) -> None:
        """Take the lines from the terminal."""
        if self._n_drawn:
            self._print(f"\x1b[{self._n_drawn}A\x1b[J", end="")
            self._n_drawn = 0

    def _print(self, text: str, end: str = "\n") -> None:
        """Print where the board was made, wherever others are told to print."""
        print(text, end=end, file=self._stream, flush=True)

    def _total(self, progress: Mapping[Run, Progress]) -> str:
        """Sum up; the time left is guessed from the cells' costs and the pace of the runs so far."""
        parts = [self._count(), f"{len(self.running)} running", f"{len(self.waiting)} waiting"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        shown = f"{', '.join(parts)}; {duration(time.monotonic() - self._started)} so far"
        ahead = sum(run.cell.cost for run in self.waiting)
        done, seconds = map(sum, zip(*self._spent, strict=True)) if self._spent else (0.0, 0.0)
        for run, one in progress.items():
            ahead += run.cell.cost * (1 - one.fraction)
            if one.seconds:
                done, seconds = done + run.cell.cost * one.fraction, seconds + one.seconds
        if done:
            shown += f", {duration(ahead * seconds / done / max(1, len(self.running)))} left"
        return shown

    def _count(self) -> str:
        """How many runs have a result."""
        n_results = self._n_before + len(self.finished)
        n_all = n_results + len(self.failed) + len(self.running) + len(self.waiting)
        return f"{n_results} of {n_all} runs done"


def duration(seconds: float) -> str:
    """Write a time for people."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}h {minutes % 60}m" if minutes >= 60 else f"{minutes}m {seconds}s"


# Where the runs go


@contextmanager
def noticed_signals() -> Iterator[Callable[[], None]]:
    """Take down Ctrl-C, SIGTERM and a closed terminal; gives what raises KeyboardInterrupt if there was one.

    So nothing is torn: when the interrupt is raised, every process that was started is known.
    """
    seen: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup leaves them
            signal.signal(number, lambda number, _: seen.append(number))

    def check() -> None:
        if seen:
            raise KeyboardInterrupt("interrupted; the same command goes on from the last checkpoints")

    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def companies(runs: Sequence[Run], in_lock_step: bool) -> list[list[Run]]:
    """Say which runs one process trains, each its own or, in lock step, all of a cell; the first one's place counts."""
    together: dict[Any, list[Run]] = {}
    for run in runs:
        together.setdefault(run.cell if in_lock_step else run, []).append(run)
    return list(together.values())


def run_here(groups: Iterable[list[Run]], jobs: int, device: Sequence[str], board: Board, folder: Path) -> None:
    """Do the runs on this machine, some groups at once."""
    waiting, active = deque(groups), list[dict[Run, Generator[None, None, str]]]()
    with noticed_signals() as check:
        try:
            while waiting or active:
                check()
                while waiting and len(active) < jobs:
                    group = waiting.popleft()
                    company = Company(group)
                    active.append({run: work_on(run, device, folder, company) for run in group})
                    for run in group:
                        board.begin(run)
                for works in active:
                    for run, work in list(works.items()):
                        try:
                            next(work)
                        except StopIteration as end:
                            del works[run]
                            board.end(run, end.value)
                active = [works for works in active if works]
                board.show()
                time.sleep(TICK)
        finally:
            for work in (work for works in active for work in works.values()):
                work.close()


def finish(run: Run, device: Sequence[str], folder: Path) -> str:
    """Do one run from its beginning to its end; this is what a node of a cluster does."""
    with closing(work_on(run, device, folder)) as work:
        while True:
            try:
                next(work)
            except StopIteration as end:
                return str(end.value)
            time.sleep(TICK)


@contextmanager
def joined_cluster(address: str, folder: Path) -> Iterator[Any]:
    """Be the driver of a Ray cluster; gives the package. What Ray prints meanwhile goes to out_models/ray.log.

    Raises:
        ValueError: if Ray is not installed, or if there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("--ray needs Ray; install it with `pip install -r requirements-cluster.txt`") from None
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"--ray {address}: cannot join a cluster there: {error}; `ray start` starts one") from None
    notes = folder / "out_models" / "ray.log"
    notes.parent.mkdir(parents=True, exist_ok=True)
    with notes.open("a", buffering=1, encoding="utf-8") as file, redirect_stdout(file):
        try:
            yield ray
        finally:
            ray.shutdown()


def run_on_ray(runs: Sequence[Run], args: argparse.Namespace, board: Board, folder: Path) -> None:
    """Send the runs to a Ray cluster whose nodes share the folder; a run whose node dies goes on at another one."""
    with joined_cluster(args.ray, folder) as ray, noticed_signals() as check:
        there = ray.cluster_resources()
        board.say(f"{len(runs)} runs for {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs")
        demand = {"num_cpus": args.cpus_per_run or 1.0, "num_gpus": args.gpus_per_run or 0.0}
        task = ray.remote(**demand, max_retries=NODE_DEATHS)(finish)
        sizes = {run: log_size(folder / run.log) for run in runs}
        tasks = {task.options(name=run.name).remote(run, device_flags(args), folder): run for run in runs}
        try:
            while tasks:
                check()
                for done in ray.wait(list(tasks), timeout=TICK)[0]:
                    run = tasks.pop(done)
                    board.end(run, outcome(ray, done, run, folder))
                for run in board.waiting[:]:
                    if log_size(folder / run.log) > sizes[run]:
                        board.begin(run)
                board.show()
        finally:
            for one in tasks:
                ray.cancel(one)  # its node stops the process
            if tasks:
                ray.wait(list(tasks), num_returns=len(tasks), timeout=PATIENCE)


def log_size(path: Path) -> int:
    """Give the bytes of a log; it grows once a run is in progress."""
    return path.stat().st_size if path.exists() else 0


def outcome(ray: Any, done: Any, run: Run, folder: Path) -> str:
    """Say what went wrong with a run that is over: what its node says, or what became of the node."""
    try:
        return str(ray.get(done))
    except ray.exceptions.RayError as error:
        return "" if result_of(run, folder) else write_error(run, f"{type(error).__name__}: {error}", folder)


def main(cells: Mapping[str, Cell] = CELLS) -> None:
    """Do, or print, what has no result yet; exits with 1 if a run failed."""
    args = parse_arguments(cells)
    folder = Path.cwd()
    selected = select_runs(cells, args.only, args.seeds)
    runs = [run for run in selected if result_of(run, folder) is None]
    if args.dry_run:
        for group in companies(runs, in_lock_step=args.gpu is not None):
            print(" && ".join(typed(command, folder) for command in all_commands(group, device_flags(args))))
        return
    board = Board(runs, len(selected) - len(runs), folder)
    if args.ray and runs:
        run_on_ray(runs, args, board, folder)
    elif runs:
        groups = companies(runs, in_lock_step=args.gpu is not None)
        run_here(groups, args.jobs or 1, device_flags(args), board, folder)
    print(board.summary())
    if board.failed:
        sys.exit(1)


if __name__ == "__main__":
    run_script(main)
