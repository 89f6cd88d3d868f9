"""Result files: what plots and the report make of them, which count as one, and what is refused."""

import json
import runpy
import sys
from pathlib import Path
from unittest import mock

import matplotlib.image
import pytest
import torch

from nonstationary.regret import NATS_IN, mean_segments, oracle_regret
from nonstationary.result_files import identity, label
from nonstationary.sources import Source

OUT = Path("out_models/nonstationary")
EVALUATE = "--cpu", "--n_eval", 20


def run_module(module, *arguments):
    """Run a module of nonstationary/ in this process; gives its exit code."""
    with mock.patch.object(sys, "argv", [f"{module}.py", *map(str, arguments)]), pytest.raises(SystemExit) as end:
        runpy.run_module(f"nonstationary.{module}", run_name="__main__")
    return end.value.code


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A trained network's file, and results by name: of the network on several sources and lengths, and without it."""
    folder = tmp_path_factory.mktemp("evaluated")
    train = "--seq_length", 16, "--hidden_size", 4, "--batch_size", 4, "--train_steps", 2, "--n_eval", 8
    assert run_module("train", "--cpu", *train, "--dir_model", folder, "--fn_out_model", "net.tar") == 0
    network = "--fn_in_model", "net.tar", "--dir_model", folder
    for name, given in {
        "ptw": network,
        "lin": (*network, "--data_distribution", "lin"),
        "ptw_32": (*network, "--seq_length", 32, "--competitors", "ptw"),
        "ptw_64": (*network, "--seq_length", 64, "--competitors", "ptw"),
        "exact_static": ("--bayes_only", "--seq_length", 16, "--data_distribution", "static"),
        "exact_ptw": ("--bayes_only", "--seq_length", 16),
    }.items():
        assert run_module("evaluate", *EVALUATE, *given, "--fn_out_results", folder / f"{name}.json") == 0
    return folder


@pytest.fixture
def result(evaluated):
    """Give a result by name, as if its network had other arguments, a regret higher by `above`, another file name."""

    def make(name, above=0.0, file="net_seed1.tar", step=2, **arguments):
        one = json.loads((evaluated / f"{name}.json").read_text()) | {"path": f"{name}.json"}
        if one["network"] is not None:
            one["network"] |= {"file": file, "step": step}
            one["network"]["arguments"] |= arguments
            one["network"]["config"] |= {
                key: value for key, value in arguments.items() if key in one["network"]["config"]
            }
            one["predictors"][0]["regret"] += above
        return one

    return make


def seed(number):
    return {"seed": number, "model_init_seed": number, "file": f"net_seed{number}.tar", "above": number / 2}


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write results by name into out_models/nonstationary of the folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / OUT).mkdir(parents=True)
    return lambda **results: [(OUT / f"{name}.json").write_text(json.dumps(one)) for name, one in results.items()]


@pytest.fixture
def run(capsys):
    """Run a module; gives exit code, output and errors. Pictures are empty files: drawing takes long."""

    def go(module, *arguments):
        with mock.patch("nonstationary.pictures.png", return_value=b""):
            code = run_module(module, *arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return go


@pytest.fixture
def told(run):
    """Run the report; gives its text and what it prints."""

    def go():
        code, out, err = run("report")
        assert (code, err) == (0, "")
        assert out.endswith(f"written to {OUT}/RESULTS.md, pictures to {OUT}/figures\n")
        return (OUT / "RESULTS.md").read_text(), out

    return go


def table_of(text, title):
    """The rows of the table under a title, the header included, by their first cell."""
    lines = text.split(f"\n## {title}\n")[1].split("\n## ")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return {name: cells for name, *cells in rows}


def assert_refused(outcome, *said):
    code, _, err = outcome
    assert code == 2 and err.count("\n") == 1
    assert all(text in err for text in said), err


# Pictures


def test_pictures_are_written_and_not_empty(put, result, capsys):
    """Every picture comes out of result files, as an image with something on it."""
    put(one=result("ptw"), two=result("ptw", **seed(2)))
    for what, n in (("sequence", 1), ("bars", 2), ("curves", 2), ("partitions", 0)):
        assert run_module("plot", "--what", what, *[OUT / "one.json", OUT / "two.json"][:n]) == 0
        path = OUT / "figures" / (f"{what}_one.png" if n else f"{what}.png")
        assert capsys.readouterr() == (f"written to {path}\n", "")
        assert matplotlib.image.imread(path).std() > 0.05


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("bars", "result files"),
        ("bars none.json", "none.json: cannot be read"),
        ("curves text.json", "text.json: cannot be read"),
        ("curves other.json", "other.json is no result file"),
        ("partitions other.json", "takes no result files"),
        ("nothing", "nothing"),
        ("sequence one.json two.json", "draws one result file, found 2"),
        ("bars one.json two.json", "seq_length is 32 in two.json, 16 in one.json; give results of one kind only"),
    ],
)
def test_what_cannot_be_drawn_is_refused(put, result, run, monkeypatch, arguments, said):
    """Exit code 2, one line that names what is wrong, and no picture."""
    put(one=result("ptw"), two=result("ptw_32"), other={})
    monkeypatch.chdir(OUT)
    Path("text.json").write_text("no json")
    assert_refused(run("plot", "--what", *arguments.split()), said)
    assert not list(Path().rglob("*.png"))


# The report


def test_the_report_holds_the_numbers_of_the_files(put, result, told):
    """Means over seeds, exact predictors and closed forms all appear; every picture that it names is there."""
    results = {f"{name}_{n}": result(name, **seed(n)) for name in ("ptw", "lin") for n in (1, 2)}
    put(**results, static=result("exact_static"), exact=result("exact_ptw"))
    text, out = told()
    assert out.count("\n") == 1
    exact = table_of(text, "Exact predictors")
    for name, file in (("static", "exact_static"), ("PTW", "exact_ptw")):
        kt, oracle, formula, *others, segments = exact[name][2:]
        for cell, row in zip((kt, oracle, *others[:2]), result(file)["predictors"], strict=True):
            found = f"{row['regret']:.2f} ± {row['regret_error']:.2f}"
            assert cell == (f"**{found}**" if row["predictor"] == result(file)["reference"] else found)
        source = Source(name.lower())
        assert formula == f"{oracle_regret(source, 16) / NATS_IN['bits']:.4f}"
        assert segments == f"{mean_segments(source, 16):.2f}"
    cross = table_of(text, "Every predictor on every source: 16 symbols, 20 sequences")
    assert [*cross][:1] == ["predictor"] and cross["predictor"] == ["PTW", "LIN"]
    means = [result(name)["predictors"][0]["regret"] + 0.75 for name in ("ptw", "lin")]
    assert cross["LSTM, trained on PTW"] == [f"{mean:.2f} ± 0.25 (n = 2)" for mean in means]
    assert [*cross][2:] == ["LSTM, trained on PTW", "KT", "KT oracle", "PTW", "LIN"]
    named = [line.split("(")[-1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert sorted(named) == sorted(f"figures/{path.name}" for path in OUT.glob("figures/*.png"))
    assert len(named) == 4  # partitions, one sequence, bars, curves: of the first seed


def test_a_network_is_compared_with_the_mixture_on_its_own_ground(put, result, told):
    """Its own table says how far it came from KT to the mixture."""
    one = result("ptw")
    put(one=one, off=result("lin"))
    lstm, kt, _, ptw, _ = (row["regret"] for row in one["predictors"])
    row = table_of(told()[0], "Networks on the source they were trained on")["`net_seed1.tar`"]
    assert row[:3] == ["1", "LSTM, trained on PTW", "16"]
    assert row[4].endswith(" above PTW") and row[5] == f"{100 * (kt - lstm) / (kt - ptw):.1f} %" and row[7] == "2"


def test_what_a_network_was_held_against_makes_no_other_recipe(result):
    """Nor how its stack's size was written: what counts is the network, its training and its source."""
    one = result("ptw")
    other = result("ptw", max_segment=7, shift_period=5, n_eval=9, eval_seed=4, competitors=["kt"], log_every=3)
    other["network"]["arguments"]["stack_size"] = "T"
    assert identity(one) == identity(other)
    other["network"]["trained_on"] |= {"shift_period": 5}
    assert identity(one) != identity(other)


def test_other_lengths_than_in_training_stand_in_a_table(put, result, told):
    """Networks on their own source, a column a length, in bold that of their training; another recipe has its name."""
    seeds = {f"seed{n}_{name}": result(name, **seed(n)) for n in (1, 2) for name in ("ptw", "ptw_32", "ptw_64")}
    longer = {f"longer_{name}": result(name, seq_length=32) for name in ("ptw_32", "ptw_64")}
    put(**seeds, **longer, lin=result("lin"))
    text, _ = told()
    on_16 = table_of(text, "Every predictor on every source: 16 symbols, 20 sequences")
    names = [f"LSTM, trained on PTW, seq_length {length}" for length in (16, 32)]
    assert names[0] in on_16 and names[1] not in on_16  # a network has one name in all tables
    rows = table_of(text, "Other lengths than in training: PTW, 20 sequences")
    assert rows["predictor"] == ["T = 16", "T = 32", "T = 64"]
    assert [*rows][2:4] == names
    assert [cell.startswith("**") for cell in rows[names[0]]] == [True, False, False]
    assert all("(n = 2)" in cell for cell in rows[names[0]])
    assert rows[names[1]][0] == "—" and [cell.startswith("**") for cell in rows[names[1]][1:]] == [True, False]
    assert rows["LIN"][1:] == ["—", "—"] and "—" not in rows["PTW"]
    put(**{name: result("ptw") for name in seeds}, **{name: result("ptw_32", seq_length=32) for name in longer})
    assert "Other lengths" not in told()[0]  # two networks, each at the length of its training alone


def test_captions_tell_pictures_apart_and_call_networks_as_the_tables_do(put, result, told):
    """Two recipes of a kind, on the same source, in files of one name."""
    put(a=result("ptw"), b=result("ptw", hidden_size=5), copy=result("ptw", file="renamed.tar"), lin=result("lin"))
    text, out = told()
    assert f"{OUT}/copy.json: the same network and evaluation as {OUT}/a.json" in out and "renamed" not in text
    assert "(n = " not in text
    rows = table_of(text, "Every predictor on every source: 16 symbols, 20 sequences")
    assert [*rows][2:4] == [f"LSTM, trained on PTW, hidden_size {size}" for size in (4, 5)]
    captions = [part.splitlines() for part in text.split("## Pictures\n\n")[1].split("\n\n")]
    captions = [lines[0] for lines in captions if not lines[0].startswith("![")]
    assert len({*captions}) == len(captions) > 3
    assert sum("(LSTM, trained on PTW, hidden_size 5)" in caption for caption in captions) == 1
    assert {"sequence_net_seed1.png", "sequence_net_seed1_2.png"} <= {path.name for path in OUT.glob("figures/*.png")}


def test_an_unfinished_network_is_named_and_left_out(put, result, run, told):
    """It is no second seed of those that were trained to the end; alone, its picture says how far it came."""
    half = result("ptw", **seed(2), step=1)
    assert label(half, "lstm") == "LSTM, trained on PTW, step 1 of 2"
    put(a=result("ptw"), half=half, lin=result("lin"), lin2=result("lin", **seed(2)))
    text, out = told()
    reason = "half.json: its network is unfinished (step 1 of 2)"
    assert reason in out and reason in text
    cells = table_of(text, "Every predictor on every source: 16 symbols, 20 sequences")["LSTM, trained on PTW"]
    assert ["(n = 2)" in cell for cell in cells] == [False, True]
    code, out, err = run("plot", "--what", "bars", OUT / "a.json", OUT / "half.json")
    assert (code, err) == (0, "") and reason in out
    assert_refused(run("plot", "--what", "bars", OUT / "half.json"), "train the networks to their end")


def test_an_evaluation_says_that_its_network_is_unfinished(evaluated, tmp_path, run):
    """A table of one looks like any other."""
    for step in (2, 1):
        torch.save({**torch.load(evaluated / "net.tar"), "step": step}, tmp_path / "net.tar")
        given = "--fn_in_model", "net.tar", "--dir_model", tmp_path, "--competitors", "ptw", "--seq_length", 8
        code, out, _ = run("evaluate", *EVALUATE, *given, "--overwrite")
        assert code == 0 and ("UNFINISHED: the training of this network is at step 1 of 2" in out) == (step == 1)


def test_settings_that_differ_are_told_apart(put, result, run, told):
    """A deeper tree, other sequences, a larger alphabet and results in nats have rows of their own, or none."""
    put(exact=result("exact_ptw"))
    given = (("--ptw_depth", 9), ("--eval_seed", 7), ("--num_symbols", 3), ("--units", "nats"))
    for number, more in enumerate(given):
        exact = "--bayes_only", "--seq_length", 8, "--fn_out_results", OUT / f"exact_{number}.json"
        assert run("evaluate", *EVALUATE, *exact, *more)[0] == 0
    put(chunked=result("ptw") | {"chunk_length": 4})
    text, out = told()
    rows = table_of(text, "Exact predictors")
    assert {"PTW", "PTW, PTW of depth 9", "PTW, evaluation seed 7", "PTW, num_symbols 3"} == {*rows} - {"source", "---"}
    assert rows["PTW, num_symbols 3"][4] == "—"  # no closed form
    assert "## Every predictor on every source: 16 symbols, 20 sequences, read in chunks of 4\n" in text
    reason = "exact_3.json: it is in nats, not in bits"
    assert reason in out and reason in text


def test_a_report_of_nothing_is_refused(put, result, run):
    """One line that says what to do."""
    assert_refused(run("report"), "nonstationary.evaluate")
    put(nats=result("exact_ptw") | {"unit": "nats"})
    assert_refused(run("report"), "no results in bits", "nats.json: it is in nats")


# Damaged files


def changed(path, value):
    """What puts another value at a path in a result, such as source.name or predictors.0.regret."""

    def spoil(one):
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        at = one
        for part in parents:
            at = at[part]
        at[last] = value
        return one

    return spoil


DAMAGE = {  # what happens to a result, and what the message must say
    "a list": (lambda one: [], "network"),
    "no source": (lambda one: one.pop("source") and one, "no source"),
    "no example": (changed("example", {}), "example."),
    "a source of none": (changed("source", None), "its source is None"),
    "a period of none": (changed("source.shift_period", 0), "shift_period=0"),
    "an unknown source": (changed("source.name", "coins"), "coins"),
    "a setting of no source": (changed("source.speed", 3), "speed"),
    "an unknown unit": (changed("unit", "bytes"), "unit"),
    "no predictors": (changed("predictors", []), "predictors"),
    "predictors by number": (changed("predictors", [1, 2]), "damaged"),
    "an unknown predictor": (changed("predictors.1.predictor", "ctw"), "predictors"),
    "a predictor twice": (changed("predictors.1.predictor", "lin"), "predictors"),
    "a reference to nothing": (changed("reference", "ctw"), "reference"),
    "a regret in words": (changed("predictors.0.regret", "low"), "regret"),
    "a regret in digits": (changed("predictors.0.regret", "1.5"), "regret"),
    "a regret without end": (changed("predictors.0.gap", float("inf")), "regret of lstm"),
    "a shorter curve": (changed("predictors.0.regret_by_step", [0.1]), "regret_by_step of lstm should be 15 numbers"),
    "a shorter sequence": (changed("example.segments", [0] * 15), "segments should be 16"),
    "an uneven table": (changed("example.parameters.3", [0.5]), "damaged"),
    "an example of nobody": (changed("example.predictions", {}), "lstm"),
    "an example in words": (changed("example.predictions.kt", "a"), "example of kt should be 15 x 2 numbers"),
    "a network without a kind": (changed("network.config", {}), "network.config.model"),
    "a network in words": (changed("network", "lstm"), "network"),
    "a length in words": (changed("seq_length", "16"), "its seq_length is '16'"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_results_end_in_one_line(put, result, run, evaluated, kind):
    """Neither report, plot nor evaluate shows a traceback, and all name the file; it stays as it is."""
    spoil, said = DAMAGE[kind]
    put(one=spoil(result("ptw")))
    path = OUT / "one.json"
    before = path.read_bytes()
    given = "--fn_in_model", "net.tar", "--dir_model", evaluated, "--fn_out_results", path
    for module, arguments in {
        "report": (),
        "plot": ("--what", "curves", path),
        "evaluate": (*EVALUATE, *given),
    }.items():
        assert_refused(run(module, *arguments), "one.json", said)
    assert path.read_bytes() == before
