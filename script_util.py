"""What the scripts share: one-line errors, checked options, files that are written whole or not at all.

A user's mistake ends in one line on stderr and exit code 2. Nothing here knows about networks or SCAN.
"""

import argparse
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

Number = TypeVar("Number", int, float)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the description's lines and ends every option that has a default with it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        has_default = not any(action.default is nothing for nothing in (None, False, argparse.SUPPRESS, ()))
        return (action.help or "") + (" (default: %(default)s)" if has_default else "")


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that reports a bad command line in one line; `-h` prints everything, defaults included."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=_HelpFormatter)

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
    """Parse seeds, with commas between them."""
    seeds = text.split(",")
    for seed in seeds:
        if not (seed.isascii() and seed.isdigit()):
            raise argparse.ArgumentTypeError(f"expected whole numbers of at least 0 such as 1,2,3, found {seed!r}")
    return list(dict.fromkeys(map(int, seeds)))


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
    if Path(text).suffix != ".json":
        raise argparse.ArgumentTypeError(f"expected PATH.json, found {text!r}")
    return Path(text)


def png_path(text: str) -> Path:
    """Parse the path of a picture, in .png so that no other file is overwritten."""
    if Path(text).suffix != ".png":
        raise argparse.ArgumentTypeError(f"expected PATH.png, found {text!r}")
    return Path(text)


def with_what_was_done(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the arguments of a training command by what train.py did before it had a flag for it.

    Only what was not the flag's default is named: until there was `keep_moments`, Adam's moments were kept.
    """
    return {"keep_moments": True, **arguments}


def add_model_folder(group: argparse._ActionsContainer) -> None:
    """Add --dir_model."""
    group.add_argument("--dir_model", type=Path, default=Path("out_models"), metavar="DIR", help="folder of the models")


def add_data_folder(group: argparse._ActionsContainer) -> None:
    """Add --data_dir."""
    told = "folder of the SCAN files, which are written there if missing"
    group.add_argument("--data_dir", type=Path, default=Path("data"), metavar="DIR", help=told)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` for writing; it takes the name `path` once it is complete and on the disk.

    Whoever reads `path` sees the old content or the new, never a part, even after a crash. Several processes may
    write the same path at once: the last one to finish wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:  # name the file that was asked for
        raise OSError(error.errno, error.strerror, str(path)) from None
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)  # mkstemp makes a file that nobody else may read
        try:
            aside.replace(path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def save_json(path: Path, contents: Any) -> None:
    """Write a result file, whole or not at all; a number that JSON does not have is an error."""
    text = json.dumps(contents, indent=1, allow_nan=False)
    text = re.sub(r"\[\n[^][{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)  # a list of them on one line
    with written_whole(path) as file:
        file.write(f"{text}\n".encode())


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run a script's `main`; exit with 2 and one line for a user's mistake, with 130 and one line for Ctrl-C.

    A user's mistake is whatever the code raises as ValueError or OSError, with a message that says what to do.
    """
    script = Path(sys.argv[0]).name
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        print(f"{script}: {' '.join(map(str, interrupt.args)) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise  # ours to mend
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        print(f"{script}: error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
