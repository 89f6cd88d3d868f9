"""Training and evaluation from the command line: a mistake is one line and changes nothing, results say what they are.

The scripts run inside this process, since each new one has to import torch first.
"""

import json
import math
import shlex
import shutil
from dataclasses import asdict, replace
from unittest import mock

import pytest
import torch
from script_runs import assert_one_line, contents, rows
from test_nonstationary_training import run_module, tiny

import nonstationary.training
from nonstationary import bench
from nonstationary.network_config import NetworkConfig
from nonstationary.networks import TrainedNetwork, load_network, log_probs, make_network, save_network
from nonstationary.predictors import USUAL, usual_predictors
from nonstationary.recurrent import RecurrentNetwork
from nonstationary.regret import exact_predictor, fixed_sequences, score
from nonstationary.sources import SEGMENTS, Source, sample

CPU = torch.device("cpu")
LENGTH = 16
SMALL = NetworkConfig(hidden_size=6, emb_size=8, nheads=2, nlayers=1, ff_mult=2, stack_size=3, stack_cell_size=2)
BLOCKS = replace(SMALL, model="transformer", pos_enc="alibi", context_length=8)
NETWORKS = {
    "lstm": (SMALL, Source()),
    "three": (replace(SMALL, model="rnn", num_symbols=3), Source("lin", num_symbols=3)),
    "regular": (replace(SMALL, model="stack_rnn"), Source("regular", alpha=1.0, shift_period=4)),
    "blocks": (BLOCKS, Source()),
    "whole": (replace(BLOCKS, context_length=None, pos_enc="relative"), Source()),
    "short": (SMALL, Source("random_uniform", max_segment=3)),
}


def save(path, config, source, network=None):
    """Save an untrained network."""
    network = network or make_network(config, 1)
    save_network(path, TrainedNetwork(network, config, source, 0, {"seq_length": LENGTH}, {"seconds": 0.0}))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A folder to make mistakes in: untrained networks in models/, and a regular file `file`."""
    folder = tmp_path_factory.mktemp("untouched")
    for name, given in NETWORKS.items():
        save(folder / "models" / f"{name}.tar", *given)
    (folder / "file").write_text("no folder\n")
    return folder


@pytest.fixture
def world(tmp_path, untouched, monkeypatch):
    """The same to write in."""
    shutil.copytree(untouched, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line, *further):
    """Run a command in the world; what it does not mention is small, on the CPU, and in the world's folders."""
    name, *given = [*shlex.split(line), *further]
    if name == "train":
        return run_module(name, *tiny("--fn_out_model", "new.tar", "--dir_model", "models", *given))
    usual = ("--cpu", "--n_eval", 4, "--fn_out_results", "result.json", "--dir_model", "models")
    return run_module(name, *usual, *given)


TRANSFORMER = "train --model transformer"
EVALUATE = "evaluate --fn_in_model"
BAYES = "evaluate --bayes_only"
AT_LEAST = {  # the least value of options, and those that have it
    0: "--seed --clip_grad_norm",
    1: "--shift_period --max_segment --train_steps --batch_size --hidden_size --n_stacks --nheads --head_size "
    "--attention_window --chunk_length --log_every --save_every",
    2: "--num_symbols --seq_length --eval_seq_length --n_eval",
}
BAD_VALUES = [  # of options, each refused by its name
    *("--fn_out_model net", "--fn_out_model a/net.tar", "--competitors ptw,ctw", "--competitors ''", "--model gru"),
    *("--data_distribution coins", "--eval_data_distribution coins", "--before_mlp 3,0"),
    *("--after_mlp 3,x", "--after_mlp 3,,4", "--after_mlp ''", "--alpha 0", "--alpha 0.001", "--alpha 1001"),
    *("--stack_size 0", "--stack_size many", "--dropout 1", "--lr 0", "--lr nan", "--dir_model ''"),
]
BAD_VALUES_IN_EVALUATION = [
    *("--ptw_depth -1", "--ptw_depth 65", "--data_distribution coins", "--competitors ctw", "--seq_length 1"),
    *("--n_eval 1", "--batch_size 0", "--units bytes"),
]
MISTAKES = [  # a command line and what the message must say
    *((f"train {flag} {n - 1}", flag, f"at least {n}") for n, flags in AT_LEAST.items() for flag in flags.split()),
    *((f"train {given}", f"argument {given.split()[0]}: ") for given in BAD_VALUES),
    *((f"{BAYES} {given}", f"argument {given.split()[0]}: ") for given in BAD_VALUES_IN_EVALUATION),
    (f"{TRANSFORMER} --pos_enc rotary", "--pos_enc", "'rotary'", "relative"),
    # options that contradict one another
    (f"{TRANSFORMER} --emb_size 10 --nheads 4", "--emb_size 10", "--nheads 4"),
    (f"{TRANSFORMER} --emb_size 9 --nheads 3 --pos_enc sincos", "--pos_enc sincos", "--emb_size"),
    (f"{TRANSFORMER} --emb_size 9 --nheads 3 --pos_enc relative", "--pos_enc", "--emb_size"),
    (f"{TRANSFORMER} --attention_window 1000000", "attention_window", "up to"),
    (f"{TRANSFORMER} --context_length 3", "--seq_length 8", "context_length 3"),
    (f"{TRANSFORMER} --context_length 16", "--seq_length 8", "context_length 16"),
    (f"{TRANSFORMER} --context_length 4 --random_length", "--random_length", "--context"),
    (f"{TRANSFORMER} --context_length 4 --chunk_length 6", "--chunk_length 6", "context_length 4"),
    (f"{TRANSFORMER} --context_length 4 --eval_chunk_length 6", "--eval_chunk_length"),
    (f"{TRANSFORMER} --context_length 4 --eval_seq_length 6", "--eval_seq_length 6"),
    (f"{TRANSFORMER} --carry_state", "--carry_state", "--model", "transformer"),
    (f"{TRANSFORMER} --before_mlp 3", "--before_mlp", "recurrent networks only"),
    ("train --pos_enc alibi", "--pos_enc", "transformers only", "lstm"),
    ("train --context_length 4", "--context_length", "transformers only"),
    ("train --head_size 4", "--head_size", "transformers only"),
    ("train --n_stacks 2", "--n_stacks", "stacks only"),
    ("train --warmup_steps 9", "--warmup_steps 9", "--train_steps 9"),
    ("train --final_lr_fraction 1.5", "--final_lr_fraction 1.5", "at most 1"),
    ("train --shift_period 5", "--shift_period", "regular"),
    ("train --shift_period 5 --eval_data_distribution lin", "--shift_period", "regular"),
    ("train --data_distribution lin --max_segment 5", "--max_segment", "random_uniform"),
    ("train --competitors ptw --max_segment 5", "--max_segment", "random_uniform"),
    ("train --seed 12345", "--seed 12345", "evaluation set"),
    # places
    ("train --speed 3", "--speed"),
    ("train --fn_out_model=", "--fn_out_model"),
    ("train --gpu 99", "--gpu", "--cpu"),
    ("train --threads 100000", "100000 threads"),
    ("train --dir_model file/models", "file/models"),
    ("train --fn_out_model lstm.tar", "lstm.tar was trained with", "--overwrite"),
    # evaluation: which network
    ("evaluate", "--fn_in_model", "--bayes_only"),
    (f"{EVALUATE} lstm.tar --bayes_only", "--fn_in_model", "--bayes_only"),
    (f"{EVALUATE} ''", "--fn_in_model", "an empty one"),
    (f"{EVALUATE} nothing.tar", "no checkpoint at", "nothing.tar", "nonstationary.train"),
    (f"{EVALUATE} lstm.tar --dir_model nowhere", "nowhere/lstm.tar"),
    (f"{EVALUATE} lstm", "--fn_in_model", "NAME.tar"),
    (f"{EVALUATE} models/lstm.tar", "--fn_in_model", "--dir_model"),
    # evaluation: on what
    (f"{EVALUATE} lstm.tar --num_symbols 3", "--num_symbols 3", "2 symbols"),
    (f"{EVALUATE} three.tar --num_symbols 2", "--num_symbols 2", "3 symbols"),
    (f"{EVALUATE} blocks.tar --seq_length 12", "--seq_length 12", "8"),
    (f"{EVALUATE} blocks.tar --chunk_length 4", "--chunk_length 4", "8"),
    (f"{EVALUATE} lstm.tar --ptw_depth 3", "depth 3", "not 16", "takes 4"),
    (f"{EVALUATE} lstm.tar --data_distribution ptw --shift_period 7", "--shift_period", "regular only", "ptw"),
    (f"{EVALUATE} regular.tar --data_distribution lin --shift_period 7", "--shift_period", "regular only", "lin"),
    (f"{BAYES} --max_segment 7", "--max_segment", "ptw"),
    (f"{BAYES} --chunk_length 4", "--chunk_length", "--bayes_only"),
    (f"{BAYES} --seq_length 9 --ptw_depth 3", "depth 3", "8 symbols", "not 9"),
    (f"{BAYES} --competitors kt --ptw_depth 9", "--ptw_depth", "--competitors"),
    (f"{BAYES} --gpu 99", "--gpu", "--cpu"),
    (f"{BAYES} --results_dir there", "--fn_out_results", "--results_dir"),
    (f"{BAYES} --seq_length 4 --fn_out_results models", "models"),
    (f"{BAYES} --seq_length 4 --fn_out_results file/a.json", "file"),
]


@pytest.mark.parametrize(("line", "said"), [(line, said) for line, *said in MISTAKES])
def test_a_mistake_is_one_line_and_changes_nothing(untouched, monkeypatch, line, said):
    """Exit code 2 before any training, one line that says what is wrong, every file as it was and none added."""
    monkeypatch.chdir(untouched)
    before = contents(untouched)
    with mock.patch.object(nonstationary.training, "train_on_batch", side_effect=AssertionError("trained")):
        outcome = run(line)
    assert_one_line(outcome, f"{line.split()[0]}.py", *said)
    assert contents(untouched) == before


def entry(*names, **changes):
    """Change an entry's entries, or the file's own; None takes one away."""

    def spoil(saved):
        inner = saved[names[0]] if names else saved
        for name, value in changes.items():
            inner.pop(name) if value is None else inner.update({name: value})
        return saved

    return spoil


def infinite_weight(saved):
    next(iter(saved["network_state"].values())).view(-1)[0] = math.inf
    return saved


WRONG_FILES = {  # each turns what a network's file holds into something else; the message must say the rest
    "code to run": (lambda saved: Source(), "nothing in it was run"),
    "another project's": (lambda saved: {"epoch": 3}, "no network of nonstationary"),
    "of the other paper": (entry(format="meta_seq2seq"), "no network of nonstationary"),
    "later version": (entry(format_version=99), "version 99"),
    **{f"without {name}": (entry(**{name: None}), "damaged") for name in ("network_state", "source", "arguments")},
    "without config": (entry(network_config=None), "damaged"),
    "without a length": (entry("arguments", seq_length=None), "damaged"),
    "weights of another size": (entry("network_config", hidden_size=7), "damaged"),
    "an unknown kind": (entry("network_config", model="gru"), "damaged"),
    "an unknown encoding": (entry("network_config", model="transformer", pos_enc="rotary"), "damaged"),
    "a period of none": (entry("source", name="regular", shift_period=0), "damaged"),
    "a longest segment of none": (entry("source", name="random_uniform", max_segment=0), "damaged"),
    "an alphabet in words": (entry("source", num_symbols="two"), "damaged"),
    "more than its weights": (entry("network_config", hidden_size=2**17), "damaged"),
    "more than any network": (entry("network_config", hidden_size=8**30), "damaged"),
    "more layers than its weights": (entry("network_config", model="transformer", nlayers=2**17), "damaged"),
    "widths in words": (entry("network_config", before_mlp="three"), "damaged"),
    "a size of later code": (entry("network_config", width=7), "damaged"),
    "infinite weights": (infinite_weight, "some weights are infinite"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_what_is_no_network_is_refused(world, kind):
    """Whatever the file is, the user gets one line with its name, and it stays as it is."""
    spoil, said = WRONG_FILES[kind]
    path = world / "models" / "lstm.tar"
    torch.save(spoil(torch.load(path, weights_only=True)), path)
    before = contents(world)
    for line in ("train --fn_out_model lstm.tar", f"{EVALUATE} lstm.tar"):
        assert_one_line(run(line), f"{line.split()[0]}.py", "models/lstm.tar", said)
        assert contents(world) == before


@pytest.mark.parametrize(
    "flags",
    [
        "--model rnn --hidden_size 5 --before_mlp 3 --after_mlp 4,5 --data_distribution static",
        "--model stack_rnn --n_stacks 2 --stack_size 3 --stack_cell_size 2",
        "--data_distribution regular --shift_period 4",
        "--model stack_lstm --data_distribution random_uniform --max_segment 9 --num_symbols 3 --alpha 0.7",
        "--model lstm --data_distribution lin --competitors kt,lin --random_length --carry_state --chunk_length 2",
        "--model stack_rnn --stack_size T --eval_data_distribution regular --shift_period 3 --eval_seq_length 12",
        "--model transformer --emb_size 6 --nlayers 2 --nheads 3 --ff_mult 1 --dropout 0.25 --pos_enc relative "
        "--context_length 4 --attention_window 2 --head_size 6 --emb_init_scale 0.1 --max_time 99.0",
        "--model transformer --pos_enc alibi --chunk_length 3 --eval_chunk_length 4",
        *(f"--model transformer --pos_enc {name}" for name in ("none", "sincos", "relative")),
    ],
)
def test_every_variant_is_made_as_asked_trained_and_evaluated(world, flags):
    """Every flag of network and source arrives in the file; training, file and evaluation work together."""
    outcome = run(f"train --train_steps 3 {flags}")
    assert (outcome.code, outcome.err) == (0, "")
    last = rows(world / "models" / "new.csv")[-1]
    assert last["step"] == "3" and math.isfinite(float(last["loss"]))
    trained = load_network(world / "models" / "new.tar", CPU)
    assert (trained.step, trained.arguments["seq_length"]) == (3, 8)
    made = asdict(trained.config) | asdict(trained.source) | {"data_distribution": trained.source.name}
    if "eval_data_distribution" in flags:  # whose period is not the source's own
        made.pop("shift_period")
    for flag, value in (flag.split() for flag in f" {flags}".split(" --") if " " in flag):
        if flag in made:
            found = made[flag]
            shown = ",".join(map(str, found)) if isinstance(found, tuple) else str(found)
            assert shown == ("8" if value == "T" else value), flag
    outcome = run(f"{EVALUATE} new.tar")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads((world / "result.json").read_text())["seq_length"] == 8


def test_the_bench_times_a_step(world, monkeypatch):
    """Of each training that it knows, and writes what it printed."""
    small = f"{bench.SMALL} --model rnn --hidden_size 4 --batch_size 2 --seq_length 4"
    monkeypatch.setattr("nonstationary.training.Training.step", lambda training: None)
    outcome = run_module("bench", "--cpu", "--repeats", 1, "--fn_out_results", "bench.json")
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads((world / "bench.json").read_text())
    assert [one["options"] for one in report["training"]] == list(bench.TRAININGS)
    assert all(f"{one['options']}: step " in outcome.out for one in report["training"])
    monkeypatch.undo()
    assert bench.timed(small, 1, CPU)["step_seconds"] > 0


@pytest.fixture
def evaluate(world):
    """Evaluate; gives the result file's contents, the only file that is new or changed."""

    def evaluated(*arguments):
        (world / "result.json").unlink(missing_ok=True)
        before = contents(world)
        outcome = run("evaluate", *arguments)
        assert (outcome.code, outcome.err) == (0, ""), outcome
        after = contents(world)
        text = after.pop("result.json").decode()
        assert after == before
        assert "NaN" not in text and "Infinity" not in text
        return json.loads(text) | {"printed": outcome.out}

    return evaluated


def rows_of(report):
    return {row["predictor"]: row for row in report["predictors"]}


def assert_same_rows(one, other, factor=1.0):
    """Every number of every row is `factor` times that of the other report, but for the gaps between predictions."""
    assert rows_of(one).keys() == rows_of(other).keys()
    for name, row in rows_of(one).items():
        wanted = rows_of(other)[name]
        for key in ("regret", "regret_error", "difference", "difference_error", "regret_by_step"):
            expected = torch.tensor(wanted[key], dtype=torch.float64) * factor
            torch.testing.assert_close(torch.tensor(row[key], dtype=torch.float64), expected, rtol=1e-5, atol=1e-5)
        assert row["gap"] == pytest.approx(wanted["gap"], abs=1e-5)


def test_results_are_not_replaced_by_those_of_something_else(world):
    """The same evaluation may be repeated; another one ends in one line, and the file stays."""
    for _ in range(2):
        assert run(f"{EVALUATE} lstm.tar").code == 0
    before = contents(world)
    others = "--n_eval 5", "--units nats", "--seq_length 9", "--data_distribution lin", "--fn_in_model three.tar"
    for other in (*others, "--competitors kt", "--competitors ptw,kt", "--ptw_depth 9", "--eval_seed 3"):
        assert_one_line(run(f"{EVALUATE} lstm.tar {other}"), "evaluate.py", "result.json", "--fn_out_results")
        assert contents(world) == before, other
    assert run(f"{EVALUATE} lstm.tar {other} --overwrite").code == 0
    assert contents(world) != before


def test_an_evaluation_reports_what_it_did(evaluate):
    """The file names source, set, network and code; the table has a row for each predictor and the file's numbers.

    In nats all regrets are multiplied by ln 2; the same command gives the same numbers, and another seed others.
    """
    report = evaluate("--fn_in_model", "lstm.tar")
    assert report["source"] == asdict(Source("ptw", 0.5, 2, 20, 20))
    facts = ("seq_length", "n_eval", "eval_seed", "unit", "reference", "ptw_depth", "chunk_length")
    assert [report[key] for key in facts] == [LENGTH, 4, 12345, "bits", "ptw", 4, None]
    network = report["network"]
    assert (network["file"], network["config"]["hidden_size"], network["step"]) == ("lstm.tar", 6, 0)
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
    assert last == "written to result.json"
    nats = evaluate("--fn_in_model", "lstm.tar", "--units", "nats")
    assert_same_rows(nats, report, math.log(2))
    assert nats["unit"] == "nats" and "regret in nats" in nats["printed"]
    again, other = (evaluate("--fn_in_model", "lstm.tar", "--eval_seed", seed) for seed in (12345, 1))
    assert (report["predictors"], report["example"]) == (again["predictors"], again["example"])
    assert report["example"] != other["example"]


def test_the_regret_is_that_of_the_networks_predictions(world, evaluate):
    """Summed by hand over the very sequences of the seed: mean, standard error and curve of KL(theta, q) in bits."""
    report = evaluate("--fn_in_model", "lstm.tar", "--eval_seed", 9, "--n_eval", 5)
    drawn = sample(Source(), 5, LENGTH, torch.Generator().manual_seed(9))
    network = load_network(world / "models" / "lstm.tar", CPU).network
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
    example = report["example"]
    shown = [sequence.tolist() for sequence in drawn.symbols].index(example["symbols"])
    assert example["segments"] == drawn.segments[shown].tolist()
    for row, wanted in zip(example["predictions"]["lstm"], predicted[shown].tolist(), strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)
    assert example["predictions"].keys() == {"lstm", *USUAL}


@pytest.mark.parametrize("name", ["three", "regular", "blocks"])
def test_results_do_not_depend_on_the_batch_size(evaluate, name):
    """Some sequences at a time or all: the same numbers, also if the last batch is smaller."""
    whole, part = (evaluate("--fn_in_model", f"{name}.tar", "--n_eval", 7, "--batch_size", n) for n in (7, 3))
    assert_same_rows(part, whole)


def test_reading_in_chunks_gives_the_same_result(evaluate):
    """The state is passed on, so that long sequences can be read piece by piece."""
    with mock.patch.object(RecurrentNetwork, "forward", autospec=True, side_effect=RecurrentNetwork.forward) as forward:
        chunked = evaluate("--fn_in_model", "regular.tar", "--chunk_length", 5)
    assert max(call.args[1].shape[1] for call in forward.call_args_list) == 5
    assert_same_rows(chunked, evaluate("--fn_in_model", "regular.tar"))
    assert chunked["chunk_length"] == 5


def test_a_source_is_that_of_training_unless_told(evaluate):
    """What the command line leaves out is as the network was trained; anything may differ but the alphabet."""
    same = evaluate("--fn_in_model", "regular.tar")
    assert same["source"] == asdict(Source("regular", 1.0, shift_period=4))
    assert same["reference"] == "kt_oracle"
    other = evaluate("--fn_in_model", "regular.tar", "--data_distribution", "lin", "--seq_length", 40, "--alpha", 0.5)
    assert other["source"] == asdict(Source("lin"))  # without the period, which has no effect
    assert (other["seq_length"], other["reference"], other["ptw_depth"]) == (40, "lin", 6)
    assert other["network"]["trained_on"]["name"] == "regular"
    assert all(len(row["regret_by_step"]) == 39 for row in other["predictors"])
    assert evaluate("--fn_in_model", "blocks.tar", "--seq_length", 24)["seq_length"] == 24
    assert evaluate("--fn_in_model", "whole.tar", "--seq_length", 63)["seq_length"] == 63
    assert evaluate("--fn_in_model", "three.tar", "--num_symbols", 3)["source"]["num_symbols"] == 3


@pytest.mark.parametrize("source", SEGMENTS)
def test_the_exact_predictors_are_compared_without_a_network(evaluate, source):
    """Differences are from the source's own mixture, or from the last competitor if that is not among them."""
    own = {"static": "kt", "regular": "kt_oracle"}.get(source, source)
    given = ("--bayes_only", "--data_distribution", source, "--seq_length", 20)
    report = evaluate(*given, "--ptw_depth", 5)
    assert tuple(rows_of(report)) == usual_predictors(Source(source))
    assert (len(rows_of(report)) == 5) == (source == "random_uniform")
    assert (report["reference"], report["network"], report["ptw_depth"]) == (own, None, 5)
    assert rows_of(report)[own]["difference"] == 0
    some = evaluate(*given, "--competitors", "lin,kt,lin")
    assert list(rows_of(some)) == ["lin", "kt"]
    assert some["reference"] == ("lin" if source == "lin" else "kt")
    assert rows_of(some)["kt"]["regret"] == rows_of(report)["kt"]["regret"]


def test_a_deeper_tree_is_not_the_mixture_of_its_source(evaluate):
    """Its name tells its depth, it costs more than the mixture, and no difference is taken from it."""
    given = ("--bayes_only", "--seq_length", 16, "--n_eval", 500)
    exact, deep = evaluate(*given), evaluate(*given, "--ptw_depth", 12)
    assert rows_of(deep)["ptw"]["regret"] > rows_of(exact)["ptw"]["regret"] + 0.3
    assert (exact["reference"], deep["reference"]) == ("ptw", "lin")
    assert "ptw of depth 12" in deep["printed"] and "of depth" not in exact["printed"]
    assert evaluate(*given, "--ptw_depth", 12, "--competitors", "lin,ptw")["reference"] == "lin"


def test_a_mixture_off_its_source_has_the_longest_segment_that_one_asks_for(evaluate):
    """Told, or else that of the network's training; it is stored, and makes another predictor."""
    given = "--data_distribution", "ptw", "--seq_length", 16, "--competitors"
    usual = evaluate("--bayes_only", *given, "random_uniform,ptw")
    other = evaluate("--bayes_only", *given, "random_uniform,ptw", "--max_segment", 3)
    source = Source("ptw", max_segment=3)
    assert (usual["source"], other["source"]) == (asdict(Source("ptw")), asdict(source))
    exact = {"it": exact_predictor("random_uniform", source)}
    scores = score(exact, fixed_sequences(source, 4, 16, 12345), 4, CPU)["it"]
    expected = scores.totals.mean().item() / math.log(2)
    assert rows_of(other)["random_uniform"]["regret"] == pytest.approx(expected)
    assert rows_of(usual)["random_uniform"]["regret"] != pytest.approx(expected)
    assert rows_of(usual)["ptw"] == rows_of(other)["ptw"]
    assert evaluate("--fn_in_model", "short.tar", *given, "random_uniform,ptw")["source"] == asdict(source)
    assert evaluate("--fn_in_model", "short.tar", *given, "lin,ptw")["source"] == asdict(Source("ptw"))


def test_predictions_next_to_nothing_and_certain_sources_leave_finite_numbers(world, evaluate):
    """Six digits of predictions, however small; parameters next to 0 and 1, and the shortest sequences."""
    network = make_network(SMALL, 1)
    with torch.no_grad():
        network.output.bias[0] = 40.0
    save(world / "models" / "sure.tar", SMALL, Source(), network)
    example = evaluate("--fn_in_model", "sure.tar")["example"]
    assert all(0 < value < 1e-9 for _, value in example["predictions"]["lstm"])
    for alpha in (0.01, 1000):
        report = evaluate("--bayes_only", "--alpha", alpha, "--seq_length", 2, "--n_eval", 50)
        assert all(math.isfinite(row["regret"]) and row["regret"] >= 0 for row in report["predictors"])


def test_results_have_a_name_of_their_own_and_go_where_one_wants_them(world):
    """Without --fn_out_results they are named by network, source and length; their folder is that of the models."""
    common = ("--cpu", "--n_eval", 2, "--dir_model", "models")
    assert run_module("evaluate", *common, "--fn_in_model", "lstm.tar", "--data_distribution", "lin").code == 0
    assert (
        run_module("evaluate", *common, "--bayes_only", "--seq_length", 8, "--results_dir", "mine/of_today").code == 0
    )
    found = {path for path in contents(world) if path.endswith(".json")}
    assert found == {"models/nonstationary/lstm_lin_16.json", "mine/of_today/exact_ptw_8.json"}
