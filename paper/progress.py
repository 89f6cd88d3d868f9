"""What is told of a grid of runs: a line when one begins or ends, and one a minute about all of them."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common.learning_curve import read_rows
from paper.cells import recipe_of
from paper.runs import Run, result_of

SHOW_EVERY = 60.0  # seconds


class Progress:
    """What became of the runs of a sitting; several threads may tell of theirs."""

    def __init__(self, runs: Sequence[Run], n_before: int, folder: Path) -> None:
        """Start with all runs waiting, except `n_before` that had a result."""
        self.errors: dict[Run, str] = {}
        self._running, self._n_done, self._n_runs = list[Run](), n_before, n_before + len(runs)
        self._folder = folder
        self._started = self._shown = time.monotonic()
        self._stream = sys.stdout  # also where others are told to print elsewhere

    def begin(self, run: Run) -> None:
        """A run is in progress now."""
        self._running.append(run)
        self.say(f"started {run.name}")

    def end(self, run: Run, error: str) -> None:
        """A run is over, well if there is no error."""
        if run in self._running:
            self._running.remove(run)
        result = result_of(run, self._folder)
        if error or result is None:
            self.errors[run] = error or f"it left no result in {run.result}"
            self.say(f"failed {run.name}: {self.errors[run]}")
        else:
            self._n_done += 1
            score = f"{result['accuracy']:.2f} % ({result['correct']} of {result['total']})"
            self.say(f"finished {run.name}: {score} of the test right")

    def say(self, text: str) -> None:
        """Print something, in one piece."""
        print(f"{text}\n", end="", file=self._stream, flush=True)

    def show(self) -> None:
        """Print how far everything has come, once a minute."""
        if time.monotonic() - self._shown < SHOW_EVERY:
            return
        self._shown = time.monotonic()
        hours, minutes = divmod(int(self._shown - self._started) // 60, 60)
        running = list(self._running)
        n_waiting = self._n_runs - self._n_done - len(self.errors) - len(running)
        counts = f"{self.counts()}, {len(running)} running, {n_waiting} waiting"
        self.say("; ".join([counts, f"{hours}h {minutes}m so far", *map(self._shown_run, running)]))

    def counts(self) -> str:
        """Write how many runs are done and how many failed."""
        return f"{self._n_done} of {self._n_runs} runs done, {len(self.errors)} failed"

    def _shown_run(self, run: Run) -> str:
        try:
            row = read_rows(self._folder / run.curve)[-1]
        except (OSError, ValueError, IndexError):  # it is not there yet, or just being written
            row = {}
        done, right = (row.get("episode") or 0) / recipe_of(run.cell.flags)["num_episodes"], row.get("generalize")
        return f"{run.name} at {100 * done:.0f} %" + ("" if right is None else f" (ValAccGeneralize {right:.1f})")
