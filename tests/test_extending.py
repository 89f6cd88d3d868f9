"""The Python of docs/extending.md does what the page says, copied to where the page says."""

import itertools
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from script_runs import run_file
from test_generate_episode import Drawn, pairs_of
from test_generate_episode import test_every_row_keeps_its_word as assert_row_keeps_its_word

import generate_episode
import model
from checkpoint import network_config
from episode_batch import encode, vocabularies_of
from evaluate import answer, remember
from generate_episode import EXPERIMENTS, EpisodeSampler, find_experiment
from scan_util import load_split, split_path, write_items
from training_step import train_on_episode

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def block(word, module=None):
    """Run the one block of Python that has a word in it, at the end of a module of ours; gives what it defines."""
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if word in code)
    names = {} if module is None else dict(vars(module))
    exec(code, names)
    return names


@pytest.fixture(scope="module")
def rows():
    """The table with the two rows of the page."""
    with mock.patch.dict(EXPERIMENTS):
        block("interpreter=", generate_episode)
        yield EXPERIMENTS


def test_attention_weights_are_five_lines_away(monkeypatch, capsys):
    """The example prints what stands below it."""
    monkeypatch.chdir(ROOT)
    weights = block("evaluate.explain")["weights"]
    assert f"prints `{capsys.readouterr().out.strip()}`" in PAGE
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("row", ["repetitions", "colours"])
def test_rows_with_interpreted_meanings_are_drawn(rows, data_dir, row):
    """Every word has every meaning in some episode, and every output is what the interpreter makes of them."""
    experiment = rows[row]
    assert_row_keeps_its_word(data_dir, row, support_loss=True)
    found = Drawn(experiment, data_dir, 60)
    assert found.sampler.longest(experiment.training.query_pool) == ((9, 48) if row == "repetitions" else (6, 12))
    assert experiment.output_words == experiment.language.output_words
    changing = {*experiment.slots, *experiment.further_words}
    seen = {pair for mapping in found.mappings for pair in pairs_of(mapping).items()}
    assert seen == {*itertools.product(changing, experiment.slots.values())}
    asked, meanings, said = {
        "repetitions": ("jump often", {"often": "thrice"}, "I_JUMP I_JUMP I_JUMP"),
        "colours": ("lug dax", {"dax": "RED RED", "lug": "BLUE"}, "BLUE RED RED"),
    }[row]
    assert experiment.interpreter(asked.split(), meanings) == tuple(said.split())


def test_a_row_is_trained_scored_and_asked(rows, data_dir, tmp_path):
    """train.py, test.py and query.py know it by its name; the words of the test are shown what they mean."""
    experiment = rows["repetitions"]
    for part, split, step in (("train", "all", 40), ("test", "addprim_jump", 100)):
        write_items(split_path(tmp_path, part, split), load_split(data_dir, part, split)[::step])
    queries = experiment.items("addprim_jump_test", tmp_path)
    for items in (experiment.test_support, queries):
        assert {*experiment.slots} <= {word for item in items for word in item.input}
    common = ("--cpu", "--dir_model", tmp_path)
    tiny = ("--emb_size", 4, "--nlayers", 1, "--num_episodes", 1, "--max_length_eval", 49, "--fn_out_model", "net.tar")
    train = ("--episode_type", "repetitions", "--data_dir", tmp_path)
    assert run_file(ROOT / "train.py", *train, *tiny, *common)[::2] == (0, "")
    outcome = run_file(ROOT / "test.py", "--fn_in_model", "net.tar", "--data_dir", tmp_path, *common)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"of {len({*queries} - {*experiment.test_support})})" in outcome.out
    support = "jump often -> I_JUMP I_JUMP"
    assert run_file(ROOT / "query.py", "--fn_in_model", "net.tar", "--support", support, "run often", *common).code == 0


def test_another_encoder_learns_and_answers_alike_alone_and_in_company(data_dir):
    """The GRU takes part in training, and padding does not reach it."""
    experiment = find_experiment("ME")
    torch.manual_seed(0)
    network = block("GRUNetwork", model)["GRUNetwork"](network_config(experiment, emb_size=16, dropout=0.0))
    episode = EpisodeSampler(experiment, data_dir, True).training_episode(np.random.default_rng(0), ())
    batch = encode(episode, *vocabularies_of(experiment))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    before = network.input_encoder.gru.weight_hh_l0.detach().clone()
    losses = [float(train_on_episode(network, optimizer, batch)) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(network.input_encoder.gru.weight_hh_l0, before)
    memory = remember(network, batch)
    together = answer(network, memory, batch.query_in, 8, at_once=100)
    assert together == answer(network, memory, batch.query_in, 8, at_once=1)
    assert len(set(map(tuple, together))) > 5
