"""What the training scripts share: whether a run may start or go on, and what happens if it is interrupted."""

import argparse
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from common.command_line import in_one_line
from common.errors import UserError

ANEW = "pass --overwrite to start anew or another --fn_out_model"
"""What to do about a checkpoint that a command cannot go on from."""


def add_overwrite(group: argparse._ActionsContainer, has_resume: bool = False) -> None:
    """Add --overwrite and, where commands of earlier code have it, --resume, which asks for what happens anyway."""
    which = group.add_mutually_exclusive_group()
    which.add_argument("--overwrite", action="store_true", help="start anew even if there is a checkpoint")
    if has_resume:
        which.add_argument("--resume", action="store_true", help="go on from a checkpoint, as happens without it too")


def same_command(args: argparse.Namespace) -> str:
    """Say which command goes on with a run that this one has begun."""
    return "the same command without --overwrite" if args.overwrite else "the same command"


def with_what_was_done(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the arguments of a training command by what train.py did before it had a flag for it.

    Only what was not the flag's default is named: until there was `keep_moments`, Adam's moments were kept.
    """
    return {"keep_moments": True, **arguments}


def differing_arguments(
    saved: Mapping[str, Any], now: Mapping[str, Any], may_differ: Collection[str], default_of: Callable[[str], Any]
) -> str:
    """Write down the arguments in which a checkpoint's command and this one differ, for a message; empty if none.

    An argument that the checkpoint does not have, because the code that wrote it did not know it, counts as
    `default_of` it: what the code did then.
    """
    before = {name: saved[name] if name in saved else default_of(name) for name in now}
    return ", ".join(
        f"--{name} {before[name]} (now {value})"
        for name, value in now.items()
        if name not in may_differ and before[name] != value
    )


def cannot_go_on(error: Exception, advice: str, *paths: Path) -> UserError:
    """Make the message for checkpoints that lead to an error when training goes on from them."""
    return UserError(f"{', '.join(map(str, paths))} cannot be trained further ({in_one_line(error)}); {advice}")


@contextmanager
def claimed(paths: Sequence[Path], advice: str) -> Iterator[None]:
    """Keep every other process from training into the same checkpoints meanwhile.

    A file beside each checkpoint is locked, `.<name>.lock`. Some network file systems have no locks, nor has Windows in
    this form; there it is up to the user.

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
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.callback(_remove_if_empty, missing)
            lock = path.with_name(f".{path.name}.lock")
            file = stack.enter_context(lock.open("ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_ours = os.fstat(file.fileno()).st_nlink > 0  # or its owner has just ended and taken it away
            except BlockingIOError:
                is_ours = False
            except OSError:
                continue
            if not is_ours:
                raise UserError(f"another process is training {path}; wait until it has ended, or {advice}")
            stack.callback(lock.unlink, missing_ok=True)
        yield


def _remove_if_empty(folders: Sequence[Path]) -> None:
    """Take back folders, inner ones first, in which nothing was saved."""
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
def interrupts_noticed() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM wait; gives what says whether one has come, and raises KeyboardInterrupt in the end.

    So a training step is never torn, and runs in lock step are saved at the same episode. A second one ends at once.
    """
    seen: list[int] = []

    def take_down(number: int, _: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    with signals_handled(numbers, take_down):
        yield lambda: bool(seen)
    if seen:
        raise KeyboardInterrupt


@contextmanager
def interruption_explained(command: str, unit: str, saved: Callable[[], int]) -> Iterator[None]:
    """Let Ctrl-C say with which command training goes on, and from which episode, epoch or step."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {command} goes on from {unit} {saved()}") from None


def begin_anew(save: Callable[[], None], replaced: Iterable[Path]) -> None:
    """Write a new run's checkpoint before its first step, and only then do away with the networks that it replaces.

    So there is a network at any time, and none of an earlier run is taken for a state of this one. A run that cannot be
    saved leaves everything as it is.
    """
    with interrupts_noticed():
        save()
        for path in replaced:
            path.unlink(missing_ok=True)


def run_or_go_on(
    path: Path,
    args: argparse.Namespace,
    total: int,
    unit: str,
    done: Callable[[], int],
    save: Callable[[], None],
    run: Callable[[], None],
    go_on: Callable[[], None] | None,
    beside: Iterable[Path] = (),
) -> None:
    """Run a training that writes one checkpoint, from the start or from where that is, and tell of it.

    The checkpoint is claimed by the caller, who has looked whether it is there.

    Args:
        path: the checkpoint.
        args: the command; with `overwrite` a new run takes the place of what earlier ones left at `path` and `beside`.
        total: epochs or steps wanted.
        unit: "epoch" or "step".
        done: tells how many are in the checkpoint.
        save: writes the checkpoint as it is before the first one.
        run: trains to the last one.
        go_on: takes over what the checkpoint holds; None for a new run.
        beside: further networks that the run writes.
    Raises:
        UserError: if the checkpoint cannot be trained further.
    """
    if go_on is not None:
        try:
            go_on()
        except Exception as error:  # whatever an ill-formed file leads to
            raise cannot_go_on(error, ANEW, path) from None
        if done() == total:
            print(f"{path} is finished ({total} {unit}s); --overwrite trains it anew")
            return
        if done() > 0:  # before its first one a run is what its arguments make it
            print(f"going on from {unit} {done()}", flush=True)
    with interruption_explained(same_command(args), unit, done):
        if go_on is None:
            begin_anew(save, beside if args.overwrite else ())
        run()
