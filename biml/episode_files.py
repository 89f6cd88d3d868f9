"""Episodes as text files, one episode a file, in the published format.

    *SUPPORT*
    IN: <words> OUT: <words>          any number of such lines
    (blank)
    *QUERY*
    IN: <words> OUT: <words>          at least one
    (blank)
    *GRAMMAR*
    <words> -> <words>                any number of such lines, or one line: `allowed outputs: <words>`

Blank lines, blanks at either end of a line and a missing last newline are allowed. Episodes of people's answers have no
grammar; their outputs may include `undefined_action` and colours like `color:#ff0000;`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from biml.episode import Episode, Example
from biml.grammar import Grammar, Words, format_grammar, parse_rule
from common.errors import UserError

MARKERS = ("*SUPPORT*", "*QUERY*", "*GRAMMAR*")
IN, OUT, ALLOWED = "IN:", "OUT:", "allowed outputs:"
WORD = re.compile(r"\w+|color:#[0-9a-fA-F]{6};", re.ASCII)

Line = tuple[int, str]
"""The number of a line, from 1, and its text."""


def read_episode(path: Path) -> Episode:
    """Read an episode.

    Raises:
        UserError: if a line is malformed; the message has the file and the number of the line.
        OSError: if the file cannot be read.
    """
    support, query, last = _sections(path)
    if not query:
        raise UserError(f"{path}: expected at least one line '{IN} <words> {OUT} <words>' below {MARKERS[1]}")
    has_allowed = bool(last) and last[0][1].startswith(ALLOWED)
    return Episode(
        support=tuple(_example(path, line) for line in support),
        query=tuple(_example(path, line) for line in query),
        grammar=None if has_allowed else _grammar(path, last),
        allowed_outputs=_allowed_outputs(path, last) if has_allowed else (),
    )


def _sections(path: Path) -> list[list[Line]]:
    """Split a file at its markers, without blank lines."""
    sections: list[list[Line]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        text = line.strip()
        expected = MARKERS[len(sections)] if len(sections) < len(MARKERS) else None
        if text == expected:
            sections.append([])
        elif text.startswith("*") or (text and not sections):
            raise UserError(f"{path}:{number}: expected {expected or 'no further marker'}, found {text!r}")
        elif text:
            sections[-1].append((number, text))
    if len(sections) < len(MARKERS):
        raise UserError(f"{path}: expected {', '.join(MARKERS)} in this order, found no {MARKERS[len(sections)]}")
    return sections


def _example(path: Path, line: Line) -> Example:
    number, text = line
    tokens = text.split()
    if tokens[0] != IN or tokens.count(OUT) != 1 or tokens.index(OUT) == 1 or tokens[-1] == OUT:
        raise UserError(f"{path}:{number}: expected '{IN} <words> {OUT} <words>', found {text!r}")
    at = tokens.index(OUT)
    return Example(_checked(path, number, tokens[1:at]), _checked(path, number, tokens[at + 1 :]))


def _checked(path: Path, number: int, words: Sequence[str]) -> Words:
    for word in words:
        if not WORD.fullmatch(word):
            raise UserError(
                f"{path}:{number}: expected words of letters, digits and _, or colours like color:#ff0000; - "
                f"found {word!r}"
            )
    return tuple(words)


def _allowed_outputs(path: Path, lines: Sequence[Line]) -> Words:
    number = lines[0][0]
    words = " ".join(text for _, text in lines).removeprefix(ALLOWED).split()
    if not words:
        raise UserError(f"{path}:{number}: expected words after '{ALLOWED}', found none")
    return _checked(path, number, words)


def _grammar(path: Path, lines: Sequence[Line]) -> Grammar | None:
    rules = []
    for number, text in lines:
        try:
            rules.append(parse_rule(text))
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}") from None
    return Grammar(tuple(rules)) if rules else None


def format_episode(episode: Episode) -> str:
    """Write an episode as text; UserError if it has a grammar and allowed outputs, which share one place."""
    if episode.grammar is not None and episode.allowed_outputs:
        raise UserError("a text file holds a grammar or allowed outputs, not both")
    last = [] if episode.grammar is None else format_grammar(episode.grammar)
    last += [f"{ALLOWED} {' '.join(episode.allowed_outputs)}"] if episode.allowed_outputs else []
    examples = [
        [f"{IN} {' '.join(example.input)} {OUT} {' '.join(example.output)}" for example in part]
        for part in (episode.support, episode.query)
    ]
    sections = zip(MARKERS, (*examples, last), strict=True)
    return "\n\n".join("\n".join([marker, *lines]) for marker, lines in sections) + "\n"


def episode_paths(folder: Path) -> list[Path]:
    """List the episodes in a folder, by name."""
    return sorted(folder.glob("*.txt"))
