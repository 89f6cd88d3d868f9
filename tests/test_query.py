"""Asking a network one's own questions: good input, bad input, and the picture."""

import io
import shutil
import sys
from pathlib import Path

import pytest
import torch
from script_runs import assert_one_line, contents, run_file, save_untrained

from checkpoint import load_checkpoint
from common.files import json_bytes
from evaluate import ask

ROOT = Path(__file__).resolve().parent.parent
SHOWN = [("dax", "RED"), ("lug", "BLUE")]
SUPPORT = ["--support", "dax -> RED; lug -> BLUE"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A folder with untrained ME networks, one without memory, one unfinished, and a trained one."""
    folder = tmp_path_factory.mktemp("networks")
    save_untrained(folder / "net_me.tar")
    save_untrained(folder / "net_plain.tar", disable_memory=True)
    save_untrained(folder / "net_half.tar", episode=3)
    shutil.copy(ROOT / "out_models" / "trained" / "net_ME.tar", folder / "net_known.tar")
    return folder


@pytest.fixture
def query(networks, tmp_path, monkeypatch):
    """Run query.py in this process, its pictures going to a folder of the test's own."""

    def run(*arguments, stdin="", model="net_me.tar", terminal=False):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal)
        where = ("--fn_in_model", model, "--dir_model", networks, "--results_dir", tmp_path)
        return run_file(ROOT / "query.py", "--cpu", *where, *arguments)

    return run


@pytest.fixture
def answers(networks):
    """Ask the untrained network from Python."""
    network = load_checkpoint(networks / "net_me.tar", torch.device("cpu"))
    return lambda *queries: ask(network, SHOWN, queries)


def test_the_output_is_the_networks(query, answers):
    """What is printed is what the network answers from Python; of an unfinished one stderr says so."""
    assert query(*SUPPORT, "lug dax lug") == (0, f"{answers('lug dax lug')[0]}\n", "")
    code, out, error = query(*SUPPORT, "lug", model="net_half.tar")
    assert (code, out.count("\n"), error.count("\n"), "3 of 5 episodes" in error) == (0, 1, 1, True)


def test_lines_of_standard_input_are_answered_one_by_one(query, answers):
    """Blank lines are passed over; the k-th answer is the k-th query's even if one has an unknown word."""
    expected = answers("lug", "zup dax")
    assert query(*SUPPORT, stdin="lug\n\n  zup   dax\n") == (0, "\n".join([*expected, ""]), "")
    code, out, error = query(*SUPPORT, stdin="lug\nblicket\nzup dax\n")
    assert (code, out) == (2, "\n".join([expected[0], "", expected[1], ""]))
    assert "blicket" in error and "dax, lug, wif, zup" in error


def test_a_line_can_change_what_is_in_memory(query):
    """From there on queries are about the other items; a line with a mistake leaves those that were there."""
    lines = ["dax lug", "support: dax -> RED; lug -> BLUE; wif -> GREEN", "dax lug"]
    lines += ["support: dax -> YELLOW; lug -> GREEN; wif -> RED", "dax lug"]
    lines += ["support: dax GREEN", "support: dax -> PLAID", "dax lug"]
    code, out, error = query(stdin="\n".join(lines), model="net_known.tar")
    assert (code, out.splitlines()) == (2, ["", "RED BLUE", "YELLOW GREEN", "YELLOW GREEN"])
    for said in ("--support", "found 'dax GREEN'", "PLAID", "3 of the lines"):  # before the first items, none
        assert said in error


@pytest.mark.parametrize("typed", [False, True])
def test_a_query_longer_than_any_of_the_experiment_is_called_so(query, typed):
    """On stderr, beside its answer."""
    for n_words, noted in ((6, False), (7, True)):
        asked = " ".join(["lug"] * n_words)
        code, out, error = query(*SUPPORT, stdin=f"{asked}\n") if typed else query(*SUPPORT, asked)
        assert (code, out.count("\n"), f"{n_words} words" in error) == (0, 1, noted)


def test_on_a_terminal_it_prompts_and_a_typo_costs_a_line(query):
    """It says how to end, what was wrong with a line, and leaves with 0."""
    code, out, error = query(*SUPPORT, stdin="lug\nblicket\nlug\n", terminal=True)
    assert (code, out.replace("->", "").count("> "), "Ctrl-D" in out) == (0, 4, True)
    assert (error.count("\n"), "blicket" in error) == (1, True)


def test_the_picture_and_its_weights_are_written(query, tmp_path, monkeypatch):
    """With --plot a PNG that holds a picture, and the weights as JSON; another query or support has another name."""
    code, out, _ = query(*SUPPORT, "lug dax", "--plot")
    (picture,) = tmp_path.glob("query_me_lug+dax,*.png")
    assert code == 0 and picture.name in out
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000
    assert picture.with_suffix(".json").stat().st_size > 100
    monkeypatch.setattr("attention_plot.draw_attention", json_bytes)  # in no time
    assert query("--support", "dax -> RED; lug -> GREEN", "lug dax", "--plot").code == 0
    assert query(*SUPPORT, "dax lug", "--plot").code == 0
    assert len(list(tmp_path.glob("query_me_*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([*SUPPORT, "dax blicket"], "blicket"),
        ([*SUPPORT, "  "], "an empty one"),
        (["--support", "dax RED", "dax"], "->"),
        (["--support", "dax -> ", "dax"], "->"),
        (["--support", " ; ", "dax"], "at least one"),
        (["--support", "dax -> PINK", "dax"], "PINK"),
        ([*SUPPORT, "--plot"], "--plot"),
        (["dax"], "--support"),
        ([*SUPPORT, "dax", "--fn_in_model", "net_plain.tar"], "no memory"),
        ([*SUPPORT, "--fn_in_model", "net_plain.tar"], "no memory"),  # before standard input is read
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(query, tmp_path, arguments, reason):
    """The line names what is wrong; nothing is written."""
    outcome = query(*arguments)
    assert_one_line(outcome, "query.py", reason)
    assert (outcome.out, contents(tmp_path)) == ("", {})
