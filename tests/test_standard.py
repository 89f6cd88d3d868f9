"""Standard seq2seq training: batches of training commands, an empty support set, fixed meanings."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import assert_one_line, run_file

import scan_util
from checkpoint import load_checkpoint
from episode_batch import items_of, vocabularies_of
from generate_episode import EXPERIMENTS, EpisodeSampler
from scan_util import ACTION_OF, interpret, load_split

ROOT = Path(__file__).resolve().parent.parent
SPLIT = {
    "standard_addprim_jump": "addprim_jump",
    "standard_around_right": "template_around_right",
    "standard_length": "length",
}
AUGMENTED = "standard_addprim_jump_augmentation"
STANDARD = (*SPLIT, AUGMENTED)
MEANINGS = ACTION_OF | {f"Primitive{k}": f"Action{k}" for k in range(1, 21)}


@pytest.fixture(scope="module")
def batches(data_dir):
    """A few hundred batches of each type, in words, and their samplers."""
    made = {}
    for name in STANDARD:
        sampler, rng = EpisodeSampler(EXPERIMENTS[name], data_dir, True), np.random.default_rng(0)
        episodes = [sampler.training_episode(rng, {""}) for _ in range(200)]
        made[name] = sampler, episodes, [in_words(sampler, episode.query) for episode in episodes]
    return made


def in_words(sampler, pairs):
    experiment = sampler.experiment
    return items_of(pairs, *vocabularies_of(experiment))


@pytest.mark.parametrize("name", STANDARD)
def test_a_batch_is_40_commands_and_an_empty_support_set(batches, name):
    """As many items as a meta-training episode answers, and nothing in memory."""
    for episode in batches[name][1]:
        assert (len(episode.support.inputs), len(episode.query.inputs)) == (0, 40)
        assert not episode.is_support.any()


@pytest.mark.parametrize("name", SPLIT)
def test_commands_are_lines_of_the_training_split(batches, data_dir, name):
    """With their meanings, and never one of the test."""
    lines = Counter(load_split(data_dir, "train", SPLIT[name]))
    for batch in batches[name][2]:
        assert all(count <= lines[item] for item, count in Counter(batch).items())


def test_the_isolated_jump_is_a_tenth_of_the_commands_and_jump_stands_nowhere_else(batches):
    """Over-represented as in the split's file."""
    with_jump = [item.input for batch in batches["standard_addprim_jump"][2] for item in batch if "jump" in item.input]
    assert set(with_jump) == {("jump",)}
    assert len(with_jump) / (200 * 40) == pytest.approx(0.1, abs=0.012)


def test_every_augmented_batch_has_the_isolated_jump_once(batches):
    """And jump in no other command."""
    for batch in batches[AUGMENTED][2]:
        assert [item.input for item in batch if "jump" in item.input] == [("jump",)]


def test_augmented_primitives_have_fixed_meanings_and_are_drawn_one_by_one(batches):
    """PrimitiveK means ActionK in every batch; both slots of a command are filled on their own, from all 23."""
    slots, pairs = Counter(), []
    for batch in batches[AUGMENTED][2]:
        for item in batch:
            assert item.output == interpret(item.input, MEANINGS)
            filled = [word for word in item.input if word in MEANINGS and word != "jump"]
            slots.update(filled)
            if len(filled) == 2:
                pairs.append(filled)
    assert set(slots) == set(MEANINGS) - {"jump"}
    assert max(slots.values()) < 1.25 * min(slots.values())
    assert np.mean([one == other for one, other in pairs]) == pytest.approx(1 / 23, abs=0.012)


def test_augmented_commands_are_scan_templates(batches):
    """With any primitive of SCAN in the slots they are SCAN commands."""
    scan = {item.input for item in scan_util.all_items()}
    for batch in batches[AUGMENTED][2][:50]:
        for item in batch:
            assert tuple("walk" if word in MEANINGS else word for word in item.input) in scan


@pytest.mark.parametrize("name", STANDARD)
def test_validation_asks_for_100_test_and_100_training_commands(batches, data_dir, name):
    """Those of the test are counted as generalization, those of training as retrieval."""
    sampler = batches[name][0]
    (episode,) = sampler.validation_episodes(np.random.default_rng(3))
    items = in_words(sampler, episode.query)
    test = set(load_split(data_dir, "test", sampler.experiment.test_split))
    assert episode.is_support.sum() == 100
    assert len(items) == 200
    for item, is_training in zip(items, episode.is_support, strict=True):
        assert (item in test) != is_training


@pytest.mark.parametrize(("name", "count"), [*zip(SPLIT, (13204, 15225, 16990), strict=True), (AUGMENTED, 50)])
def test_training_commands_are_listed_once_each(batches, data_dir, name, count):
    """What a network is scored on as its training set."""
    sampler = batches[name][0]
    items = in_words(sampler, sampler.training_commands(np.random.default_rng(0), 50))
    assert len(items) == count
    if name in SPLIT:
        assert set(items) == set(load_split(data_dir, "train", SPLIT[name]))
        assert len(set(items)) == count


@pytest.mark.slow
def test_a_network_is_trained_without_memory_and_scored_on_training_commands_too(data_dir, tmp_path):
    """--disable_memory is implied; train_correct of train_total stand beside the test's counts, and are percent."""
    common = ("--cpu", "--data_dir", data_dir, "--dir_model", tmp_path)
    tiny = ("--emb_size", 4, "--nlayers", 1, "--num_episodes", 1, "--max_length_eval", 49)
    tiny += ("--fn_out_model", f"net_{AUGMENTED}.tar")
    outcome = run_file(ROOT / "train.py", "--episode_type", AUGMENTED, *tiny, *common)
    assert (outcome.code, outcome.err) == (0, "")
    assert load_checkpoint(tmp_path / f"net_{AUGMENTED}.tar", torch.device("cpu")).model.config.disable_memory
    outcome = run_file(ROOT / "test.py", "--fn_in_model", f"net_{AUGMENTED}.tar", *common)
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads((tmp_path / f"res_test_{AUGMENTED}.json").read_text())
    assert (report["total"], report["train_total"]) == (7706, 7706)
    assert report["train_accuracy"] == 100 * report["train_correct"] / 7706
    assert "of 7706 training commands)" in outcome.out


def test_a_support_loss_without_support_items_is_refused(tmp_path):
    """There is none to leave out, so asking for it is a mistake; nothing is written."""
    flags = ("--episode_type", AUGMENTED, "--disable_recon_loss", "--cpu", "--dir_model", tmp_path / "models")
    assert_one_line(run_file(ROOT / "train.py", *flags), "train.py", "--disable_recon_loss")
    assert not (tmp_path / "models").exists()
