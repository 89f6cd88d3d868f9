"""Pages of answers, of one network or of several beside people's: HTML that stands alone, without scripts, and text.

All text is escaped. Symbols are shown as text on coloured tiles, so nothing depends on telling colours apart.
"""

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from biml.answering import AnsweredEpisode
from biml.behaviour import OpenEnded, analyse_open_ended, is_iconic_error, is_one_to_one
from biml.benchmarks import GOLD_QUERIES, OPEN_ENDED, gold_episode, split
from biml.grammar import Words

Thing = TypeVar("Thing", Words, tuple[Words, ...])

TILES = {  # of Okabe and Ito's colours; any other symbol is grey
    **{"1": "#E69F00", "2": "#56B4E9", "3": "#009E73", "DAX": "#CC79A7"},
    **{"c1": "#E69F00", "c2": "#56B4E9", "c3": "#009E73", "c4": "#CC79A7", "c5": "#F0E442", "c6": "#D55E00"},
}
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 60em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.3em } h2 { font-size: 1.05em; margin: 1.6em 0 .4em }
table { border-collapse: collapse } td, th { text-align: left; padding: .2em 1em .2em 0; vertical-align: middle }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums } tr.right { background: #eef7ee }
.tile { display: inline-block; min-width: 1.6em; text-align: center; margin: 1px; padding: 0 .35em;
  border-radius: 3px; color: #000 }
.note { color: #555 } .rounds { display: grid; grid-template-columns: repeat(auto-fill, minmax(15em, 1fr)); gap: 1em }
.rounds h2 { margin-top: .4em }
body.wide { max-width: none } .wide td, .wide th { vertical-align: top; border-top: 1px solid #ddd }
"""


def listing(episodes: Sequence[AnsweredEpisode], has_right_answers: bool = True) -> str:
    """Write every study example and every answer as text, and what would have been right."""
    lines = []
    for number, episode in enumerate(episodes, start=1):
        lines.append(f"Evaluation episode {number}")
        lines.append("support items;")
        lines += [f"    {' '.join(example.input)} -> {' '.join(example.output)}" for example in episode.support] or [
            "    no patterns"
        ]
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


def few_shot_page(title: str, table: str, answers: Mapping[str, Sequence[Words]]) -> str:
    """Show the different answers to each gold query, the most frequent first, below the table of their kinds."""
    gold = {" ".join(example.input): example.output for example in gold_episode().query}
    parts = []
    for query in GOLD_QUERIES:
        given = answers.get(query, ())
        right = sum(answer == gold[query] for answer in given)
        parts.append(f"<h2>{_escaped(query)} &rarr; {_tiles(gold[query])}</h2>")
        parts.append(f'<p class="note">{right} of {len(given)} right</p><table>')
        parts.append("<tr><th>times</th><th>share</th><th>answer</th><th></th></tr>" if given else "")
        for answer, n in Counter(given).most_common():
            kind = _kind(split(query), answer, gold[query])
            mark = ' class="right"' if kind == "right" else ""
            parts.append(
                f'<tr{mark}><td class="n">{n}</td><td class="n">{100 * n / len(given):.1f} %</td>'
                f"<td>{_tiles(answer)}</td><td>{kind}</td></tr>"
            )
        parts.append("</table>")
    return _page(title, table, parts)


def few_shot_comparison(title: str, table: str, answers: Mapping[str, Mapping[str, Sequence[Words]]]) -> str:
    """Show how often each column (people, networks) gave each answer to each gold query, below the table of kinds."""
    gold = {" ".join(example.input): example.output for example in gold_episode().query}
    heads = "".join(f"<th>{_escaped(name)}</th>" for name in answers)
    parts = []
    for query in GOLD_QUERIES:
        columns = [Counter(by_query.get(query, ())) for by_query in answers.values()]
        parts.append(f"<h2>{_escaped(query)} &rarr; {_tiles(gold[query])}</h2>")
        parts.append(f"<table><tr><th>answer</th>{heads}<th></th></tr>")
        for answer in _most_frequent_first(columns):
            kind = _kind(split(query), answer, gold[query])
            mark = ' class="right"' if kind == "right" else ""
            parts.append(f"<tr{mark}><td>{_tiles(answer)}</td>{_counts(columns, answer)}<td>{kind}</td></tr>")
        parts.append("</table>")
    return _page(title, table, parts)


def open_ended_comparison(title: str, table: str, rounds: Mapping[str, Sequence[Mapping[str, Words]]]) -> str:
    """Show how often each column gave the same seven answers, whatever the colours, and which biases these follow."""
    columns = [Counter(_in_order_of_appearance(answers) for answers in many) for many in rounds.values()]
    heads = "".join(f"<th>{_escaped(name)}</th>" for name in (*rounds, *OPEN_ENDED))
    parts = [
        '<p class="note">Colours are numbered in the order in which they come up.</p>',
        f'<table class="wide"><tr>{heads}<th>follows</th></tr>',
    ]
    for answers in _most_frequent_first(columns):
        followed = _followed(analyse_open_ended(dict(zip(OPEN_ENDED, answers, strict=True))))
        tiles = "".join(f"<td>{_tiles(answer)}</td>" for answer in answers)
        parts.append(f"<tr>{_counts(columns, answers)}{tiles}<td>{followed}</td></tr>")
    return _page(title, table, [*parts, "</table>"], kind="wide")


def _most_frequent_first(columns: Sequence[Counter[Thing]]) -> list[Thing]:
    """List all that was counted in the columns, by the sum of its shares."""
    totals = [max(1, column.total()) for column in columns]
    every = dict.fromkeys(thing for column in columns for thing, _ in column.most_common())
    return sorted(every, key=lambda thing: -sum(column[thing] / n for column, n in zip(columns, totals, strict=True)))


def _counts(columns: Sequence[Counter[Thing]], thing: Thing) -> str:
    """Write how often each column has it, and the share; nothing for never."""
    counts = [(column[thing], column.total()) for column in columns]
    shown = [f"{n} ({100 * n / total:.1f} %)" if n else "" for n, total in counts]
    return "".join(f'<td class="n">{text}</td>' for text in shown)


def _in_order_of_appearance(answers: Mapping[str, Words]) -> tuple[Words, ...]:
    """Name colours c1, c2 and so on in the order in which the answers to the instructions have them."""
    names: dict[str, str] = {}
    return tuple(
        tuple(names.setdefault(symbol, f"c{len(names) + 1}") for symbol in answers[query]) for query in OPEN_ENDED
    )


def _kind(query: Words, answer: Words, right: Words) -> str:
    if answer == right:
        return "right"
    kinds = ["one-to-one"] if is_one_to_one(query, answer) else []
    return ", ".join([*kinds, *(["iconic"] if is_iconic_error(query, answer, right) else [])])


def open_ended_page(title: str, table: str, rounds: Sequence[Mapping[str, Words]], kinds: Sequence[OpenEnded]) -> str:
    """Show each round of answers to the open-ended instructions, and which biases it follows, below a table of all."""
    parts = ['<div class="rounds">']
    for number, (answers, kind) in enumerate(zip(rounds, kinds, strict=True), start=1):
        rows = [f"<tr><td>{_escaped(query)}</td><td>{_tiles(answers[query])}</td></tr>" for query in OPEN_ENDED]
        parts.append(f'<div><h2>{number}</h2><table>{"".join(rows)}</table><p class="note">{_followed(kind)}</p></div>')
    return _page(title, table, [*parts, "</div>"])


def _followed(kind: OpenEnded) -> str:
    return ", ".join(name.replace("_", "-") for name, holds in kind._asdict().items() if holds) or "none of the biases"


def _tiles(symbols: Words) -> str:
    return (
        "".join(
            f'<span class="tile" style="background:{TILES.get(symbol, "#DDDDDD")}">{_escaped(symbol)}</span>'
            for symbol in symbols
        )
        or '<span class="note">(nothing)</span>'
    )


def _page(title: str, table: str, parts: Sequence[str], kind: str = "narrow") -> str:
    head = f'<meta charset="utf-8"><title>{_escaped(title)}</title><style>{STYLE}</style>'
    body = f"<h1>{_escaped(title)}</h1><pre>{_escaped(table)}</pre>" + "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body class="{kind}">{body}</body></html>\n'


def _escaped(text: str) -> str:
    return html.escape(text)
