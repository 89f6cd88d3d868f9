"""The loop of a training, shared by all three systems: begin, resume, log, save, and stop without losing anything."""

import argparse
import errno
import math
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from common.command_line import in_one_line
from common.devices import describe_device
from common.errors import UserError
from common.files import remove_parts
from common.learning_curve import Curve
from common.plain_files import DIVERGED, check_finite
from common.provenance import provenance

ANEW = "pass --overwrite to start anew or another --fn_out_model"
"""What to do about a checkpoint from which a command cannot resume."""
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
"""Signals that end a training: Ctrl-C, a scheduler, a logout, the warning before the end of an allocation."""


class TrainingRun(ABC):
    """A training in progress, of one network or of several in lock step.

    A subclass says what a step is, what a line of the learning curve is, and what is saved. Its network learns in
    `step`; everything else about a run is done here.

    Args:
        paths: the checkpoint of each network; the learning curve, .csv, is beside it.
        row: the class of the curve's lines, a dataclass whose first field is the number of the step.
        total: steps wanted.
        device: where the networks learn.
        command: how a message names the command that resumes.
    """

    unit = "step"
    logs_last_step = True  # also if no line is due

    def __init__(self, paths: Sequence[Path], row: Any, total: int, device: torch.device, command: str) -> None:
        self.paths, self.total, self.device = paths, total, device
        self.done = self.saved = 0  # steps taken, and steps in the checkpoint
        self.loss_sums = torch.zeros(len(paths), dtype=torch.float64, device=device)  # since the last line
        self.loss_count = 0
        self.sitting: dict[str, Any] = {"from": 0, "device": describe_device(device), "provenance": provenance()}
        self._before: list[dict[str, Any]] = [
            {"seconds": 0.0, "sittings": []} for _ in paths
        ]  # earlier sittings of each run
        self._header, self._command = [field.name for field in fields(row)], command
        self._started = time.monotonic()
        self._first_line: tuple[int, float] | None = None  # of this sitting: step and time
        self._failure: OSError | None = None  # of printing

    @property
    @abstractmethod
    def networks(self) -> Sequence[nn.Module]:
        """The networks that learn, one for each path."""

    @abstractmethod
    def step(self) -> None:
        """Take one gradient step and add its losses to `loss_sums`."""

    @abstractmethod
    def rows(self) -> Sequence[Any]:
        """Put a line of each learning curve together, now that a line is due."""

    @abstractmethod
    def shown(self, run: int, row: Any) -> str:
        """Write a line for people."""

    @abstractmethod
    def save(self) -> None:
        """Write the checkpoints; what resuming takes of this class is in `progress`."""

    @abstractmethod
    def is_logged(self, step: int) -> bool:
        """Say whether a line is due after a step that is not the last."""

    @abstractmethod
    def is_saved(self, step: int) -> bool:
        """Say whether a checkpoint is due after a step that is not the last."""

    def is_out_of_time(self) -> bool:
        """Say whether to stop after a step at which a checkpoint was due."""
        return False

    @property
    def seconds(self) -> float:
        """Wall time spent training the first run, earlier sittings included."""
        return self.seconds_of(0)

    def seconds_of(self, run: int) -> float:
        """Wall time spent training a run, earlier sittings included."""
        return float(self._before[run]["seconds"]) + time.monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """Wall time to go, judged by this sitting's steps since its first line; None before there are any."""
        if self._first_line is None or self.done == self._first_line[0]:
            return None
        step, then = self._first_line
        return (time.monotonic() - then) / (self.done - step) * (self.total - self.done)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do; says so."""
        if self.done == self.total:
            print(f"{self.paths[0]} is finished ({self.total} {self.unit}s); --overwrite trains it anew")
        return self.done == self.total

    def progress(self, run: int = 0) -> dict[str, Any]:
        """Give what a checkpoint says of how far a run has come, as plain data."""
        return {
            "loss_sum": self.loss_sums[run].item(),
            "loss_count": self.loss_count,
            "seconds": self.seconds_of(run),
            "sittings": [*self._before[run]["sittings"], self.sitting],
            **{name: self.sitting[name] for name in ("device", "provenance")},
        }

    def resume(self, done: int, saved: Sequence[Mapping[str, Any]]) -> None:
        """Take over the progress of each run from its checkpoint."""
        self.done = self.saved = self.sitting["from"] = done
        self.loss_sums.copy_(torch.tensor([float(one["loss_sum"]) for one in saved], dtype=torch.float64))
        self.loss_count = int(saved[0]["loss_count"])  # runs that are equally far have had the same lines
        self._before = [  # earlier versions kept no sittings
            {"seconds": float(one["seconds"]), "sittings": list(one.get("sittings", []))} for one in saved
        ]

    def mean_losses(self) -> list[float]:
        """Give the mean loss of each run since the last line.

        Raises:
            UserError: if one is not finite.
        """
        means: list[float] = (self.loss_sums / self.loss_count).tolist()
        for path, mean in zip(self.paths, means, strict=True):
            if not math.isfinite(mean):
                raise UserError(f"{path}: the loss is {mean} at {self.unit} {self.done}; try a smaller --lr")
        return means

    def run(self, replaced: Iterable[Path] = ()) -> None:
        """Train to the last step, logging and saving on the way.

        Args:
            replaced: files of earlier runs, which go once this one has taken a step and saved it.
        Raises:
            UserError: if a network diverges; what was saved before stays.
            KeyboardInterrupt: if a signal came; the step was finished and saved.
            OSError: if nothing can be printed any more; the step was saved as well.
        """
        self._say_what_changed()
        if self.done > 0:
            self._say(f"resuming from {self.unit} {self.done}")
        curves = [Curve(path.with_suffix(".csv"), self._header, self.done, self.is_logged) for path in self.paths]
        with interruption_explained(self._command, self.unit, lambda: self.saved), signals_noticed() as is_stopped:
            while self.done < self.total and not is_stopped() and self._failure is None:
                self.step()
                self.done, self.loss_count = self.done + 1, self.loss_count + 1
                is_first, is_last = self.done == 1, self.done == self.total
                if is_first:  # only a run that can take a step and save it replaces what was there
                    self._save()
                    for path in replaced:
                        path.unlink(missing_ok=True)
                if self.is_logged(self.done) or (is_last and self.logs_last_step):
                    self._log(curves)
                if self.is_saved(self.done) or is_first or is_last:
                    self._save()
                    if self.is_out_of_time():
                        break
            if self.saved < self.done:
                self._save()
        if self._failure is not None:
            raise self._failure

    def _log(self, curves: Sequence[Curve]) -> None:
        self._check_weights()
        for run, (curve, row) in enumerate(zip(curves, self.rows(), strict=True)):
            self._say(self.shown(run, row))
            curve.add(astuple(row))
        if self.is_logged(self.done):  # a last line out of turn leaves the next one as if the run had been longer
            self.loss_sums.zero_()
            self.loss_count = 0
        self._first_line = self._first_line or (self.done, time.monotonic())

    def _save(self) -> None:
        self._check_weights()
        self.save()
        self.saved = self.done

    def _check_weights(self) -> None:
        for path, network in zip(self.paths, self.networks, strict=True):
            check_finite(path, network.state_dict(), f"{DIVERGED} ({self.unit} {self.done})")

    def _say(self, text: str) -> None:
        """Print; whatever is wrong with standard output, training stops only when it has saved."""
        try:
            print(text, flush=True)
        except OSError as error:
            self._failure = error

    def _say_what_changed(self) -> None:
        """Say in what this sitting differs from the one before, as that may change the numbers."""
        if earlier := self._before[0]["sittings"]:
            before, now = ({**one["provenance"], **one} for one in (earlier[-1], self.sitting))
            for name in ("commit", "torch", "device"):
                if before.get(name) != now.get(name):
                    self._say(f"note: {name} was {before.get(name)} before, and is {now.get(name)} now")


def add_overwrite(group: argparse._ActionsContainer, has_resume: bool = False) -> None:
    """Add --overwrite and, where a source document names it, --resume, which asks for what happens anyway."""
    which = group.add_mutually_exclusive_group()
    which.add_argument("--overwrite", action="store_true", help="start anew even if there is a checkpoint")
    if has_resume:
        which.add_argument("--resume", action="store_true", help="resume from a checkpoint, as happens without it too")


def same_command(args: argparse.Namespace) -> str:
    """Name the command that resumes what this one has begun."""
    return "the same command without --overwrite" if args.overwrite else "the same command"


def check_same_arguments(
    path: Path,
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    may_differ: Collection[str],
    default_of: Callable[[str], Any],
) -> None:
    """Make sure that a checkpoint's command and this one ask for the same training.

    An argument that the checkpoint does not have, because the code that wrote it did not know it, counts as
    `default_of` it.

    Raises:
        UserError: if they differ in an argument that may not differ.
    """
    before = {name: saved[name] if name in saved else default_of(name) for name in now}
    differing = ", ".join(
        f"--{name} {before[name]} (now {value})"
        for name, value in now.items()
        if name not in may_differ and before[name] != value
    )
    if differing:
        raise UserError(f"{path} was trained with {differing}; {ANEW}")


@contextmanager
def refused_if_damaged(*paths: Path) -> Iterator[None]:
    """Turn whatever an ill-formed checkpoint leads to, when training resumes, into a line that says what to do."""
    try:
        yield
    except Exception as error:
        names = ", ".join(map(str, paths))
        raise UserError(f"{names} cannot be trained further ({in_one_line(error)}); {ANEW}") from None


@contextmanager
def claimed(paths: Sequence[Path], advice: str) -> Iterator[None]:
    """Keep every other process from training into the same checkpoints meanwhile.

    A file beside each checkpoint is locked, `.<name>.lock`. Where there can be none (Windows, some network file
    systems, a folder that may not be written), it is up to the user. What a process that was killed while saving has
    left of a checkpoint is removed.

    Raises:
        UserError: if another process trains into one of them.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with ExitStack() as stack:
        for path in paths:
            missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
            lock = path.with_name(f".{path.name}.lock")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(lock.open("ab"))
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                continue
            finally:
                stack.callback(_remove_if_empty, missing)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_ours = os.fstat(file.fileno()).st_nlink > 0  # or its owner has just ended and removed it
            except BlockingIOError:
                is_ours = False
            except OSError:
                continue
            if not is_ours:
                raise UserError(f"another process is training {path}; wait until it has ended, or {advice}")
            stack.callback(lock.unlink, missing_ok=True)
            remove_parts(path)
        yield


def _remove_if_empty(folders: Sequence[Path]) -> None:
    """Remove folders, inner ones first, in which nothing was saved."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def signals_handled(
    numbers: Iterable[int], handler: Callable[[int, FrameType | None], object] | signal.Handlers
) -> Iterator[None]:
    """Let a function deal with some signals meanwhile, except those that are ignored, as nohup and shells have them."""
    before = {number: signal.getsignal(number) for number in numbers}
    for number, usual in before.items():
        if usual != signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


@contextmanager
def signals_noticed() -> Iterator[Callable[[], bool]]:
    """Let signals wait; gives what says whether one has come, and raises KeyboardInterrupt in the end if one has.

    These are the signals that end a training. So no step is torn, and runs in lock step are saved at the same step.
    Only a second Ctrl-C ends at once: a scheduler may signal again while the last step is being saved.
    """
    seen: list[int] = []

    def take_down(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and number in seen:
            raise KeyboardInterrupt
        seen.append(number)

    numbers = STOPPING if threading.current_thread() is threading.main_thread() else ()
    with signals_handled(numbers, take_down):
        yield lambda: bool(seen)
    if seen:
        raise KeyboardInterrupt


@contextmanager
def interruption_explained(command: str, unit: str, saved: Callable[[], int]) -> Iterator[None]:
    """Let an interrupted training say with which command it resumes, and from which episode or step."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {command} resumes from {unit} {saved()}") from None
