"""Symbols become tensors and come back; every sequence ends in EOS and is padded with SOS."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from words import encode_words

from episode_batch import Vocabulary, encode, episode_from_items, items_of
from scan_util import INPUT_WORDS, OUTPUT_WORDS, Item

INPUTS, OUTPUTS = Vocabulary(INPUT_WORDS), Vocabulary(OUTPUT_WORDS)
JUMP, TURN_LEFT = Item(("jump",), ("I_JUMP",)), Item(("turn", "left"), ("I_TURN_LEFT",))
PARTS = ("support_in", "support_out", "query_in", "query_out")

texts = st.lists(st.lists(st.sampled_from(INPUT_WORDS), max_size=12).map(tuple), min_size=1, max_size=8)
sides = (st.lists(st.sampled_from(words), min_size=1, max_size=9).map(tuple) for words in (INPUT_WORDS, OUTPUT_WORDS))
made_up_items = st.lists(st.builds(Item, *sides), min_size=1, max_size=6)


def assert_same(sequences, others):
    assert torch.equal(sequences.symbols, others.symbols)
    assert torch.equal(sequences.lengths, others.lengths)


@given(texts)
def test_sequences_end_in_eos_and_are_padded_with_sos(text):
    """One EOS after the last word, SOS from there on, as short as the longest allows; decoded, the words come back."""
    encoded = encode_words(text, INPUTS)
    assert encoded.symbols.dtype == encoded.lengths.dtype == torch.int64
    assert encoded.lengths.tolist() == [len(words) + 1 for words in text]  # EOS counts
    assert encoded.symbols.shape == (len(text), max(len(words) for words in text) + 1)
    for row, words in zip(encoded.symbols.tolist(), text, strict=True):
        end = [INPUTS.eos] + [INPUTS.sos] * (len(row) - len(words) - 1)
        assert row == [INPUT_WORDS.index(word) for word in words] + end
        assert INPUTS.decode(row) == words


def test_decoding_stops_at_the_first_eos():
    """n words are numbers 0 to n - 1, SOS is n and EOS n + 1, as in the original release; SOS reads as itself."""
    jump, run, eos = OUTPUT_WORDS.index("I_JUMP"), OUTPUT_WORDS.index("I_RUN"), len(OUTPUT_WORDS) + 1
    assert (OUTPUTS.sos, OUTPUTS.eos, len(OUTPUTS)) == (eos - 1, eos, eos + 1)
    assert OUTPUTS.decode([jump, eos, run, eos]) == ("I_JUMP",)
    assert OUTPUTS.decode([eos, jump]) == ()
    assert OUTPUTS.decode([jump, eos - 1, run]) == ("I_JUMP", "SOS", "I_RUN")


@pytest.mark.parametrize("unknown", ["hop", "Jump", "SOS", "EOS", ""])
@pytest.mark.parametrize("known", [INPUT_WORDS, OUTPUT_WORDS], ids=["input", "output"])
def test_an_unknown_word_is_named(known, unknown):
    """The message has the word and those that are known; our own two symbols are no words."""
    wrong = Item(("look", unknown), ("I_LOOK",)) if known is INPUT_WORDS else Item(("look",), ("I_LOOK", unknown))
    for support, query in (([JUMP, wrong], [JUMP]), ([JUMP], [TURN_LEFT, wrong])):
        with pytest.raises(ValueError, match=f"unknown word {unknown!r}; the known ones are {', '.join(known)}"):
            episode_from_items(support, query, INPUTS, OUTPUTS)


@given(texts, st.data())
def test_picked_rows_are_as_if_encoded_alone(text, data):
    """Picking sequences, in any order and repeatedly, cuts the padding that none of them needs."""
    numbers = data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1))
    picked = encode_words(text, INPUTS).rows(torch.tensor(numbers))
    assert_same(picked, encode_words([text[number] for number in numbers], INPUTS))


def test_lengths_stay_on_the_cpu():
    """Moving a batch moves symbols only: packing needs the lengths where they are."""
    batch = encode(episode_from_items([JUMP], [JUMP, TURN_LEFT], INPUTS, OUTPUTS), INPUTS, OUTPUTS)
    moved = batch.to(torch.device("meta"))
    for name in PARTS:
        assert getattr(moved, name).symbols.is_meta
        assert torch.equal(getattr(moved, name).lengths, getattr(batch, name).lengths)
    assert torch.equal(moved.is_support, batch.is_support)


@settings(max_examples=30)
@given(made_up_items, made_up_items)
def test_an_episode_of_items_reads_back_as_these_items(support, query):
    """items_of undoes episode_from_items, in order, and so do the tensors; a query shown with its output is marked."""
    query = [*query, support[0], Item(support[0].input, (*support[0].output, "I_RUN"))]
    episode = episode_from_items(support, query, INPUTS, OUTPUTS, "jump -> I_RUN")
    assert items_of(episode.support, INPUTS, OUTPUTS) == support
    assert items_of(episode.query, INPUTS, OUTPUTS) == query
    assert episode.mapping == "jump -> I_RUN"
    assert episode.is_support.tolist() == [item in support for item in query]
    assert episode.is_support.dtype == np.bool_
    batch = encode(episode, INPUTS, OUTPUTS)
    assert batch.is_support.tolist() == episode.is_support.tolist()
    sides = [words for items in (support, query) for words in zip(*items, strict=True)]
    for name, vocabulary, words in zip(PARTS, (INPUTS, OUTPUTS) * 2, sides, strict=True):
        assert_same(getattr(batch, name), encode_words(words, vocabulary))
