"""Asking a network one's own questions: good input, bad input, and the picture."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import run_file

from checkpoint import checkpoint_contents, load_checkpoint
from common.plain_files import save_plain
from evaluate import ask
from generate_episode import EpisodeSampler, find_experiment
from model import MetaSeq2Seq, ModelConfig

SCRIPT = Path(__file__).resolve().parent.parent / "query.py"
SHOWN = [("dax", "RED"), ("lug", "BLUE")]
SUPPORT = ["--support", "dax -> RED; lug -> BLUE"]


@pytest.fixture
def folder(tmp_path):
    """A folder with an untrained ME network, and one without memory."""
    experiment = find_experiment("ME")
    validation = EpisodeSampler(experiment, tmp_path, True).validation_episodes(np.random.default_rng(0))
    arguments = {"episode_type": "ME", "extra_directions": None, "max_length_eval": 9, "num_episodes": 5}
    for name, flags in {"net_me": {}, "net_plain": {"disable_memory": True}}.items():
        torch.manual_seed(1)
        model = MetaSeq2Seq(ModelConfig(6, 6, 7, emb_size=6, **flags))
        save_plain(tmp_path / f"{name}.tar", checkpoint_contents(model, experiment, validation, 5, arguments))
    return tmp_path


@pytest.fixture
def query(folder, monkeypatch):
    """Run query.py in this process; gives its exit code and what it printed."""

    def run(*arguments, stdin="", model="net_me.tar", terminal=False):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal)
        return run_file(SCRIPT, "--cpu", "--fn_in_model", model, "--dir_model", folder, *arguments)

    return run


def test_the_output_is_the_networks(query, folder):
    """What is printed is what the network answers from Python."""
    network = load_checkpoint(folder / "net_me.tar", torch.device("cpu"))
    (expected,) = ask(network, SHOWN, ["lug dax lug"])
    assert query(*SUPPORT, "lug dax lug") == (0, f"{expected}\n", "")


def test_lines_of_standard_input_are_answered_one_by_one(query, folder):
    """Blank lines are passed over; a line with an unknown word is reported and the next one answered."""
    network = load_checkpoint(folder / "net_me.tar", torch.device("cpu"))
    expected = ask(network, SHOWN, ["lug", "zup dax"])
    assert query(*SUPPORT, stdin="lug\n\n  zup   dax\n")[:2] == (0, "\n".join([*expected, ""]))
    code, out, error = query(*SUPPORT, stdin="lug\nblicket\nzup dax\n")
    assert (code, out) == (2, "\n".join([expected[0], "", expected[1], ""]))  # the k-th answer is the k-th query's
    assert "blicket" in error
    assert "dax, lug, wif, zup" in error


def test_a_line_can_change_what_is_in_memory(query, folder):
    """From there on queries are about the other items; a line with a mistake leaves those that were there."""
    (folder / "net_known.tar").write_bytes((SCRIPT.parent / "out_models/trained/net_ME.tar").read_bytes())
    shown = ["--support", "dax -> RED; lug -> BLUE; wif -> GREEN"]
    lines = ["dax lug", "support: dax -> YELLOW; lug -> GREEN; wif -> RED", "dax lug"]
    lines += ["support: dax GREEN", "support: dax -> PLAID", "dax lug"]
    code, out, error = query(*shown, stdin="\n".join(lines), model="net_known.tar")
    assert out.splitlines() == ["RED BLUE", "YELLOW GREEN", "YELLOW GREEN"]
    assert (code, "found 'dax GREEN'" in error, "PLAID" in error, "2 of the lines" in error) == (2, True, True, True)


def test_the_first_line_can_say_what_words_mean(query, folder):
    """Then nothing need be said on the command line; a query before it is reported."""
    network = load_checkpoint(folder / "net_me.tar", torch.device("cpu"))
    (expected,) = ask(network, SHOWN, ["lug"])
    shown = "support: dax -> RED; lug -> BLUE\n"
    assert query(stdin=f"{shown}lug\n") == (0, f"{expected}\n", "")
    code, out, error = query(stdin=f"lug\n{shown}lug\n")
    assert (code, out, "--support" in error) == (2, f"\n{expected}\n", True)


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
    assert (code, out.replace("->", "").count("> "), "Ctrl-D" in out, error.count("\n"), "blicket" in error) == (
        0,
        4,
        True,
        1,
        True,
    )


def test_an_unfinished_network_is_called_so(query, folder):
    """On stderr, so that an answer in a pipe stays an answer."""
    saved = torch.load(folder / "net_me.tar")
    saved["arguments"]["num_episodes"] = 9
    save_plain(folder / "net_half.tar", saved)
    code, _, error = query(*SUPPORT, "lug", model="net_half.tar")
    assert (code, error.count("\n"), "5 of 9 episodes" in error) == (0, 1, True)


def test_the_picture_and_its_weights_are_written(query, folder):
    """With --plot a PNG that holds a picture, and the weights as JSON."""
    code, out, _ = query(*SUPPORT, "lug dax", "--plot")
    assert code == 0
    (picture,) = folder.glob("query_me_lug+dax,*.png")
    assert picture.name in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.with_suffix(".json").stat().st_size > 100
    assert query(*SUPPORT[:1], "dax -> RED; lug -> GREEN", "lug dax", "--plot")[0] == 0
    assert query(*SUPPORT, "dax lug", "--plot")[0] == 0
    assert len(list(folder.glob("query_me_*.png"))) == 3


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
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(query, folder, arguments, reason):
    """The line names what is wrong; nothing is written."""
    before = {path.name for path in folder.iterdir()}
    code, out, error = query(*arguments)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert reason in error
    assert {path.name for path in folder.iterdir()} == before


def test_a_network_without_memory_is_refused(query):
    """It would ignore what it is shown; the message says so."""
    code, _, error = query(*SUPPORT, "dax", model="net_plain.tar")
    assert (code, error.count("\n")) == (2, 1)
    assert "no memory" in error
