"""The behaviour probes of the paper's supplement, whose files come with people's answers."""

from typing import NamedTuple

from biml.episode import Example
from biml.grammar import Words

PROBES = {  # study, query, pool
    "ME_1ex_2pool": ("p1 : c1", "p2", 2),
    "ME_1ex_6pool": ("p1 : c1", "p2", 6),
    "ME_2ex_2pool": ("p1 : c1, p2 : c1", "p3", 2),
    "ME_2ex_6pool": ("p1 : c1, p2 : c1", "p3", 6),
    "ME_3ex_2pool": ("p1 : c1, p2 : c1, p3 : c1", "p4", 2),
    "ME_3ex_6pool": ("p1 : c1, p2 : c1, p3 : c1", "p4", 6),
    "concat_11_testp1p2": ("p1 : c1, p2 : c2", "p1 p2", 2),
    "concat_11_testp2p1p1": ("p1 : c1, p2 : c2", "p2 p1 p1", 2),
    "concat_32": ("p1 : c1 c1 c1, p2 : c2 c2", "p1 p2", 2),
    "default_testp3": ("p1 : c1, p2 : c2", "p3", 2),
    "default_testp1p3": ("p1 : c1, p2 : c2", "p1 p3", 2),
    "default_testp1p3p2": ("p1 : c1, p2 : c2", "p1 p3 p2", 2),
}


class Probe(NamedTuple):
    """A question to which no answer is the right one."""

    support: tuple[Example, ...]
    query: Words
    allowed_outputs: Words


def probes():
    """List the probes by name."""
    found = {}
    for name, (support, query, size) in PROBES.items():
        pairs = (one.split(" : ") for one in support.split(", "))
        shown = tuple(Example(tuple(words.split()), tuple(output.split())) for words, output in pairs)
        found[name] = Probe(shown, tuple(query.split()), tuple(f"c{number}" for number in range(1, size + 1)))
    return found
