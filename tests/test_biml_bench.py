"""What the bench compares is the same: batches and answers made the plain way equal the fast ones."""

import json
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from test_biml_eval import run_main

import biml.bench
from biml.batch import assemble
from biml.benchmarks import gold_episode
from biml.decode import decode
from biml.dice import Dice
from biml.episode import sample_episode
from biml.episode_types import FEWER_STUDY, FULL, random_views
from biml.model import BIML, ModelConfig
from biml.packed_episodes import pack
from biml.plain_reference import plain_batch, plain_decode
from biml.stream import dice_of
from biml.views import rename, view_of
from biml.vocabulary import MAIN, VANILLA

CPU = torch.device("cpu")
SMALL = ModelConfig(emb_size=16, nlayers_encoder=1, nlayers_decoder=2, ff_mult=2)


def random_made(recipe):
    """Views of a few random episodes."""
    packed = pack([sample_episode(np.random.default_rng(seed)) for seed in range(4)], {}).renumbered(MAIN)
    views = random_views(packed, recipe, bent=True)
    return [view for index in range(4) for view in views.make(index, dice_of(1, 1, 1, index))]


@pytest.mark.parametrize("recipe", [FULL, FEWER_STUDY], ids=["all study", "fewer study"])
def test_batches_made_the_plain_way_are_the_same(recipe):
    """Source, decoder's input and target, padding included."""
    made = random_made(recipe)
    for fast, plain in zip(assemble(made, MAIN).tensors(CPU), plain_batch(made, MAIN), strict=True):
        assert torch.equal(fast, plain)


def test_batches_in_the_vanilla_vocabulary_are_the_same_too():
    """In canonical symbols, whose numbers differ between source and target."""
    made = [view_of(gold_episode(), VANILLA, copies=True)]
    for fast, plain in zip(assemble(made, VANILLA).tensors(CPU), plain_batch(made, VANILLA), strict=True):
        assert torch.equal(fast, plain)


@pytest.mark.parametrize("max_length", [1, 4, 10])
def test_answers_decoded_the_plain_way_are_the_same(max_length):
    """Of a network that ends some of its answers early, and others not at all."""
    torch.manual_seed(3)
    model = BIML(SMALL).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights *= 2.0 if weights.dim() > 1 else 1.0
    renamed, _ = rename(gold_episode(), Dice(np.random.default_rng(1)))
    source = assemble([view_of(renamed, MAIN), *random_made(FULL)], MAIN).tensors(CPU).source
    answers = plain_decode(model, source, max_length)
    assert decode(model, source, max_length) == answers
    assert len({tuple(answer) for answer in answers}) > 1 or max_length == 1


def test_the_bench_measures_prints_and_writes(tmp_path, capsys, monkeypatch):
    """Every figure is a time above 0; the step's share of the matrix rate is a share."""
    sizes = {"BATCH": 2, "N_EPISODES": 4, "SLOW_BATCH": 1, "DECODED": 1, "MATRIX_SIZE": 64, "LONGEST_ANSWER": 2}
    path = tmp_path / "bench.json"
    monkeypatch.setattr(sys, "argv", ["bench.py", "--cpu", "--repeats", "1", "--fn_out_results", str(path)])
    with mock.patch.multiple(biml.bench, **sizes):
        biml.bench.main()
    out = capsys.readouterr().out
    assert f"written to {path}\n" in out and "times as long" in out
    found = json.loads(path.read_text())
    times = [found["generation_seconds"], *found["batch"].values(), *found["decoding"].values()]
    assert len(times) == 7 and all(time > 0 for time in times)
    assert found["step"]["seconds"] > 0 and found["step"]["gflop"] > 0 < found["step"]["share_of_matrix_rate"]


@pytest.mark.parametrize(("options", "said"), [("--repeats 0", "--repeats"), ("--fn_out_results x.csv", "PATH.json")])
def test_a_mistake_is_one_line(options, said):
    """Exit code 2, before anything is measured."""
    outcome = run_main(biml.bench, *options.split())
    assert outcome.code == 2 and said in outcome.err and outcome.err.count("\n") == 1
