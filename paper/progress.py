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
    """The runs of a sitting and what became of them; several threads may tell of theirs."""

    def __init__(self, runs: Sequence[Run], n_before: int, folder: Path) -> None:
        """Start with all runs waiting, except `n_before` that had a result."""
        self.errors: dict[Run, str] = {}
        self._states = dict.fromkeys(runs, "waiting")
        self._n_before, self._folder = n_before, folder
        self._started = self._shown = time.monotonic()
        self._work = self._work_left()
        self._stream = sys.stdout  # also where others are told to print elsewhere

    def begin(self, run: Run) -> None:
        """A run is in progress now."""
        self._states[run] = "running"
        self.say(f"started {run.name}")

    def end(self, run: Run, error: str) -> None:
        """A run is over, well if there is no error."""
        result = result_of(run, self._folder)
        if not error and result is None:
            error = f"it left no result in {run.result}"
        self._states[run] = "failed" if error else "done"
        if error or result is None:
            self.errors[run] = error
            self.say(f"failed {run.name}: {error}")
        else:
            score = f"{result['accuracy']:.2f} % ({result['correct']} of {result['total']})"
            self.say(f"finished {run.name}: {score} of the test right")

    def say(self, text: str) -> None:
        """Print something, in one piece."""
        print(f"{text}\n", end="", file=self._stream, flush=True)

    def show(self) -> None:
        """Print how far everything has come, once a minute."""
        if time.monotonic() - self._shown >= SHOW_EVERY:
            self._shown = time.monotonic()
            self.say(self.status())

    def status(self) -> str:
        """Write how far everything has come; the time left follows from the cells' costs and the pace so far."""
        states = list(self._states.values())
        parts = [self._count(), *(f"{states.count(word)} {word}" for word in ("running", "waiting"))]
        spent, left = time.monotonic() - self._started, self._work_left()
        text = f"{', '.join(parts)}; {duration(spent)} so far"
        if left < self._work:
            text += f", about {duration(spent * left / (self._work - left))} left"
        running = [run for run, state in self._states.items() if state == "running"]
        return "; ".join([text, *map(self._shown_run, running)])

    def summary(self) -> str:
        """Write what has become of the runs, with the errors of those that failed."""
        return "\n".join([*(f"failed {run.name}: {error}" for run, error in self.errors.items()), self._count()])

    def _count(self) -> str:
        n_done = self._n_before + list(self._states.values()).count("done")
        return f"{n_done} of {self._n_before + len(self._states)} runs done, {len(self.errors)} failed"

    def _work_left(self) -> float:
        """Add up the costs of what is not done, of a training in progress what is left of it."""
        left = [run for run, state in self._states.items() if state in ("waiting", "running")]
        return sum(run.cell.cost * (1 - self._fraction(run)) for run in left)

    def _shown_run(self, run: Run) -> str:
        right = self._last_row(run).get("generalize")
        accuracy = "" if right is None else f" (ValAccGeneralize {right:.1f})"
        return f"{run.name} at {100 * self._fraction(run):.0f} %{accuracy}"

    def _fraction(self, run: Run) -> float:
        """Tell how much of a run's training is done."""
        episode = self._last_row(run).get("episode") or 0
        return min(1.0, episode / int(recipe_of(run.cell.flags)["num_episodes"]))

    def _last_row(self, run: Run) -> dict[str, float | None]:
        """Read the last row of a run's learning curve, empty if it is not there yet or just being written."""
        try:
            return read_rows(self._folder / run.curve)[-1]
        except (OSError, ValueError, IndexError):
            return {}


def duration(seconds: float) -> str:
    """Write a time for people."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}h {minutes % 60}m" if minutes >= 60 else f"{minutes}m {seconds}s"
