"""The fixed tasks that people were given too: few-shot instructions and open-ended instructions.

The first consist of canonical symbols and the others of roles (p1, c1); both get random words and colours before a
network sees them. People's answers are not here, nor are the behaviour probes, which come with them.

Source: Lake & Baroni 2023.
"""

from biml.episode import Episode, Example
from biml.grammar import MINI_SCAN, Words

GOLD_SUPPORT = (
    *("1", "2", "3", "DAX", "2 after 3", "1 after 2", "1 thrice", "2 thrice", "2 surround 3", "3 surround 1"),
    *("2 thrice after 3", "2 after 3 thrice", "3 after 1 surround 2", "3 surround 1 after 2"),
)
GOLD_QUERIES = (
    *("3 after DAX", "DAX after 1", "DAX thrice", "1 surround DAX", "DAX surround 2"),  # the simple ones
    *("2 after 3 surround DAX", "DAX thrice after 2", "3 after DAX thrice"),
    *("DAX surround DAX after DAX thrice", "DAX surround 3 after 1 thrice"),
)
OPEN_ENDED = ("p1", "p1 p1", "p1 p2", "p3 p1", "p1 p4 p5", "p1 p4 p1", "p5 p4 p1")
"""Instructions of the open-ended task, which has no study examples."""
OPEN_ENDED_COLOURS = ("c1", "c2", "c3", "c4", "c5", "c6")


def gold_episode() -> Episode:
    """Make the few-shot benchmark; its grammar is mini-SCAN."""
    support, query = (
        tuple(Example(words, MINI_SCAN.interpret(words)) for words in map(split, commands))
        for commands in (GOLD_SUPPORT, GOLD_QUERIES)
    )
    return Episode(support, query, MINI_SCAN)


def open_ended_episode() -> Episode:
    """Make the open-ended instructions; the answers are placeholders, one colour each."""
    query = tuple(Example(split(text), OPEN_ENDED_COLOURS[:1]) for text in OPEN_ENDED)
    return Episode((), query, None, OPEN_ENDED_COLOURS)


def split(text: str) -> Words:
    """Split text into words."""
    return tuple(text.split())
