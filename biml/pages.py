"""Answers to look at: listings and tables as text, pages of HTML.

A page stands alone, without scripts, and all text in it is escaped. Symbols are shown as text on coloured tiles, so
nothing depends on telling colours apart. Several files stand side by side, one column each, all of the same task.
"""

import html
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from biml.answering import AnsweredEpisode
from biml.behaviour import OpenEnded, Share, analyse_open_ended, gold_answers, is_iconic_error, is_one_to_one
from biml.benchmarks import GOLD_QUERIES, OPEN_ENDED, split
from biml.grammar import Words
from biml.sampled_files import AnswerFile

Answers = tuple[Words, ...]
"""What one row shows: a single answer, or those to all open-ended instructions."""

TILES = {  # of Okabe and Ito's colours; any other symbol is grey
    **{"1": "#E69F00", "2": "#56B4E9", "3": "#009E73", "DAX": "#CC79A7"},
    **{"c1": "#E69F00", "c2": "#56B4E9", "c3": "#009E73", "c4": "#CC79A7", "c5": "#F0E442", "c6": "#D55E00"},
}
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; color: #222; background: #fff; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.3em } h2 { font-size: 1.05em; margin: 1.6em 0 .4em }
table { border-collapse: collapse }
td, th { text-align: left; padding: .2em 1em .2em 0; vertical-align: top; border-top: 1px solid #ddd }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums } tr.right { background: #eef7ee }
.tile { display: inline-block; min-width: 1.6em; text-align: center; margin: 1px; padding: 0 .35em;
  border-radius: 3px; color: #000 }
.note { color: #555 }
"""


def listing(episodes: Sequence[AnsweredEpisode], has_right_answers: bool = True) -> str:
    """Write every study example and every answer as text, and what would have been right."""
    lines = []
    for number, episode in enumerate(episodes, start=1):
        lines += [f"Evaluation episode {number}", "support items;"]
        shown = [f"    {' '.join(example.input)} -> {' '.join(example.output)}" for example in episode.support]
        lines += shown or ["    no patterns"]
        for title, is_retrieve in (("retrieval items;", True), ("generalization items;", False)):
            items = [item for item in episode.answered if item.is_retrieve == is_retrieve]
            right = sum(item.is_right for item in items)
            lines.append(f"{title} {right} of {len(items)} right" if items and has_right_answers else title)
            for item in items:
                is_told = has_right_answers and not item.is_right
                wanted = f" (** target: {' '.join(item.target)})" if is_told else ""
                lines.append(f"    {' '.join(item.query)} -> {' '.join(item.answer)}{wanted}")
            lines += [] if items else ["    no patterns"]
    return "\n".join(lines)


def kinds_table(files: Sequence[AnswerFile]) -> str:
    """Write the kinds of few-shot answers, in percent, or how many rounds of open-ended answers follow each bias."""
    if files[0].is_open_ended:
        rounds = [file.open_ended() for file in files]
        rows = {
            name.replace("_", " "): [
                _share(Share(sum(getattr(one, name) for one in many), len(many))) for many in rounds
            ]
            for name in OpenEnded._fields
        }
    else:
        columns = [file.few_shot() for file in files]
        rows = {
            "mean over queries, %": [_number(column.accuracy) for column in columns],
            "  simple queries, %": [_number(column.simple) for column in columns],
            "  complex queries, %": [_number(column.complex) for column in columns],
            "  answers of 6 symbols, %": [_number(column.longest) for column in columns],
            "one-to-one, of errors": [_share(column.one_to_one) for column in columns],
            "iconic, of errors with `after`": [_share(column.iconic) for column in columns],
            **{f"  {query}": [_share(column.items[query]) for column in columns] for query in GOLD_QUERIES},
        }
    rows = {"": [file.name for file in files], **rows}
    left = max(map(len, rows)) + 2
    widths = [max(map(len, cells)) + 2 for cells in zip(*rows.values(), strict=True)]
    return "\n".join(
        name.ljust(left) + "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for name, cells in rows.items()
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _share(share: Share) -> str:
    return "none" if share.percent is None else f"{share.percent:.1f} % ({share.n} of {share.total})"


def answers_page(title: str, table: str, files: Sequence[AnswerFile]) -> str:
    """Show below a table how often each file has each answer, the most frequent first, and its kind.

    Rounds of open-ended answers count as alike if they differ in colours alone.
    """
    parts = [f"<h1>{html.escape(title)}</h1><pre>{html.escape(table)}</pre>"]
    names = [file.name for file in files]
    if files[0].is_open_ended:
        parts.append('<p class="note">Colours are numbered in the order in which they come up.</p>')
        columns = [Counter(map(_in_order_of_appearance, file.rounds())) for file in files]
        parts.append(_frequencies(names, columns, [*OPEN_ENDED, "follows"], _followed))
    else:
        given = [file.by_query() for file in files]
        for query, right in gold_answers().items():
            parts.append(f"<h2>{html.escape(query)} &rarr; {_tiles(right)}</h2>")
            columns = [Counter((answer,) for answer in answers.get(query, ())) for answers in given]
            parts.append(_frequencies(names, columns, ["answer", ""], _kind_of(split(query), right)))
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _frequencies(
    names: Sequence[str], columns: Sequence[Counter[Answers]], heads: Sequence[str], kind_of: Callable[[Answers], str]
) -> str:
    """Make a table: how often each column has the answers, these, and their kind; the highest shares first."""
    totals = [max(1, column.total()) for column in columns]
    every = dict.fromkeys(answers for column in columns for answers, _ in column.most_common())
    order = sorted(every, key=lambda one: -sum(column[one] / n for column, n in zip(columns, totals, strict=True)))
    rows = ["<tr>" + "".join(f"<th>{html.escape(head)}</th>" for head in (*names, *heads)) + "</tr>"]
    for answers in order:
        counts = [(column[answers], total) for column, total in zip(columns, totals, strict=True)]
        cells = [f'<td class="n">{n} ({100 * n / total:.1f} %)</td>' if n else "<td></td>" for n, total in counts]
        cells += [f"<td>{_tiles(answer)}</td>" for answer in answers]
        kind = kind_of(answers)
        mark = ' class="right"' if kind == "right" else ""
        rows.append(f"<tr{mark}>{''.join(cells)}<td>{kind}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _in_order_of_appearance(answers: Mapping[str, Words]) -> Answers:
    """Name colours c1, c2 and so on in the order in which the answers to the instructions have them."""
    names: dict[str, str] = {}
    return tuple(
        tuple(names.setdefault(symbol, f"c{len(names) + 1}") for symbol in answers[query]) for query in OPEN_ENDED
    )


def _kind_of(query: Words, right: Words) -> Callable[[Answers], str]:
    def kind(answers: Answers) -> str:
        (answer,) = answers
        if answer == right:
            return "right"
        kinds = {"one-to-one": is_one_to_one(query, answer), "iconic": is_iconic_error(query, answer, right)}
        return ", ".join(name for name, holds in kinds.items() if holds)

    return kind


def _followed(answers: Answers) -> str:
    kinds = analyse_open_ended(dict(zip(OPEN_ENDED, answers, strict=True)))._asdict()
    return ", ".join(name.replace("_", "-") for name, holds in kinds.items() if holds) or "none of the biases"


def _tiles(symbols: Words) -> str:
    tiles = [
        f'<span class="tile" style="background:{TILES.get(symbol, "#DDDDDD")}">{html.escape(symbol)}</span>'
        for symbol in symbols
    ]
    return "".join(tiles) or '<span class="note">(nothing)</span>'
