"""Processes of the project's scripts that end when we do, locks on their logs, and signals that tear nothing."""

import ctypes
import fcntl
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from common.run_loop import signals_handled

HERE = Path(__file__).resolve().parents[1]  # where train.py and test.py are
TICK = 0.2  # seconds between two looks at the processes
PATIENCE = 10.0  # seconds that a process gets to end when it is told to
PR_SET_PDEATHSIG = 1  # prctl(2)


def recorded(command: Sequence[str]) -> str:
    """Write a command as a user in the project's folder types it, wherever that is and wherever the command ran."""
    return shlex.join(["python", *command])


def typed(command: Sequence[str], folder: Path) -> str:
    """Write a command as a user in `folder` types it."""
    script, *arguments = command
    return shlex.join(["python", os.path.relpath(HERE / script, folder), *arguments])


def with_relative_paths(text: str, folder: Path) -> str:
    """Shorten the paths in a text that lie in the project's folder or in this one."""
    return text.replace(f"{HERE}{os.sep}", "").replace(f"{folder}{os.sep}", "")


def wait_for_lock(log: IO[bytes]) -> Generator[str | None, None, None]:
    """Wait until no other process works on the run whose log this is; the first yield says so, for people.

    The processes that write to a log share the lock on it, so it also keeps us from a train.py that outlived the
    process that had started it. Some network file systems have no locks; there it is up to the user.
    """
    note: str | None = "waits until another process that works on it has ended"
    while True:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield note
            note = None
        except OSError:
            return
        else:
            return


def execute(command: Sequence[str], folder: Path, log: IO[bytes]) -> Generator[str | None, None, int]:
    """Run a script as a process that writes to the log, and return its exit code; closing stops the process."""
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
        while process.poll() is None:
            yield None
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


@contextmanager
def noticed_signals() -> Iterator[Callable[[], None]]:
    """Take down Ctrl-C, SIGTERM and a closed terminal; gives what raises KeyboardInterrupt if there was one.

    So nothing is torn: when the interrupt is raised, every process that was started is known.
    """
    seen: list[int] = []

    def check() -> None:
        if seen:
            raise KeyboardInterrupt("interrupted; the same command goes on from the last checkpoints")

    with signals_handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), lambda number, _: seen.append(number)):
        yield check
