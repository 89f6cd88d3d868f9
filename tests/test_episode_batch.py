"""Symbols become tensors and come back; every sequence ends in EOS and is padded with SOS."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from words import encode_words

from episode_batch import (
    Sequences,
    Vocabulary,
    encode,
    episode_from_items,
    items_of,
    vocabularies_of,
)
from generate_episode import EpisodeSampler, find_experiment
from scan_util import INPUT_WORDS, OUTPUT_WORDS, Item

INPUTS, OUTPUTS = Vocabulary(INPUT_WORDS), Vocabulary(OUTPUT_WORDS)
JUMP, TURN_LEFT = Item(("jump",), ("I_JUMP",)), Item(("turn", "left"), ("I_TURN_LEFT",))
LOOK_TWICE = Item(("look", "twice"), ("I_LOOK", "I_LOOK"))

sentences = st.lists(st.sampled_from(INPUT_WORDS), max_size=12).map(tuple)
texts = st.lists(sentences, min_size=1, max_size=8)
made_up_items = st.builds(
    Item,
    st.lists(st.sampled_from(INPUT_WORDS), min_size=1, max_size=9).map(tuple),
    st.lists(st.sampled_from(OUTPUT_WORDS), min_size=1, max_size=12).map(tuple),
)


@given(st.lists(st.text("abcde_1", min_size=1, max_size=4), unique=True, max_size=20).map(tuple))
def test_a_vocabulary_has_two_symbols_more_than_words(words):
    """n words are numbers 0 to n - 1; SOS is n and EOS n + 1, as in the original release."""
    vocabulary = Vocabulary(words)
    assert (vocabulary.sos, vocabulary.eos, len(vocabulary)) == (len(words), len(words) + 1, len(words) + 2)
    assert vocabulary.decode(range(len(words))) == words


@given(texts)
def test_decoding_undoes_encoding(text):
    """Every row reads as the words it was made of, padded or not."""
    encoded = encode_words(text, INPUTS)
    assert [INPUTS.decode(row) for row in encoded.symbols.tolist()] == text


@given(texts)
def test_sequences_end_in_eos_and_are_padded_with_sos(text):
    """One EOS after the last word, SOS from there on, as short as the longest allows; lengths count the EOS."""
    encoded = encode_words(text, INPUTS)
    assert encoded.symbols.dtype == encoded.lengths.dtype == torch.int64
    assert encoded.lengths.tolist() == [len(words) + 1 for words in text]
    assert encoded.symbols.shape == (len(text), max(len(words) for words in text) + 1)
    for row, words in zip(encoded.symbols.tolist(), text, strict=True):
        end = [INPUTS.eos] + [INPUTS.sos] * (len(row) - len(words) - 1)
        assert row == [INPUT_WORDS.index(word) for word in words] + end


def test_decoding_stops_at_the_first_eos():
    """What follows an EOS means nothing; without one everything is read, SOS as itself."""
    jump, run = OUTPUT_WORDS.index("I_JUMP"), OUTPUT_WORDS.index("I_RUN")
    assert OUTPUTS.decode([jump, OUTPUTS.eos, run, OUTPUTS.eos]) == ("I_JUMP",)
    assert OUTPUTS.decode([OUTPUTS.eos, jump]) == ()
    assert OUTPUTS.decode([jump, OUTPUTS.sos, run]) == ("I_JUMP", "SOS", "I_RUN")


@pytest.mark.parametrize("unknown", ["hop", "I_JUMP", "Jump", "SOS", "EOS", ""])
def test_an_unknown_word_is_named(unknown):
    """The message has the word and those that are known; the two symbols of our own are no words."""
    with pytest.raises(ValueError) as error:
        encode_words([("jump", "twice"), ("look", unknown)], INPUTS)
    assert f"unknown word {unknown!r}" in str(error.value)
    assert all(word in str(error.value) for word in INPUT_WORDS)
    with pytest.raises(ValueError, match="unknown word"):
        episode_from_items([Item((unknown,), ("I_JUMP",))], [JUMP], INPUTS, OUTPUTS)
    with pytest.raises(ValueError, match="unknown word"):
        episode_from_items([JUMP], [Item(("jump",), ("I_RUN", unknown, "jump"))], INPUTS, OUTPUTS)


@given(texts, st.data())
def test_picked_rows_are_as_if_encoded_alone(text, data):
    """Picking sequences, in any order and repeatedly, cuts the padding that none of them needs."""
    numbers = data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1))
    picked = encode_words(text, INPUTS).rows(torch.tensor(numbers))
    alone = encode_words([text[number] for number in numbers], INPUTS)
    assert torch.equal(picked.symbols, alone.symbols)
    assert torch.equal(picked.lengths, alone.lengths)


def test_lengths_stay_on_the_cpu():
    """Moving a batch moves symbols only: packing needs the lengths where they are."""
    moved = Sequences(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 2])).to(torch.device("meta"))
    assert (moved.symbols.device.type, moved.lengths.device.type) == ("meta", "cpu")
    batch = encode(episode_from_items([JUMP], [JUMP, TURN_LEFT], INPUTS, OUTPUTS), INPUTS, OUTPUTS)
    moved_batch = batch.to(torch.device("meta"))
    for name in ("support_in", "support_out", "query_in", "query_out"):
        assert getattr(moved_batch, name).symbols.is_meta
        assert torch.equal(getattr(moved_batch, name).lengths, getattr(batch, name).lengths)
    assert torch.equal(moved_batch.is_support, batch.is_support)


@settings(max_examples=30)
@given(st.lists(made_up_items, min_size=1, max_size=6), st.lists(made_up_items, min_size=1, max_size=6))
def test_an_episode_of_items_reads_back_as_these_items(support, query):
    """items_of undoes episode_from_items, in order, and so do the tensors."""
    episode = episode_from_items(support, query, INPUTS, OUTPUTS, "jump -> I_RUN")
    assert items_of(episode.support, INPUTS, OUTPUTS) == support
    assert items_of(episode.query, INPUTS, OUTPUTS) == query
    assert episode.mapping == "jump -> I_RUN"
    batch = encode(episode, INPUTS, OUTPUTS)
    for inputs, outputs, items in (
        (batch.support_in, batch.support_out, support),
        (batch.query_in, batch.query_out, query),
    ):
        assert [INPUTS.decode(row) for row in inputs.symbols.tolist()] == [item.input for item in items]
        assert [OUTPUTS.decode(row) for row in outputs.symbols.tolist()] == [item.output for item in items]


def test_a_query_that_equals_a_support_item_is_marked():
    """Input and output must both be the same; the order and repetitions do not matter."""
    other_jump = Item(JUMP.input, LOOK_TWICE.output)
    queries = [TURN_LEFT, other_jump, JUMP, LOOK_TWICE, JUMP]
    episode = episode_from_items([JUMP, TURN_LEFT], queries, INPUTS, OUTPUTS)
    assert episode.is_support.tolist() == [True, False, True, False, True]
    assert episode.is_support.dtype == np.bool_
    assert encode(episode, INPUTS, OUTPUTS).is_support.tolist() == episode.is_support.tolist()


@pytest.mark.parametrize("support_loss", [True, False])
def test_a_drawn_episode_survives_being_written_in_words(data_dir, support_loss):
    """Drawn, read as words and made again, an episode gives the very same tensors and marks."""
    experiment = find_experiment("ME")
    vocabularies = vocabularies_of(experiment)
    for drawn in EpisodeSampler(experiment, data_dir, support_loss).validation_episodes(np.random.default_rng(0)):
        support, query = (items_of(pairs, *vocabularies) for pairs in (drawn.support, drawn.query))
        made = episode_from_items(support, query, *vocabularies, drawn.mapping)
        before, after = encode(drawn, *vocabularies), encode(made, *vocabularies)
        for name in ("support_in", "support_out", "query_in", "query_out"):
            assert torch.equal(getattr(before, name).symbols, getattr(after, name).symbols)
            assert torch.equal(getattr(before, name).lengths, getattr(after, name).lengths)
        assert before.is_support.tolist() == after.is_support.tolist() == drawn.is_support.tolist()
        assert sum(before.is_support.tolist()) == (3 if support_loss else 0)
