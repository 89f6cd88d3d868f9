"""The tools: networks without their training, a quarter of an hour on a GPU, a closer look at results."""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from unittest import mock

import pytest
import torch
from script_runs import assert_one_line, run_file

import tools.alignment
import tools.export
import tools.gpu
from checkpoint import load_checkpoint
from common.plain_files import save_plain
from evaluate import Accuracy
from generate_episode import find_experiment
from paper.cells import CELLS

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a network that was trained for an episode, its weights such as half precision can hold."""
    folder = tmp_path_factory.mktemp("models")
    where = ["--emb_size", 8, "--cpu", "--dir_model", folder, "--fn_out_model", "net.tar"]
    assert run_file(ROOT / "train.py", "--num_episodes", 1, *where).code == 0
    saved = torch.load(folder / "net.tar", weights_only=True)
    saved["model_state"] = {name: weight.half().float() for name, weight in saved["model_state"].items()}
    torch.save(saved, folder / "net.tar")
    return folder


def export(trained, out, *arguments):
    return run_file(
        ROOT / "tools" / "export.py",
        "--cpu",
        "--dir_model",
        trained,
        "--fn_in_model",
        "net.tar",
        "--out",
        out,
        *arguments,
    )


def test_a_network_without_its_training_answers_alike(trained, tmp_path):
    """Half precision, no optimizer, and test.py counts what it counts for the checkpoint."""
    outcome = export(trained, tmp_path / "net.tar")
    assert (outcome.code, outcome.err) == (0, "")
    assert "of 100 right on the validation episodes; weights in half" in outcome.out
    slim = torch.load(tmp_path / "net.tar", weights_only=True)
    assert {weight.dtype for weight in slim["model_state"].values()} == {torch.float16}
    assert "optimizer_state" not in slim
    assert slim["arguments"]["seed"] == 1
    counts = {}
    for folder in (trained, tmp_path):
        assert run_file(ROOT / "test.py", "--cpu", "--dir_model", folder, "--fn_in_model", "net.tar").code == 0
        report = json.loads((folder / "res_test_net.tar.json").read_text())
        counts[folder] = report["correct"], report["breakdown"], report["wrong"], report["training_seconds"]
    assert counts[trained] == counts[tmp_path]


def test_weights_stay_whole_where_half_precision_changes_an_answer(trained, tmp_path, monkeypatch):
    """Then the file has the very weights of the checkpoint."""
    answers = iter([["one"], ["another"]])
    monkeypatch.setattr(tools.export, "answer_episodes", lambda *_: next(answers))
    monkeypatch.setattr(tools.export, "count", lambda _: Accuracy())
    checkpoint = load_checkpoint(trained / "net.tar", CPU)
    contents, said = tools.export.slim(checkpoint, tmp_path)
    assert "single precision" in said
    before = torch.load(trained / "net.tar", weights_only=True)["model_state"]
    assert all(torch.equal(contents["model_state"][name], weight) for name, weight in before.items())


def test_a_network_without_its_training_cannot_be_trained_further(trained, tmp_path):
    """train.py says what the file is."""
    assert export(trained, tmp_path / "net.tar").code == 0
    where = ["--emb_size", 8, "--cpu", "--dir_model", tmp_path, "--fn_out_model", "net.tar"]
    assert_one_line(
        run_file(ROOT / "train.py", "--num_episodes", 2, *where), "train.py", "net.tar", "without its training"
    )


def test_no_file_is_written_over(trained):
    """Least of all the checkpoint itself, with which its training would be gone."""
    before = (trained / "net.tar").read_bytes()
    assert_one_line(export(trained, trained / "net.tar"), "export.py", "net.tar exists")
    assert (trained / "net.tar").read_bytes() == before


def test_an_unfinished_network_is_not_exported(trained, tmp_path):
    """What it scores would not be what its recipe gives."""
    saved = torch.load(trained / "net.tar", weights_only=True)
    saved["arguments"]["num_episodes"] = 2
    torch.save(saved, tmp_path / "net.tar")
    outcome = export(tmp_path, tmp_path / "out.tar")
    assert_one_line(outcome, "export.py", "1 of 2 episodes")
    assert not (tmp_path / "out.tar").exists()


@pytest.fixture
def session(monkeypatch):
    """Run tools.gpu with commands that only say what they are; gives the commands."""
    begun = []

    def run(self, arguments, seconds):
        begun.append([one for one in arguments if one != "-m"])
        if "paper.reproduce" in arguments:
            cell = arguments[arguments.index("--only") + 1]
            folder = self.out / arguments[arguments.index("--results_dir") + 1] / cell
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "seed1.json").write_text("{}")
        return start.seconds

    monkeypatch.setattr(tools.gpu.Session, "run", run)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")

    def start(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, arguments)])
        tools.gpu.main()
        return begun

    start.seconds = 10.0
    return start


def cells_of(begun):
    return [command[command.index("--only") + 1] for command in begun if command[0] == "paper.reproduce"]


def test_the_grid_is_trained_dearest_cells_first_and_packed(session, tmp_path, capsys):
    """Every cell with five seeds; the results stand in the archive as in results/."""
    begun = session("--out", tmp_path / "out", "--parts", "grid")
    cells = cells_of(begun)
    assert sorted(cells) == sorted(CELLS)
    costs = [CELLS[cell].cost for cell in cells]
    assert costs == sorted(costs, reverse=True)
    assert all("1,2,3,4,5" in command for command in begun if command[0] == "paper.reproduce")
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as archive:
        assert sorted(archive.getnames()) == sorted(f"results/{cell}/seed1.json" for cell in CELLS)
    assert capsys.readouterr().out == (tmp_path / "out" / "log.txt").read_text()


def test_there_is_no_grid_where_the_scripts_fail(session, tmp_path, monkeypatch):
    """A borrowed card's minutes are not spent on runs that cannot end well."""
    run = tools.gpu.Session.run
    monkeypatch.setattr(
        tools.gpu.Session, "run", lambda *a: None if Path(a[1][0]).name in ("train.py", "test.py") else run(*a)
    )
    begun = session("--out", tmp_path / "out")
    assert any("tools.bench" in command for command in begun)
    assert not any("paper.reproduce" in command for command in begun)


def test_when_the_time_is_over_nothing_is_begun(session, tmp_path):
    """A minute that is all kept for packing leaves none for cells."""
    begun = session("--out", tmp_path / "out", "--minutes", "0.1", "--parts", "grid")
    assert not cells_of(begun)


def test_a_cell_that_cannot_end_in_time_is_not_begun(session, tmp_path, capsys):
    """After a first cell that took longer than what is left, only cheaper ones are begun; the others are named."""
    session.seconds = 800.0
    first, *others = cells_of(session("--out", tmp_path / "out", "--parts", "grid", "--minutes", "9"))
    assert CELLS[first].cost >= 1
    assert others
    assert all(800 * CELLS[cell].cost < 9 * 60 for cell in others)
    assert "no time for jump_perm\n" in capsys.readouterr().out


def test_an_earlier_call_goes_on_and_what_has_a_result_is_left_alone(session, tmp_path):
    """The log grows, the results stay, and with --missing the archive's are there from the start."""
    out = tmp_path / "out"
    session("--out", out, "--parts", "grid")
    log = (out / "log.txt").read_text()
    (out / "results" / "me" / "seed2.json").write_text('{"mine": true}')
    session("--out", out, "--parts", "grid")
    assert (out / "log.txt").read_text().startswith(log)
    assert (out / "results" / "me" / "seed2.json").read_text() == '{"mine": true}'
    session("--out", tmp_path / "new", "--parts", "grid", "--missing")
    known = (ROOT / "results" / "me" / "seed2.json").read_text()
    assert (tmp_path / "new" / "results" / "me" / "seed2.json").read_text() == known
    session("--out", out, "--parts", "grid", "--missing")
    assert (out / "results" / "me" / "seed2.json").read_text() == '{"mine": true}'
    assert (out / "results" / "me" / "seed3.json").exists()


def test_cells_side_by_side_share_the_card_by_mps(session, tmp_path, monkeypatch):
    """The service is started before the first cell, told to the commands, and ended after the last."""
    control = tmp_path / tools.gpu.MPS_CONTROL
    calls = tmp_path / "calls"
    control.write_text(f'#!/bin/sh\necho "$CUDA_MPS_PIPE_DIRECTORY $@" >> {calls}\n[ -n "$1" ] || cat >> {calls}\n')
    control.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    session("--out", tmp_path / "out", "--parts", "grid", "--jobs", "2")
    folder = tmp_path / "out" / "mps"
    assert calls.read_text().splitlines() == [f"{folder} -d", f"{folder} ", "quit"]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    session.seconds = None  # no command works, the one that tries MPS neither
    session("--out", tmp_path / "other", "--parts", "grid", "--jobs", "2")
    assert "MPS does not work" in (tmp_path / "other" / "log.txt").read_text()
    assert calls.read_text().splitlines()[-1] == "quit"
    control.write_text("#!/bin/sh\nexit 1\n")
    session("--out", tmp_path / "third", "--parts", "grid", "--jobs", "2")
    assert "MPS does not start" in (tmp_path / "third" / "log.txt").read_text()
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    """Nothing is mixed up with files that are not an earlier call's."""
    (tmp_path / "file").touch()
    assert_one_line(run_file(ROOT / "tools" / "gpu.py", "--out", tmp_path), "gpu.py", "name another folder")


def test_results_curves_and_wrong_answers_are_packed(tmp_path):
    """Under the paths that they have in a checkout; networks are not, which weigh too much."""
    kept = ["out_models/me/res_test_seed1.json", "results/me/seed1.csv", "results/me/seed1.json"]
    for name in [*kept, "out_models/me/net_seed1.tar", "out_models/me/seed1.log"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    tools.gpu.pack_results(tmp_path)
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        assert archive.getnames() == kept


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_begun(tmp_path):
    """One line says that there is none, and no folder is made."""
    assert_one_line(run_file(ROOT / "tools" / "gpu.py", "--out", tmp_path / "out"), "gpu.py", "no usable GPU")
    assert not (tmp_path / "out").exists()


SAYS_COMMIT = "import os; assert os.environ['META_SEQ2SEQ_COMMIT'] == 'abc'"


@pytest.mark.parametrize(("code", "result"), [(SAYS_COMMIT, float), ("raise SystemExit(3)", type(None))])
def test_a_command_is_timed_and_its_failure_is_said(tmp_path, code, result):
    """None stands for a failure, and what was printed is in the log either way."""
    with (tmp_path / "log.txt").open("w") as log:
        args = argparse.Namespace(gpu=0, out=tmp_path, minutes=5.0, commit="abc")
        took = tools.gpu.Session(args, log).run(["-c", code], 60)
    assert isinstance(took, result)
    assert "exit code" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("ignores", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
def test_a_command_ends_when_its_time_is_over(tmp_path, monkeypatch, ignores):
    """Told to, or else killed; what it had printed is in the log."""
    monkeypatch.setattr("common.session.PATIENCE", 0.5)
    code = f"import signal, time; {ignores}print('begun', flush=True); time.sleep(60)"
    began = time.monotonic()
    with (tmp_path / "log.txt").open("w") as log:
        args = argparse.Namespace(gpu=0, out=tmp_path, minutes=5.0, commit=None)
        assert tools.gpu.Session(args, log).run(["-c", code], 1.0) is None
    assert time.monotonic() - began < 10
    text = (tmp_path / "log.txt").read_text()
    assert "begun" in text and ("exit code -9" if ignores else "exit code -15") in text


SESSION = """
import argparse, pathlib, sys
from common.session import logged_session
args = argparse.Namespace(gpu=0, out=pathlib.Path(sys.argv[1]), minutes=5.0, commit=None)
with logged_session(args) as session:
    session.run(["-c", "import time; print('begun', flush=True); time.sleep(60)"], 60)
    session.run(["-c", "pass"], 60)
    print("packed", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_stops_what_runs_and_packs_what_there_is(tmp_path, number):
    """Nothing further is begun, no process is left, and the exit code tells of the signal."""
    command = [sys.executable, "-c", SESSION, str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (child := children.read_text().strip()):
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "no time for python -c pass" in out and out.rstrip().endswith("packed")
    assert not Path(f"/proc/{child}").exists()


def test_bench_is_asked_for_one_thing(tmp_path):
    """A trained network has an episode type of its own, and the ways to measure exclude one another."""
    bench = ROOT / "tools" / "bench.py"
    for other in ("--episode_types ME", "--lock_step 1", "--side_by_side 2"):
        assert_one_line(run_file(bench, "--checkpoint", tmp_path / "x.tar", *other.split()), "bench.py", "--checkpoint")


def test_wrong_answers_are_counted_by_kind(tmp_path):
    """Length, turns and the number of verbs, of each file on a line of its own; and what fails in all of them."""
    wrong = [
        {"query": "jump left and run", "target": "I_TURN_LEFT I_JUMP I_RUN", "output": "I_TURN_LEFT I_RUN I_RUN"},
        {"query": "jump left", "target": "I_TURN_LEFT I_JUMP", "output": "I_JUMP I_TURN_LEFT"},
        {"query": "jump", "target": "I_JUMP", "output": ""},
    ]
    found = {"some": wrong, "others": wrong[1:], "none": [], "longer": [{**wrong[2], "output": "I_JUMP I_JUMP"}]}
    for name, answers in found.items():
        report = {"split": "addprim_jump", "total": 10, "wrong": answers}
        (tmp_path / f"{name}.json").write_text(json.dumps(report))

    def lines(*names):
        outcome = run_file(ROOT / "tools" / "wrong_answers.py", *(tmp_path / f"{name}.json" for name in names))
        assert (outcome.code, outcome.err) == (0, "")
        return [line.removeprefix(f"{tmp_path}/") for line in outcome.out.splitlines()]

    some = "3 wrong answers, 1 too short, 0 too long, 1 with the right length and turns, 1 to commands with two verbs"
    assert lines("some") == [f"some.json: {some}"]
    nothing = "0 with the right length and turns, 0 to commands with two verbs"
    assert lines("longer", "none") == [
        f"longer.json: 1 wrong answers, 0 too short, 1 too long, {nothing}",
        f"none.json: 0 wrong answers, 0 too short, 0 too long, {nothing}",
        "wrong in all 2: 0 of 10, in some: 1",
    ]
    assert lines("some", "others")[-1] == "wrong in all 2: 2 of 10, in some: 3; by output length 1: 1, 2: 1"
    for content, reason in (
        ("{}", "wrong answers"),
        ('{"split": "simple", "wrong": []}', "found simple"),
    ):
        (tmp_path / "some.json").write_text(content)
        outcome = run_file(ROOT / "tools" / "wrong_answers.py", tmp_path / "some.json")
        assert_one_line(outcome, "wrong_answers.py", "some.json", reason)


def test_words_of_long_queries_are_told_apart(trained, monkeypatch):
    """Wrong where the answer is, shown where a support item is, and the weight that of the word's own step."""

    def explain(network, support, query):  # the first word wrong, half of the attention where it belongs
        words = query.split()
        meanings = dict(part.split(" -> ") for part in network.validation[0].mapping.split(", "))
        output = " ".join(["RED" if meanings[words[0]] != "RED" else "BLUE", *(meanings[word] for word in words[1:])])
        weights = [[0.5 if row == column else 0.1 for column in range(len(words) + 2)] for row in range(len(words) + 1)]
        return {"output": output, "decoder": {"weights": weights}}

    monkeypatch.setattr(tools.alignment, "explain", explain)
    network = load_checkpoint(trained / "net.tar", CPU)
    del network.validation[1:]
    words = tools.alignment.long_words(network)
    n_queries = sum(
        int(length) >= 5
        for length, is_support in zip(
            network.validation[0].query.input_lengths, network.validation[0].is_support, strict=True
        )
        if not is_support
    )
    assert sum(word.is_wrong for word in words) == n_queries > 0
    assert {word.weight for word in words} == {0.5}
    assert {word.is_shown for word in words} == {True, False}
    n_shown = sum(word.is_shown for word in words)
    wrong = sum(word.is_wrong for word in words if word.is_shown)
    assert tools.alignment.describe(words) == (
        f"wrong at shown words, at the withheld word: {wrong} of {n_shown}, "
        f"{n_queries - wrong} of {len(words) - n_shown}; weight 0.50"
    )


def test_an_answer_of_another_length_stops_the_look_at_words(trained):
    """A network that was hardly trained goes on and on: no symbol of its answer belongs to a word."""
    outcome = run_file(ROOT / "tools" / "alignment.py", "--cpu", trained / "net.tar")
    assert_one_line(outcome, "alignment.py", "expected a symbol a word")


def test_the_look_at_words_is_for_finished_networks_of_me(trained, tmp_path):
    """Neither an unfinished one nor another experiment's is taken for what the figures are about."""
    saved = torch.load(trained / "net.tar", weights_only=True)
    saved["arguments"]["num_episodes"] = saved["episode"] + 1
    save_plain(tmp_path / "half.tar", saved)
    outcome = run_file(ROOT / "tools" / "alignment.py", "--cpu", tmp_path / "half.tar")
    assert_one_line(outcome, "alignment.py", "half.tar", f"{saved['episode']} of {saved['episode'] + 1} episodes")
    other = dataclasses.replace(load_checkpoint(trained / "net.tar", CPU), experiment=find_experiment("scan_length"))
    with mock.patch("checkpoint.load_checkpoint", return_value=other):
        outcome = run_file(ROOT / "tools" / "alignment.py", "--cpu", trained / "net.tar")
    assert_one_line(outcome, "alignment.py", "net.tar", "found one of scan_length")
