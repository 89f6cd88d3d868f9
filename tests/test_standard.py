"""Standard seq2seq training: batches of training commands, an empty support set, fixed meanings."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import assert_one_line, run_file

from checkpoint import load_checkpoint
from episode_batch import items_of, vocabularies_of
from generate_episode import EXPERIMENTS, EpisodeSampler
from scan_util import ACTION_OF, all_items, interpret, load_split, split_path, write_items

ROOT = Path(__file__).resolve().parent.parent
SPLIT = {
    "standard_addprim_jump": "addprim_jump",
    "standard_around_right": "template_around_right",
    "standard_length": "length",
}
AUGMENTED = "standard_addprim_jump_augmentation"
MEANINGS = ACTION_OF | {f"Primitive{k}": f"Action{k}" for k in range(1, 21)}


def in_words(sampler, pairs):
    return items_of(pairs, *vocabularies_of(sampler.experiment))


@pytest.fixture(scope="module")
def batches(data_dir):
    """The samplers by type, and 200 batches of each in words."""
    made = {}
    for name in (*SPLIT, AUGMENTED):
        sampler, rng = EpisodeSampler(EXPERIMENTS[name], data_dir, True), np.random.default_rng(0)
        episodes = [sampler.training_episode(rng, {""}) for _ in range(200)]
        assert {(len(one.support.inputs), len(one.query.inputs)) for one in episodes} == {(0, 40)}
        made[name] = sampler, [in_words(sampler, one.query) for one in episodes]
    return made


@pytest.mark.parametrize("name", SPLIT)
def test_commands_are_lines_of_the_training_split(batches, data_dir, name):
    """No line comes more often than in the file, and the isolated jump is a tenth of its split, as in the file."""
    lines = Counter(load_split(data_dir, "train", SPLIT[name]))
    assert all(count <= lines[item] for batch in batches[name][1] for item, count in Counter(batch).items())
    if name == "standard_addprim_jump":
        with_jump = [item.input for batch in batches[name][1] for item in batch if "jump" in item.input]
        assert set(with_jump) == {("jump",)}
        assert len(with_jump) / (200 * 40) == pytest.approx(0.1, abs=0.012)


def test_augmented_commands_are_scan_templates_with_fixed_meanings(batches):
    """Jump once in every batch and alone; in other commands both slots are filled on their own, from all 23 others."""
    scan = {item.input for item in all_items()}
    slots, pairs = Counter(), []
    for batch in batches[AUGMENTED][1]:
        assert [item.input for item in batch if "jump" in item.input] == [("jump",)]
        for item in batch:
            assert item.output == interpret(item.input, MEANINGS)
            assert tuple("walk" if word in MEANINGS else word for word in item.input) in scan
            filled = [word for word in item.input if word in MEANINGS and word != "jump"]
            slots.update(filled)
            pairs += [filled] if len(filled) == 2 else []
    assert set(slots) == set(MEANINGS) - {"jump"}
    assert max(slots.values()) < 1.25 * min(slots.values())
    assert np.mean([one == other for one, other in pairs]) == pytest.approx(1 / 23, abs=0.012)


@pytest.mark.parametrize(("name", "count"), [*zip(SPLIT, (13204, 15225, 16990), strict=True), (AUGMENTED, 50)])
def test_training_commands_are_validated_and_listed_once_each(batches, data_dir, name, count):
    """Validation asks for 100 test commands (generalization) and 100 of training (retrieval)."""
    sampler = batches[name][0]
    (episode,) = sampler.validation_episodes(np.random.default_rng(3))
    items = in_words(sampler, episode.query)
    test = set(load_split(data_dir, "test", sampler.experiment.test_split))
    assert (len(items), episode.is_support.sum()) == (200, 100)
    assert [item in test for item in items] == (~episode.is_support).tolist()
    listed = in_words(sampler, sampler.training_commands(np.random.default_rng(0), 50))
    assert len(listed) == count
    if name in SPLIT:
        assert len(set(listed)) == count
        assert set(listed) == set(load_split(data_dir, "train", SPLIT[name]))


def test_a_network_is_trained_without_memory_and_scored_on_training_commands_too(data_dir, tmp_path, monkeypatch):
    """--disable_memory is implied; train_correct of train_total stand beside the test's counts, and are percent."""
    drawn = EpisodeSampler.training_commands
    monkeypatch.setattr(EpisodeSampler, "training_commands", lambda self, rng, at_most: drawn(self, rng, 30))
    write_items(split_path(tmp_path, "test", "addprim_jump"), load_split(data_dir, "test", "addprim_jump")[:120])
    common = ("--cpu", "--data_dir", tmp_path, "--dir_model", tmp_path)
    tiny = ("--emb_size", 4, "--nlayers", 1, "--num_episodes", 1, "--max_length_eval", 49)
    tiny += ("--fn_out_model", f"net_{AUGMENTED}.tar")
    refused = run_file(ROOT / "train.py", "--episode_type", AUGMENTED, "--disable_recon_loss", *tiny, *common)
    assert_one_line(refused, "train.py", "--disable_recon_loss")  # there are no support items to leave out
    outcome = run_file(ROOT / "train.py", "--episode_type", AUGMENTED, *tiny, *common)
    assert (outcome.code, outcome.err) == (0, "")
    assert load_checkpoint(tmp_path / f"net_{AUGMENTED}.tar", torch.device("cpu")).model.config.disable_memory
    outcome = run_file(ROOT / "test.py", "--fn_in_model", f"net_{AUGMENTED}.tar", *common)
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads((tmp_path / f"res_test_{AUGMENTED}.json").read_text())
    assert (report["total"], report["train_total"]) == (120, 30)
    assert report["train_accuracy"] == 100 * report["train_correct"] / 30
    assert "of 30 training commands)" in outcome.out
