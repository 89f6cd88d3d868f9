"""Files of one's own with lines as SCAN's, `IN: <words> OUT: <words>`, in which any words may stand.

What is known of such a file goes into the checkpoint of a network that was trained on it, so that the file is found
again and a changed one is not taken for it. The words themselves are the checkpoint's vocabularies.
"""

from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from common.files import digest
from scan_util import Item, read_items


class DataFile(NamedTuple):
    """What is known of a file; lengths count words, without EOS."""

    path: str
    sha256: str
    n_items: int
    n_distinct: int
    longest_input: int
    longest_output: int

    def items(self) -> list[Item]:
        """Read the file once more.

        Raises:
            UserError: if it is not what it was.
        """
        path = Path(self.path)
        if not path.is_file() or digest(path) != self.sha256:
            raise UserError(
                f"{path}, with which the network was trained, is not there any more or has changed; "
                "test.py --split FILE scores on any other file"
            )
        return read_items(path, known=None)


def describe_file(path: Path) -> DataFile:
    """Read a file and note what is to be known of it.

    Raises:
        UserError: if a line is not as expected (the message has the file and the line number).
        OSError: if the file cannot be read.
    """
    items = read_items(path, known=None)
    longest = [max(len(words) for words in side) for side in zip(*items, strict=True)]
    return DataFile(str(path.resolve()), digest(path), len(items), len(set(items)), *longest)
