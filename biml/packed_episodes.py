"""Many episodes in one file: symbols as bytes, end to end, so that 100,000 episodes take 26 MB and load at once.

A packed file is a numpy archive without pickles. The sequences of each kind (inputs, outputs, rules) follow one another
as numbers of symbols, and the file lists the words that the numbers stand for. Letters: N episodes.
"""

import functools
import itertools
import json
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biml.episode import Episode, Example
from biml.grammar import ARROW, INPUT_WORDS, INTERPRETED, OUTPUT_WORDS, VARIABLES, Grammar, Words, parse_rule
from biml.vocabulary import Language
from common.command_line import in_one_line
from common.errors import UserError
from common.files import written_whole

FORMAT, FORMAT_VERSION = "biml episodes", 1
KINDS: dict[str, Words] = {  # of sequences, and the words that have the first numbers
    "inputs": INPUT_WORDS,
    "outputs": OUTPUT_WORDS,
    "rules": (*INPUT_WORDS, *OUTPUT_WORDS, *VARIABLES, *INTERPRETED, ARROW),
}
PARTS: dict[str, npt.DTypeLike] = {  # of a kind
    "symbols": np.uint8,  # of all sequences
    "lengths": np.uint8,  # of each sequence
    "counts": np.int32,  # (N,) sequences of each episode
}
ARRAYS: dict[str, npt.DTypeLike] = {  # in a file
    "num_support": np.int32,  # (N,) how many of an episode's examples can be studied; the others are asked
    **{f"{kind}_{part}": dtype for kind in KINDS for part, dtype in PARTS.items()},
}
MOST = 255  # symbols of a sequence, and number of the last symbol


def _starts(sizes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Add up sizes: where each part begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


class PackedEpisodes:
    """N episodes and what they were made with.

    Args:
        words: for each kind, what the numbers stand for.
        arrays: those of ARRAYS.
        about: what the episodes were made with.
    Raises:
        UserError: if the arrays contradict one another.
    """

    def __init__(
        self, words: Mapping[str, Words], arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, Any]
    ) -> None:
        self.words, self.arrays, self.about = words, arrays, about
        for name, dtype in ARRAYS.items():
            if arrays[name].dtype != dtype or arrays[name].ndim != 1:
                raise UserError(f"its {name} is no list of {np.dtype(dtype)}")
        self.num_support, self._symbols = arrays["num_support"], {}
        self._first, self._starts = {}, {}  # sequence of each episode, symbol of each sequence
        for kind in KINDS:
            symbols, lengths, counts = (arrays[f"{kind}_{part}"] for part in PARTS)
            self._symbols[kind] = symbols.tobytes()
            self._first[kind], self._starts[kind] = _starts(counts), _starts(lengths)
            ends = self._first[kind][-1], self._starts[kind][-1]
            if len(counts) != len(self) or counts.min(initial=0) < 0 or ends != (len(lengths), len(symbols)):
                raise UserError(f"its numbers of {kind} and their symbols contradict one another")
            if symbols.max(initial=0) >= len(words[kind]):
                raise UserError(f"its {kind} have symbols that are not in its list")
        n_examples = arrays["inputs_counts"]
        is_right = (self.num_support >= 0) & (self.num_support <= n_examples) & (n_examples == arrays["outputs_counts"])
        if not is_right.all():
            raise UserError("its numbers of examples contradict one another")

    def __len__(self) -> int:
        return len(self.num_support)

    def _sequences(self, kind: str, index: int) -> list[bytes]:
        first = self._first[kind]
        starts = self._starts[kind][first[index] : first[index + 1] + 1].tolist()
        return [self._symbols[kind][start:end] for start, end in itertools.pairwise(starts)]

    def _in_words(self, kind: str, index: int) -> list[Words]:
        words = self.words[kind]
        return [tuple([words[number] for number in symbols]) for symbols in self._sequences(kind, index)]

    def numbered(self, index: int) -> tuple[list[bytes], list[bytes], int]:
        """Take an episode as numbers: all inputs and outputs, and how many of the first ones can be studied."""
        return self._sequences("inputs", index), self._sequences("outputs", index), int(self.num_support[index])

    def grammar(self, index: int) -> Grammar | None:
        """Take an episode's grammar; None if it has none."""
        rules = tuple(_rule(" ".join(words)) for words in self._in_words("rules", index))
        return Grammar(rules) if rules else None

    def episode(self, index: int) -> Episode:
        """Take an episode in words."""
        examples = tuple(map(Example, self._in_words("inputs", index), self._in_words("outputs", index)))
        n_support = self.num_support[index]
        return Episode(examples[:n_support], examples[n_support:], self.grammar(index))

    def renumbered(self, language: Language) -> "PackedEpisodes":
        """Number inputs and outputs as the vocabularies of a language do; UserError if these lack a word."""
        words, arrays = {**self.words}, {**self.arrays}
        for kind, vocabulary in (("inputs", language.source), ("outputs", language.target)):
            numbers = np.frombuffer(vocabulary.encode(words[kind]), np.uint8)
            words[kind], arrays[f"{kind}_symbols"] = vocabulary.words, numbers[arrays[f"{kind}_symbols"]]
        return PackedEpisodes(words, arrays, self.about)


_rule = functools.cache(parse_rule)  # there are far fewer rules than grammars


def pack(episodes: Iterable[Episode], about: Mapping[str, Any]) -> PackedEpisodes:
    """Pack episodes, read once, and what they were made with, anything that JSON can hold.

    UserError if a sequence is too long, there are too many different words, or outputs are limited.
    """
    numbers = {kind: {word: number for number, word in enumerate(words)} for kind, words in KINDS.items()}
    arrays: dict[str, array[int]] = {name: array("B" if ARRAYS[name] is np.uint8 else "i") for name in ARRAYS}
    for episode in episodes:
        if episode.allowed_outputs:
            raise UserError("episodes whose answers may be made of some outputs only (probes) stay text files")
        arrays["num_support"].append(len(episode.support))
        rules = [(*rule.left, ARROW, *rule.right) for rule in (episode.grammar.rules if episode.grammar else ())]
        inputs, outputs = zip(*episode.support, *episode.query, strict=True)
        for kind, sequences in (("inputs", inputs), ("outputs", outputs), ("rules", rules)):
            number_of = numbers[kind]  # new words get the next numbers
            try:
                found = [number_of.setdefault(word, len(number_of)) for sequence in sequences for word in sequence]
                arrays[f"{kind}_symbols"].extend(found)
                arrays[f"{kind}_lengths"].extend(map(len, sequences))
            except OverflowError:  # not a byte
                most = f"up to {MOST} words and up to {MOST + 1} different words"
                raise UserError(f"a packed file takes sequences of {most}") from None
            arrays[f"{kind}_counts"].append(len(sequences))
    words = {kind: tuple(number_of) for kind, number_of in numbers.items()}
    return PackedEpisodes(words, {name: np.array(values, ARRAYS[name]) for name, values in arrays.items()}, about)


def save_packed(path: Path, packed: PackedEpisodes) -> None:
    """Write a packed file, whole or not at all; equal episodes give equal bytes."""
    about = {"symbols": packed.words, "about": dict(packed.about)}
    header = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **about}, allow_nan=False)
    with written_whole(path) as file:
        np.savez(file, allow_pickle=False, header=np.array(header), **packed.arrays)


def load_packed(path: Path) -> PackedEpisodes:
    """Load a packed file, and run nothing in it; UserError if it is missing, damaged, or something else."""
    if not path.is_file():
        raise UserError(f"no packed episodes at {path}; make them with `python -m biml.generate`")
    path.open("rb").close()  # a file that may not be read is not damaged
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            found = header["format"], header["format_version"]
            if found != (FORMAT, FORMAT_VERSION):
                raise UserError(
                    f"expected {FORMAT!r}, version {FORMAT_VERSION}, found {found[0]!r}, version {found[1]}"
                )
            words = {kind: tuple(header["symbols"][kind]) for kind in KINDS}
            return PackedEpisodes(words, {name: archive[name] for name in ARRAYS}, header["about"])
    except Exception as error:  # whatever an ill-formed file leads to
        reason = str(error) if isinstance(error, UserError) else in_one_line(error)
        raise UserError(f"{path}: no packed episodes, or a damaged file: {reason}; nothing in it was run") from None
