"""Result files: what plots and the report make of them, which count as one, and what is refused."""

import json
import shutil
from pathlib import Path

import matplotlib.image
import pytest
import torch
from script_runs import assert_one_line
from test_nonstationary_training import ROOT, run_module

from nonstationary.result_files import identity, label

OUT = Path("out_models/nonstationary")
EVALUATE = "--cpu", "--n_eval", 20


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A trained network's file, and results by name: of the network on several sources and lengths, and without it."""
    folder = tmp_path_factory.mktemp("evaluated")
    train = "--seq_length", 16, "--hidden_size", 4, "--batch_size", 4, "--train_steps", 2, "--n_eval", 8
    assert run_module("train", "--cpu", *train, "--dir_model", folder, "--fn_out_model", "net.tar").code == 0
    network = "--fn_in_model", "net.tar", "--dir_model", folder
    for name, given in {
        "ptw": network,
        "lin": (*network, "--data_distribution", "lin"),
        "ptw_32": (*network, "--seq_length", 32, "--competitors", "ptw"),
        "exact_ptw": ("--bayes_only", "--seq_length", 16),
    }.items():
        assert run_module("evaluate", *EVALUATE, *given, "--fn_out_results", folder / f"{name}.json").code == 0
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
def run(monkeypatch):
    """Run a module. Pictures are empty files: drawing takes long."""
    monkeypatch.setattr("nonstationary.pictures.png", lambda *given: b"")
    return run_module


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


def test_pictures_are_written_and_not_empty(put, result):
    """Every picture comes out of result files, as an image with something on it."""
    put(one=result("ptw"), two=result("ptw", **seed(2)))
    for what, n in (("sequence", 1), ("bars", 2), ("curves", 2), ("partitions", 0)):
        path = OUT / "figures" / (f"{what}_one.png" if n else f"{what}.png")
        done = run_module("plot", "--what", what, *[OUT / "one.json", OUT / "two.json"][:n])
        assert done == (0, f"written to {path}\n", "")
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
    assert_one_line(run("plot", "--what", *arguments.split()), "plot.py", said)
    assert not list(Path().rglob("*.png"))


def test_the_report_is_the_published_one(tmp_path, run):
    """The stored result files give the stored report, byte for byte, and every picture that it names."""
    stored = ROOT / "results" / "nonstationary"
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("figures", "RESULTS.md"))
    outcome = run("report", "--results_dir", tmp_path)
    assert outcome == (0, f"written to {tmp_path}/RESULTS.md, pictures to {tmp_path}/figures\n", "")
    assert (tmp_path / "RESULTS.md").read_bytes() == (stored / "RESULTS.md").read_bytes()
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {path.name for path in (stored / "figures").iterdir()}


def test_networks_of_one_kind_are_told_apart_and_copies_count_once(put, result, told):
    """Two recipes on the same source, in files of one name."""
    put(a=result("ptw"), b=result("ptw", hidden_size=5), copy=result("ptw", file="renamed.tar"), lin=result("lin"))
    text, out = told()
    assert f"{OUT}/copy.json: the same network and evaluation as {OUT}/a.json" in out and "renamed" not in text
    rows = table_of(text, "Every predictor on every source: 16 symbols, 20 sequences")
    assert [*rows][2:4] == [f"LSTM, trained on PTW, hidden_size {size}" for size in (4, 5)]
    assert text.count("symbols, as the network `net_seed1_2` (LSTM, trained on PTW, hidden_size 5)") == 1
    assert {"sequence_net_seed1.png", "sequence_net_seed1_2.png"} <= {path.name for path in OUT.glob("figures/*.png")}


def test_what_a_network_was_held_against_makes_no_other_recipe(result):
    """Nor how its stack's size was written: what counts is the network, its training and its source."""
    one = result("ptw")
    other = result("ptw", max_segment=7, shift_period=5, n_eval=9, eval_seed=4, competitors=["kt"], log_every=3)
    other["network"]["arguments"]["stack_size"] = "T"
    assert identity(one) == identity(other)
    other["network"]["trained_on"] |= {"shift_period": 5}
    assert identity(one) != identity(other)


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
    assert_one_line(run("plot", "--what", "bars", OUT / "half.json"), "plot.py", "train the networks to their end")


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
        assert run("evaluate", *EVALUATE, *exact, *more).code == 0
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
    assert_one_line(run("report"), "report.py", "nonstationary.evaluate")
    put(nats=result("exact_ptw") | {"unit": "nats"})
    assert_one_line(run("report"), "report.py", "no results in bits", "nats.json: it is in nats")


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
    "a list": (lambda one: [], "damaged"),
    "no source": (lambda one: one.pop("source") and one, "source"),
    "no example": (changed("example", {}), "symbols"),
    "a source of none": (changed("source", None), "damaged"),
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
    "a network without a kind": (changed("network.config", {}), "model"),
    "a network in words": (changed("network", "lstm"), "damaged"),
    "a length in words": (changed("seq_length", "16"), "['16', 20"),
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
        assert_one_line(run(module, *arguments), f"{module}.py", "one.json", said)
    assert path.read_bytes() == before
