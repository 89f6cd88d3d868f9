"""Tables of the kinds of answers that networks, and people, have given."""

from collections.abc import Mapping, Sequence

from biml.behaviour import FewShot, OpenEnded, Share
from biml.benchmarks import GOLD_QUERIES

Columns = list[tuple[str, list[str]]]


def few_shot_table(columns: Mapping[str, FewShot]) -> str:
    """Write few-shot behaviour, one column a network: accuracies in percent, and shares of errors."""
    rows: Columns = [
        ("mean over queries, %", [_number(column.accuracy) for column in columns.values()]),
        ("  simple queries, %", [_number(column.simple) for column in columns.values()]),
        ("  complex queries, %", [_number(column.complex) for column in columns.values()]),
        ("  answers of 6 symbols, %", [_number(column.longest) for column in columns.values()]),
        ("one-to-one, of errors", [_share(column.one_to_one) for column in columns.values()]),
        ("iconic, of errors with `after`", [_share(column.iconic) for column in columns.values()]),
        *((f"  {query}", [_share(column.items[query]) for column in columns.values()]) for query in GOLD_QUERIES),
    ]
    return _table(list(columns), rows)


def open_ended_table(columns: Mapping[str, Sequence[OpenEnded]]) -> str:
    """Write how many participants, or rounds of answers, follow each bias; one column a network."""
    rows: Columns = [
        (
            name.replace("_", " "),
            [_share(Share(sum(getattr(answers, name) for answers in many), len(many))) for many in columns.values()],
        )
        for name in OpenEnded._fields
    ]
    return _table(list(columns), rows)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _share(share: Share) -> str:
    return "none" if share.percent is None else f"{share.percent:.1f} % ({share.n} of {share.total})"


def _table(heads: Sequence[str], rows: Columns) -> str:
    left = max(len(name) for name, _ in rows) + 2
    widths = [max(map(len, cells)) + 2 for cells in zip(heads, *(cells for _, cells in rows), strict=True)]
    return "\n".join(
        name.ljust(left) + "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for name, cells in [("", list(heads)), *rows]
    )
