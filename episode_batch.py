"""From symbols to tensors and back: vocabularies, EOS, padding, and episodes as plain data.

Every sequence ends in EOS and is padded with SOS, which also starts the decoder; a vocabulary of n words therefore has
n + 2 symbols, SOS being number n and EOS number n + 1 (as in the original release, so that its weights fit).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generate_episode import Episode, Experiment, IntArray, Pairs, number_items
from scan_util import Item


@dataclass(frozen=True)
class Vocabulary:
    """The words of one side, input or output, and the numbers of its symbols."""

    words: tuple[str, ...]

    @property
    def sos(self) -> int:
        """Number of the start-of-sequence symbol, which is also the padding."""
        return len(self.words)

    @property
    def eos(self) -> int:
        """Number of the end-of-sequence symbol."""
        return len(self.words) + 1

    def __len__(self) -> int:
        return len(self.words) + 2

    def decode(self, symbols: Iterable[int]) -> tuple[str, ...]:
        """Read symbol numbers up to the first EOS as words; SOS reads as `SOS`, should a network produce it."""
        words = []
        for symbol in symbols:
            if symbol == self.eos:
                break
            words.append("SOS" if symbol == self.sos else self.words[symbol])
        return tuple(words)


def vocabularies_of(experiment: Experiment) -> tuple[Vocabulary, Vocabulary]:
    """Make the input and the output vocabulary of an experiment; its episodes' symbol numbers are theirs."""
    return Vocabulary(experiment.input_words), Vocabulary(experiment.output_words)


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences: symbols (N, T) int64 with EOS and padding; lengths (N,) int64, EOS included, on the CPU."""

    symbols: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "Sequences":
        """Move the symbols to a device; the lengths stay on the CPU, where packing needs them."""
        return Sequences(self.symbols.to(device, non_blocking=True), self.lengths)

    def rows(self, chosen: Tensor) -> "Sequences":
        """Pick sequences by number and cut the padding that no picked one needs."""
        lengths = self.lengths[chosen]
        return Sequences(self.symbols[chosen.to(self.symbols.device), : int(lengths.max())], lengths)


@dataclass(frozen=True)
class EpisodeBatch:
    """An episode as tensors: S support items, Q queries and which queries are support items, (Q,) bool on the CPU."""

    support_in: Sequences
    support_out: Sequences
    query_in: Sequences
    query_out: Sequences
    is_support: Tensor

    def to(self, device: torch.device) -> "EpisodeBatch":
        """Move the symbols to a device."""
        return EpisodeBatch(
            self.support_in.to(device),
            self.support_out.to(device),
            self.query_in.to(device),
            self.query_out.to(device),
            self.is_support,
        )


def pad(symbols: IntArray, lengths: IntArray, vocabulary: Vocabulary) -> Sequences:
    """End sequences (N, T) of the given lengths, (N,), in EOS and pad them with SOS, as short as the longest allows."""
    step = np.arange(int(lengths.max(initial=0)) + 1)
    end = lengths[:, None]
    ended = np.where(step == end, vocabulary.eos, vocabulary.sos)
    is_word = step[:-1] < end
    np.copyto(ended[:, :-1], symbols[:, : len(step) - 1], where=is_word)
    return Sequences(torch.from_numpy(ended), torch.from_numpy(lengths + 1))


def encode(episode: Episode, input_vocabulary: Vocabulary, output_vocabulary: Vocabulary) -> EpisodeBatch:
    """Turn an episode, numbered by the two vocabularies, into tensors."""
    support, query = episode.support, episode.query
    return EpisodeBatch(
        pad(support.inputs, support.input_lengths, input_vocabulary),
        pad(support.outputs, support.output_lengths, output_vocabulary),
        pad(query.inputs, query.input_lengths, input_vocabulary),
        pad(query.outputs, query.output_lengths, output_vocabulary),
        torch.from_numpy(episode.is_support),
    )


def episode_from_items(
    support: Sequence[Item],
    query: Sequence[Item],
    input_vocabulary: Vocabulary,
    output_vocabulary: Vocabulary,
    mapping: str = "",
) -> Episode:
    """Make an episode of given items; a query that equals a support item counts as one.

    Raises:
        UserError: if a word is unknown.
    """
    words, shown = (input_vocabulary.words, output_vocabulary.words), set(support)
    is_support = np.array([item in shown for item in query], dtype=bool)
    return Episode(number_items(support, *words), number_items(query, *words), is_support, mapping)


def items_of(pairs: Pairs, input_vocabulary: Vocabulary, output_vocabulary: Vocabulary) -> list[Item]:
    """Read items back as words."""
    arrays = (array.tolist() for array in pairs)
    return [
        Item(input_vocabulary.decode(i[:i_length]), output_vocabulary.decode(o[:o_length]))
        for i, i_length, o, o_length in zip(*arrays, strict=True)
    ]
