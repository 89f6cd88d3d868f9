"""Files that are written whole or not at all."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


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
