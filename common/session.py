"""A limited time on a machine: commands that keep to it, and a log of what they print."""

import argparse
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from common.command_line import folder_path, name_list, natural_int, positive_float
from common.errors import UserError
from common.provenance import COMMIT_VARIABLE
from common.run_loop import signals_handled

HERE = Path(__file__).resolve().parents[1]
PACKING_SECONDS = 30.0  # kept for the end
TICK = 0.1  # seconds from one look at a command to the next
PATIENCE = 15.0  # seconds that a command gets to end when it is told to


def add_session_options(parser: argparse.ArgumentParser, parts: Sequence[str]) -> None:
    """Add --out, --minutes, --gpu, --commit, and --parts, of which the parts are all."""
    parser.add_argument("--out", type=folder_path, required=True, metavar="DIR", help="where everything is written")
    help_text = "after which nothing new is begun and what runs is stopped"
    parser.add_argument("--minutes", type=positive_float, default=9.0, metavar="M", help=help_text)
    parser.add_argument("--gpu", type=natural_int, default=0, metavar="N", help="which GPU")
    parser.add_argument("--commit", metavar="HASH", help="of the code, if this is no checkout of git's")
    parser.add_argument(
        "--parts",
        type=lambda text: name_list("part", text, parts),
        default=list(parts),
        metavar="PART,...",
        help=f"of {', '.join(parts)}",
    )


class Session:
    """The time that there is, and commands that keep to it."""

    def __init__(self, args: argparse.Namespace, log: TextIO) -> None:
        self.gpu, self.out, self._commit = str(args.gpu), args.out, args.commit
        self._log, self._lock = log, threading.Lock()
        self._started = time.monotonic()
        self.deadline: float = self._started + 60 * args.minutes - PACKING_SECONDS

    @property
    def left(self) -> float:
        """Seconds for further work."""
        return self.deadline - time.monotonic()

    def say(self, text: str) -> None:
        """Print and log, with the seconds since the start in front."""
        with self._lock:
            line = f"[{time.monotonic() - self._started:5.0f} s] {text}"
            print(line, flush=True)
            print(line, file=self._log, flush=True)

    def run(self, arguments: Sequence[str], seconds: float) -> float | None:
        """Run a command of Python's until it ends or the time is over; says what it printed.

        Returns:
            How many seconds it took, None if it failed or was stopped.
        """
        seconds = min(seconds, self.left)
        shown = f"python {' '.join(arguments)}"
        if seconds <= 0:
            self.say(f"no time for {shown}")
            return None
        path = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
        if self._commit is not None:
            environment[COMMIT_VARIABLE] = self._commit
        began = time.monotonic()
        end = began + seconds
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.out,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a Ctrl-C is for us alone; we stop the process
        )
        printed = None
        while printed is None:
            try:
                printed, _ = process.communicate(timeout=TICK)
            except subprocess.TimeoutExpired:
                if time.monotonic() >= min(end, self.deadline):
                    printed = _stopped(process)
            except BaseException:
                _stopped(process)
                raise
        took = time.monotonic() - began
        self.say(f"{shown}\n{printed.rstrip()}\n    exit code {process.returncode} after {took:.0f} s")
        return took if process.returncode == 0 else None


def _stopped(process: "subprocess.Popen[str]") -> str:
    """Tell a command to end, and see to it; returns what it printed."""
    process.terminate()  # the training scripts keep what they have
    try:
        printed, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
    return printed


@contextmanager
def logged_session(args: argparse.Namespace) -> Iterator[Session]:
    """Begin in a folder that is new or an earlier call's, whose log grows.

    After Ctrl-C or SIGTERM the time is over: what runs is stopped, nothing further is begun, what there is is packed.
    """
    args.out.mkdir(parents=True, exist_ok=True)
    seen: list[int] = []
    with (args.out / "log.txt").open("a", encoding="utf-8") as log:
        session = Session(args, log)

        def end_now(number: int, _: FrameType | None) -> None:
            seen.append(number)
            session.deadline = -math.inf

        with signals_handled((signal.SIGINT, signal.SIGTERM), end_now):
            yield session
    if seen:
        sys.exit(128 + seen[0])


def check_folder(out: Path) -> None:
    """Make sure that nothing is mixed up with other files.

    Raises:
        UserError: if the folder is neither empty nor of an earlier call.
    """
    if out.exists() and any(out.iterdir()) and not (out / "log.txt").exists():
        raise UserError(f"{out} is neither empty nor of an earlier call; name another folder")
