"""What the scripts share: one-line errors and checked options.

A user's mistake ends in one line on stderr and exit code 2.
"""

import argparse
import io
import math
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from common.errors import UserError

Number = TypeVar("Number", int, float)


def in_one_line(error: Exception) -> str:
    """Name an error and what it says, for a message about whatever led to it."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the description's lines and ends every option that has a default with it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        has_default = not any(action.default is nothing for nothing in (None, False, argparse.SUPPRESS, ()))
        return (action.help or "") + (" (default: %(default)s)" if has_default else "")


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that reports a bad command line in one line; `-h` prints everything, defaults included."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=_HelpFormatter)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Parse a value; an empty one, such as an unset shell variable leaves, would look like none at all."""
        if not arg_string.strip():
            raise argparse.ArgumentError(action, "expected a value, found an empty one (an unset shell variable?)")
        return super()._get_value(action, arg_string)

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: error: {message} (-h lists the options)\n")


def _parsed(kind: Callable[[str], Number], text: str, expected: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}") from None


def positive_int(text: str) -> int:
    """Parse a count of at least one."""
    value = _parsed(int, text, "a whole number")
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return value


def natural_int(text: str) -> int:
    """Parse a whole number from zero up to what a seed may be."""
    value = _parsed(int, text, "a whole number")
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0 and below 2^63, found {text}")
    return value


def seed_list(text: str) -> list[int]:
    """Parse seeds, with commas between them, each once."""
    seeds = [natural_int(seed) for seed in text.split(",")]
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise argparse.ArgumentTypeError(f"expected every seed once, found {seed} more often in {text!r}")
    return seeds


def name_list(kind: str, text: str, known: Collection[str]) -> list[str]:
    """Parse names of a kind of thing, such as cells, with commas between them."""
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no {kind} {name!r}; the {kind}s are {', '.join(known)}")
    return names


def count_list(text: str) -> list[int]:
    """Parse counts of at least one, with commas between them."""
    return [positive_int(one) for one in text.split(",")]


def positive_float(text: str) -> float:
    """Parse a finite number above zero."""
    value = _parsed(float, text, "a number")
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def nonnegative_float(text: str) -> float:
    """Parse a finite number of at least zero."""
    value = _parsed(float, text, "a number")
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, found {text}")
    return value


def dropout_probability(text: str) -> float:
    """Parse a probability of at least 0 and below 1."""
    value = _parsed(float, text, "a number")
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0 and below 1, found {text}")
    return value


def checkpoint_name(text: str) -> str:
    """Parse the name of a checkpoint: a file name without folders, in .tar so that results get other names."""
    if Path(text).name != text or Path(text).suffix != ".tar":
        raise argparse.ArgumentTypeError(f"expected NAME.tar, its folder goes to --dir_model; found {text!r}")
    return text


def json_path(text: str) -> Path:
    """Parse the path of a result file, in .json so that no checkpoint is overwritten."""
    return _path_ending(".json", text)


def png_path(text: str) -> Path:
    """Parse the path of a picture, in .png so that no other file is overwritten."""
    return _path_ending(".png", text)


def html_path(text: str) -> Path:
    """Parse the path of a page, in .html so that no other file is overwritten."""
    return _path_ending(".html", text)


def tar_path(text: str) -> Path:
    """Parse the path of a checkpoint, in .tar."""
    return _path_ending(".tar", text)


def _path_ending(suffix: str, text: str) -> Path:
    if Path(text).suffix != suffix:
        raise argparse.ArgumentTypeError(f"expected PATH{suffix}, found {text!r}")
    return Path(text)


def folder_path(text: str) -> Path:
    """Parse the path of a folder, which need not be there yet."""
    for path in (Path(text), *Path(text).parents):
        if path.exists() and not path.is_dir():
            which = "" if path == Path(text) else f"{text}: "
            raise argparse.ArgumentTypeError(f"{which}{path} is a file, not a folder")
    return Path(text)


def add_model_folder(group: argparse._ActionsContainer) -> None:
    """Add --dir_model."""
    group.add_argument(
        "--dir_model", type=folder_path, default=Path("out_models"), metavar="DIR", help="folder of the models"
    )


def add_results_folder(group: argparse._ActionsContainer) -> None:
    """Add --results_dir for scripts that write beside the network."""
    help_text = "folder of what is written (default: that of the models)"
    group.add_argument("--results_dir", type=folder_path, metavar="DIR", help=help_text)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether torch found no memory: a class of its own on a GPU; on a CPU its allocator says so."""
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate memory" in str(error)


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run a script's `main`; exit with 2 and one line for a user's mistake, with 130 and one line for Ctrl-C.

    A user's mistake is what the code raises as UserError, and what the system refuses: OSError, and memory that is not
    there. Every other exception is a bug, keeps its traceback and ends with 1.
    """
    script = Path(sys.argv[0]).name
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a sign that it cannot show must not end a run
    if os.environ.get("MPLBACKEND", "agg").lower() != "agg":
        del os.environ["MPLBACKEND"]  # one that matplotlib does not know, as a notebook's, keeps it from being imported
    try:
        main()
        if sys.stdout is not None:  # as it is where it was closed before
            sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        print(f"{script}: {' '.join(map(str, interrupt.args)) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise  # a bug of ours
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        print(f"{script}: error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
