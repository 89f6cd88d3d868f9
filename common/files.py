"""Files that are written whole or not at all; a failure to write names the file."""

import errno
import glob
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import UserError

PART = ".part"  # ending of a file that is not complete yet
LONGEST_IN_NAME = 80  # bytes of a text that is part of a file's name


@contextmanager
def failure_named(path: Path) -> Iterator[None]:
    """Name the file in the error of a write that fails; Python itself names only files that it cannot open.

    Whoever writes may have turned the error into one of its own, as torch does: what says why is the first one.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not (isinstance(cause, OSError) and cause.errno is not None):
            cause = cause.__context__
        if cause is None or not (cause.filename is None or str(cause.filename).endswith(PART)):
            raise
        advice = "; make room and try again" if cause.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise OSError(cause.errno, f"cannot be written: {cause.strerror}{advice}", str(path)) from None


def digest(path: Path) -> str:
    """Tell one content of a file from another: its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` for writing; it takes the name `path` once it is complete and on the disk.

    Whoever reads `path` sees the old content or the new, never a part, even after a crash. Several processes may
    write the same path at once: the last one to finish wins. A symbolic link stays one; what it points to is written.
    """
    target = path.resolve() if path.is_symlink() else path
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PART}")
    try:
        with failure_named(path), aside.open("xb") as file:
            yield file
            file.flush()
            with suppress(OSError):  # some network and user-space file systems know no fsync
                os.fsync(file.fileno())
            file.close()
            aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def remove_parts(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left; no other may be writing it."""
    target = path.resolve() if path.is_symlink() else path
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{PART}"):
        left.unlink(missing_ok=True)


def save_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with written_whole(path) as file:
        file.write(content)


def save_unless_other(contents: Mapping[Path, bytes], overwrite: bool) -> None:
    """Write files, but none of them if one would take the place of another one, unless that is asked for.

    Raises:
        UserError: if there is a file with other contents under one of the names, and `overwrite` is not set.
    """
    for path, content in contents.items():
        if not overwrite and path.exists() and path.read_bytes() != content:
            raise UserError(f"{path} is there already and differs; pass --overwrite to replace it")
    for path, content in contents.items():
        save_bytes(path, content)


def in_name(text: str) -> str:
    """Write a text as a part of a file's name; what cannot be told from it is told by a digest behind it."""
    readable = re.sub(r"[^\w=+,.-]", "-", text).encode()[:LONGEST_IN_NAME].decode(errors="ignore")
    return readable if readable == text else f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def append(path: Path, content: bytes) -> None:
    """Add to a file's end; if there is no room for all of it, nothing is added."""
    with failure_named(path), path.open("ab", buffering=0) as file:
        size, left = file.tell(), memoryview(content)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(size)
            raise


def json_bytes(contents: Any) -> bytes:
    """Write contents as JSON; a number that JSON does not have is an error."""
    text = json.dumps(contents, indent=1, allow_nan=False)
    text = re.sub(r"\[\n[^][{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)  # a list of them on one line
    return f"{text}\n".encode()


def save_json(path: Path, contents: Any) -> None:
    """Write a result file, whole or not at all."""
    save_bytes(path, json_bytes(contents))


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Read a result file; None if it holds anything but an object of JSON, whose numbers are finite."""

    def finite(text: str) -> float:
        if not math.isfinite(number := float(text)):
            raise ValueError(f"{text} is no finite number")
        return number

    try:
        contents = json.loads(path.read_text(encoding="utf-8"), parse_float=finite, parse_constant=finite)
    except ValueError:
        return None
    return contents if isinstance(contents, dict) else None
