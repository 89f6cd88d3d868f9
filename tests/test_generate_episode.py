"""Episodes hold the items and the mappings of the paper, and training never sees what is held out."""

import functools
import itertools
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import generate_episode
from episode_batch import items_of, vocabularies_of
from generate_episode import (
    EXPERIMENTS,
    ME_MEANINGS,
    Draw,
    EpisodeSampler,
    find_experiment,
    identify,
    number_sequences,
    scan_files,
    word_sequences,
)
from scan_util import ACTION_OF, TURN_OF, Item, all_items, contains, interpret, split_items

PERMUTATION, AUGMENTATION = "scan_prim_permutation", "scan_prim_augmentation"
AROUND_RIGHT, LENGTH = "scan_around_right", "scan_length"
SCAN_TYPES = (PERMUTATION, AUGMENTATION, AROUND_RIGHT, LENGTH)
EPISODE_TYPES = ("ME", *SCAN_TYPES)
ORIGINAL = dict.fromkeys(SCAN_TYPES, ACTION_OF) | {AROUND_RIGHT: TURN_OF, "ME": ME_MEANINGS}
HELD_OUT = ORIGINAL | {AUGMENTATION: {"jump": "I_JUMP"}, AROUND_RIGHT: {"right": "I_TURN_RIGHT"}}  # not all in one
N_SUPPORT = dict.fromkeys(EPISODE_TYPES, 20) | {"ME": 3, LENGTH: 100}
N_QUERY = 20
N_MAPPINGS, N_EPISODES = 1500, 120

every_type = pytest.mark.parametrize("episode_type", EPISODE_TYPES)
every_scan_type = pytest.mark.parametrize("episode_type", SCAN_TYPES)


class Drawn:
    """What one seed gives for an episode type: many mappings, and the episodes of the first ones."""

    def __init__(self, experiment, data_dir):
        self.sampler = EpisodeSampler(experiment, data_dir, support_loss=True)
        self.validation = self.sampler.validation_episodes(np.random.default_rng(0))
        self.held_out = {one.mapping for one in self.validation}
        rng = np.random.default_rng(1)
        episodes = [self.sampler.training_episode(rng, self.held_out) for _ in range(N_MAPPINGS)]
        self.mappings, self.training = [one.mapping for one in episodes], episodes[:N_EPISODES]

    def items(self, pairs):
        return items_of(pairs, *vocabularies_of(self.sampler.experiment))

    def in_words(self, episodes):
        """The mapping, the support items, and the queries without those that the support loss adds."""
        for one in episodes:
            yield pairs_of(one.mapping), self.items(one.support), self.items(one.query)[:N_QUERY]

    def unmapped(self, item, mapping):
        """Undo a mapping: its words become words of SCAN, in any order, and its meanings theirs."""
        slots = self.sampler.experiment.slots
        words = dict(zip(mapping, slots, strict=True))
        meanings = dict(zip(mapping.values(), slots.values(), strict=True))
        return Item(tuple(words.get(w, w) for w in item.input), tuple(meanings.get(a, a) for a in item.output))


@pytest.fixture(scope="module")
def drawn(data_dir):
    return functools.cache(lambda episode_type: Drawn(find_experiment(episode_type), data_dir))


def pairs_of(mapping):
    """The words and their meanings that an identifier names."""
    return dict(pair.split(" -> ") for pair in mapping.split(", "))


def assert_equal(one, other):
    for part, other_part in zip((*one.support, *one.query), (*other.support, *other.query), strict=True):
        np.testing.assert_array_equal(part, other_part)
    np.testing.assert_array_equal(one.is_support, other.is_support)
    assert one.mapping == other.mapping


# Mappings


@every_type
def test_what_is_held_out_never_appears_in_training(drawn, episode_type):
    """No training episode has a validation episode's mapping or the held-out meanings, which are drawn and refused."""
    found, rng = drawn(episode_type), np.random.default_rng(2)
    assert not found.held_out & set(found.mappings)
    if episode_type != "ME":
        held_out = HELD_OUT[episode_type].items()
        assert not any(held_out <= pairs_of(mapping).items() for mapping in found.mappings)
    if episode_type in SCAN_TYPES[:3]:
        assert sum(held_out <= found.sampler.draw_mapping(rng).items() for _ in range(3000)) > 5


def test_scan_length_refuses_the_original_mapping_only(drawn, data_dir):
    """With so few words that it would turn up, all four original meanings together never do; three of them may."""
    experiment = replace(find_experiment(LENGTH), further_words=(), further_meanings=())
    sampler, rng = EpisodeSampler(experiment, data_dir, True), np.random.default_rng(0)
    mappings = {sampler.training_episode(rng, ()).mapping for _ in range(500)}
    assert len(mappings) == 23
    assert identify(ACTION_OF) not in mappings
    assert any("jump -> I_JUMP" in mapping for mapping in drawn(LENGTH).mappings)


@pytest.mark.parametrize(("episode_type", "n"), [(PERMUTATION, 23), ("ME", 19)])
def test_all_other_permutations_are_trained(drawn, episode_type, n):
    """All 24 but the original one, or the 5 of ME's validation, one an episode, about equally often."""
    counts, held_out = Counter(drawn(episode_type).mappings), drawn(episode_type).held_out
    meanings = ORIGINAL[episode_type]
    every = {identify(dict(zip(meanings, one, strict=True))) for one in itertools.permutations(meanings.values())}
    assert (len(counts), len(held_out)) == (n, 24 - n)
    assert counts.keys() | held_out == every
    assert min(counts.values()) > 0.6 * N_MAPPINGS / n


def test_which_mappings_of_me_are_held_out_depends_on_the_seed(drawn):
    """Every bijection is held out under some seed."""
    sampler = drawn("ME").sampler
    draws = [sampler.validation_episodes(np.random.default_rng(seed)) for seed in range(60)]
    assert all(len({one.mapping for one in episodes}) == 5 for episodes in draws)
    assert len({one.mapping for episodes in draws for one in episodes}) == 24


@pytest.mark.parametrize(
    ("episode_type", "further", "n_further"),
    [
        (AUGMENTATION, ("Primitive", "Action"), 20),
        (LENGTH, ("Primitive", "Action"), 20),
        (AROUND_RIGHT, ("Direction", "I_TURN_DIRECTION"), 2),
    ],
)
def test_further_words_and_meanings_take_part_equally(drawn, episode_type, further, n_further):
    """An episode draws as many words and meanings as there are slots; every pair but the held-out one may turn up."""
    slots = ORIGINAL[episode_type]
    mappings = [pairs_of(mapping) for mapping in drawn(episode_type).mappings]
    assert all(len(mapping) == len(set(mapping.values())) == len(slots) for mapping in mappings)
    words, meanings = (
        {*known, *(f"{name}{n}" for n in range(1, n_further + 1))}
        for known, name in zip((slots, slots.values()), further, strict=True)
    )
    pairs = Counter(pair for mapping in mappings for pair in mapping.items())
    for side, expected in enumerate((words, meanings)):
        counts = Counter(pair[side] for pair in pairs.elements())
        assert set(counts) == expected
        assert all(0.7 < count / (counts.total() / len(counts)) < 1.3 for count in counts.values())
    if episode_type == AROUND_RIGHT:
        assert set(pairs) == set(itertools.product(words, meanings)) - {("right", "I_TURN_RIGHT")}


def test_excluded_mappings_are_excluded(drawn):
    """The sampler keeps away from whatever its caller names, even if a single mapping is left."""
    mappings = sorted({*drawn("ME").mappings, *drawn("ME").held_out})
    rng = np.random.default_rng(0)
    left = {drawn("ME").sampler.training_episode(rng, mappings[1:]).mapping for _ in range(5)}
    assert left == {mappings[0]}


def test_equal_mappings_have_equal_names():
    """The order in which the words were drawn does not show in the identifier; their meanings do."""
    assert identify({"dax": "RED", "lug": "BLUE"}) == identify({"lug": "BLUE", "dax": "RED"})
    assert identify({"dax": "RED", "lug": "BLUE"}) != identify({"dax": "BLUE", "lug": "RED"})


# Items


@every_type
def test_an_episode_is_what_its_mapping_says(drawn, episode_type):
    """Different items of SCAN or ME under the mapping, as many as the paper has; the support items are asked for last.

    L, to which queries count as padded, is 7 for ME and 10 for SCAN: the longest input with its EOS.
    """
    found = drawn(episode_type)
    experiment, longest = found.sampler.experiment, 0
    changing = {*experiment.slots, *experiment.further_words}
    for episode in (*found.validation, *found.training):
        ((mapping, support, queries),) = found.in_words([episode])
        assert (len(support), len(queries)) == (N_SUPPORT[episode_type], N_QUERY)
        assert len({*support, *queries}) == len(support) + len(queries)
        assert found.items(episode.query)[N_QUERY:] == support
        assert episode.is_support.tolist() == [False] * N_QUERY + [True] * len(support)
        longest = max(longest, *(len(item.input) for item in queries))
        for item in (*support, *queries):
            assert changing.intersection(item.input) <= mapping.keys()
            if episode_type == "ME":
                assert item.output == tuple(mapping[word] for word in item.input)
            else:
                original = found.unmapped(item, mapping)
                assert interpret(original.input) == original.output
    assert experiment.padded_length == (7 if episode_type == "ME" else 10)
    assert longest == experiment.padded_length - 1 or (episode_type == LENGTH and longest < experiment.padded_length)


def test_me_shows_three_words_of_four_and_asks_for_sequences_of_all(drawn):
    """Each word is left out of the support set about equally often; so are lengths of 2 to 6 and words in queries."""
    left_out, lengths, words = Counter(), Counter(), Counter()
    for _, support, queries in drawn("ME").in_words((*drawn("ME").validation, *drawn("ME").training)):
        assert all(len(item.input) == 1 for item in support)
        left_out.update(ME_MEANINGS.keys() - {item.input[0] for item in support})
        lengths.update(len(item.input) for item in queries)
        asked = Counter(word for item in queries for word in item.input)
        assert len(asked) == 4
        words.update(asked)
    assert left_out.total() == 5 + N_EPISODES
    assert len(left_out) == 4 and min(left_out.values()) > 0.15 * N_EPISODES
    assert sorted(lengths) == [2, 3, 4, 5, 6]
    # a little fewer of 2 words: there are only 16, and no query comes twice
    assert all(0.16 < count / lengths.total() < 0.24 for count in lengths.values())
    assert all(0.23 < count / words.total() < 0.27 for count in words.values())


@pytest.mark.parametrize("episode_type", SCAN_TYPES[:3])
def test_scan_items_come_from_all_of_scan(drawn, episode_type):
    """Support and query items alike are spread over all commands, those of the test splits under other words too."""
    found, seen = drawn(episode_type), [set(), set()]
    for mapping, *parts in found.in_words(found.training):
        for part, items in zip(parts, seen, strict=True):
            items.update(found.unmapped(item, mapping) for item in part)
    mean_length = np.mean([len(item.output) for item in all_items()])
    for items in seen:  # N_EPISODES times 20 draws from 20,910
        assert len(items) > 0.87 * 20 * N_EPISODES
        assert abs(np.mean([len(item.output) for item in items]) - mean_length) < 0.7
        assert any(contains(item.input, ("jump", "around", "right")) for item in items)


def test_length_episodes_ask_for_longer_outputs_than_they_show(drawn):
    """Training: 1 to 11 actions shown, 12 to 22 asked. Validation: any training item shown, test items asked."""
    found = drawn(LENGTH)
    train, test = (set(items) for items in split_items("length").values())
    shown, asked = Counter(), Counter()
    for mapping, support, queries in found.in_words(found.training):
        shown.update(len(item.output) for item in support)
        asked.update(len(item.output) for item in queries)
        # a mapping's words replace the primitives in some order, under which the training part is closed
        assert {found.unmapped(item, mapping) for item in (*support, *queries)} <= train
    assert (min(shown), max(shown), min(asked), max(asked)) == (1, 11, 12, 22)
    shown.clear()
    for _, support, queries in found.in_words(found.validation):
        assert set(support) <= train and set(queries) <= test
        shown.update(len(item.output) for item in support)
    assert max(shown) > 12


@every_scan_type
def test_scan_is_validated_under_its_original_meanings(drawn, episode_type):
    """Five different episodes in the language of the test split, without further words."""
    found = drawn(episode_type)
    assert [one.mapping for one in found.validation] == [identify(ORIGINAL[episode_type])] * 5
    query_sets = {frozenset(queries) for *_, queries in found.in_words(found.validation)}
    assert len(query_sets) == 5
    assert all(interpret(item.input) == item.output for queries in query_sets for item in queries)


# Randomness


@every_type
def test_the_given_generator_is_the_only_source_of_chance(drawn, data_dir, episode_type):
    """A new sampler draws the same from the same seed, other things from another; global generators do not matter."""
    found, sampler = drawn(episode_type), EpisodeSampler(find_experiment(episode_type), data_dir, support_loss=True)
    np.random.seed(12345)
    random.seed(12345)
    numpy_before, python_before = np.random.get_state(), random.getstate()
    for before, after in zip(found.validation, sampler.validation_episodes(np.random.default_rng(0)), strict=True):
        assert_equal(before, after)
    rng, other_rng = np.random.default_rng(1), np.random.default_rng(2)
    for before in found.training[:20]:
        assert_equal(before, sampler.training_episode(rng, found.held_out))
    others = [sampler.training_episode(other_rng, found.held_out).mapping for _ in range(20)]
    assert others != found.mappings[:20]
    np.testing.assert_equal(np.random.get_state(), numpy_before)
    assert random.getstate() == python_before


def test_what_an_episode_holds_is_its_own(drawn):
    """Changing an episode leaves the pools, and so the next episodes, as they were."""
    sampler = drawn(PERMUTATION).sampler
    expected, changed = (sampler.training_episode(np.random.default_rng(3), ()) for _ in range(2))
    for array in (*changed.support, *changed.query):
        array[...] = 0
    assert_equal(sampler.training_episode(np.random.default_rng(3), ()), expected)


# The table


@pytest.mark.parametrize("support_loss", [True, False])
@pytest.mark.parametrize("episode_type", EXPERIMENTS)
def test_every_row_keeps_its_word(data_dir, episode_type, support_loss):
    """Also a row that was added: counts as drawn, different items, nothing held out is trained, all fits.

    Without the support loss (--disable_recon_loss) no query is a support item, in validation neither.
    """
    experiment = find_experiment(episode_type)
    assert experiment.name == episode_type
    sampler, rng = EpisodeSampler(experiment, data_dir, support_loss), np.random.default_rng(0)
    validation = sampler.validation_episodes(rng)
    excluded = {one.mapping for one in validation}
    training = [sampler.training_episode(rng, excluded) for _ in range(40)]
    for draw, episodes in ((experiment.validation or experiment.training, validation), (experiment.training, training)):
        n_repeated = draw.n_support if support_loss else 0
        for episode in episodes:
            shown, asked = (items_of(part, *vocabularies_of(experiment)) for part in (episode.support, episode.query))
            assert (len(shown), len(asked)) == (draw.n_support, draw.n_query + n_repeated)
            assert asked[draw.n_query :] == shown[:n_repeated]
            assert episode.is_support.tolist() == [False] * draw.n_query + [True] * n_repeated
            assert not set(shown) & set(asked[: draw.n_query])
            assert experiment.is_standard or len(set(asked)) == len(asked)
            assert max(len(item.input) for item in asked) < experiment.padded_length
    if not experiment.is_standard:
        assert not excluded & {one.mapping for one in training}
        held_out = experiment.held_out.items()
        assert not held_out or not any(held_out <= pairs_of(one.mapping).items() for one in training)
    if experiment.test_split is not None:
        assert experiment.items(f"{experiment.test_split}_test", data_dir)


@pytest.mark.parametrize(
    ("episode_type", "training", "test"),
    [
        ("ME", [], []),
        (PERMUTATION, ["train_all"], ["test_addprim_jump"]),
        (LENGTH, ["train_length", "test_length"], ["test_length"]),
        ("standard_length", ["train_length", "test_length"], ["train_length", "test_length"]),
    ],
)
def test_the_data_of_an_experiment_are_told(data_dir, tmp_path, episode_type, training, test):
    """Training includes the validation's data; standard seq2seq is scored on its training commands too.

    They are the files that drawing reads, and no others.
    """
    experiment = EXPERIMENTS[episode_type]
    for of_test, names in ((False, training), (True, test)):
        files = scan_files(experiment, of_test, data_dir)
        assert [file.name for file in files] == [f"tasks_{name}.txt" for name in names]
        assert not any(file.note for file in files)
    sampler, rng = EpisodeSampler(experiment, tmp_path, True), np.random.default_rng(0)
    sampler.validation_episodes(rng), sampler.training_episode(rng, ())
    assert {path.name for path in tmp_path.iterdir()} == {f"tasks_{name}.txt" for name in training}


def test_directions_can_be_added(data_dir):
    """--extra_directions 20: Direction1 to 20 turn to I_TURN_DIRECTION1 to 20, and take part."""
    experiment = find_experiment(AROUND_RIGHT, 20)
    assert experiment.further_words == tuple(f"Direction{n}" for n in range(1, 21))
    assert experiment.further_meanings == tuple(f"I_TURN_DIRECTION{n}" for n in range(1, 21))
    assert (len(experiment.input_words), len(experiment.output_words)) == (13 + 20, 6 + 20)
    assert find_experiment(AROUND_RIGHT).further_words == ("Direction1", "Direction2")
    sampler, rng = EpisodeSampler(experiment, data_dir, True), np.random.default_rng(0)
    mappings = [pairs_of(sampler.training_episode(rng, ()).mapping) for _ in range(400)]
    assert {word for mapping in mappings for word in mapping} == {"left", "right", *experiment.further_words}
    assert not any(mapping.get("right") == "I_TURN_RIGHT" for mapping in mappings)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (("scan",), r"'scan'.*ME.*scan_length"),
        *(
            ((name, 2), f"--extra_directions goes with scan_around_right only, not.*{name}")
            for name in EPISODE_TYPES
            if name != AROUND_RIGHT
        ),
    ],
)
def test_an_unknown_experiment_is_refused(asked, complaint):
    """The message has the types there are, and the one type that directions go with."""
    with pytest.raises(ValueError, match=complaint):
        find_experiment(*asked)


# A row of your own


def test_a_row_says_whether_query_lengths_are_even(tmp_path):
    """Without it every length is asked for as often as the pool has it. It has no default."""
    with pytest.raises(TypeError, match="even_query_lengths"):
        Draw("me_words", 3, "me_sequences", 20)
    pools = {"short": lambda _: word_sequences(ME_MEANINGS, (2, 3, 4))}
    shares = []
    for even in (True, False):
        draw = Draw("me_words", 3, "short", 20, even_query_lengths=even)
        experiment = replace(EXPERIMENTS["ME"], training=draw, pools=pools)
        sampler, rng = EpisodeSampler(experiment, tmp_path, False), np.random.default_rng(0)
        lengths = [sampler.training_episode(rng, ()).query.input_lengths for _ in range(200)]
        shares.append(np.bincount(np.concatenate(lengths))[2:] / (200 * 20))
    assert shares[0] == pytest.approx([1 / 3] * 3, abs=0.06)  # of two words there are only 16
    assert shares[1] == pytest.approx(np.array([16, 64, 256]) / 336, abs=0.03)


@pytest.mark.parametrize("n_held_out", [24, 25])
def test_a_row_that_leaves_nothing_to_train_on_is_refused(tmp_path, monkeypatch, n_held_out):
    """ME has 24 mappings; a row that holds them all or more out is refused, instead of drawing forever."""
    monkeypatch.setattr(generate_episode, "MOST_DRAWS", 100)
    experiment = replace(EXPERIMENTS["ME"], n_held_out_mappings=n_held_out)
    sampler, rng = EpisodeSampler(experiment, tmp_path, True), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"ME.*hold fewer out"):
        sampler.training_episode(rng, {one.mapping for one in sampler.validation_episodes(rng)})


# Numbering


def test_words_become_their_positions():
    """Rows are filled up with zeros to the longest, or to the given width; what does not fit is refused by its name."""
    numbers, lengths = number_sequences([("b", "a"), (), ("c",)], "abc")
    assert numbers.tolist() == [[1, 0], [0, 0], [2, 0]]
    assert lengths.tolist() == [2, 0, 1]
    assert number_sequences([("c",)], "abc", width=3)[0].tolist() == [[2, 0, 0]]
    with pytest.raises(ValueError, match=r"unknown word 'd'; the known ones are a, b, c"):
        number_sequences([("a", "d")], "abc")
    with pytest.raises(ValueError, match="found a sequence of 3 words; expected at most 2"):
        number_sequences([("a", "b", "c")], "abc", width=2)
