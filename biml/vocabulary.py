"""Symbols and their numbers, as the networks see them. A sequence of symbols is a `bytes`, one byte a symbol.

Every vocabulary ends with SOS (start, and the border between items), EOS (end) and PAD. The source's vocabulary also
has the symbols of the target's, since study examples show both, and IO, which stands between their sides.

Source: Lake & Baroni 2023, Methods.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from biml.grammar import INPUT_WORDS, OUTPUT_WORDS, Words
from common.errors import UserError

IO = "IO"  # between the sides of a study example
CANONICAL_INPUTS = ("1", "2", "3", "DAX", "after", "surround", "thrice")  # of the few-shot benchmark
CANONICAL_OUTPUTS = ("1", "2", "3", "DAX")


@dataclass(frozen=True)
class Vocabulary:
    """Words numbered in their order, then SOS, EOS and PAD."""

    words: Words

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @property
    def sos(self) -> int:
        """Start symbol."""
        return len(self.words)

    @property
    def eos(self) -> int:
        """End symbol."""
        return len(self.words) + 1

    @property
    def pad(self) -> int:
        """Padding, after the end."""
        return len(self.words) + 2

    def __len__(self) -> int:
        return len(self.words) + 3

    def encode(self, words: Iterable[str]) -> bytes:
        """Turn words into numbers; for an unknown one UserError lists the known ones."""
        try:
            return bytes([self.numbers[word] for word in words])
        except KeyError as error:
            raise UserError(f"unknown word {error.args[0]!r}; known are {' '.join(self.words)}") from None

    def decode(self, symbols: Sequence[int]) -> Words:
        """Turn numbers into words; SOS and PAD, which a network may produce, become <SOS> and <PAD>."""
        names = (*self.words, "<SOS>", "<EOS>", "<PAD>")
        return tuple(names[number] for number in symbols)


@dataclass(frozen=True)
class Language:
    """The vocabularies of the source and of the target."""

    source: Vocabulary
    target: Vocabulary

    @cached_property
    def target_in_source(self) -> bytes:
        """A table for bytes.translate: the number that each word of the target has in the source."""
        table = bytearray(256)
        table[: len(self.target.words)] = self.source.encode(self.target.words)
        return bytes(table)


MAIN = Language(Vocabulary(tuple(sorted((*INPUT_WORDS, *OUTPUT_WORDS, IO)))), Vocabulary(OUTPUT_WORDS))
VANILLA = Language(
    Vocabulary(tuple(sorted({*CANONICAL_INPUTS, *CANONICAL_OUTPUTS, IO}))), Vocabulary(tuple(sorted(CANONICAL_OUTPUTS)))
)
