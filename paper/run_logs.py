"""What a run leaves while it goes on: its learning curve says how far it has come, its log how a command ended."""

import os
from pathlib import Path
from typing import NamedTuple

from common.learning_curve import read_rows

TAIL_LINES = 12  # of a failed run's log
TAIL_BYTES = 20_000  # more than test.py prints


class Progress(NamedTuple):
    """How far a run has come."""

    fraction: float  # of the training
    seconds: float  # of training so far, earlier sittings included
    shown: str


def progress_of(curve: Path, num_episodes: int) -> Progress:
    """Tell from a run's learning curve how far it has come, of so many episodes."""
    try:
        row = read_rows(curve)[-1]
    except (OSError, ValueError, IndexError):  # not there yet, or just being written
        row = {}
    episode, seconds, accuracy = (row.get(name) for name in ("episode", "seconds", "generalize"))
    if not episode or seconds is None:
        return Progress(0.0, 0.0, "starting")
    if episode >= num_episodes:
        return Progress(1.0, 0.0, "scoring")
    left = seconds * (num_episodes - episode) / episode
    shown = (
        f"episode {episode:>5.0f} {100 * episode // num_episodes:>3.0f}%, {duration(left):>7} left,"
        f" ValAccGeneralize {'n/a' if accuracy is None else f'{accuracy:.1f}'}"
    )
    return Progress(episode / num_episodes, seconds, shown)


def duration(seconds: float) -> str:
    """Write a time for people."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}h {minutes % 60}m" if minutes >= 60 else f"{minutes}m {seconds}s"


def end_of_log(path: Path) -> str:
    """Give the last lines that the last command printed, indented; empty if there is no such log."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = log.read().decode(errors="replace")
    except OSError:
        return ""
    lines = tail.rpartition("\n$ ")[2].partition("\n")[2].strip().splitlines()
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


def log_size(path: Path) -> int:
    """Give the bytes of a log; it grows once a run is in progress."""
    return path.stat().st_size if path.exists() else 0
