"""What the training scripts share: whether a run may go on, and what is said if not, or if it is interrupted."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.command_line import in_one_line


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


def cannot_go_on(error: Exception, advice: str, *paths: Path) -> ValueError:
    """Make the message for checkpoints that lead to an error when training goes on from them."""
    return ValueError(f"{', '.join(map(str, paths))} cannot be trained further ({in_one_line(error)}); {advice}")


@contextmanager
def interruption_explained(command: str, unit: str, saved: Callable[[], int]) -> Iterator[None]:
    """Let Ctrl-C say with which command training goes on, and from which episode, epoch or step."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {command} goes on from {unit} {saved()}") from None
