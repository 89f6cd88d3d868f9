"""Episodes hold the items and the mappings of the paper, and training never sees what is held out."""

import hashlib
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
    ME,
    ME_MEANINGS,
    Draw,
    EpisodeSampler,
    find_experiment,
    identify,
    number_sequences,
    scan_files,
    word_sequences,
)
from scan_util import ACTION_OF, Item, interpret, split_items

PERMUTATION, AUGMENTATION = "scan_prim_permutation", "scan_prim_augmentation"
AROUND_RIGHT, LENGTH = "scan_around_right", "scan_length"
HELD_OUT = {AUGMENTATION: {"jump": "I_JUMP"}, AROUND_RIGHT: {"right": "I_TURN_RIGHT"}, "ME": {}}
HELD_OUT |= dict.fromkeys((PERMUTATION, LENGTH), ACTION_OF)
N_MAPPINGS = 1500


class Drawn:
    """An experiment's validation episodes and training episodes, from seeds 0 and 1."""

    def __init__(self, experiment, data_dir, n_training=N_MAPPINGS, support_loss=True):
        self.sampler = EpisodeSampler(experiment, data_dir, support_loss)
        self.validation = self.sampler.validation_episodes(np.random.default_rng(0))
        self.held_out = {one.mapping for one in self.validation}
        rng = np.random.default_rng(1)
        self.training = [self.sampler.training_episode(rng, self.held_out) for _ in range(n_training)]
        self.mappings = [one.mapping for one in self.training]

    def in_words(self, episode):
        """The support items and the queries of an episode."""
        return [items_of(part, *vocabularies_of(self.sampler.experiment)) for part in (episode.support, episode.query)]

    def original(self, item, mapping):
        """Undo a mapping: its words become the slots in their order, and its meanings theirs."""
        slots = self.sampler.experiment.slots
        words = dict(zip(mapping, slots, strict=True))
        meanings = dict(zip(mapping.values(), slots.values(), strict=True))
        return Item(tuple(words.get(w, w) for w in item.input), tuple(meanings.get(a, a) for a in item.output))


def pairs_of(mapping):
    """The words and their meanings that an identifier names."""
    return dict(pair.split(" -> ") for pair in mapping.split(", ") if pair)


def digest_of(episodes):
    digest = hashlib.sha256()
    for one in episodes:
        for part in (*one.support, *one.query, one.is_support):
            digest.update(part.tobytes())
        digest.update(one.mapping.encode())
    return digest.hexdigest()[:16]


# The table


@pytest.mark.parametrize("support_loss", [True, False])
@pytest.mark.parametrize("episode_type", EXPERIMENTS)
def test_every_row_keeps_its_word(data_dir, episode_type, support_loss):
    """Also a row that was added: counts as drawn, different items under their mapping, nothing held out is trained.

    Without the support loss (--disable_recon_loss) no query is a support item, in validation neither. SCAN is validated
    under its original meanings, without further words.
    """
    experiment = find_experiment(episode_type)
    assert experiment.name == episode_type
    found = Drawn(experiment, data_dir, 40, support_loss)
    draws = (experiment.validation or experiment.training, found.validation), (experiment.training, found.training)
    changing, longest = {*experiment.slots, *experiment.further_words}, 0
    for draw, episodes in draws:
        n_repeated = draw.n_support if support_loss else 0
        for episode in episodes:
            (shown, asked), mapping = found.in_words(episode), pairs_of(episode.mapping)
            assert (len(shown), len(asked)) == (draw.n_support, draw.n_query + n_repeated)
            assert asked[draw.n_query :] == shown[:n_repeated]
            assert episode.is_support.tolist() == [False] * draw.n_query + [True] * n_repeated
            assert not set(shown) & set(asked[: draw.n_query])
            longest = max(longest, *(len(item.input) for item in asked))
            if experiment.is_standard:
                continue
            assert len(set(asked)) == len(asked)
            for item in (*shown, *asked):
                assert changing.intersection(item.input) <= mapping.keys()
                if experiment.interpreter is not None:
                    assert item.output == experiment.interpreter(item.input, mapping)
                elif experiment.language is ME:
                    assert item.output == tuple(mapping[word] for word in item.input)
                else:
                    assert interpret(found.original(item, mapping).input) == found.original(item, mapping).output
    assert longest == experiment.padded_length - 1 or (episode_type == LENGTH and longest < experiment.padded_length)
    assert experiment.padded_length == {"walk": 10, "dax": 7}[experiment.input_words[0]]
    if not experiment.is_standard:
        assert not found.held_out & set(found.mappings)
        held_out = experiment.held_out.items()
        assert not held_out or not any(held_out <= pairs_of(mapping).items() for mapping in found.mappings)
        assert len(found.held_out) == (experiment.n_held_out_mappings or 1)
        assert experiment.n_held_out_mappings or found.held_out == {identify(experiment.slots)}
        assert len({frozenset(found.in_words(one)[1]) for one in found.validation}) == experiment.n_validation
    if experiment.test_split is not None:
        assert experiment.items(f"{experiment.test_split}_test", data_dir)


DIGESTS = {  # of the validation episodes from seed 0 and of 50 training episodes from seed 1
    "ME": "beccf0567ee7d37a",
    "scan_prim_permutation": "e6e65e4d04fbd8b9",
    "scan_prim_augmentation": "a322b6931880e615",
    "scan_around_right": "c64312102d2a9917",
    "scan_length": "47334810c82ac85c",
    "standard_addprim_jump": "83ddfd385a58340c",
    "standard_addprim_jump_augmentation": "3c5407b95f0a1c77",
    "standard_around_right": "e52fc2c7d784a498",
    "standard_length": "afcc08728f2f0e1c",
}


@pytest.mark.parametrize("episode_type", EXPERIMENTS)
def test_a_seed_always_draws_the_same_episodes(data_dir, episode_type):
    """Now as before, so that published runs can be repeated; the given generator is the only source of chance."""
    states = np.random.get_state(), random.getstate()
    found = Drawn(find_experiment(episode_type), data_dir, 50)
    assert digest_of((*found.validation, *found.training)) == DIGESTS[episode_type]
    np.testing.assert_equal((np.random.get_state(), random.getstate()), states)


def test_what_an_episode_holds_is_its_own(data_dir):
    """Changing an episode leaves the pools, and so the next episodes, as they were."""
    sampler = EpisodeSampler(find_experiment(PERMUTATION), data_dir, True)
    expected, changed = (sampler.training_episode(np.random.default_rng(3), ()) for _ in range(2))
    for array in (*changed.support, *changed.query):
        array[...] = 0
    assert digest_of([sampler.training_episode(np.random.default_rng(3), ())]) == digest_of([expected])


# Mappings


@pytest.mark.parametrize(
    ("episode_type", "n_further"), [("ME", 0), (PERMUTATION, 0), (AUGMENTATION, 20), (AROUND_RIGHT, 2), (LENGTH, 20)]
)
def test_all_words_and_meanings_take_part_equally(data_dir, episode_type, n_further):
    """An episode draws as many words and meanings as there are slots; only what is held out never turns up."""
    found = Drawn(find_experiment(episode_type), data_dir)
    experiment, mappings = found.sampler.experiment, [pairs_of(mapping) for mapping in found.mappings]
    slots = experiment.slots
    assert experiment.held_out == HELD_OUT[episode_type]
    assert all(len(mapping) == len(set(mapping.values())) == len(slots) for mapping in mappings)
    words, meanings = (*slots, *experiment.further_words), (*slots.values(), *experiment.further_meanings)
    assert len(words) == len(meanings) == len(slots) + n_further
    pairs = Counter(pair for mapping in mappings for pair in mapping.items())
    for side, expected in enumerate((words, meanings)):
        counts = Counter(pair[side] for pair in pairs.elements())
        assert set(counts) == set(expected)
        assert all(0.7 < count / (counts.total() / len(counts)) < 1.3 for count in counts.values())
    assert not found.held_out & set(found.mappings)
    assert not experiment.held_out or not any(experiment.held_out.items() <= one.items() for one in mappings)
    if not n_further:  # all other permutations are trained, about equally often
        every = {identify(dict(zip(words, one, strict=True))) for one in itertools.permutations(meanings)}
        assert {*found.mappings, *found.held_out} == every
        assert min(Counter(found.mappings).values()) > 0.6 * N_MAPPINGS / len(set(found.mappings))
    if episode_type == AROUND_RIGHT:
        assert set(pairs) == set(itertools.product(words, meanings)) - {("right", "I_TURN_RIGHT")}
    if episode_type == LENGTH:  # three of the four original meanings may turn up together
        assert any("jump -> I_JUMP" in mapping for mapping in found.mappings)


def test_excluded_mappings_are_excluded(data_dir, monkeypatch):
    """Whatever the caller names, even if one mapping is left; if none is, drawing ends, and so it does in a table."""
    monkeypatch.setattr(generate_episode, "MOST_DRAWS", 1000)
    sampler, rng = EpisodeSampler(EXPERIMENTS["ME"], data_dir, True), np.random.default_rng(0)
    first, *others = (
        identify(dict(zip(ME_MEANINGS, one, strict=True))) for one in itertools.permutations(ME_MEANINGS.values())
    )
    assert {sampler.training_episode(rng, others).mapping for _ in range(5)} == {first}
    with pytest.raises(ValueError, match=r"ME.*hold fewer out"):
        sampler.training_episode(rng, [first, *others])
    with pytest.raises(ValueError, match=r"ME.*hold fewer out"):
        EpisodeSampler(replace(EXPERIMENTS["ME"], n_held_out_mappings=25), data_dir, True).validation_episodes(rng)
    assert identify({"dax": "RED", "lug": "BLUE"}) == identify({"lug": "BLUE", "dax": "RED"})


def test_which_mappings_of_me_are_held_out_depends_on_the_seed(data_dir):
    """Every bijection is held out under some seed."""
    sampler = EpisodeSampler(EXPERIMENTS["ME"], data_dir, True)
    draws = [sampler.validation_episodes(np.random.default_rng(seed)) for seed in range(60)]
    assert len({one.mapping for episodes in draws for one in episodes}) == 24


def test_directions_can_be_added():
    """--extra_directions 20: Direction1 to 20 turn to I_TURN_DIRECTION1 to 20; no other type has directions."""
    experiment = find_experiment(AROUND_RIGHT, 20)
    assert experiment.further_words == tuple(f"Direction{n}" for n in range(1, 21))
    assert experiment.further_meanings == tuple(f"I_TURN_DIRECTION{n}" for n in range(1, 21))
    assert (len(experiment.input_words), len(experiment.output_words)) == (13 + 20, 6 + 20)
    for name in EXPERIMENTS.keys() - {AROUND_RIGHT}:
        with pytest.raises(ValueError, match=f"--extra_directions goes with scan_around_right only, not.*{name}"):
            find_experiment(name, 2)
    with pytest.raises(ValueError, match=r"'scan'.*ME.*scan_length"):
        find_experiment("scan")


# Items


def test_length_episodes_ask_for_longer_outputs_than_they_show(data_dir):
    """Training: 1 to 11 actions shown, 12 to 22 asked. Validation: any training item shown, test items asked."""
    found = Drawn(find_experiment(LENGTH), data_dir, 120)
    train, test = (set(items) for items in split_items("length").values())
    lengths = [set(), set()]
    for episode in found.training:
        mapping = pairs_of(episode.mapping)
        for seen, items in zip(lengths, (found.in_words(episode)[0], found.in_words(episode)[1][:20]), strict=True):
            seen.update(len(item.output) for item in items)
            # a mapping's words replace the primitives in some order, under which the training part is closed
            assert {found.original(item, mapping) for item in items} <= train
    assert lengths == [set(range(1, 12)), set(range(12, 23))]
    shown, asked = zip(*map(found.in_words, found.validation), strict=True)
    assert train.issuperset(itertools.chain(*shown)) and test.issuperset(itertools.chain(*(q[:20] for q in asked)))
    assert max(len(item.output) for items in shown for item in items) > 12


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
    """They are the files that drawing reads, and no others; standard seq2seq is scored on training commands too."""
    experiment = EXPERIMENTS[episode_type]
    for of_test, names in ((False, training), (True, test)):
        files = scan_files(experiment, of_test, data_dir)
        assert [file.name for file in files] == [f"tasks_{name}.txt" for name in names]
        assert not any(file.note for file in files)
    Drawn(experiment, tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == {f"tasks_{name}.txt" for name in training}


def test_a_row_says_whether_query_lengths_are_even(tmp_path):
    """Without it every length is asked for as often as the pool has it. It has no default."""
    with pytest.raises(TypeError, match="even_query_lengths"):
        Draw("me_words", 3, "me_sequences", 20)
    pools = {"short": lambda _: word_sequences(ME_MEANINGS, (2, 3, 4))}
    shares = []
    for even in (True, False):
        draw = Draw("me_words", 3, "short", 20, even_query_lengths=even)
        found = Drawn(replace(EXPERIMENTS["ME"], training=draw, pools=pools), tmp_path, 200, support_loss=False)
        lengths = [one.query.input_lengths for one in found.training]
        shares.append(np.bincount(np.concatenate(lengths))[2:] / (200 * 20))
    assert shares[0] == pytest.approx([1 / 3] * 3, abs=0.06)  # of two words there are only 16
    assert shares[1] == pytest.approx(np.array([16, 64, 256]) / 336, abs=0.03)


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
