"""The tools: networks without their training, the bench, and what the findings count."""

import functools
import json
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
import torch
from script_runs import assert_one_line, run_file

import tools.export
from checkpoint import load_checkpoint, network_config
from common.plain_files import save_plain
from evaluate import Accuracy
from model import ModelConfig, make_network
from paper.comparison import wilson_interval

ROOT = Path(__file__).resolve().parent.parent
HEADER = "episode,seconds,lr,train_loss,retrieval,generalize\n"
TINY = ["--emb_size", 8, "--cpu", "--max_length_eval", 8, "--fn_out_model", "net.tar"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a network of ME after an episode of training, its weights such as half precision can hold."""
    folder = tmp_path_factory.mktemp("models")
    assert run_file(ROOT / "train.py", "--num_episodes", 1, *TINY, "--dir_model", folder).code == 0
    saved = torch.load(folder / "net.tar", weights_only=True)
    saved["model_state"] = {name: weight.half().float() for name, weight in saved["model_state"].items()}
    torch.save(saved, folder / "net.tar")
    return folder


def changed(trained, path, part, values):
    """Write a network of another configuration, or with other arguments or validation episodes."""
    saved = torch.load(trained / "net.tar", weights_only=True)
    saved[part] = {**saved[part], **values} if isinstance(values, dict) else values
    saved["model_state"] = make_network(ModelConfig(**saved["model_config"])).state_dict()
    save_plain(path, saved)


def run(script, folder, *arguments):
    """Run a script on the network in a folder."""
    return run_file(ROOT / script, *arguments, "--cpu", "--dir_model", folder, "--fn_in_model", "net.tar")


def export(folder, out):
    return run("tools/export.py", folder, "--out", out)


def findings(what, *files):
    return run_file(ROOT / "tools/findings.py", what, "--cpu", *files)


def test_an_exported_network_answers_alike_and_cannot_be_trained_further(trained, tmp_path):
    """Half precision, no optimizer; test.py counts what it counted, and train.py says what the file is."""
    outcome = export(trained, tmp_path / "net.tar")
    assert (outcome.code, outcome.err) == (0, "")
    assert "of 100 right on the validation episodes; weights in half" in outcome.out
    slim = torch.load(tmp_path / "net.tar", weights_only=True)
    assert {weight.dtype for weight in slim["model_state"].values()} == {torch.float16}
    assert "optimizer_state" not in slim and slim["arguments"]["seed"] == 1
    counts = []
    for folder in (trained, tmp_path):
        assert run("test.py", folder).code == 0
        report = json.loads((folder / "res_test_net.tar.json").read_text())
        counts.append([report[name] for name in ("correct", "breakdown", "wrong", "training_seconds")])
    assert counts[0] == counts[1]
    outcome = run_file(ROOT / "train.py", "--num_episodes", 2, *TINY, "--dir_model", tmp_path)
    assert_one_line(outcome, "train.py", "net.tar", "without what resuming its training takes")


def test_weights_stay_whole_where_half_precision_changes_an_answer(trained, tmp_path, monkeypatch):
    """Then the file has the very weights of the checkpoint."""
    answers = iter([["one"], ["another"]])
    monkeypatch.setattr(tools.export, "answer_episodes", lambda *_: next(answers))
    monkeypatch.setattr(tools.export, "count", lambda _: Accuracy())
    checkpoint = load_checkpoint(trained / "net.tar", torch.device("cpu"))
    with torch.no_grad():
        before = {name: weight.add_(1e-5).clone() for name, weight in checkpoint.model.state_dict().items()}
    contents, said = tools.export.slim(checkpoint, tmp_path)
    assert "single precision" in said
    assert all(torch.equal(contents["model_state"][name], weight) for name, weight in before.items())


def test_export_writes_over_no_file_and_takes_finished_networks_only(trained, tmp_path):
    """Least of all over the checkpoint itself, with which its training would be gone."""
    before = (trained / "net.tar").read_bytes()
    assert_one_line(export(trained, trained / "net.tar"), "export.py", "net.tar exists")
    assert (trained / "net.tar").read_bytes() == before
    changed(trained, tmp_path / "net.tar", "arguments", {"num_episodes": 2})
    assert_one_line(export(tmp_path, tmp_path / "out.tar"), "export.py", "1 of 2 episodes")
    assert not (tmp_path / "out.tar").exists()


@pytest.mark.parametrize(
    ("what", "options", "times"),
    [
        ("training", ["--episode_types", "ME"], ["ms", "plain_ms", "ratio"]),
        ("lock_step", ["--episode_types", "ME", "--lock_step", "2"], ["ms_a_step", "ms_an_episode"]),
        ("scoring", ["--checkpoint", "{0}/net.tar"], ["seconds"]),
    ],
)
def test_bench_measures_and_writes(trained, tmp_path, what, options, times):
    """Every time is there and positive; a small network does for that."""
    where = [*(option.format(trained) for option in options), "--cpu", "--out", tmp_path / "bench.json"]
    with mock.patch("checkpoint.network_config", functools.partial(network_config, emb_size=8)):
        assert run_file(ROOT / "tools/bench.py", *where, "--repeats", 1).code == 0
    written = json.loads((tmp_path / "bench.json").read_text())[what]
    for row in [written["fast"], written["plain"]] if what == "scoring" else written:
        assert all(row[name] > 0 for name in times)


@pytest.mark.parametrize("other", ["--episode_types=ME", "--lock_step=1"])
def test_bench_is_asked_for_one_thing(other):
    """A trained network has an episode type of its own, and the ways to measure exclude one another."""
    assert_one_line(run_file(ROOT / "tools/bench.py", "--checkpoint", "x.tar", other), "bench.py", "--checkpoint")


def test_wrong_answers_are_counted_by_kind(tmp_path):
    """Length, turns and the number of verbs, of each file on a line of its own; and what fails in all of them."""
    wrong = [
        {"query": "jump left and run", "target": "I_TURN_LEFT I_JUMP I_RUN", "output": "I_TURN_LEFT I_RUN I_RUN"},
        {"query": "jump left", "target": "I_TURN_LEFT I_JUMP", "output": "I_JUMP I_TURN_LEFT"},
        {"query": "jump", "target": "I_JUMP", "output": ""},
    ]
    files = {"a": wrong, "b": [wrong[1], {**wrong[2], "output": "I_JUMP I_JUMP"}], "c": [], "d": wrong}
    for name, answers in files.items():
        report = {"split": "length" if name == "d" else "addprim_jump", "total": 10, "wrong": answers}
        (tmp_path / name).write_text(json.dumps(report))

    def lines(*names):
        said = findings("wrong_answers", *(tmp_path / name for name in names)).out
        return said.replace(f"{tmp_path}/", "").splitlines()

    assert lines("a", "b") == [
        "a: 3 wrong answers, 1 too short, 0 too long, 1 with the right length and turns, 1 to commands with two verbs",
        "b: 2 wrong answers, 0 too short, 1 too long, 0 with the right length and turns, 0 to commands with two verbs",
        "wrong in all 2: 2 of 10, in some: 3; by output length 1: 1, 2: 1",
    ]
    assert lines("a", "b", "c")[-1] == "wrong in all 3: 0 of 10, in some: 3"
    assert lines("a", "d")[-1] == "the files are of different tests, so nothing is counted over all of them"
    assert len(lines("a")) == 1


def test_shown_and_withheld_words_of_long_queries_are_told_apart(trained, tmp_path):
    """The first word of every query is answered wrong; the weight is that of each word at its own step."""
    (episode, *_) = torch.load(trained / "net.tar", weights_only=True)["validation_episodes"]
    changed(trained, tmp_path / "net.tar", "validation_episodes", [episode])
    meanings = dict(part.split(" -> ") for part in episode["mapping"].split(", "))
    words, wrong = Counter(), Counter()

    def explain(_, support, query):
        first, *others = query.split()
        words.update(word in dict(support) for word in query.split())
        wrong[first in dict(support)] += 1
        output = ["RED" if meanings[first] != "RED" else "BLUE", *map(meanings.get, others)]
        weights = [[0.5 if row == column else 0.1 for column in range(8)] for row in range(7)]
        return {"query": query, "output": " ".join(output), "decoder": {"weights": weights}}

    with mock.patch("evaluate.explain", explain):
        said = findings("alignment", tmp_path / "net.tar").out
    counts = f"{wrong[True]} of {words[True]}, {wrong[False]} of {words[False]}"
    assert said.endswith(f"net.tar: wrong at shown words, at the withheld word: {counts}; weight 0.50\n")
    assert wrong.total() == sum(len(query.split()) >= 5 for query, _ in episode["query"])
    assert min(wrong.values()) > 0


def test_runs_that_stay_up_are_counted_by_folder(tmp_path):
    """A run that comes down again has not taken off; those cut off earlier count as far as they go."""
    runs = {
        "a/seed1": (20.0, 99.0, 100.0),
        "a/seed2": (100.0, 95.0, 99.0),
        "a/seed10": (100.0, 94.0),
        "b/seed1": (0.0, 7.0, 7.0),
    }
    for name, accuracies in runs.items():
        rows = [f"{2500 * k},1.0,0.001,0.5,,{accuracy}\n" for k, accuracy in enumerate(accuracies, 1)]
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.csv").write_text("".join([HEADER, *rows]))
    code, said, err = findings("take_off", *tmp_path.glob("*/*.csv"))
    assert (code, err) == (0, "")
    low, high = wilson_interval(2, 3)
    assert said.replace(f"{tmp_path}/", "").splitlines() == [
        f"a: 2 of 3 took off ({low:.0f} to {high:.0f} %), median episode 6250 (5000 to 7500); "
        "95 % at episode 5000: 2 of 3; the others end at: seed10 94.0 %",
        "b: 0 of 1 took off (0 to 79 %); 95 % at episode 5000: 0 of 1; the others end at: seed1 7.0 %",
    ]


@pytest.mark.parametrize(
    ("what", "contents", "said"),
    [
        ("wrong_answers", "{}", "with its list of wrong answers"),
        ("wrong_answers", '{"split": "simple", "wrong": []}', "found simple"),
        ("take_off", "", "expected rows"),
        ("take_off", HEADER, "expected rows"),
        ("take_off", "# Title\n\nwords\n", "file:3: expected a number"),
        ("take_off", None, "No such file"),
        ("alignment", ("arguments", {}), "expected one symbol per word"),  # no symbol belongs to a word
        ("alignment", ("arguments", {"num_episodes": 2}), "file has 1 of 2 episodes"),
        ("alignment", ("arguments", {"episode_type": "scan_length"}), "found one of scan_length"),
        ("alignment", ("model_config", {"disable_attention": True}), "found one of ME without attention"),
    ],
)
def test_a_file_that_cannot_be_counted_is_one_line(trained, tmp_path, what, contents, said):
    path = tmp_path / "file"
    if isinstance(contents, tuple):
        changed(trained, path, *contents)
    elif contents is not None:
        path.write_text(contents)
    assert_one_line(findings(what, path), "findings.py", said)
