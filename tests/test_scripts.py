"""What test.py and tools/bench.py print and write."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import assert_one_line, contents, run_file, save_untrained

from common.files import json_bytes
from scan_util import load_split

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def score(tmp_path, data_dir):
    """Run test.py on an untrained network for ME, half trained by its own account, or one that the test has made."""
    save_untrained(tmp_path / "net_me.tar", episode=3)

    def run(*arguments, name="net_me.tar"):
        where = ("--cpu", "--data_dir", data_dir, "--dir_model", tmp_path)
        return run_file(ROOT / "test.py", *where, "--fn_in_model", name, *arguments)

    return run


def test_a_scan_test_reports_every_command(score, tmp_path, data_dir):
    """The JSON has the counts, the arguments and every wrong answer; its name comes from the checkpoint's."""
    save_untrained(tmp_path / "net_x.tar", "scan_around_right", data_dir=data_dir)
    code, printed, _ = score(name="net_x.tar")
    report = json.loads((tmp_path / "res_test_x.json").read_text())
    assert (code, report["split"], report["total"]) == (0, "template_around_right", 4476)
    assert len(report["wrong"]) == report["total"] - report["correct"]
    targets = {" ".join(item.input): " ".join(item.output) for item in load_split(data_dir, "test", report["split"])}
    for one in report["wrong"]:
        assert one["support_set"] == 0
        assert one["target"] == targets[one["query"]] != one["output"]
    assert report["accuracy"] == pytest.approx(100 * report["correct"] / 4476)
    assert (report["episode"], report["num_episodes"], report["finished"]) == (5, 5, True)
    assert report["arguments"]["max_length_eval"] == 50
    assert {"seconds", "provenance", "breakdown", "device"} <= report.keys()
    assert f"({report['correct']} of 4476)" in printed
    assert "UNFINISHED" not in printed


def test_an_me_test_tells_retrieval_apart_and_says_that_it_is_unfinished(score, tmp_path):
    """Accuracy is on novel queries; --verbose prints every query; a mask other than in training is noted."""
    code, printed, _ = score("--verbose", "--mask_padding")
    report = json.loads((tmp_path / "res_test_me_with_mask_padding.json").read_text())
    assert (code, report["total"], report["retrieval_total"], report["finished"]) == (0, 100, 15, False)
    assert len([line for line in printed.splitlines() if line.startswith(("ok ", "WRONG "))]) == 115
    assert "UNFINISHED" in printed
    assert report["mask_padding"]
    assert "note: scored with mask_padding True" in printed


def test_every_test_and_network_has_a_result_of_its_own(score, tmp_path):
    """net_me.tar and me.tar may be two networks; with --results_dir nothing goes to the folder of the models."""
    (tmp_path / "me.tar").write_bytes((tmp_path / "net_me.tar").read_bytes())
    save_untrained(tmp_path / "net_masked.tar", mask_padding=True, arguments={"mask_padding": True})
    before = contents(tmp_path)
    other = ("--no-mask_padding", "--max_length_eval", 9)
    results = {
        "res_test_me.json": ("net_me.tar", "--no-mask_padding", "--max_length_eval", 50),  # as trained
        "res_test_me.tar.json": ("me.tar",),
        "res_test_masked_without_mask_padding_with_max_length_eval9.json": ("net_masked.tar", *other),
    }
    for name, *arguments in results.values():
        assert score("--results_dir", tmp_path / "mine", *arguments, name=name).code == 0
    assert contents(tmp_path / "mine").keys() == results.keys()
    assert {name: content for name, content in contents(tmp_path).items() if not name.startswith("mine")} == before


def test_the_result_is_there_even_if_nobody_reads_the_report(score, tmp_path, monkeypatch):
    """`test.py | head` ends the printing early; the JSON stands by then."""

    def closed(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setattr("io.StringIO", type("Stream", (io.StringIO,), {"fileno": lambda _: 1}))
    assert score().code == 1
    assert (tmp_path / "res_test_me.json").exists()


def test_pictures_of_queries_and_networks_do_not_replace_each_other(score, tmp_path, monkeypatch):
    """A PNG and its weights as JSON; the query is in the name; another network under that name takes --overwrite."""
    monkeypatch.setattr("attention_plot.draw_attention", json_bytes)  # in no time
    drawn = {f"attention_me_{query}.{suffix}" for query in ("dax+zup", "zup+dax") for suffix in ("png", "json")}
    for query in ("dax zup", "zup dax", "dax zup"):
        assert score("--plot_attention", query).code == 0
    before = contents(tmp_path)
    assert before.keys() == drawn | {"net_me.tar"}  # and no result
    labelled = json.loads(before["attention_me_dax+zup.json"])
    assert labelled["memory"]["rows"] == ["dax", "zup", "<EOS>"]
    assert len(labelled["memory"]["columns"]) == 3
    assert np.array(labelled["decoder"]["weights"]).sum(axis=1) == pytest.approx(1, abs=1e-3)
    save_untrained(tmp_path / "net_me.tar", seed=2)
    assert_one_line(score("--plot_attention", "dax zup"), "test.py", "--overwrite")
    assert all(contents(tmp_path)[name] == before[name] for name in drawn)
    assert score("--plot_attention", "dax zup", "--overwrite").code == 0
    assert score("--plot_attention", "dax", "--fn_out_plot", tmp_path / "mine.png").code == 0
    assert contents(tmp_path).keys() - before.keys() == {"mine.png", "mine.json"}


def test_a_result_of_another_network_is_not_replaced(score, tmp_path):
    """Of the same name in another folder, say; one trained further is no other, one trained less far is."""
    net, result = tmp_path / "net_me.tar", tmp_path / "res_test_me.json"
    for n_episodes in (5, 7):
        save_untrained(net, arguments={"num_episodes": n_episodes, "lr": 0.5})
        assert score().code == 0
    before = result.read_bytes()
    for named, others in (
        ("lr", {"num_episodes": 7, "lr": 0.25}),
        ("num_episodes", {"num_episodes": 6, "lr": 0.5}),
        ("keep_moments", {"num_episodes": 7, "lr": 0.5, "keep_moments": True}),
        ("lr, num_episodes", {}),
    ):
        save_untrained(net, seed=2, arguments=others)
        assert_one_line(score(), "test.py", f"res_test_me.json is about another network or test ({named})")
        assert result.read_bytes() == before
    assert score("--overwrite").code == 0
    for something in ("[1]", '{"arguments": 1}', "no JSON"):
        result.write_text(something)
        assert_one_line(score(), "test.py", "res_test_me.json does not say which network", "--overwrite")


def test_bench_measures_and_writes(tmp_path, data_dir):
    """Every figure of a row is there and positive."""
    arguments = ("--episode_types", "ME", "--repeats", "1", "--out", tmp_path / "bench.json")
    code, printed, _ = run_file(ROOT / "tools" / "bench.py", "--cpu", "--data_dir", data_dir, *arguments)
    assert code == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())["training"]
    assert row["episode_type"] == "ME"
    assert min(value for value in row.values() if isinstance(value, float)) > 0
    assert "episode_type ME, " in printed


@pytest.mark.parametrize("path", sorted((ROOT / "out_models" / "trained").glob("*.tar")), ids=lambda path: path.stem)
def test_a_network_that_a_clone_has_scores_what_its_file_says(tmp_path, data_dir, path):
    """test.py counts the same right answers, and says that there is no more training it."""
    where = ("--cpu", "--data_dir", data_dir, "--dir_model", path.parent, "--results_dir", tmp_path)
    code, printed, _ = run_file(ROOT / "test.py", "--fn_in_model", path.name, *where)
    assert code == 0
    report = json.loads((tmp_path / f"res_test_{path.stem.removeprefix('net_')}.json").read_text())
    written = torch.load(path, weights_only=True)["weights_only"]
    assert {name: report[name] for name in written} == written
    assert report["weights_only"]
    assert "cannot be trained further" in printed


def test_what_a_notebook_leaves_in_the_environment_does_no_harm(tmp_path):
    """Its MPLBACKEND names a module that is not there: help needs no matplotlib, and pictures go to files anyway."""
    helped = ["test.py", "query.py", "tools/curves.py", "paper/report.py"]
    curves = ["tools/curves.py", str(ROOT / "results" / "me" / "seed1.csv"), "--out", str(tmp_path / "curves.png")]
    code = f"""
import runpy, sys
for argv in [*([script, "-h"] for script in {helped}), {curves}]:
    sys.argv = argv
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, argv
    assert ("matplotlib" in sys.modules) == (argv[-1] != "-h"), argv
"""
    environment = {**os.environ, "MPLBACKEND": "module://no.such.backend"}
    outcome = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert (tmp_path / "curves.png").stat().st_size > 5000
