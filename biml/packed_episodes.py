"""Many episodes in one file: symbols as bytes, end to end, so that a large set loads at once and costs little memory.

A packed file is a numpy archive without anything pickled. The sequences of each kind (inputs, outputs, rules)
stand one after the other as numbers of symbols, beside the length of every sequence; where an episode begins follows
from these. The file brings its own lists of symbols, in which those of random episodes come first. Letters:
N episodes, S support examples and Q queries of one episode.
"""

import itertools
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from biml.episode import Episode, Example
from biml.grammar import ARROW, INPUT_WORDS, INTERPRETED, OUTPUT_WORDS, VARIABLES, Grammar, Rule, Words, parse_rule
from biml.vocabulary import Language
from common.errors import UserError
from common.files import written_whole

Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int32]

FORMAT, FORMAT_VERSION = "biml episodes", 1
PARTS = {"symbols": np.uint8, "lengths": np.uint8, "counts": np.int32}  # of a column, with their numbers' kind
MOST = 255  # symbols of a sequence, and number of the last symbol
RULE_SYMBOLS = (*INPUT_WORDS, *OUTPUT_WORDS, *VARIABLES, *INTERPRETED, ARROW)


class Symbols(NamedTuple):
    """What the numbers stand for."""

    inputs: Words = INPUT_WORDS
    outputs: Words = OUTPUT_WORDS
    rules: Words = RULE_SYMBOLS


@dataclass(frozen=True, eq=False)
class Column:
    """The sequences of one kind of all N episodes, end to end.

    Raises:
        UserError: if the counts disagree with the lengths, or these with the symbols.
    """

    symbols: Bytes  # (sum of lengths,)
    lengths: Bytes  # (sum of counts,) symbols of each sequence
    counts: Counts  # (N,) sequences of each episode

    def __post_init__(self) -> None:
        n_sequences, n_symbols = int(self.counts.sum(dtype=np.int64)), int(self.lengths.sum(dtype=np.int64))
        if self.counts.min(initial=0) < 0 or n_sequences != len(self.lengths) or n_symbols != len(self.symbols):
            raise UserError("its numbers of sequences and symbols do not agree")

    @cached_property
    def _text(self) -> bytes:
        return self.symbols.tobytes()

    @cached_property
    def _first(self) -> list[int]:
        """Tell which sequence is each episode's first; (N + 1,)."""
        first: list[int] = _ends(self.counts).tolist()
        return first

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """Tell where each sequence begins among the symbols; (sum of counts + 1,)."""
        return _ends(self.lengths)

    def __getitem__(self, index: int) -> list[bytes]:
        """Take an episode's sequences."""
        text, starts = self._text, self._starts[self._first[index] : self._first[index + 1] + 1].tolist()
        return [text[start:end] for start, end in itertools.pairwise(starts)]

    def renumbered(self, numbers: bytes) -> "Column":
        """Put `numbers[i]` in place of each number `i`."""
        return Column(np.frombuffer(numbers, np.uint8)[self.symbols], self.lengths, self.counts)


class Columns(NamedTuple):
    """The three kinds of sequences."""

    inputs: Column
    outputs: Column
    rules: Column  # none for an episode without grammar


def _ends(sizes: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Add sizes up, from a zero on; (one more than there are sizes,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


class NumberedEpisode(NamedTuple):
    """The examples of one episode as numbers of symbols: the S of its support, then its Q queries."""

    inputs: list[bytes]
    outputs: list[bytes]
    num_support: int


@dataclass(frozen=True, eq=False)
class PackedEpisodes:
    """N episodes and where they come from.

    Raises:
        UserError: if the parts do not agree.
    """

    symbols: Symbols
    num_support: Counts  # (N,) how many of an episode's examples can be studied; the others are asked
    columns: Columns
    about: Mapping[str, Any]  # what the episodes were made with, for the reader

    def __post_init__(self) -> None:
        inputs, outputs, rules = (column.counts for column in self.columns)
        if not (len(self.num_support) == len(inputs) == len(rules) and np.array_equal(inputs, outputs)):
            raise UserError("its columns are not about the same examples")
        if (self.num_support < 0).any() or (self.num_support > inputs).any():
            raise UserError("its numbers of examples do not agree")
        for column, words in zip(self.columns, self.symbols, strict=True):
            if column.symbols.max(initial=0) >= len(words):
                raise UserError("it holds symbols that are not in its lists")

    def __len__(self) -> int:
        return len(self.num_support)

    def numbered(self, index: int) -> NumberedEpisode:
        """Take an episode's examples as numbers."""
        self._check(index)
        return NumberedEpisode(self.columns.inputs[index], self.columns.outputs[index], int(self.num_support[index]))

    def renumbered(self, language: Language) -> "PackedEpisodes":
        """Number the words of inputs and outputs as the vocabularies of a language do.

        Raises:
            UserError: if these lack a word.
        """
        inputs, outputs = language.source.encode(self.symbols.inputs), language.target.encode(self.symbols.outputs)
        columns = Columns(
            self.columns.inputs.renumbered(inputs),
            self.columns.outputs.renumbered(outputs),
            self.columns.rules,
        )
        symbols = Symbols(language.source.words, language.target.words, self.symbols.rules)
        return PackedEpisodes(symbols, self.num_support, columns, self.about)

    def grammar(self, index: int) -> Grammar | None:
        """Rebuild an episode's grammar; None if it has none."""
        self._check(index)
        rules = [self._rule(text) for text in self.columns.rules[index]]
        return Grammar(tuple(rules)) if rules else None

    @cached_property
    def _parsed(self) -> dict[bytes, Rule]:
        """Rules that have been parsed: there are far fewer than grammars."""
        return {}

    def _rule(self, text: bytes) -> Rule:
        if text not in self._parsed:
            self._parsed[text] = parse_rule(" ".join(_words(text, self.symbols.rules)))
        return self._parsed[text]

    def episode(self, index: int) -> Episode:
        """Rebuild an episode in words."""
        inputs, outputs, num_support = self.numbered(index)
        examples = tuple(
            Example(_words(given, self.symbols.inputs), _words(target, self.symbols.outputs))
            for given, target in zip(inputs, outputs, strict=True)
        )
        return Episode(examples[:num_support], examples[num_support:], self.grammar(index))

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"expected the number of an episode from 0 to {len(self) - 1}, found {index}")


def _words(text: bytes, symbols: Words) -> Words:
    return tuple(symbols[number] for number in text)


class _Filling:
    """A column that is being filled."""

    def __init__(self, number_of: dict[str, int]) -> None:
        self._number_of = number_of  # of each symbol; new ones are added
        self._symbols, self._lengths, self._counts = bytearray(), bytearray(), list[int]()

    def add(self, sequences: Sequence[Words]) -> None:
        """Add an episode's sequences."""
        number_of = self._number_of
        try:
            for words in sequences:
                self._symbols.extend([number_of.setdefault(word, len(number_of)) for word in words])
                self._lengths.append(len(words))
        except ValueError:  # not a byte
            raise UserError(
                f"a packed file takes sequences of up to {MOST} words and up to {MOST + 1} different words"
            ) from None
        self._counts.append(len(sequences))

    def column(self) -> Column:
        """End it."""
        symbols, lengths = (np.frombuffer(numbers, np.uint8) for numbers in (self._symbols, self._lengths))
        return Column(symbols, lengths, np.array(self._counts, np.int32))


def pack(episodes: Iterable[Episode], about: Mapping[str, Any]) -> PackedEpisodes:
    """Pack episodes.

    Args:
        episodes: any number of them, read once.
        about: what they were made with; anything that JSON can hold.
    Raises:
        UserError: if a sequence is too long, there are too many different words, or outputs are limited.
    """
    input_numbers, output_numbers, rule_numbers = ({word: n for n, word in enumerate(words)} for words in Symbols())
    inputs, outputs, rules = _Filling(input_numbers), _Filling(output_numbers), _Filling(rule_numbers)
    num_support = []
    for episode in episodes:
        if episode.allowed_outputs:
            raise UserError("episodes whose answers may be made of some outputs only (probes) stay text files")
        examples = (*episode.support, *episode.query)
        inputs.add([example.input for example in examples])
        outputs.add([example.output for example in examples])
        rules.add([(*rule.left, ARROW, *rule.right) for rule in (episode.grammar.rules if episode.grammar else ())])
        num_support.append(len(episode.support))
    return PackedEpisodes(
        Symbols(tuple(input_numbers), tuple(output_numbers), tuple(rule_numbers)),
        np.array(num_support, np.int32),
        Columns(*(filling.column() for filling in (inputs, outputs, rules))),
        about,
    )


def join(parts: Sequence[PackedEpisodes], about: Mapping[str, Any]) -> PackedEpisodes:
    """Put packed episodes one behind the other.

    Raises:
        UserError: if they number their symbols in different ways.
    """
    if any(part.symbols != parts[0].symbols for part in parts):
        raise UserError("only episodes with the same lists of symbols can be joined; pack them together instead")
    columns = Columns(*(_joined(column) for column in zip(*(part.columns for part in parts), strict=True)))
    return PackedEpisodes(parts[0].symbols, np.concatenate([part.num_support for part in parts]), columns, about)


def _joined(columns: Sequence[Column]) -> Column:
    return Column(*(np.concatenate([getattr(column, part) for column in columns]) for part in PARTS))


def save_packed(path: Path, packed: PackedEpisodes) -> None:
    """Write a packed file, whole or not at all; equal episodes give equal bytes."""
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "symbols": packed.symbols._asdict(),
        "about": dict(packed.about),
    }
    named = packed.columns._asdict().items()
    with written_whole(path) as file:
        np.savez(
            file,
            allow_pickle=False,
            header=np.array(json.dumps(header, allow_nan=False)),
            num_support=packed.num_support,
            **{f"{kind}_{part}": getattr(column, part) for kind, column in named for part in PARTS},
        )


def load_packed(path: Path) -> PackedEpisodes:
    """Load a packed file; nothing in it is run.

    Raises:
        UserError: if it is not there, damaged, or something else.
    """
    if not path.is_file():
        raise UserError(f"no packed episodes at {path}; make them with `python -m biml.generate`")
    path.open("rb").close()  # a file that may not be read is no damaged one
    try:
        with zipfile.ZipFile(path) as archive:
            return _rebuild({name.removesuffix(".npy"): _read(archive, name) for name in archive.namelist()})
    except Exception as error:  # whatever an ill-formed file leads to
        reason = f"no entry {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no packed episodes, or a damaged file: {reason}; nothing in it was run") from None


def _read(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _rebuild(arrays: Mapping[str, npt.NDArray[Any]]) -> PackedEpisodes:
    header = json.loads(str(arrays["header"]))
    if header["format"] != FORMAT or header["format_version"] != FORMAT_VERSION:
        found = f"{header['format']!r}, version {header['format_version']}"
        raise UserError(f"expected {FORMAT!r}, version {FORMAT_VERSION}, found {found}")
    kinds = {f"{kind}_{part}": PARTS[part] for kind in Columns._fields for part in PARTS}
    for name, kind in ({"num_support": np.int32} | kinds).items():
        if arrays[name].dtype != kind or arrays[name].ndim != 1:
            raise UserError(f"its {name} is no list of {np.dtype(kind)}")
    if arrays.get("allowed_outputs_lengths", np.zeros(1)).any():  # of earlier code, which packed probes too
        raise UserError("it holds episodes whose answers may be made of some outputs only; use their text files")
    columns = (Column(*(arrays[f"{kind}_{part}"] for part in PARTS)) for kind in Columns._fields)
    symbols = Symbols(**{kind: tuple(words) for kind, words in header["symbols"].items()})
    return PackedEpisodes(symbols, arrays["num_support"], Columns(*columns), header["about"])
