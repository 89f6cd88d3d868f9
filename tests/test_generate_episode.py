"""Episodes hold the items and the mappings of the paper, and training never sees what is held out."""

import functools
import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from script_runs import run_file

import generate_episode
from episode_batch import items_of, vocabularies_of
from generate_episode import (
    EXPERIMENTS,
    ME_MEANINGS,
    POOLS,
    SCAN_FILE_OF,
    Draw,
    Episode,
    EpisodeSampler,
    Language,
    find_experiment,
    identify,
    number_pool,
    number_sequences,
    scan_files,
)
from scan_util import ACTION_OF, TURN_OF, Item, all_items, contains, interpret, split_items, split_path

EPISODE_TYPES = ("ME", "scan_prim_permutation", "scan_prim_augmentation", "scan_around_right", "scan_length")
SCAN_TYPES = EPISODE_TYPES[1:]
N_SUPPORT = dict.fromkeys(EPISODE_TYPES, 20) | {"ME": 3, "scan_length": 100}
N_QUERY = 20
HELD_OUT = {  # what must not all be in one training mapping
    "scan_prim_permutation": {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"},
    "scan_prim_augmentation": {"jump": "I_JUMP"},
    "scan_around_right": {"right": "I_TURN_RIGHT"},
    "scan_length": {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"},
}
ORIGINAL = {name: TURN_OF if name == "scan_around_right" else ACTION_OF for name in SCAN_TYPES}
ROOT = Path(__file__).resolve().parent.parent
N_MAPPINGS, N_EPISODES = 3000, 150

every_type = pytest.mark.parametrize("episode_type", EPISODE_TYPES)
every_scan_type = pytest.mark.parametrize("episode_type", SCAN_TYPES)


class Drawn(NamedTuple):
    """What one seed gives for an episode type: all of the mappings, the episodes of the first ones."""

    sampler: EpisodeSampler
    validation: list[Episode]
    training: list[Episode]
    mappings: list[str]


@pytest.fixture(scope="module")
def drawn(data_dir):
    @functools.cache
    def draw(episode_type):
        sampler = EpisodeSampler(find_experiment(episode_type), data_dir, support_loss=True)
        validation = sampler.validation_episodes(np.random.default_rng(0))
        excluded, rng = {one.mapping for one in validation}, np.random.default_rng(1)
        episodes, mappings = [], []
        for number in range(N_MAPPINGS):
            episode = sampler.training_episode(rng, excluded)
            mappings.append(episode.mapping)
            if number < N_EPISODES:
                episodes.append(episode)
        return Drawn(sampler, validation, episodes, mappings)

    return draw


def pairs_of(mapping):
    """The words and their meanings that an identifier names."""
    return dict(pair.split(" -> ") for pair in mapping.split(", "))


def items(sampler, pairs):
    experiment = sampler.experiment
    return items_of(pairs, *vocabularies_of(experiment))


def support_and_queries(sampler, episode):
    """An episode's items in words, without the support items among the queries."""
    return items(sampler, episode.support), items(sampler, episode.query)[:N_QUERY]


def unmapped(sampler, item, mapping):
    """Undo a mapping: its words become words of SCAN or ME, in any order, and its meanings theirs."""
    slots = sampler.experiment.slots
    words = dict(zip(mapping, slots, strict=True))
    meanings = dict(zip(mapping.values(), slots.values(), strict=True))
    return Item(tuple(words.get(w, w) for w in item.input), tuple(meanings.get(a, a) for a in item.output))


# Mappings


@every_type
def test_a_validation_mapping_never_appears_in_training(drawn, episode_type):
    """Of thousands of training episodes none has the mapping of a validation episode."""
    assert not {one.mapping for one in drawn(episode_type).validation} & set(drawn(episode_type).mappings)


@every_scan_type
def test_a_held_out_meaning_never_appears_in_training(drawn, episode_type):
    """Of thousands of training episodes none gives the held-out words their meanings of SCAN."""
    held_out = HELD_OUT[episode_type].items()
    assert not any(held_out <= pairs_of(mapping).items() for mapping in drawn(episode_type).mappings)


@pytest.mark.parametrize("episode_type", SCAN_TYPES[:3])
def test_held_out_meanings_are_drawn_and_then_refused(drawn, episode_type):
    """Without the rule the held-out meanings would turn up: the two tests above are not empty."""
    sampler, rng = drawn(episode_type).sampler, np.random.default_rng(2)
    mappings = [sampler.draw_mapping(rng) for _ in range(N_MAPPINGS)]
    assert sum(HELD_OUT[episode_type].items() <= mapping.items() for mapping in mappings) > 5


def test_scan_length_refuses_the_original_mapping_only(drawn, data_dir):
    """With so few words that it would turn up, all four original meanings together never do; three of them may."""
    experiment = replace(find_experiment("scan_length"), further_words=(), further_meanings=())
    sampler, rng = EpisodeSampler(experiment, data_dir, True), np.random.default_rng(0)
    mappings = {sampler.training_episode(rng, ()).mapping for _ in range(1000)}
    assert len(mappings) == 23
    assert identify(ACTION_OF) not in mappings
    assert any("jump -> I_JUMP" in mapping for mapping in drawn("scan_length").mappings)


def test_all_23_other_permutations_are_trained(drawn):
    """scan_prim_permutation permutes the four meanings, every way but the original's about equally often."""
    counts = Counter(drawn("scan_prim_permutation").mappings)
    assert len(counts) == 23
    assert all(sorted(pairs_of(mapping)) == sorted(ACTION_OF) for mapping in counts)
    assert all(sorted(pairs_of(mapping).values()) == sorted(ACTION_OF.values()) for mapping in counts)
    assert min(counts.values()) > 0.6 * N_MAPPINGS / 23


def test_19_of_the_24_mappings_of_me_are_trained(drawn):
    """ME holds 5 bijections out for validation, one an episode, and trains the others about equally often."""
    counts, held_out = Counter(drawn("ME").mappings), {one.mapping for one in drawn("ME").validation}
    assert (len(counts), len(held_out), len(counts.keys() | held_out)) == (19, 5, 24)
    for mapping in counts.keys() | held_out:
        assert sorted(pairs_of(mapping)) == ["dax", "lug", "wif", "zup"]
        assert sorted(pairs_of(mapping).values()) == ["BLUE", "GREEN", "RED", "YELLOW"]
    assert min(counts.values()) > 0.6 * N_MAPPINGS / 19


def test_which_mappings_of_me_are_held_out_depends_on_the_seed(drawn):
    """Every bijection is held out under some seed."""
    sampler = drawn("ME").sampler
    draws = [sampler.validation_episodes(np.random.default_rng(seed)) for seed in range(60)]
    assert all(len({one.mapping for one in episodes}) == 5 for episodes in draws)
    assert len({one.mapping for episodes in draws for one in episodes}) == 24


@pytest.mark.parametrize("episode_type", ["scan_prim_augmentation", "scan_length"])
def test_augmentation_draws_4_of_24_words_and_meanings(drawn, episode_type):
    """The primitives and 20 further ones take part equally often, and so do the actions."""
    words, meanings = Counter(), Counter()
    for mapping in drawn(episode_type).mappings:
        assert len(pairs_of(mapping)) == len(set(pairs_of(mapping).values())) == 4
        words.update(pairs_of(mapping).keys())
        meanings.update(pairs_of(mapping).values())
    assert set(words) == {*ACTION_OF, *(f"Primitive{n}" for n in range(1, 21))}
    assert set(meanings) == {*ACTION_OF.values(), *(f"Action{n}" for n in range(1, 21))}
    for counts in (words, meanings):
        assert all(0.75 < count / (N_MAPPINGS * 4 / 24) < 1.25 for count in counts.values())


def test_around_right_draws_2_of_4_directions_and_turns(drawn):
    """All pairs of a direction and a turn are trained but `right` with its own."""
    mappings = [pairs_of(mapping) for mapping in drawn("scan_around_right").mappings]
    assert all(len(mapping) == len(set(mapping.values())) == 2 for mapping in mappings)
    seen = {pair for mapping in mappings for pair in mapping.items()}
    directions = ("left", "right", "Direction1", "Direction2")
    turns = ("I_TURN_LEFT", "I_TURN_RIGHT", "I_TURN_DIRECTION1", "I_TURN_DIRECTION2")
    assert seen == {(d, t) for d in directions for t in turns} - {("right", "I_TURN_RIGHT")}


def test_excluded_mappings_are_excluded(drawn):
    """The sampler keeps away from whatever its caller names, even if a single mapping is left."""
    mappings = sorted({*drawn("ME").mappings, *(one.mapping for one in drawn("ME").validation)})
    rng = np.random.default_rng(0)
    left = {drawn("ME").sampler.training_episode(rng, mappings[1:]).mapping for _ in range(5)}
    assert left == {mappings[0]}


def test_equal_mappings_have_equal_names():
    """The order in which the words were drawn does not show in the identifier; their meanings do."""
    assert identify({"dax": "RED", "lug": "BLUE"}) == identify({"lug": "BLUE", "dax": "RED"})
    assert identify({"dax": "RED", "lug": "BLUE"}) != identify({"dax": "BLUE", "lug": "RED"})


# Items


@every_type
def test_items_mean_what_the_mapping_says(drawn, episode_type):
    """With the mapping undone every item is one of SCAN, or of ME, and no word outside the mapping takes part."""
    sampler, validation, training, _ = drawn(episode_type)
    changing = {*sampler.experiment.slots, *sampler.experiment.further_words}
    for episode in (*validation, *training):
        mapping = pairs_of(episode.mapping)
        for item in (*items(sampler, episode.support), *items(sampler, episode.query)):
            assert changing.intersection(item.input) <= mapping.keys()
            if episode_type == "ME":
                assert item.output == tuple(mapping[word] for word in item.input)
            else:
                original = unmapped(sampler, item, mapping)
                assert interpret(original.input) == original.output


@every_type
def test_support_and_queries_are_different_items(drawn, episode_type):
    """An episode has its number of items, no two of them alike, before the support loss adds its queries."""
    sampler, validation, training, _ = drawn(episode_type)
    for episode in (*validation, *training):
        support, queries = support_and_queries(sampler, episode)
        assert (len(support), len(queries)) == (N_SUPPORT[episode_type], N_QUERY)
        assert len({*support, *queries}) == len(support) + len(queries)


@every_type
def test_the_support_loss_asks_for_the_support_items(drawn, episode_type):
    """After the 20 queries come the support items, and they alone are marked."""
    sampler, validation, training, _ = drawn(episode_type)
    for episode in (*validation, *training):
        assert items(sampler, episode.query)[N_QUERY:] == items(sampler, episode.support)
        assert episode.is_support.tolist() == [False] * N_QUERY + [True] * N_SUPPORT[episode_type]


@every_type
def test_without_the_support_loss_no_query_is_a_support_item(data_dir, episode_type):
    """With --disable_recon_loss retrieval is never asked for, in validation neither."""
    sampler, rng = EpisodeSampler(find_experiment(episode_type), data_dir, support_loss=False), np.random.default_rng(0)
    for episode in (*sampler.validation_episodes(rng), *(sampler.training_episode(rng, ()) for _ in range(50))):
        support, queries = items(sampler, episode.support), items(sampler, episode.query)
        assert (len(support), len(queries)) == (N_SUPPORT[episode_type], N_QUERY)
        assert not set(support) & set(queries)
        assert episode.is_support.tolist() == [False] * N_QUERY


def test_me_shows_three_isolated_words_of_four(drawn):
    """Each word is left out of the support set about equally often."""
    sampler, validation, training, _ = drawn("ME")
    left_out = Counter()
    for episode in (*validation, *training):
        support = items(sampler, episode.support)
        assert all(len(item.input) == 1 for item in support)
        left_out.update(ME_MEANINGS.keys() - {item.input[0] for item in support})
    assert sum(left_out.values()) == len(validation) + len(training)
    assert len(left_out) == 4
    assert min(left_out.values()) > 0.15 * len(training)


def test_me_asks_for_sequences_of_all_four_words(drawn):
    """Queries have 2 to 6 words, each length and each word about equally often; every word is in every query set."""
    sampler, validation, training, _ = drawn("ME")
    lengths, words = Counter(), Counter()
    for episode in (*validation, *training):
        _, queries = support_and_queries(sampler, episode)
        lengths.update(len(item.input) for item in queries)
        asked = Counter(word for item in queries for word in item.input)
        assert len(asked) == 4
        words.update(asked)
    assert sorted(lengths) == [2, 3, 4, 5, 6]
    # a little fewer of 2 words: of these there are but 16, and no query comes twice
    assert all(0.16 < count / lengths.total() < 0.24 for count in lengths.values())
    assert all(0.23 < count / words.total() < 0.27 for count in words.values())


@pytest.mark.parametrize("episode_type", SCAN_TYPES[:3])
def test_scan_items_come_from_all_of_scan(drawn, episode_type):
    """Support and query items alike are spread over all commands, those of the test splits under other words too."""
    sampler, _, training, _ = drawn(episode_type)
    seen = [set(), set()]
    for episode in training:
        mapping = pairs_of(episode.mapping)
        for part, found in zip(support_and_queries(sampler, episode), seen, strict=True):
            found.update(unmapped(sampler, item, mapping) for item in part)
    lengths = [len(item.output) for item in all_items()]
    for found in seen:  # 150 times 20 draws from 20,910
        assert len(found) > 2600
        assert abs(np.mean([len(item.output) for item in found]) - np.mean(lengths)) < 0.7
        assert any(contains(item.input, ("jump", "around", "right")) for item in found)


def test_length_episodes_ask_for_longer_outputs_than_they_show(drawn):
    """Training: fewer than 12 actions in support, 12 to 22 in queries, of the length split's training part."""
    sampler, _, training, _ = drawn("scan_length")
    trained = set(split_items("length")["train"])
    shown, asked = Counter(), Counter()
    for episode in training:
        mapping = pairs_of(episode.mapping)
        support, queries = support_and_queries(sampler, episode)
        shown.update(len(item.output) for item in support)
        asked.update(len(item.output) for item in queries)
        # a mapping's words stand in for the primitives in some order, under which the training part is closed
        assert {unmapped(sampler, item, mapping) for item in (*support, *queries)} <= trained
    assert (min(shown), max(shown)) == (1, 11)
    assert (min(asked), max(asked)) == (12, 22)


def test_length_validation_asks_for_the_test_part(drawn):
    """Validation: support from the training part, of any length, and queries from the test part, over 22 actions."""
    sampler, validation, _, _ = drawn("scan_length")
    parts = {part: set(found) for part, found in split_items("length").items()}
    shown = []
    for episode in validation:
        support, queries = support_and_queries(sampler, episode)
        assert set(support) <= parts["train"]
        assert set(queries) <= parts["test"]
        assert min(len(item.output) for item in queries) > 22
        shown += [len(item.output) for item in support]
    assert max(shown) > 12


@every_scan_type
def test_scan_is_validated_under_its_original_meanings(drawn, episode_type):
    """Five different episodes in the language of the test split, without further words."""
    sampler, validation, _, _ = drawn(episode_type)
    assert [one.mapping for one in validation] == [identify(ORIGINAL[episode_type])] * 5
    query_sets = [frozenset(items(sampler, one.query)) for one in validation]
    assert len(set(query_sets)) == 5
    assert all(interpret(item.input) == item.output for queries in query_sets for item in queries)


# Randomness


@every_type
def test_one_seed_gives_one_sequence_of_episodes(drawn, data_dir, episode_type):
    """A sampler made anew draws the same episodes from the same seed, and others from another."""
    _, validation, training, _ = drawn(episode_type)
    sampler = EpisodeSampler(find_experiment(episode_type), data_dir, support_loss=True)
    again = sampler.validation_episodes(np.random.default_rng(0))
    excluded = {one.mapping for one in again}
    rng, other_rng = np.random.default_rng(1), np.random.default_rng(2)
    for before, after in zip(validation, again, strict=True):
        assert_equal(before, after)
    for before in training[:20]:
        assert_equal(before, sampler.training_episode(rng, excluded))
    others = [sampler.training_episode(other_rng, excluded) for _ in range(20)]
    assert [one.mapping for one in others] != [one.mapping for one in training[:20]]


def assert_equal(one, other):
    for part, other_part in zip((*one.support, *one.query), (*other.support, *other.query), strict=True):
        np.testing.assert_array_equal(part, other_part)
    np.testing.assert_array_equal(one.is_support, other.is_support)
    assert one.mapping == other.mapping


@every_type
def test_global_random_states_are_neither_read_nor_changed(drawn, episode_type):
    """The generator handed in is the only source: whatever state the global ones have, they stay there."""
    sampler, rng = drawn(episode_type).sampler, np.random.default_rng(1)
    excluded = {one.mapping for one in drawn(episode_type).validation}
    np.random.seed(12345)
    before, python_before = np.random.get_state(), random.getstate()
    sampler.validation_episodes(np.random.default_rng(0))
    for expected in drawn(episode_type).training[:20]:
        assert_equal(expected, sampler.training_episode(rng, excluded))
    after = np.random.get_state()
    assert before[0] == after[0]
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])
    assert random.getstate() == python_before


def test_what_an_episode_holds_is_its_own(drawn):
    """Changing an episode leaves the pools, and so the next episodes, as they were."""
    sampler = drawn("scan_prim_permutation").sampler
    expected = sampler.training_episode(np.random.default_rng(3), ())
    changed = sampler.training_episode(np.random.default_rng(3), ())
    for array in (*changed.support, *changed.query):
        array[...] = 0
    assert_equal(sampler.training_episode(np.random.default_rng(3), ()), expected)


# The table


def test_the_table_has_the_five_types_of_the_release():
    """The types of the release by their names, each under its own."""
    assert set(EPISODE_TYPES) <= {name for name, row in EXPERIMENTS.items() if not row.is_standard}
    assert all(find_experiment(name).name == name for name in EXPERIMENTS)


@pytest.mark.parametrize("episode_type", EXPERIMENTS)
def test_every_row_keeps_its_word(data_dir, episode_type):
    """Also of a row that was added: counts as drawn, different items, nothing held out is trained, all fits."""
    experiment = find_experiment(episode_type)
    sampler, rng = EpisodeSampler(experiment, data_dir, support_loss=True), np.random.default_rng(0)
    validation = sampler.validation_episodes(rng)
    excluded = {one.mapping for one in validation}
    training = [sampler.training_episode(rng, excluded) for _ in range(50)]
    for draw, episodes in ((experiment.validation or experiment.training, validation), (experiment.training, training)):
        for episode in episodes:
            shown, asked = items(sampler, episode.support), items(sampler, episode.query)
            assert (len(shown), len(asked)) == (draw.n_support, draw.n_query + draw.n_support)
            assert asked[draw.n_query :] == shown
            assert experiment.is_standard or len(set(asked)) == len(asked)
            assert max(len(item.input) for item in asked) < experiment.padded_length
    if not experiment.is_standard:
        assert not excluded & {one.mapping for one in training}
        assert not experiment.held_out or not any(
            experiment.held_out.items() <= pairs_of(one.mapping).items() for one in training
        )
    if experiment.test_split is not None:
        assert experiment.items(f"{experiment.test_split}_test", data_dir)


# A row of one's own


@pytest.fixture
def six_words(monkeypatch):
    """ME with six words and colours, as somebody would add it."""
    meanings = ME_MEANINGS | {"blicket": "PINK", "tufa": "BLACK"}
    sequences = [
        Item(s, tuple(meanings[w] for w in s)) for n in (2, 3, 4) for s in itertools.product(meanings, repeat=n)
    ]
    monkeypatch.setitem(POOLS, "six_words", lambda _: [Item((w,), (m,)) for w, m in meanings.items()])
    monkeypatch.setitem(POOLS, "six_sequences", lambda _: sequences)
    return replace(
        EXPERIMENTS["ME"],
        name="ME6",
        language=Language(tuple(meanings), tuple(meanings.values()), 4, 4),
        slots=meanings,
        training=Draw("six_words", 5, "six_sequences", 20, even_query_lengths=True),
    )


def test_a_row_says_whether_query_lengths_are_even(six_words, data_dir):
    """With it every length is asked for about as often; without it, as often as the pool has it. It has to be said."""
    with pytest.raises(TypeError, match="even_query_lengths"):
        Draw("six_words", 5, "six_sequences", 20)
    shares = []
    for even in (True, False):
        experiment = replace(six_words, training=six_words.training._replace(even_query_lengths=even))
        sampler, rng = EpisodeSampler(experiment, data_dir, False), np.random.default_rng(0)
        lengths = [sampler.training_episode(rng, ()).query.input_lengths for _ in range(200)]
        shares.append(np.bincount(np.concatenate(lengths))[2:] / (200 * 20))
    assert shares[0] == pytest.approx([1 / 3] * 3, abs=0.06)  # of two words there are but 36
    assert shares[1] == pytest.approx(np.array([36, 216, 1296]) / 1548, abs=0.03)


@pytest.fixture
def repetitions():
    """SCAN in which `twice` and `thrice` change their meaning: a meaning is the word of SCAN that means this."""

    def in_scan(words, meanings):
        return interpret([meanings.get(word, word) for word in words])

    return replace(
        EXPERIMENTS["scan_prim_permutation"],
        name="repetitions",
        slots={"twice": "twice", "thrice": "thrice"},
        held_out={},
        further_words=("often",),
        test_support=(Item(("jump", "twice"), ("I_JUMP",) * 2), Item(("jump", "thrice"), ("I_JUMP",) * 3)),
        interpreter=in_scan,
    )


def test_a_meaning_may_be_what_to_do_with_the_rest(repetitions, data_dir):
    """Every repetition word means either repetition in some episode, and outputs are as long as it says."""
    sampler, rng = EpisodeSampler(repetitions, data_dir, True), np.random.default_rng(0)
    (original,) = {one.mapping for one in sampler.validation_episodes(rng)}
    seen = set()
    for _ in range(100):
        episode = sampler.training_episode(rng, {original})
        meanings = pairs_of(episode.mapping)
        seen.update(meanings.items())
        for item in items(sampler, episode.query):
            assert {"twice", "thrice", "often"}.intersection(item.input) <= meanings.keys()
            if len(item.input) == 2 and item.input[1] in meanings:
                assert item.output == (ACTION_OF[item.input[0]],) * (2 if meanings[item.input[1]] == "twice" else 3)
            assert item.output == interpret([meanings.get(word, word) for word in item.input])
        assert episode.mapping != original
    assert seen == {(word, meaning) for word in ("twice", "thrice", "often") for meaning in ("twice", "thrice")}


def test_a_meaning_may_be_several_symbols(six_words, data_dir):
    """A word that means RED RED gives both, wherever it stands."""
    slots = {"dax": "RED RED", "lug": "BLUE", "wif": "GREEN YELLOW", "zup": "RED", "blicket": "PINK", "tufa": "BLACK"}
    experiment = replace(
        six_words,
        language=six_words.language._replace(longest_output=8),
        slots=slots,
        interpreter=lambda words, meanings: tuple(symbol for w in words for symbol in meanings[w].split()),
    )
    sampler, rng = EpisodeSampler(experiment, data_dir, True), np.random.default_rng(0)
    assert experiment.output_words == ("RED", "YELLOW", "GREEN", "BLUE", "PINK", "BLACK")
    assert sampler.longest("six_sequences") == (4, 8)
    for _ in range(20):
        episode = sampler.training_episode(rng, ())
        meanings = pairs_of(episode.mapping)
        for item in (*items(sampler, episode.support), *items(sampler, episode.query)):
            assert " ".join(item.output) == " ".join(meanings[word] for word in item.input)


def test_a_row_of_ones_own_is_trained_scored_and_asked(repetitions, data_dir, tmp_path, monkeypatch):
    """train.py, test.py and query.py know it by its name, and nothing else had to be told."""
    monkeypatch.setitem(EXPERIMENTS, "repetitions", repetitions)
    common = ("--cpu", "--dir_model", tmp_path)
    tiny = ("--emb_size", 4, "--nlayers", 1, "--num_episodes", 1, "--max_length_eval", 49, "--fn_out_model", "net.tar")
    train = ("--episode_type", "repetitions", "--data_dir", data_dir)
    assert run_file(ROOT / "train.py", *train, *tiny, *common)[::2] == (0, "")
    outcome = run_file(ROOT / "test.py", "--fn_in_model", "net.tar", "--data_dir", data_dir, *common)
    assert (outcome.code, outcome.err) == (0, "")
    assert "of 7704)" in outcome.out  # two of the commands are support items
    support = "jump often -> I_JUMP I_JUMP"
    assert run_file(ROOT / "query.py", "--fn_in_model", "net.tar", "--support", support, "run often", *common).code == 0


@pytest.mark.parametrize("n_held_out", [2, 3])
def test_a_row_that_leaves_nothing_to_train_on_is_refused(repetitions, data_dir, monkeypatch, n_held_out):
    """Two slots have two mappings; who holds both or more of them out is told so, instead of waiting for ever."""
    monkeypatch.setattr(generate_episode, "MOST_DRAWS", 100)
    experiment = replace(repetitions, further_words=(), n_held_out_mappings=n_held_out)
    sampler, rng = EpisodeSampler(experiment, data_dir, True), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"repetitions.*hold fewer out"):
        sampler.training_episode(rng, {one.mapping for one in sampler.validation_episodes(rng)})


@every_type
def test_no_query_is_longer_than_the_padding(drawn, episode_type):
    """L is 7 for ME and 10 for SCAN: the longest input of the language with its EOS."""
    _, validation, training, _ = drawn(episode_type)
    experiment = find_experiment(episode_type)
    assert experiment.padded_length == (7 if episode_type == "ME" else 10)
    longest = max(int(one.query.input_lengths.max()) for one in (*validation, *training))
    assert longest <= experiment.padded_length - 1
    assert longest == experiment.padded_length - 1 or episode_type == "scan_length"


def test_an_unknown_type_is_named():
    """The message has the type that was given and those there are."""
    with pytest.raises(ValueError, match=r"'scan'.*ME.*scan_length"):
        find_experiment("scan")


def test_directions_can_be_added(data_dir):
    """--extra_directions 20: Direction1 to 20 turn to I_TURN_DIRECTION1 to 20, and take part."""
    experiment = find_experiment("scan_around_right", 20)
    assert experiment.further_words == tuple(f"Direction{n}" for n in range(1, 21))
    assert experiment.further_meanings == tuple(f"I_TURN_DIRECTION{n}" for n in range(1, 21))
    assert len(experiment.input_words) == 13 + 20
    assert len(experiment.output_words) == 6 + 20
    assert find_experiment("scan_around_right").further_words == ("Direction1", "Direction2")
    sampler, rng = EpisodeSampler(experiment, data_dir, True), np.random.default_rng(0)
    mappings = [pairs_of(sampler.training_episode(rng, ()).mapping) for _ in range(600)]
    assert {word for mapping in mappings for word in mapping} == {"left", "right", *experiment.further_words}
    assert not any(mapping.get("right") == "I_TURN_RIGHT" for mapping in mappings)


@pytest.mark.parametrize("episode_type", [name for name in EPISODE_TYPES if name != "scan_around_right"])
def test_directions_go_with_around_right_only(episode_type):
    """Any number of extra directions is an error with a type that has none, and the message says with which."""
    with pytest.raises(ValueError, match=f"--extra_directions goes with scan_around_right only, not.*{episode_type}"):
        find_experiment(episode_type, 2)


# Numbering


def test_words_become_their_positions():
    """Rows are filled up with zeros to the longest, or to the given width."""
    numbers, lengths = number_sequences([("b", "a"), (), ("c",)], "abc")
    assert numbers.tolist() == [[1, 0], [0, 0], [2, 0]]
    assert lengths.tolist() == [2, 0, 1]
    assert number_sequences([("c",)], "abc", width=3)[0].tolist() == [[2, 0, 0]]


def test_words_that_do_not_fit_are_refused():
    """An unknown word and a sequence that is too long are named."""
    with pytest.raises(ValueError, match=r"unknown word 'd'; the known ones are a, b, c"):
        number_sequences([("a", "d")], "abc")
    with pytest.raises(ValueError, match="found a sequence of 3 words; expected at most 2"):
        number_sequences([("a", "b", "c")], "abc", width=2)


@every_scan_type
def test_pools_of_one_experiment_have_one_width(episode_type):
    """Items of any pool can stand in one array: 9 words and 48 actions wide."""
    pairs = number_pool([Item(("jump",), ("I_JUMP",))], find_experiment(episode_type))
    assert (pairs.inputs.shape, pairs.outputs.shape) == ((1, 9), (1, 48))


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_reads_the_file_that_is_recorded_for_it(tmp_path, pool):
    """What a checkpoint says of its data is what it was trained on."""
    POOLS[pool](tmp_path)
    expected = [split_path(tmp_path, *SCAN_FILE_OF[pool])] if pool in SCAN_FILE_OF else []
    assert list(tmp_path.iterdir()) == expected


@pytest.mark.parametrize(
    ("episode_type", "training", "test"),
    [
        ("ME", [], []),
        ("scan_prim_permutation", ["train_all"], ["test_addprim_jump"]),
        ("scan_length", ["train_length", "test_length"], ["test_length"]),
        ("standard_length", ["train_length", "test_length"], ["train_length", "test_length"]),
    ],
)
def test_the_data_of_an_experiment_are_told(data_dir, episode_type, training, test):
    """Those of training include the validation's; standard seq2seq is scored on its training commands too."""
    for of_test, names in ((False, training), (True, test)):
        files = scan_files(EXPERIMENTS[episode_type], of_test, data_dir)
        assert [file.name for file in files] == [f"tasks_{name}.txt" for name in names]
        assert not any(file.note for file in files)
