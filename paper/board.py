"""What is shown of a grid of runs: a line per run in progress and one for the total."""

import math
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from paper.run_logs import Progress, duration, progress_of
from paper.runs import Run, result_of

REDRAW_EVERY = 1.0  # seconds, on a terminal
PRINT_EVERY = 60.0  # seconds, elsewhere


class Board:
    """The runs of a sitting and what is shown of them: a line per run in progress and one for the total.

    On a terminal the lines are redrawn in place; elsewhere they are printed now and then. What begins, ends or fails is
    printed at once.
    """

    def __init__(self, runs: Iterable[Run], n_before: int, folder: Path) -> None:
        """Start with all runs waiting, except `n_before` that had a result."""
        self.waiting, self.running = list(runs), list[Run]()
        self.finished, self.failed = list[Run](), dict[Run, str]()
        self._n_before, self._folder = n_before, folder
        self._spent: list[tuple[float, float]] = []  # cost and seconds of the runs finished here
        self._started = time.monotonic()
        self._shown = -math.inf
        self._n_drawn = 0  # lines on the terminal that the next ones replace
        self._stream = sys.stdout
        self._is_terminal = self._stream is not None and self._stream.isatty()

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
            self._print(self._total(self._progress()))

    def show(self) -> None:
        """Show the lines if it is time to."""
        if time.monotonic() - self._shown < (REDRAW_EVERY if self._is_terminal else PRINT_EVERY):
            return
        self._shown = time.monotonic()
        progress = self._progress()
        width = max((len(run.name) for run in self.running), default=0)
        lines = [f"{run.name:<{width}}  {progress[run].shown}" for run in self.running]
        self._draw(lines, self._total(progress))

    def summary(self) -> str:
        """What has become of the runs, with the errors of those that failed."""
        lines = [f"failed {run.name}: {error}" for run, error in self.failed.items()]
        return "\n".join([*lines, f"{self._count()}, {len(self.failed)} failed"])

    def _progress(self) -> dict[Run, Progress]:
        """See how far the runs in progress have come."""
        return {run: progress_of(self._folder / run.curve, run.num_episodes) for run in self.running}

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
        for run, line in progress.items():
            ahead += run.cell.cost * (1 - line.fraction)
            if line.seconds:
                done, seconds = done + run.cell.cost * line.fraction, seconds + line.seconds
        if done:
            shown += f", {duration(ahead * seconds / done / max(1, len(self.running)))} left"
        return shown

    def _count(self) -> str:
        """How many runs have a result."""
        n_results = self._n_before + len(self.finished)
        n_all = n_results + len(self.failed) + len(self.running) + len(self.waiting)
        return f"{n_results} of {n_all} runs done"
