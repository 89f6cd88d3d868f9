"""Training and evaluation from the command line: a mistake is one line and changes nothing, results say what they are.

The scripts run inside this process, since each new one has to import torch first; one test starts real processes.
"""

import csv
import json
import math
import os
import pickle
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from script_runs import assert_one_line, contents
from test_nonstationary_training import run_module, tiny

import nonstationary.training
from nonstationary.network_config import RECURRENT, NetworkConfig
from nonstationary.network_file import load_network, save_network
from nonstationary.networks import log_probs, make_network
from nonstationary.predictors import USUAL, usual_predictors
from nonstationary.recurrent import RecurrentNetwork
from nonstationary.regret import exact_predictor, fixed_sequences, score
from nonstationary.result_files import label
from nonstationary.sources import SEGMENTS, Source, sample

ROOT = Path(__file__).resolve().parent.parent
LENGTH = 16
SMALL = NetworkConfig(hidden_size=6, emb_size=8, nheads=2, nlayers=1, ff_mult=2, stack_size=3, stack_cell_size=2)
BLOCKS = replace(SMALL, model="transformer", pos_enc="alibi", context_length=8)
NETWORKS = {
    "lstm": (SMALL, Source()),
    "three": (replace(SMALL, model="rnn", num_symbols=3), Source("lin", num_symbols=3)),
    "regular": (replace(SMALL, model="stack_rnn"), Source("regular", alpha=1.0, shift_period=4)),
    "blocks": (BLOCKS, Source()),
    "whole": (replace(BLOCKS, context_length=None, pos_enc="relative"), Source()),
}


@pytest.fixture
def world(tmp_path):
    """A folder to make mistakes in: untrained networks and a finished run in models/, and a regular file `file`."""
    models = tmp_path / "models"
    arguments = {"seq_length": LENGTH}
    for name, (config, source) in NETWORKS.items():
        save_network(models / f"{name}.tar", make_network(config, 1), config, source, 0, arguments, {"seconds": 0.0})
    (tmp_path / "file").write_text("no folder\n")
    return tmp_path


def complete(world, line):
    """Complete a line of MISTAKES: what it does not mention is small, on the CPU, and in the world's folders."""
    name, *given = shlex.split(line.format(world=world))
    if name == "train":
        return name, *tiny("--fn_out_model", "new.tar", "--dir_model", world / "models", *given)
    results = ("--fn_out_results", world / "result.json")
    return name, "--cpu", "--n_eval", 4, *results, "--dir_model", world / "models", *given


TRANSFORMER = "train --model transformer"
EVALUATE = "evaluate --fn_in_model"
MISTAKES = {  # the command line and what the message must say
    # training: options that contradict one another
    "heads": (f"{TRANSFORMER} --emb_size 10 --nheads 4", ["--emb_size 10", "--nheads 4"]),
    "odd width, sincos": (
        f"{TRANSFORMER} --emb_size 9 --nheads 3 --pos_enc sincos",
        ["--pos_enc sincos", "--emb_size"],
    ),
    "odd width, relative": (f"{TRANSFORMER} --emb_size 9 --nheads 3 --pos_enc relative", ["--pos_enc", "--emb_size"]),
    "a window that no file could hold": (f"{TRANSFORMER} --attention_window 1000000", ["attention_window", "up to"]),
    "length and blocks": (f"{TRANSFORMER} --context_length 3", ["--seq_length 8", "context_length 3"]),
    "blocks longer than sequences": (f"{TRANSFORMER} --context_length 16", ["--seq_length 8", "context_length 16"]),
    "random length and blocks": (f"{TRANSFORMER} --context_length 4 --random_length", ["--random_length", "--context"]),
    "state of a transformer": (f"{TRANSFORMER} --carry_state", ["--carry_state", "--model", "transformer"]),
    "chunks and blocks": (
        f"{TRANSFORMER} --context_length 4 --chunk_length 6",
        ["--chunk_length 6", "context_length 4"],
    ),
    "evaluated chunks and blocks": (f"{TRANSFORMER} --context_length 4 --eval_chunk_length 6", ["--eval_chunk_length"]),
    "evaluated length and blocks": (f"{TRANSFORMER} --context_length 4 --eval_seq_length 6", ["--eval_seq_length 6"]),
    "warm-up as long as the run": ("train --warmup_steps 9", ["--warmup_steps 9", "--train_steps 9"]),
    "warm-up longer than the run": ("train --warmup_steps 20", ["--warmup_steps 20", "--train_steps 9"]),
    "rising rate": ("train --final_lr_fraction 1.5", ["--final_lr_fraction 1.5", "at most 1"]),
    "sizes of another network": ("train --pos_enc alibi", ["--pos_enc", "transformers only", "lstm"]),
    "blocks for an LSTM": ("train --context_length 4", ["--context_length", "transformers only"]),
    "stacks for an LSTM": ("train --n_stacks 2", ["--n_stacks", "stacks only"]),
    "layers for a transformer": (f"{TRANSFORMER} --before_mlp 3", ["--before_mlp", "recurrent networks only"]),
    "a period for PTW": ("train --shift_period 5", ["--shift_period", "regular"]),
    "a period for PTW and LIN": ("train --shift_period 5 --eval_data_distribution lin", ["--shift_period", "regular"]),
    "a longest segment for LIN": ("train --data_distribution lin --max_segment 5", ["--max_segment", "random_uniform"]),
    "training on the evaluation set": ("train --seed 12345", ["--seed 12345", "--eval_seed"]),
    # training: options out of their range
    "no name": ("train --fn_out_model net", ["--fn_out_model", "NAME.tar"]),
    "name with a folder": ("train --fn_out_model a/net.tar", ["--fn_out_model", "--dir_model"]),
    "unknown option": ("train --speed 3", ["--speed"]),
    "unknown competitor": (
        "train --competitors ptw,ctw",
        ["--competitors", "'ctw'", "kt,kt_oracle,ptw,lin,random_uniform"],
    ),
    "no competitor": ("train --competitors ''", ["--competitors", "an empty one"]),
    "unknown source": ("train --data_distribution coins", ["--data_distribution", "'coins'", "random_uniform"]),
    "unknown model": ("train --model gru", ["--model", "'gru'", "stack_lstm"]),
    "unknown encoding": ("train --pos_enc rotary", ["--pos_enc", "'rotary'", "relative"]),
    "a width of none": ("train --before_mlp 3,0", ["--before_mlp", "at least 1, found 0"]),
    "a width in words": ("train --after_mlp 3,x", ["--after_mlp", "'x'"]),
    "an empty width": ("train --after_mlp 3,,4", ["--after_mlp", "a whole number"]),
    "no widths": ("train --after_mlp ''", ["--after_mlp", "an empty one"]),
    "an empty folder": ("train --dir_model ''", ["--dir_model", "an empty one"]),
    "evaluate: an empty name": (f"{EVALUATE} ''", ["--fn_in_model", "an empty one"]),
    "one symbol": ("train --num_symbols 1", ["--num_symbols", "at least 2"]),
    "one step": ("train --seq_length 1", ["--seq_length", "at least 2"]),
    "no alpha": ("train --alpha 0", ["--alpha", "found 0"]),
    "an alpha too small to draw from": ("train --alpha 0.001", ["--alpha", "0.01"]),
    "no period": ("train --shift_period 0", ["--shift_period", "at least 1"]),
    "no longest segment": ("train --max_segment 0", ["--max_segment", "at least 1"]),
    "no steps": ("train --train_steps 0", ["--train_steps", "at least 1"]),
    "no batch": ("train --batch_size 0", ["--batch_size", "at least 1"]),
    "no units": ("train --hidden_size 0", ["--hidden_size", "at least 1"]),
    "no heads": (f"{TRANSFORMER} --nheads 0", ["--nheads", "at least 1"]),
    "no cells": ("train --model stack_rnn --stack_size 0", ["--stack_size", "at least 1"]),
    "cells in words": ("train --model stack_rnn --stack_size many", ["--stack_size", "'many'"]),
    "no units of a head": (f"{TRANSFORMER} --head_size 0", ["--head_size", "at least 1"]),
    "a head for an LSTM": ("train --head_size 4", ["--head_size", "transformers only"]),
    "unknown source to evaluate on": ("train --eval_data_distribution coins", ["--eval_data_distribution", "'coins'"]),
    "one step to evaluate on": ("train --eval_seq_length 1", ["--eval_seq_length", "at least 2"]),
    "no stacks": ("train --model stack_rnn --n_stacks 0", ["--n_stacks", "at least 1"]),
    "no window": (f"{TRANSFORMER} --attention_window 0", ["--attention_window", "at least 1"]),
    "no chunk": ("train --chunk_length 0", ["--chunk_length", "at least 1"]),
    "dropout of all": ("train --dropout 1", ["--dropout", "below 1"]),
    "no rate": ("train --lr 0", ["--lr", "above 0"]),
    "rate nan": ("train --lr nan", ["--lr", "above 0"]),
    "negative norm": ("train --clip_grad_norm -1", ["--clip_grad_norm", "at least 0"]),
    "negative seed": ("train --seed -1", ["--seed", "at least 0"]),
    "one sequence to evaluate": ("train --n_eval 1", ["--n_eval", "at least 2"]),
    # places
    "unknown device": ("train --device tpu", ["--device", "'tpu'"]),
    "two devices": ("train --gpu 99", ["--gpu", "--cpu"]),
    "too many threads": ("train --threads 100000", ["100000 threads"]),
    "folder is a file": ("train --dir_model {world}/file", ["file"]),
    "folder below a file": ("train --dir_model {world}/file/models", ["file/models"]),
    "network exists": ("train --fn_out_model lstm.tar", ["lstm.tar was trained with", "--overwrite"]),
    # evaluation: which network
    "no network": ("evaluate", ["--fn_in_model", "--bayes_only"]),
    "network and none": ("evaluate --fn_in_model lstm.tar --bayes_only", ["--fn_in_model", "--bayes_only"]),
    "missing file": (f"{EVALUATE} nothing.tar", ["no checkpoint at", "nothing.tar", "nonstationary.train"]),
    "missing folder": (f"{EVALUATE} lstm.tar --dir_model {{world}}/nowhere", ["nowhere/lstm.tar"]),
    "evaluate: no name": (f"{EVALUATE} lstm", ["--fn_in_model", "NAME.tar"]),
    "evaluate: name with a folder": (f"{EVALUATE} models/lstm.tar", ["--fn_in_model", "--dir_model"]),
    # evaluation: on what
    "other alphabet": (f"{EVALUATE} lstm.tar --num_symbols 3", ["--num_symbols 3", "2 symbols"]),
    "smaller alphabet": (f"{EVALUATE} three.tar --num_symbols 2", ["--num_symbols 2", "3 symbols"]),
    "length and blocks of the network": (f"{EVALUATE} blocks.tar --seq_length 12", ["--seq_length 12", "8"]),
    "evaluate: chunks and blocks": (f"{EVALUATE} blocks.tar --chunk_length 4", ["--chunk_length 4", "8"]),
    "chunks of nothing": ("evaluate --bayes_only --chunk_length 4", ["--chunk_length", "--bayes_only"]),
    "shallow tree": ("evaluate --bayes_only --seq_length 9 --ptw_depth 3", ["depth 3", "8 symbols", "not 9"]),
    "shallow tree beside a network": (f"{EVALUATE} lstm.tar --ptw_depth 3", ["depth 3", "not 16", "takes 4"]),
    "a depth of nothing": ("evaluate --bayes_only --competitors kt --ptw_depth 9", ["--ptw_depth", "--competitors"]),
    "a period that PTW has no use for": (
        f"{EVALUATE} lstm.tar --data_distribution ptw --shift_period 7",
        ["--shift_period", "regular only", "ptw"],
    ),
    "a period that no other source has a use for": (
        f"{EVALUATE} regular.tar --data_distribution lin --shift_period 7",
        ["--shift_period", "regular only", "lin"],
    ),
    "a longest segment without a network": ("evaluate --bayes_only --max_segment 7", ["--max_segment", "ptw"]),
    "negative depth": ("evaluate --bayes_only --ptw_depth -1", ["--ptw_depth", "at least 0"]),
    "evaluate: unknown source": ("evaluate --bayes_only --data_distribution coins", ["--data_distribution", "'coins'"]),
    "evaluate: unknown competitor": ("evaluate --bayes_only --competitors ctw", ["--competitors", "'ctw'"]),
    "evaluate: one step": ("evaluate --bayes_only --seq_length 1", ["--seq_length", "at least 2"]),
    "evaluate: one sequence": ("evaluate --bayes_only --n_eval 1", ["--n_eval", "at least 2"]),
    "evaluate: no batch": ("evaluate --bayes_only --batch_size 0", ["--batch_size", "at least 1"]),
    "unknown unit": ("evaluate --bayes_only --units bytes", ["--units", "'bytes'", "nats"]),
    "evaluate: two devices": ("evaluate --bayes_only --device cuda:99", ["--device", "--cpu"]),
    "result is a folder": ("evaluate --bayes_only --seq_length 4 --fn_out_results {world}/models", ["models"]),
    "result below a file": ("evaluate --bayes_only --seq_length 4 --fn_out_results {world}/file/a.json", ["file"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, case):
    """Exit code 2 before any training, one line that says what is wrong, every file as it was and none added."""
    line, said = MISTAKES[case]
    before = contents(world)
    name, *arguments = complete(world, line)
    with mock.patch.object(nonstationary.training, "train_on_batch", side_effect=AssertionError("trained")):
        outcome = run_module(name, *arguments)
    assert_one_line(outcome, f"{name}.py", *said)
    assert contents(world) == before
    assert "Traceback" not in outcome.out


def test_a_network_must_have_a_name():
    """Training has no default for --fn_out_model."""
    assert_one_line(run_module("train"), "train.py", "--fn_out_model")


# Files that are no networks


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def changed(path, **changes):
    torch.save({**torch.load(path, weights_only=True), **changes}, path)


def without(path, entry):
    saved = torch.load(path, weights_only=True)
    del saved[entry]
    torch.save(saved, path)


def other_config(path, **changes):
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "network_config": {**saved["network_config"], **changes}}, path)


def other_source(path, **changes):
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "source": {**saved["source"], **changes}}, path)


def infinite_weight(path):
    saved = torch.load(path, weights_only=True)
    next(iter(saved["network_state"].values())).view(-1)[0] = math.inf
    torch.save(saved, path)


WRONG_FILES = {  # each turns a network's file into something else; the message must say the rest
    "text": (lambda path: path.write_text("this is no network\n"), "cannot be loaded"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be loaded"),
    "first half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "truncated"),
    "all but the last byte": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated"),
    "folder": (lambda path: path.unlink() or path.mkdir(), "folder"),
    "list": (lambda path: torch.save([1, 2, 3], path), "list"),
    "pickled module": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "nothing in it was run"),
    "malicious": (lambda path: torch.save(Malicious(path.with_name("trace")), path), "nothing in it was run"),
    "malicious pickle": (
        lambda path: path.write_bytes(pickle.dumps(Malicious(path.with_name("trace")), protocol=2)),
        "nothing in it was run",
    ),
    "another project's": (lambda path: torch.save({"epoch": 3}, path), "no network of nonstationary"),
    "of the other paper": (lambda path: changed(path, format="meta_seq2seq"), "no network of nonstationary"),
    "later version": (lambda path: changed(path, format_version=99), "version 99"),
    "without weights": (lambda path: without(path, "network_state"), "damaged"),
    "without source": (lambda path: without(path, "source"), "damaged"),
    "without config": (lambda path: without(path, "network_config"), "damaged"),
    "without arguments": (lambda path: without(path, "arguments"), "damaged"),
    "weights of another size": (lambda path: other_config(path, hidden_size=7), "damaged"),
    "a period of none": (lambda path: other_source(path, name="regular", shift_period=0), "damaged"),
    "a longest segment of none": (lambda path: other_source(path, name="random_uniform", max_segment=0), "damaged"),
    "an alphabet in words": (lambda path: other_source(path, num_symbols="two"), "damaged"),
    "more than its weights": (lambda path: other_config(path, hidden_size=2**17), "damaged"),
    "more than any network": (lambda path: other_config(path, hidden_size=8**30), "damaged"),
    "more layers than its weights": (lambda path: other_config(path, model="transformer", nlayers=2**17), "damaged"),
    "widths in words": (lambda path: other_config(path, before_mlp="three"), "damaged"),
    "infinite weights": (infinite_weight, "no numbers"),
    "a size of later code": (lambda path: other_config(path, width=7), "damaged"),
}


@pytest.mark.parametrize("command", ["train --fn_out_model lstm.tar", f"{EVALUATE} lstm.tar"])
@pytest.mark.parametrize("kind", WRONG_FILES)
def test_what_is_no_network_is_refused(world, command, kind):
    """Whatever the file is, the user gets one line with its name, and it stays as it is; nothing in it is run."""
    path = world / "models" / "lstm.tar"
    spoil, said = WRONG_FILES[kind]
    spoil(path)
    before = contents(world)
    name, *arguments = complete(world, command)
    assert_one_line(run_module(name, *arguments), f"{name}.py", str(path), said)
    assert contents(world) == before
    assert not path.with_name("trace").exists()


@pytest.mark.parametrize("method", ["__init__", "load_state_dict"])
def test_a_bug_in_a_network_is_not_taken_for_a_bad_file(world, monkeypatch, method):
    """It keeps its traceback, whatever file is loaded."""
    monkeypatch.setattr(RecurrentNetwork, method, lambda self, *given: len(*given, *given))
    with pytest.raises(TypeError):
        load_network(world / "models" / "lstm.tar", torch.device("cpu"))


# Training


@pytest.mark.parametrize(
    "variant",
    [
        *(f"--model {model}" for model in RECURRENT),
        *(f"--model transformer --pos_enc {name}" for name in ("none", "sincos", "alibi", "relative")),
        "--model transformer --context_length 4",
        "--model transformer --attention_window 4",
        "--model transformer --pos_enc relative --head_size 6 --emb_init_scale 0.1 --max_time 100",
        "--model transformer --pos_enc alibi --chunk_length 3 --eval_chunk_length 4",
        "--model stack_rnn --stack_size T",
        "--eval_data_distribution regular --shift_period 3 --eval_seq_length 12 --eval_chunk_length 5",
        "--model stack_lstm --n_stacks 2 --stack_size 3 --stack_cell_size 2 --before_mlp 3 --after_mlp 4,5",
        *(f"--data_distribution {name}" for name in SEGMENTS),
        "--num_symbols 3 --alpha 1 --competitors kt,lin",
        "--random_length --carry_state --chunk_length 2",
    ],
)
def test_every_variant_trains_and_is_evaluated(world, variant):
    """Each network, each source, each way to train runs through training, the file, and evaluation."""
    name, *arguments = complete(world, f"train --train_steps 3 {variant}")
    outcome = run_module(name, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    with (world / "models" / "new.csv").open(newline="") as lines:
        last = list(csv.DictReader(lines))[-1]
    assert last["step"] == "3"
    assert math.isfinite(float(last["loss"]))
    name, *arguments = complete(world, f"{EVALUATE} new.tar")
    outcome = run_module(name, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads((world / "result.json").read_text())["seq_length"] == 8


def test_a_run_that_diverges_ends_in_one_line_and_saves_nothing(world):
    """Neither a checkpoint nor a row of the curve holds what is no number."""
    name, *arguments = complete(world, "train --lr 1e38 --save_every 1")
    assert_one_line(run_module(name, *arguments), "train.py", "smaller --lr")
    rows = "".join(path.read_text() for path in (world / "models").glob("new.csv"))
    assert "nan" not in rows
    assert "inf" not in rows
    if (world / "models" / "new.tar").exists():  # of a step before
        saved = load_network(world / "models" / "new.tar", torch.device("cpu")).network.state_dict()
        assert all(weight.isfinite().all() for weight in saved.values())


SOURCE_FLAGS = "--num_symbols 3 --alpha 0.7 --data_distribution"


@pytest.mark.parametrize(
    ("flags", "config", "source"),
    [
        (
            "--model stack_lstm --hidden_size 5 --before_mlp 3 --after_mlp 4,5 --n_stacks 2 --stack_size 3 "
            f"--stack_cell_size 2 {SOURCE_FLAGS} regular --shift_period 3",
            NetworkConfig("stack_lstm", 3, 5, (3,), (4, 5), 2, 3, 2),
            Source("regular", 0.7, 3, shift_period=3),
        ),
        (
            "--model transformer --emb_size 6 --nlayers 2 --nheads 3 --ff_mult 1 --dropout 0.25 --pos_enc relative "
            f"--context_length 4 --attention_window 2 {SOURCE_FLAGS} random_uniform --max_segment 9 "
            "--head_size 6 --emb_init_scale 0.1 --max_time 99",
            NetworkConfig(
                "transformer",
                3,
                emb_size=6,
                nlayers=2,
                nheads=3,
                ff_mult=1,
                dropout=0.25,
                pos_enc="relative",
                context_length=4,
                attention_window=2,
                head_size=6,
                emb_init_scale=0.1,
                max_time=99.0,
            ),
            Source("random_uniform", 0.7, 3, max_segment=9),
        ),
        (
            "--model stack_rnn --hidden_size 4 --stack_size T --eval_data_distribution regular --shift_period 3",
            NetworkConfig("stack_rnn", hidden_size=4, stack_size=8),
            Source(),
        ),
    ],
)
def test_the_network_is_made_as_asked(world, flags, config, source):
    """Every flag of network and source arrives in the file's configuration."""
    name, *arguments = complete(world, f"train {flags} --train_steps 1")
    assert run_module(name, *arguments).code == 0
    trained = load_network(world / "models" / "new.tar", torch.device("cpu"))
    assert trained.config == config
    assert trained.source == source
    assert trained.step == 1
    assert trained.arguments["seq_length"] == 8


# Evaluation


@pytest.fixture
def evaluate(world):
    """Evaluate; gives the result file's contents."""

    def run(*arguments):
        (world / "result.json").unlink(missing_ok=True)
        name, *given = complete(world, shlex.join(["evaluate", *map(str, arguments)]))
        outcome = run_module(name, *given)
        assert (outcome.code, outcome.err) == (0, ""), outcome
        text = (world / "result.json").read_text()
        assert "NaN" not in text
        assert "Infinity" not in text
        return json.loads(text) | {"printed": outcome.out}

    return run


@pytest.mark.parametrize(
    "other",
    [
        *("--n_eval 5", "--units nats", "--seq_length 9", "--data_distribution lin", "--fn_in_model three.tar"),
        *("--competitors kt", "--competitors ptw,kt", "--ptw_depth 9", "--eval_seed 3"),
    ],
)
def test_results_are_not_replaced_by_those_of_something_else(world, evaluate, other):
    """The same evaluation may be repeated; another one ends in one line, and the file stays."""
    evaluate("--fn_in_model", "lstm.tar")
    before = contents(world)
    name, *given = complete(world, f"{EVALUATE} lstm.tar {other}")
    assert_one_line(run_module(name, *given), "evaluate.py", "result.json", "--fn_out_results")
    assert contents(world) == before
    name, *given = complete(world, f"{EVALUATE} lstm.tar")
    assert run_module(name, *given).code == 0
    name, *given = complete(world, f"{EVALUATE} lstm.tar {other} --overwrite")
    assert run_module(name, *given).code == 0
    assert contents(world) != before


def rows_of(report):
    return {row["predictor"]: row for row in report["predictors"]}


def assert_same_rows(one, other, factor=1.0, tolerance=1e-5):
    """Every number of every row is `factor` times that of the other report, but for the gaps between predictions."""
    assert rows_of(one).keys() == rows_of(other).keys()
    for name, row in rows_of(one).items():
        wanted = rows_of(other)[name]
        for key in ("regret", "regret_error", "difference", "difference_error", "regret_by_step"):
            expected = torch.tensor(wanted[key], dtype=torch.float64) * factor
            found = torch.tensor(row[key], dtype=torch.float64)
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        assert row["gap"] == pytest.approx(wanted["gap"], abs=tolerance)


def test_an_evaluation_reports_what_it_did(world, evaluate):
    """The file names source, set, network and code; the table has a row for each predictor and the file's numbers."""
    report = evaluate("--fn_in_model", "lstm.tar")
    assert report["source"] == {"name": "ptw", "alpha": 0.5, "num_symbols": 2, "shift_period": 20, "max_segment": 20}
    facts = ("seq_length", "n_eval", "eval_seed", "unit", "reference", "ptw_depth", "chunk_length")
    assert [report[key] for key in facts] == [LENGTH, 4, 12345, "bits", "ptw", 4, None]
    assert report["network"]["file"] == "lstm.tar"
    assert report["network"]["config"]["hidden_size"] == 6
    assert report["network"]["step"] == 0
    assert report["provenance"].keys() >= {"commit", "torch"}
    rows = rows_of(report)
    assert list(rows) == ["lstm", *USUAL]
    assert (rows["ptw"]["difference"], rows["ptw"]["difference_error"], rows["ptw"]["gap"]) == (0, 0, 0)
    head, _, *lines, last = report["printed"].strip().split("\n")
    assert head == "ptw, 4 sequences of 16 symbols: cumulative regret in bits over symbols 2 to 16"
    for line, row in zip(lines, report["predictors"], strict=True):
        assert line.split()[0] == row["predictor"]
        assert f"{row['regret']:.3f} ± {row['regret_error']:.3f}" in line
        assert f"{row['difference']:.3f} ± {row['difference_error']:.3f}" in line
        assert line.endswith(f"{row['gap']:.4f}")
    assert last == f"written to {world / 'result.json'}"


def test_the_regret_is_that_of_the_networks_predictions(world, evaluate):
    """Summed by hand over the very sequences of the seed: mean, standard error and curve of KL(theta, q) in bits."""
    report = evaluate("--fn_in_model", "lstm.tar", "--eval_seed", 9, "--n_eval", 5)
    drawn = sample(Source(), 5, LENGTH, torch.Generator().manual_seed(9))
    network = load_network(world / "models" / "lstm.tar", torch.device("cpu")).network
    predicted = log_probs(network, drawn.symbols).exp()
    table = torch.zeros(5, LENGTH - 1, dtype=torch.float64)
    for row in range(5):
        for step in range(1, LENGTH):
            for theta, q in zip(drawn.parameters[row, step], predicted[row, step - 1], strict=True):
                table[row, step - 1] += theta * (theta / q).log2() if theta > 0 else 0
    row = rows_of(report)["lstm"]
    totals = table.sum(1)
    assert row["regret"] == pytest.approx(totals.mean().item())
    assert row["regret_error"] == pytest.approx(totals.std().item() / math.sqrt(5))
    assert row["regret_by_step"] == pytest.approx(table.mean(0).tolist(), abs=1e-5)
    assert sum(row["regret_by_step"]) == pytest.approx(row["regret"], abs=1e-4)
    example = report["example"]
    shown = [sequence.tolist() for sequence in drawn.symbols].index(example["symbols"])
    assert example["segments"] == drawn.segments[shown].tolist()
    for row, wanted in zip(example["predictions"]["lstm"], predicted[shown].tolist(), strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)
    assert example["predictions"].keys() == {"lstm", *USUAL}


def test_a_nat_is_log_2_of_a_bit(evaluate):
    """The same evaluation in nats has all regrets times ln 2, and says so."""
    bits, nats = (evaluate("--fn_in_model", "lstm.tar", "--units", unit) for unit in ("bits", "nats"))
    assert_same_rows(nats, bits, math.log(2))
    assert nats["unit"] == "nats"
    assert "regret in nats" in nats["printed"]


@pytest.mark.parametrize("name", NETWORKS)
def test_results_do_not_depend_on_the_batch_size(evaluate, name):
    """One sequence at a time, some, or all: the same numbers, also if the last batch is smaller."""
    whole = evaluate("--fn_in_model", f"{name}.tar", "--n_eval", 7)
    for batch_size in (1, 3, 7):
        part = evaluate("--fn_in_model", f"{name}.tar", "--n_eval", 7, "--batch_size", batch_size)
        assert_same_rows(part, whole)


@pytest.mark.parametrize("chunk_length", [1, 5, 16, 99])
def test_reading_in_chunks_gives_the_same_result(evaluate, chunk_length):
    """The state is passed on, so that long sequences can be read piece by piece."""
    with mock.patch.object(RecurrentNetwork, "forward", autospec=True, side_effect=RecurrentNetwork.forward) as forward:
        chunked = evaluate("--fn_in_model", "regular.tar", "--chunk_length", chunk_length)
    read = {call.args[1].shape[1] for call in forward.call_args_list}
    assert max(read) <= chunk_length
    assert_same_rows(chunked, evaluate("--fn_in_model", "regular.tar"))
    assert chunked["chunk_length"] == chunk_length


def test_a_transformer_read_in_chunks_knows_nothing_of_those_before(world, evaluate):
    """As if each chunk were a sequence of its own, a last one that is shorter included."""
    chunked = evaluate("--fn_in_model", "whole.tar", "--chunk_length", 6, "--n_eval", 3)
    drawn = sample(Source(), 3, LENGTH, torch.Generator().manual_seed(12345))
    network = load_network(world / "models" / "whole.tar", torch.device("cpu")).network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(part)[0] for part in drawn.symbols.split(6, dim=1)], dim=1)
    q = logits.double().softmax(2)[:, :-1]
    theta = drawn.parameters[:, 1:]
    regrets = torch.where(theta > 0, theta * (theta / q).log2(), 0).sum((1, 2))
    assert rows_of(chunked)["transformer"]["regret"] == pytest.approx(regrets.mean().item(), rel=1e-4)


@pytest.mark.parametrize("pos_enc", ["sincos", "alibi", "relative"])
def test_a_transformer_is_evaluated_on_longer_sequences(world, evaluate, pos_enc):
    """At four times the length of its training; what it says of the first symbols stays as it was."""
    config, source = replace(BLOCKS, context_length=None, pos_enc=pos_enc), Source()
    network = make_network(config, 1)
    save_network(world / "models" / "t.tar", network, config, source, 0, {"seq_length": LENGTH}, {"seconds": 0.0})
    report = evaluate("--fn_in_model", "t.tar", "--seq_length", 4 * LENGTH)
    assert len(rows_of(report)["transformer"]["regret_by_step"]) == 4 * LENGTH - 1
    symbols = torch.tensor(report["example"]["symbols"])[None, :LENGTH]
    found = torch.tensor(report["example"]["predictions"]["transformer"])[: LENGTH - 1]
    torch.testing.assert_close(found, log_probs(network, symbols)[0].exp().float(), rtol=0, atol=1e-5)


def test_a_source_is_that_of_training_unless_told(evaluate):
    """What the command line leaves out is as the network was trained; anything may differ but the alphabet."""
    same = evaluate("--fn_in_model", "regular.tar")
    assert same["source"] == {"name": "regular", "alpha": 1.0, "num_symbols": 2, "shift_period": 4, "max_segment": 20}
    assert same["reference"] == "kt_oracle"
    other = evaluate("--fn_in_model", "regular.tar", "--data_distribution", "lin", "--seq_length", 40, "--alpha", 0.5)
    assert (other["source"]["name"], other["source"]["alpha"], other["seq_length"]) == ("lin", 0.5, 40)
    assert (other["reference"], other["ptw_depth"]) == ("lin", 6)
    assert other["network"]["trained_on"]["name"] == "regular"
    assert all(len(row["regret_by_step"]) == 39 for row in other["predictors"])
    assert evaluate("--fn_in_model", "blocks.tar", "--seq_length", 24)["seq_length"] == 24
    assert evaluate("--fn_in_model", "whole.tar", "--seq_length", 23)["seq_length"] == 23
    assert evaluate("--fn_in_model", "three.tar", "--num_symbols", 3)["source"]["num_symbols"] == 3


def test_the_same_command_gives_the_same_numbers(evaluate):
    """The evaluation set depends on its seed alone, whatever torch drew before."""
    torch.manual_seed(1)
    one = evaluate("--fn_in_model", "whole.tar")
    torch.manual_seed(2)
    again, other = evaluate("--fn_in_model", "whole.tar"), evaluate("--fn_in_model", "whole.tar", "--eval_seed", 1)
    assert (one["predictors"], one["example"]) == (again["predictors"], again["example"])
    assert one["example"] != other["example"]


@pytest.mark.parametrize("source", SEGMENTS)
def test_the_exact_predictors_are_compared_without_a_network(evaluate, source):
    """Differences are from the source's own mixture, or from the last competitor if that is not among them."""
    own = {"static": "kt", "regular": "kt_oracle"}.get(source, source)
    report = evaluate("--bayes_only", "--data_distribution", source, "--seq_length", 20, "--ptw_depth", 5)
    assert tuple(rows_of(report)) == usual_predictors(Source(source))
    assert (len(rows_of(report)) == 5) == (source == "random_uniform")
    assert (report["reference"], report["network"], report["ptw_depth"]) == (own, None, 5)
    assert rows_of(report)[own]["difference"] == 0
    some = evaluate("--bayes_only", "--data_distribution", source, "--seq_length", 20, "--competitors", "lin,kt,lin")
    assert list(rows_of(some)) == ["lin", "kt"]
    assert some["reference"] == ("lin" if source == "lin" else "kt")
    assert rows_of(some)["kt"]["regret"] == rows_of(report)["kt"]["regret"]


def test_a_deeper_tree_is_not_the_mixture_of_its_source(evaluate):
    """Its name tells its depth, it costs more than the mixture, and no difference is taken from it."""
    exact = evaluate("--bayes_only", "--seq_length", 16, "--n_eval", 500)
    deep = evaluate("--bayes_only", "--seq_length", 16, "--n_eval", 500, "--ptw_depth", 12)
    assert rows_of(deep)["ptw"]["regret"] > rows_of(exact)["ptw"]["regret"] + 0.3
    assert (exact["reference"], deep["reference"]) == ("ptw", "lin")
    assert "ptw of depth 12" in deep["printed"] and "of depth" not in exact["printed"]
    assert label(deep, "ptw") == "PTW of depth 12"
    alone = evaluate("--bayes_only", "--seq_length", 16, "--ptw_depth", 12, "--competitors", "lin,ptw")
    assert alone["reference"] == "lin"


def test_a_mixture_off_its_source_has_the_longest_segment_that_one_asks_for(world, evaluate):
    """Told, or else that of the network's training; it is stored, and makes another predictor."""
    given = "--data_distribution", "ptw", "--seq_length", 16, "--competitors", "random_uniform,ptw"
    usual = evaluate("--bayes_only", *given)
    other = evaluate("--bayes_only", *given, "--max_segment", 3)
    source = Source("ptw", max_segment=3)
    assert (usual["source"], other["source"]) == (asdict(Source("ptw")), asdict(source))
    exact = {"it": exact_predictor("random_uniform", source)}
    expected = score(exact, fixed_sequences(source, 4, 16, 12345), 4, torch.device("cpu"))[
        "it"
    ].totals.mean().item() / math.log(2)
    assert rows_of(other)["random_uniform"]["regret"] == pytest.approx(expected)
    assert rows_of(usual)["random_uniform"]["regret"] != pytest.approx(expected)
    assert rows_of(usual)["ptw"] == rows_of(other)["ptw"]
    config, trained_on = SMALL, Source("random_uniform", max_segment=3)
    network, arguments = make_network(config, 1), {"seq_length": LENGTH}
    save_network(world / "models" / "short.tar", network, config, trained_on, 0, arguments, {"seconds": 0.0})
    assert evaluate("--fn_in_model", "short.tar", *given)["source"] == asdict(source)
    assert evaluate("--fn_in_model", "short.tar", *given[:-1], "lin,ptw")["source"] == asdict(Source("ptw"))


def test_what_a_source_has_no_use_for_is_not_stored(evaluate):
    """A network of one period, tested on another source, stands beside those that never had one."""
    other = evaluate("--fn_in_model", "regular.tar", "--data_distribution", "lin", "--alpha", 0.5)
    assert other["source"] == evaluate("--fn_in_model", "lstm.tar", "--data_distribution", "lin")["source"]


def test_predictions_next_to_nothing_stay_above_it(world):
    """Six digits of them, however small, so that a curve drawn from them is finite."""
    config, source = NETWORKS["lstm"]
    network = make_network(config, 1)
    with torch.no_grad():
        network.output.bias[0] = 40.0
    models = world / "models"
    save_network(models / "sure.tar", network, config, source, 0, {"seq_length": LENGTH}, {"seconds": 0.0})
    name, *given = complete(world, f"{EVALUATE} sure.tar")
    assert run_module(name, *given).code == 0
    example = json.loads((world / "result.json").read_text())["example"]
    assert all(0 < value < 1e-9 for _, value in example["predictions"]["lstm"])


def test_certain_sources_leave_no_missing_number(evaluate):
    """Parameters next to 0 and 1, and the shortest sequences, still give finite regrets."""
    for alpha in (0.01, 1000):
        report = evaluate("--bayes_only", "--alpha", alpha, "--seq_length", 2, "--n_eval", 50)
        assert all(math.isfinite(row["regret"]) and row["regret"] >= 0 for row in report["predictors"])


def test_results_have_a_name_of_their_own(world, monkeypatch):
    """Without --fn_out_results they go to the folder of the models, named by network, source and length."""
    monkeypatch.chdir(world)
    common = ("--cpu", "--n_eval", 2, "--dir_model", "models")
    assert run_module("evaluate", *common, "--fn_in_model", "lstm.tar", "--data_distribution", "lin").code == 0
    assert run_module("evaluate", *common, "--bayes_only", "--seq_length", 8).code == 0
    found = sorted(path.name for path in (world / "models" / "nonstationary").iterdir())
    assert found == ["exact_ptw_8.json", "lstm_lin_16.json"]


def test_results_go_where_one_wants_them(world, monkeypatch):
    """To the folder --results_dir, which --fn_out_results, a whole path, would contradict."""
    monkeypatch.chdir(world)
    common = ("--cpu", "--n_eval", 2, "--bayes_only", "--seq_length", 8, "--results_dir", "mine/of_today")
    assert run_module("evaluate", *common).code == 0
    assert [path.name for path in (world / "mine" / "of_today").iterdir()] == ["exact_ptw_8.json"]
    outcome = run_module("evaluate", *common, "--fn_out_results", "r.json")
    assert_one_line(outcome, "evaluate.py", "--fn_out_results", "--results_dir")


def test_the_names_of_earlier_code_evaluate_the_same(world, evaluate):
    """The network that is read may be called --fn_out_model, its device --device."""
    one = evaluate("--fn_in_model", "lstm.tar")
    result = world / "again.json"
    earlier = ("--fn_out_model", "lstm.tar", "--device", "cpu", "--num_threads", 1, "--n_eval", 4)
    assert run_module("evaluate", *earlier, "--dir_model", world / "models", "--fn_out_results", result).code == 0
    other = json.loads(result.read_text())
    assert [other[name] for name in ("predictors", "network")] == [one[name] for name in ("predictors", "network")]


def test_an_evaluation_leaves_the_networks_alone(world, evaluate):
    """It adds its result and changes no other file."""
    before = contents(world)
    evaluate("--fn_in_model", "lstm.tar")
    after = contents(world)
    assert after.pop("result.json")
    assert after == before


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_is_printed(name):
    """-h is no mistake: exit code 0, the options on stdout."""
    outcome = run_module(name, "-h")
    assert (outcome.code, outcome.err) == (0, "")
    assert "--data_distribution" in outcome.out


def test_training_as_a_process(world):
    """As typed, with `python -m`: a network and its curve, and nothing else on stderr."""
    name, *arguments = complete(world, "train --train_steps 1")
    command = [sys.executable, "-m", f"nonstationary.{name}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"models/new.tar", "models/new.csv"} <= contents(world).keys()
