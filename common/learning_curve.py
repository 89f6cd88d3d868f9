"""A learning curve's file: CSV, one row per log line, added as they come; and reading it."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import append, save_bytes


def read_rows(path: Path) -> list[dict[str, float | None]]:
    """Read a learning curve: its rows, each a finite number by column, None where nothing was measured.

    Raises:
        UserError: if the file holds something else.
    """
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file, strict=True)
        try:
            for line in lines:
                rows.append({name: _number(text) for name, text in line.items()})
        except (ValueError, TypeError, csv.Error) as error:
            raise UserError(f"{path}:{lines.line_num}: expected a number under each column's name ({error})") from None
    return rows


def _number(text: str) -> float | None:
    if text == "":
        return None
    number = float(text)
    if not math.isfinite(number):
        raise UserError(f"{text[:20]} is no finite number")
    return number


class Curve:
    """The file of a run in progress; its first column is the episode or step."""

    def __init__(self, path: Path, header: Sequence[str], last: int, is_logged: Callable[[int], bool]) -> None:
        """Find the rows up to the episode or step at which training goes on; the first new row replaces all others.

        Args:
            path: the file.
            header: names of the columns.
            last: the episode or step up to which training has come, 0 for a new run.
            is_logged: says whether a row is due, the last one of a run aside.
        Raises:
            UserError: if the file holds something else, or is a folder.
        """
        self._path = path
        self._width = len(header)
        if path.is_dir():
            raise UserError(f"{path} is a folder; the learning curve is to be written there: move it away")
        kept = self._rows_up_to(last, is_logged) if last > 0 and path.exists() else []
        if last > 0 and not kept:
            print(f"note: {path} has no rows of the first {last} {header[0]}s; it starts here", flush=True)
        self._before = [list(header), *kept]  # until they are written

    def _rows_up_to(self, last: int, is_logged: Callable[[int], bool]) -> list[list[str]]:
        try:
            with self._path.open(newline="", encoding="utf-8") as lines:
                rows = [row for row in csv.reader(lines) if len(row) == self._width and row[0].isdigit()]
        except (ValueError, csv.Error) as error:
            raise UserError(f"{self._path}: not a learning curve ({error}); move it away") from None
        # A last row out of turn goes too: a longer run would not have it.
        return [row for row in rows if int(row[0]) <= last and is_logged(int(row[0]))]

    def add(self, row: Sequence[Any]) -> None:
        """Write a row; None is an empty cell."""
        rows = [*self._before, ["" if cell is None else cell for cell in row]]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        if self._before:
            save_bytes(self._path, text.getvalue().encode())
            self._before = []
        else:
            append(self._path, text.getvalue().encode())
