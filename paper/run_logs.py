"""What the log of a run tells: how far the run has come, and how its last command ended."""

import os
import re
from pathlib import Path
from typing import NamedTuple

SEE = "see "  # in place of a command: the log of the run that this one is trained with follows
TAIL_LINES = 12  # of a failed run's log
TAIL_BYTES = 20_000  # more than test.py prints

LOG_LINE = re.compile(
    r"^(?:seed \d+: )?(?P<minutes>\d+)m (?P<seconds>\d+)s \(- (?P<left>\d+m \d+s)\) "
    r"\((?P<episode>\d+) (?P<percent>\d+)% finished\) .*ValAccGeneralize: (?P<accuracy>\S+)$",
    re.MULTILINE,
)


class Progress(NamedTuple):
    """How far a run has come, as its log tells."""

    fraction: float  # of the training
    seconds: float  # of training so far, earlier sittings included
    shown: str


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
        command, printed = last_command(path.with_name(command.removeprefix(SEE)))
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


def log_size(path: Path) -> int:
    """Give the bytes of a log; it grows once a run is in progress."""
    return path.stat().st_size if path.exists() else 0
