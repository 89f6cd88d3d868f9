"""Non-stationary sources: closed forms agree with simulation; plots, report and bench do what they say."""

import contextlib
import itertools
import json
import math
import runpy
import shutil
import sys
from pathlib import Path
from unittest import mock

import matplotlib.image
import pytest
import torch

from nonstationary import bench
from nonstationary.closed_form import kt_regrets, mean_segments, oracle_regret, segment_ages
from nonstationary.network_config import MODELS, NetworkConfig
from nonstationary.pictures import draw_bars
from nonstationary.regret import exact_predictor, fixed_sequences, score
from nonstationary.result_files import identity, label, pooled
from nonstationary.sources import SEGMENTS, Source

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent


def run_module(module, *arguments):
    """Run a module of nonstationary/ in this process; gives its exit code."""
    with mock.patch.object(sys, "argv", [f"{module}.py", *map(str, arguments)]), pytest.raises(SystemExit) as end:
        runpy.run_module(f"nonstationary.{module}", run_name="__main__")
    return end.value.code


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a module in a folder of the test's own; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def go(module, *arguments):
        code = run_module(module, *arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return go


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A folder with out_models/nonstationary: two networks of different seeds on two sources, and two exact ones."""
    folder = tmp_path_factory.mktemp("evaluated")
    with contextlib.chdir(folder):
        for seed in (1, 2):
            name = f"net_seed{seed}.tar"
            train = "--seq_length", 16, "--hidden_size", 4, "--batch_size", 4, "--train_steps", 2, "--n_eval", 8
            assert run_module("train", *train, "--seed", seed, "--model_init_seed", seed, "--fn_out_model", name) == 0
            for source in ("ptw", "lin"):
                evaluate = "--fn_in_model", name, "--data_distribution", source, "--n_eval", 20
                assert run_module("evaluate", *evaluate) == 0
        for source in ("static", "ptw"):
            evaluate = "--bayes_only", "--data_distribution", source, "--seq_length", 16, "--n_eval", 20
            assert run_module("evaluate", *evaluate) == 0
    return folder


@pytest.fixture
def results(evaluated, tmp_path):
    """A copy of these results in the test's folder."""
    shutil.copytree(evaluated / "out_models", tmp_path / "out_models")


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("length", [16, 21])
def test_every_step_is_some_step_of_its_segment(name, length):
    """The ages of a step are a distribution, and no segment is older than the sequence."""
    ages = segment_ages(Source(name, shift_period=5, max_segment=6), length)
    torch.testing.assert_close(ages.sum(1), torch.ones(length, dtype=torch.float64))
    assert not ages.triu(1).any()


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("alpha", [0.5, 1.3])
def test_the_closed_form_is_what_simulation_gives(name, alpha):
    """Regret of the oracle and number of segments, within four standard errors, whatever the prior."""
    source, length = Source(name, alpha, shift_period=5, max_segment=6), 23
    sequences = fixed_sequences(source, 4000, length, 7)
    totals = score({"it": exact_predictor("kt_oracle", source)}, sequences, 4000, CPU)["it"].totals
    error = totals.std() / math.sqrt(len(totals))
    assert abs(totals.mean() - oracle_regret(source, length)) < 4 * error
    segments = (sequences.segments[:, -1] + 1).double()
    assert abs(segments.mean() - mean_segments(source, length)) <= 4 * segments.std() / math.sqrt(len(segments)) + 1e-9


def test_the_first_symbol_costs_most():
    """Before any symbol KT says 1/2, which loses ln 2 less the mean entropy; with every symbol the loss falls."""
    regrets = kt_regrets(0.5, 50)
    torch.testing.assert_close(regrets[0].item(), math.log(2) - (2 * math.log(2) - 1))
    assert (regrets.diff() < 0).all()


def test_the_closed_form_knows_two_symbols_only():
    with pytest.raises(ValueError, match="two symbols"):
        oracle_regret(Source(num_symbols=3), 8)


@pytest.mark.parametrize("what", ["sequence", "bars", "curves", "partitions"])
def test_pictures_are_written_and_not_empty(run, results, tmp_path, what):
    """Every picture comes out of result files, as an image with something on it."""
    files = [] if what == "partitions" else sorted(tmp_path.glob("out_models/nonstationary/net_*.json"))
    code, out, err = run("plot", "--what", what, *(files[:1] if what == "sequence" else files))
    assert (code, err) == (0, "")
    (picture,) = tmp_path.glob("out_models/nonstationary/figures/*.png")
    assert picture.name in out
    assert matplotlib.image.imread(picture).std() > 0.05


OUT = Path("out_models/nonstationary")


def test_the_report_holds_the_numbers_of_the_files(run, results, tmp_path):
    """Means over seeds, exact predictors and closed forms all appear; every picture that it names is there."""
    code, out, err = run("report")
    assert (code, err) == (0, "")
    folder = tmp_path / "out_models/nonstationary"
    text = (folder / "RESULTS.md").read_text()
    assert out == f"written to {OUT}/RESULTS.md, pictures to {OUT}/figures\n"
    for path in folder.glob("exact_*.json"):
        for row in json.loads(path.read_text())["predictors"]:
            assert f"{row['regret']:.2f} ± {row['regret_error']:.2f}" in text
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("net_*_lin_16.json"))]
    mean = sum(one["predictors"][0]["regret"] for one in found) / 2
    assert f"LSTM, trained on PTW | {mean:.2f}" not in text  # the sources stand in their order, PTW first
    assert f"{mean:.2f} ± " in text
    assert "(n = 2)" in text
    named = [line.split("(")[-1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert sorted(named) == sorted(f"figures/{path.name}" for path in folder.glob("figures/*.png"))


def test_pooling_averages_seeds_and_counts_exact_predictors_once(run, results, tmp_path):
    """The standard error of two networks is over networks; the exact predictors saw the same sequences twice."""
    paths = sorted(tmp_path.glob("out_models/nonstationary/net_*_ptw_16.json"))
    both = [json.loads(path.read_text()) for path in paths]
    means = pooled(both)["ptw"]
    first, second = (one["predictors"][0]["regret"] for one in both)
    name = label(both[0], "lstm")
    assert name == "LSTM, trained on PTW"
    assert means[name] == pytest.approx(((first + second) / 2, abs(first - second) / 2, 2))
    assert means["PTW"].n == 1


def test_networks_of_another_recipe_are_kept_apart(run, results, tmp_path):
    """A third network that was trained for longer has a row of its own, and both rows say whose they are."""
    paths = sorted(tmp_path.glob("out_models/nonstationary/net_*_ptw_16.json"))
    found = [json.loads(path.read_text()) for path in (*paths, paths[0])]
    found[2]["network"] |= {
        "step": 9,
        "file": "net_long.tar",
        "arguments": found[2]["network"]["arguments"] | {"train_steps": 9},
    }
    means = pooled(found)["ptw"]
    assert means["LSTM, trained on PTW, train_steps 2"].n == 2
    assert means["LSTM, trained on PTW, train_steps 9"].n == 1


def test_what_a_network_was_held_against_makes_no_other_recipe(results, tmp_path):
    """Nor how its stack's size was written: what counts is the network, its training and its source."""
    path = next(tmp_path.glob("out_models/nonstationary/net_*_ptw_16.json"))
    one, other = json.loads(path.read_text()), json.loads(path.read_text())
    other["network"]["arguments"] |= {"shift_period": 5, "max_segment": 7, "stack_size": "T"}
    assert identity(one) == identity(other)
    other["network"]["trained_on"] |= {"shift_period": 5}
    assert identity(one) != identity(other)


def test_other_lengths_than_in_training_stand_in_a_table(run, results, tmp_path):
    """Networks on their own source, a column a length, in bold that of their training; another recipe has its name."""
    folder = tmp_path / "out_models/nonstationary"
    for seed in (1, 2):
        evaluate = "--fn_in_model", f"net_seed{seed}.tar", "--n_eval", 20, "--competitors", "ptw"
        for length in (32, 64):
            assert run("evaluate", *evaluate, "--seq_length", length)[0] == 0
    for name, seq_length in (("net_seed1_ptw_32", 32), ("net_seed1_ptw_64", 32)):  # as if trained on longer ones
        other = json.loads((folder / f"{name}.json").read_text())
        other["network"]["arguments"] |= {"seq_length": seq_length}
        (folder / f"longer_{name}.json").write_text(json.dumps(other))
    code, _, err = run("report")
    assert (code, err) == (0, "")
    whole = (folder / "RESULTS.md").read_text()
    on_16 = whole.split("## Every predictor on every source: 16 symbols, 20 sequences\n")[1].split("\n## ")[0]
    assert "| LSTM, trained on PTW, seq_length 16 |" in on_16 and "seq_length 32" not in on_16  # its name in any table
    text = whole.split("## Other lengths than in training: PTW, 20 sequences\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == ["predictor", "T = 16", "T = 32", "T = 64"]
    rows = {name: cells for name, *cells in lines[2:]}
    assert list(rows)[:2] == [f"LSTM, trained on PTW, seq_length {length}" for length in (16, 32)]
    short, long = list(rows.values())[:2]
    assert [cell.startswith("**") for cell in short] == [True, False, False]
    assert all("(n = 2)" in cell for cell in short)
    assert long[0] == "—" and [cell.startswith("**") for cell in long[1:]] == [True, False]
    assert "LIN" in rows and rows["LIN"][1:] == ["—", "—"] and "—" not in rows["PTW"]


def test_networks_at_the_length_of_their_training_alone_make_no_table_of_other_lengths(run, results, tmp_path):
    """Even if those of two networks differ."""
    folder = tmp_path / "out_models/nonstationary"
    assert run("evaluate", "--fn_in_model", "net_seed1.tar", "--n_eval", 20, "--seq_length", 32)[0] == 0
    other = json.loads((folder / "net_seed1_ptw_32.json").read_text())
    other["network"]["arguments"] |= {"seq_length": 32}
    (folder / "net_seed1_ptw_32.json").write_text(json.dumps(other))
    assert run("report")[0] == 0
    text = (folder / "RESULTS.md").read_text()
    assert "| 32 |" in text and "Other lengths" not in text


def test_captions_tell_pictures_apart_and_call_networks_as_the_tables_do(run, results, tmp_path):
    """Two recipes of a kind, on the same source."""
    folder = tmp_path / "out_models/nonstationary"
    other = json.loads((folder / "net_seed2_ptw_16.json").read_text())
    for part in ("arguments", "config"):
        other["network"][part] |= {"hidden_size": 5}
    (folder / "net_seed2_ptw_16.json").write_text(json.dumps(other))
    with mock.patch("nonstationary.pictures.draw_bars", wraps=draw_bars) as drawn:
        assert run("report")[0] == 0
    text = (folder / "RESULTS.md").read_text()
    paragraphs = text.split("\n\n")
    captions = [before for before, now in itertools.pairwise(paragraphs) if now.startswith("![")]
    assert len(captions) == len(set(captions)) > 3
    assert sum("(LSTM, trained on PTW, hidden_size 5)" in caption for caption in captions) == 1
    assert [{one["path"] for one in call.args[1]} for call in drawn.call_args_list] == [
        {str(path.relative_to(tmp_path)) for path in folder.glob("*.json")}
    ] * len(drawn.call_args_list)


def test_results_in_nats_are_named_and_left_out(run, results, tmp_path):
    """The report has one unit."""
    assert run("evaluate", "--bayes_only", "--n_eval", 20, "--seq_length", 8, "--units", "nats")[0] == 0
    code, out, _ = run("report")
    told = "exact_ptw_8.json: it is in nats, not in bits"
    assert code == 0 and told in out
    assert told in (tmp_path / "out_models/nonstationary/RESULTS.md").read_text()


def test_a_result_of_earlier_code_is_of_the_same_recipe(run, results, tmp_path):
    """Sizes that it does not name were as by default."""
    paths = sorted(tmp_path.glob("out_models/nonstationary/net_*_ptw_16.json"))
    both = [json.loads(path.read_text()) for path in paths]
    for name in ("head_size", "emb_init_scale", "max_time"):
        del both[0]["network"]["config"][name], both[0]["network"]["arguments"][name]
    for name in ("eval_data_distribution", "eval_seq_length", "eval_chunk_length"):
        del both[0]["network"]["arguments"][name]
    assert pooled(both)["ptw"]["LSTM, trained on PTW"].n == 2


def test_a_network_is_what_it_was_trained_with_whatever_its_file_is_called(run, results, tmp_path):
    """Two seeds in files of one name are two networks with rows and pictures of their own; a copied file is one."""
    folder = tmp_path / "out_models/nonstationary"
    one, other = (json.loads((folder / f"net_seed{seed}_ptw_16.json").read_text()) for seed in (1, 2))
    for path in folder.glob("net_*.json"):
        path.unlink()
    for part in ("arguments", "config"):
        other["network"][part] |= {"hidden_size": 5}
    for name, result, file in (("a", one, "net.tar"), ("b", other, "net.tar"), ("copy", one, "renamed.tar")):
        (folder / f"{name}.json").write_text(json.dumps(result | {"network": result["network"] | {"file": file}}))
    code, out, err = run("report")
    assert (code, err) == (0, "")
    text = (folder / "RESULTS.md").read_text()
    assert "(n = " not in text
    assert "copy.json: the same network and evaluation as out_models/nonstationary/a.json" in out
    assert "LSTM, trained on PTW, hidden_size 4, seed" not in text
    assert "| LSTM, trained on PTW, hidden_size 4 |" in text and "| LSTM, trained on PTW, hidden_size 5 |" in text
    pictures = {path.name for path in folder.glob("figures/*.png")}
    assert {"sequence_net.png", "sequence_net_2.png"} <= pictures
    for part in ("arguments", "config"):
        other["network"][part] |= {"hidden_size": 4}
    (folder / "b.json").write_text(json.dumps(other | {"network": other["network"] | {"file": "net.tar"}}))
    assert run("report")[0] == 0
    assert "(n = 2)" in (folder / "RESULTS.md").read_text()


def test_an_unfinished_network_is_called_so_when_it_is_evaluated(run, results, tmp_path):
    """A table of one looks like any other."""
    path = tmp_path / "out_models/net_seed1.tar"
    torch.save({**torch.load(path), "step": 1}, tmp_path / "out_models/net_half.tar")
    for name, is_told in (("net_seed1.tar", False), ("net_half.tar", True)):
        code, out, _ = run("evaluate", "--fn_in_model", name, "--n_eval", 20, "--competitors", "ptw", "--seq_length", 8)
        assert code == 0 and ("UNFINISHED: this network has been trained for 1 of 2 steps" in out) == is_told


def test_an_unfinished_network_is_named_and_left_out(run, results, tmp_path):
    """It is no second seed of those that went on to the end; alone, its picture says how far it came."""
    folder = tmp_path / "out_models/nonstationary"
    path = folder / "net_seed2_ptw_16.json"
    result = json.loads(path.read_text())
    result["network"] |= {"step": 1}
    path.write_text(json.dumps(result))
    assert label(result, "lstm") == "LSTM, trained on PTW, step 1 of 2"
    told = "net_seed2_ptw_16.json: its network is unfinished (step 1 of 2)"
    code, out, err = run("report")
    assert (code, err) == (0, "")
    text = (folder / "RESULTS.md").read_text()
    assert told in out and told in text
    (row,) = (line for line in text.splitlines() if line.startswith("| LSTM, trained on PTW |"))
    assert "(n = 2)" not in row.split("|")[2] and "(n = 2)" in row.split("|")[3]  # on LIN both count
    code, out, err = run("plot", "--what", "bars", folder / "net_seed1_ptw_16.json", path)
    assert (code, err) == (0, "") and told in out
    assert_refused(run("plot", "--what", "bars", path), "train the networks to their end")


def test_settings_that_differ_are_told_apart(run, results, tmp_path):
    """A tree of another depth, and other sequences, have rows that say so."""
    settings = ("--bayes_only", "--data_distribution", "ptw", "--seq_length", 16, "--n_eval", 20)
    for number, more in enumerate((("--ptw_depth", 9), ("--eval_seed", 7))):
        out = tmp_path / f"out_models/nonstationary/exact_{number}.json"
        assert run("evaluate", *settings, *more, "--fn_out_results", out)[0] == 0
    code, _, err = run("report")
    assert (code, err) == (0, "")
    text = (tmp_path / OUT / "RESULTS.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| PTW")]
    assert {"PTW", "PTW, PTW of depth 9", "PTW, evaluation seed 7"} <= {*rows}


def assert_refused(outcome, *said):
    code, _, err = outcome
    assert code == 2 and err.count("\n") == 1
    assert all(text in err for text in said), err


DAMAGE = {  # what happens to a result, and what the message must say
    "a list": (lambda one: [], "network"),
    "no source": (lambda one: one.pop("source") and one, "no source"),
    "a source of none": (lambda one: one | {"source": None}, "source"),
    "a period of none": (lambda one: one | {"source": one["source"] | {"shift_period": 0}}, "source.shift_period"),
    "an unknown source": (lambda one: one | {"source": one["source"] | {"name": "coins"}}, "source"),
    "an unknown unit": (lambda one: one | {"unit": "bytes"}, "unit"),
    "no predictors": (lambda one: one | {"predictors": []}, "predictors"),
    "predictors by number": (lambda one: one | {"predictors": [1, 2]}, "predictors"),
    "an unknown predictor": (
        lambda one: one | {"predictors": [*one["predictors"], one["predictors"][0] | {"predictor": "ctw"}]},
        "predictors",
    ),
    "a reference to nothing": (lambda one: one | {"reference": "ctw"}, "reference"),
    "a regret in words": (
        lambda one: one | {"predictors": [row | {"regret": "low"} for row in one["predictors"]]},
        "regret",
    ),
    "a shorter curve": (
        lambda one: one | {"predictors": [row | {"regret_by_step": [0.1]} for row in one["predictors"]]},
        "curves",
    ),
    "no example": (lambda one: one | {"example": {}}, "example.symbols"),
    "an example of nobody": (lambda one: one | {"example": one["example"] | {"predictions": {}}}, "example"),
    "an example in words": (
        lambda one: (
            one | {"example": one["example"] | {"predictions": dict.fromkeys(one["example"]["predictions"], "a")}}
        ),
        "example",
    ),
    "a network without a kind": (
        lambda one: one | {"network": one["network"] | {"config": {}}},
        "network.config.model",
    ),
    "a network in words": (lambda one: one | {"network": "lstm"}, "network"),
    "a length in words": (lambda one: one | {"seq_length": "16"}, "seq_length"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_results_end_in_one_line(run, results, tmp_path, kind):
    """Neither report, plot nor evaluate shows a traceback, and all name the file; it stays as it is."""
    folder = tmp_path / "out_models/nonstationary"
    path = folder / "net_seed1_ptw_16.json"
    spoil, said = DAMAGE[kind]
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    before = path.read_bytes()
    assert_refused(run("report"), path.name, said)
    for what in ("sequence", "bars", "curves"):
        assert_refused(run("plot", "--what", what, path), path.name, said)
    evaluate = "--fn_in_model", "net_seed1.tar", "--data_distribution", "ptw", "--n_eval", 20
    assert_refused(run("evaluate", *evaluate), path.name, said)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--what", "bars"), "result files"),
        (("--what", "bars", "none.json"), "none.json"),
        (("--what", "curves", "text.json"), "text.json"),
        (("--what", "curves", "other.json"), "no result file"),
        (("--what", "partitions", "other.json"), "takes no result files"),
        (("--what", "nothing"), "nothing"),
    ],
)
def test_bad_files_end_in_one_line(run, tmp_path, arguments, said):
    """Exit code 2, one line that names what is wrong, and no picture."""
    (tmp_path / "text.json").write_text("no json")
    (tmp_path / "other.json").write_text("{}")
    code, _, err = run("plot", *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert said in err
    assert not list(tmp_path.rglob("*.png"))


def test_a_report_of_nothing_ends_in_one_line(run, tmp_path):
    """Exit code 2 and what to do."""
    code, _, err = run("report")
    assert code == 2
    assert err.count("\n") == 1
    assert "nonstationary.evaluate" in err


@pytest.mark.parametrize("name", MODELS)
def test_the_bench_times_a_step_and_a_bare_network(name):
    """Both take time, and the table shows them and their ratio."""
    config = NetworkConfig(name, hidden_size=4, emb_size=8, nlayers=1, nheads=2)
    timed = bench.bench_training(config, (2, 4, 4), 1, CPU)
    assert timed["step_seconds"] > 0
    assert timed["bare_seconds"] > 0
    text = bench.show({"device": "CPU", "repeats": 1, "predictors": [], "training": [timed]})
    ratio = f"{timed['step_seconds'] / timed['bare_seconds']:.2f}"
    assert (ratio in text) == (name != "transformer")  # which is no recurrent network
    assert "2 x 4 x 4" in text
