"""The Python of docs/extending.md does what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoint import network_config
from episode_batch import encode, items_of, vocabularies_of
from evaluate import answer, remember
from generate_episode import EpisodeSampler, find_experiment
from training_step import make_optimizer, train_on_episode

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def block(word):
    """Run the one block of Python that has a word in it; gives what it defines."""
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if word in code)
    names = {}
    exec(code, names)
    return names


def test_attention_weights_are_five_lines_away(monkeypatch, capsys):
    """The example prints what stands below it."""
    monkeypatch.chdir(ROOT)
    weights = block("evaluate.explain")["weights"]
    assert f"prints `{capsys.readouterr().out.strip()}`" in PAGE
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("row", ["repetitions", "colours"])
def test_rows_with_interpreted_meanings_are_drawn(data_dir, row):
    """Meanings change from episode to episode, and every output is what the interpreter makes of them."""
    experiment = block("interpreter=")[row]
    sampler, rng = EpisodeSampler(experiment, data_dir, True), np.random.default_rng(0)
    validation = sampler.validation_episodes(rng)
    episodes = [sampler.training_episode(rng, {one.mapping for one in validation}) for _ in range(30)]
    assert len({one.mapping for one in episodes}) > 3
    outputs = {}
    for episode in episodes:
        meanings = dict(pair.split(" -> ") for pair in episode.mapping.split(", "))
        for item in items_of(episode.query, *vocabularies_of(experiment)):
            assert item.output == experiment.interpreter(item.input, meanings)
            outputs.setdefault(item.input, set()).add(item.output)
    assert any(len(found) > 1 for found in outputs.values())


def test_the_words_of_a_test_are_shown_what_they_mean(data_dir):
    """Of the row with SCAN's repetitions, whose test has both of them."""
    experiment = block("interpreter=")["repetitions"]
    shown = {word for item in experiment.test_support for word in item.input}
    asked = {word for item in experiment.items(f"{experiment.test_split}_test", data_dir) for word in item.input}
    assert {*experiment.slots} <= shown and {*experiment.slots} <= asked


def test_another_encoder_learns_and_answers_alike_alone_and_in_company(data_dir):
    """The GRU takes part in training, and padding does not reach it."""
    experiment = find_experiment("ME")
    torch.manual_seed(0)
    model = block("GRUNetwork")["GRUNetwork"](network_config(experiment, emb_size=16, dropout=0.0))
    episode = EpisodeSampler(experiment, data_dir, True).training_episode(np.random.default_rng(0), ())
    batch = encode(episode, *vocabularies_of(experiment))
    optimizer, before = make_optimizer(model, 0.01), model.input_encoder.gru.weight_hh_l0.detach().clone()
    losses = [float(train_on_episode(model, optimizer, batch)) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(model.input_encoder.gru.weight_hh_l0, before)
    memory = remember(model, batch)
    together = answer(model, memory, batch.query_in, 8, at_once=100)
    assert together == answer(model, memory, batch.query_in, 8, at_once=1)
    assert len(set(map(tuple, together))) > 5
