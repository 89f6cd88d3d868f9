"""What test.py and tools/bench.py print and write, and that the README's commands exist."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoint import checkpoint_contents
from common.plain_files import save_plain
from generate_episode import EpisodeSampler, find_experiment
from model import MetaSeq2Seq, ModelConfig
from scan_util import load_split

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path, data_dir):
    """Untrained networks: one for ME, half trained by its own account, and one for scan_around_right."""
    for name, episode_type, episode, sizes in (
        ("net_me.tar", "ME", 3, (6, 6, 7)),
        ("net_x.tar", "scan_around_right", 5, (17, 10, 10)),
    ):
        torch.manual_seed(1)
        experiment = find_experiment(episode_type)
        validation = EpisodeSampler(experiment, data_dir, True).validation_episodes(np.random.default_rng(0))
        model = MetaSeq2Seq(ModelConfig(*sizes, emb_size=6))
        arguments = {"episode_type": episode_type, "extra_directions": None, "max_length_eval": 50, "num_episodes": 5}
        save_plain(tmp_path / name, checkpoint_contents(model, experiment, validation, episode, arguments))
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys, data_dir):
    """Run a script in this process; gives its exit code and what it printed."""

    def run_script(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, "--cpu", "--data_dir", str(data_dir), *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return run_script


def test_a_scan_test_reports_every_command(run, folder, data_dir):
    """The JSON has the counts, the arguments and every wrong answer; its name comes from the checkpoint's."""
    code, printed, _ = run("test.py", "--fn_in_model", "net_x.tar", "--dir_model", folder)
    assert code == 0
    report = json.loads((folder / "res_test_x.json").read_text())
    assert (report["split"], report["total"]) == ("template_around_right", 4476)
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


def test_results_go_where_one_wants_them(run, folder, tmp_path):
    """With --results_dir nothing is written to the folder of the models."""
    before = sorted(folder.iterdir())
    where = ("--dir_model", folder, "--results_dir", tmp_path / "mine")
    assert run("test.py", "--fn_in_model", "net_me.tar", *where)[0] == 0
    assert run("test.py", "--fn_in_model", "net_me.tar", "--plot_attention", "dax", *where)[0] == 0
    found = {path.name for path in (tmp_path / "mine").iterdir()}
    assert found == {"res_test_me.json", "attention_me_dax.png", "attention_me_dax.json"}
    assert sorted(folder.iterdir()) == sorted([*before, tmp_path / "mine"])


def test_an_me_test_tells_retrieval_apart_and_says_that_it_is_unfinished(run, folder):
    """Accuracy is on novel queries; --verbose prints every query; the mask that differs from training is noted."""
    arguments = ("test.py", "--fn_in_model", "net_me.tar", "--dir_model", folder, "--verbose", "--mask_padding")
    code, printed, _ = run(*arguments)
    assert code == 0
    report = json.loads((folder / "res_test_me_mask_paddingTrue.json").read_text())
    assert (report["total"], report["retrieval_total"], report["finished"]) == (100, 15, False)
    assert len([line for line in printed.splitlines() if line.startswith(("ok ", "WRONG "))]) == 115
    assert "UNFINISHED" in printed
    assert report["mask_padding"]
    assert "note: scored with mask_padding True" in printed
    assert not (folder / "res_test_me.json").exists()
    run("test.py", "--fn_in_model", "net_me.tar", "--dir_model", folder, "--no-mask_padding")
    assert not json.loads((folder / "res_test_me.json").read_text())["mask_padding"]


def test_networks_with_and_without_the_prefix_have_results_of_their_own(run, folder):
    """net_me.tar and me.tar may be two networks."""
    (folder / "me.tar").write_bytes((folder / "net_me.tar").read_bytes())
    for name, result in (("net_me.tar", "res_test_me.json"), ("me.tar", "res_test_me.tar.json")):
        assert run("test.py", "--fn_in_model", name, "--dir_model", folder)[0] == 0
        assert (folder / result).exists()
    assert len(list(folder.glob("res_test_me*"))) == 2


def test_the_result_is_there_even_if_nobody_reads_the_report(run, folder, monkeypatch):
    """`test.py | head` ends the printing early; the JSON stands by then."""

    def closed(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    assert run("test.py", "--fn_in_model", "net_me.tar", "--dir_model", folder)[0] == 1
    assert (folder / "res_test_me.json").exists()


def test_attention_is_drawn_and_written(run, folder):
    """A PNG and the same weights as JSON: rows of the memory are the query's steps, its columns the support items."""
    query = ["--plot_attention", "dax zup", "--support_set", "4"]
    assert run("test.py", "--fn_in_model", "net_me.tar", "--dir_model", folder, *query)[0] == 0
    labelled = json.loads((folder / "attention_me_set4_dax+zup.json").read_text())
    assert labelled["memory"]["rows"] == ["dax", "zup", "<EOS>"]
    assert len(labelled["memory"]["columns"]) == 3
    assert labelled["decoder"]["columns"] == ["dax", "zup", "<EOS>", "(padding)"]
    assert np.array(labelled["decoder"]["weights"]).sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert (folder / "attention_me_set4_dax+zup.png").stat().st_size > 5000
    assert not (folder / "res_test_me.json").exists()
    assert run("test.py", "--fn_in_model", "net_me.tar", "--dir_model", folder, "--support_set", "1")[0] == 2


def other_network(folder, name, seed=2, **arguments):
    """Put another network in the place of one, trained with other arguments if some are given."""
    saved = torch.load(folder / name, weights_only=True)
    torch.manual_seed(seed)
    model = MetaSeq2Seq(ModelConfig(**saved["model_config"]))
    save_plain(
        folder / name,
        {**saved, "model_state": model.state_dict(), "arguments": {**saved["arguments"], **arguments}},
    )


def test_pictures_of_queries_and_networks_do_not_replace_each_other(run, folder):
    """A query is in the name; another network under the same name takes --overwrite; the same picture is no other."""
    draw = ("test.py", "--fn_in_model", "net_me.tar", "--dir_model", folder, "--plot_attention")
    for query in ("dax zup", "zup dax", "dax zup"):
        assert run(*draw, query)[0] == 0
    before = {path: path.read_bytes() for path in folder.glob("attention_*")}
    assert {path.name for path in before} == {
        f"attention_me_{q}.{s}" for q in ("dax+zup", "zup+dax") for s in ("png", "json")
    }
    other_network(folder, "net_me.tar")
    code, _, error = run(*draw, "dax zup")
    assert (code, error.count("\n"), "--overwrite" in error) == (2, 1, True)
    assert {path: path.read_bytes() for path in folder.glob("attention_*")} == before
    assert run(*draw, "dax zup", "--overwrite")[0] == 0
    assert run(*draw, "dax", "--fn_out_plot", folder / "mine.png")[0] == 0
    assert (folder / "mine.json").exists()


def test_a_result_of_another_network_is_not_replaced(run, folder, tmp_path):
    """Of the same name in another folder, say; one trained further is no other, one trained less far is."""
    score = ("test.py", "--fn_in_model", "net_me.tar", "--dir_model", folder)
    assert run(*score)[0] == 0
    other_network(folder, "net_me.tar", num_episodes=7)
    assert run(*score)[0] == 0
    other_network(folder, "net_me.tar", lr=0.5)
    assert run(*score)[0] == 0  # earlier code did not record it
    before = (folder / "res_test_me.json").read_bytes()
    for other in ({"lr": 0.25}, {"lr": 0.5, "num_episodes": 6}, {"num_episodes": 7, "keep_moments": False}):
        other_network(folder, "net_me.tar", **other)
        code, _, error = run(*score)
        said = f"res_test_me.json is of another network or test ({[*other][-1]})"
        assert (code, error.count("\n"), said in error) == (2, 1, True)
        assert (folder / "res_test_me.json").read_bytes() == before
    assert run(*score, "--overwrite")[0] == 0


def test_bench_measures_and_writes(run, tmp_path):
    """Every figure of a row is there and positive."""
    arguments = ("--episode_types", "ME", "--repeats", "1", "--out", tmp_path / "bench.json")
    code, printed, _ = run("tools/bench.py", *arguments)
    assert code == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())["training"]
    assert row["episode_type"] == "ME"
    assert min(value for value in row.values() if isinstance(value, float)) > 0
    assert "ME " in printed


def commands_of_the_readme():
    """Every `python script.py ...` or `python -m folder.script ...` of ours, in a block or in a line."""
    command = r"python (?:\S+\.py|-m (?:paper|tools)\.)[^\n`]*"
    pages = (ROOT / "README.md", ROOT / "results" / "README.md", *(ROOT / "docs").glob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = re.findall(rf"^\s*({command})$|`({command})`", text, re.MULTILINE)
    return sorted({" ".join((block or inline).split()) for block, inline in found})


@pytest.mark.parametrize("command", commands_of_the_readme())
def test_commands_of_the_readme_exist(capsys, command):
    """The script is there and its help names every flag that the README gives it."""
    _, script, *words = shlex.split(command.replace("<", "").replace(">", ""), comments=True)
    if script == "-m":
        script = f"{words.pop(0).replace('.', '/')}.py"
    words = words[: words.index("--")] if "--" in words else words  # what follows is another script's
    flags = {word for word in words if word.startswith("--")}
    helped = [word for word in words if word == "-h"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(sys, "argv", [script, "-h"])
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert caught.value.code == 0
    known = set(re.findall(r"--\w+", capsys.readouterr().out))
    assert flags <= known, flags - known
    assert flags or helped or not words or not words[0].startswith("-")


def test_the_readme_has_commands():
    """The pattern above finds them."""
    assert len(commands_of_the_readme()) >= 10
    assert {"python -m paper.report", "python -m paper.reproduce"} < set(commands_of_the_readme())


def test_the_networks_that_a_clone_has_answer_as_the_readme_says():
    """Its first queries, before any training, and the answers in their order."""
    commands = re.findall(r"^python (query.py .*)$", README, re.MULTILINE)
    (sentence,) = re.findall(r"The first two print ([^;]*);", README)
    answers = re.findall(r"`([A-Z_\s]+)`", sentence)
    assert len(commands) == len(answers) == 2
    for command, answer in zip(commands, answers, strict=True):
        asked = [sys.executable, *shlex.split(command), "--cpu"]
        printed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert printed == f"{' '.join(answer.split())}\n"


@pytest.mark.parametrize("path", sorted((ROOT / "out_models" / "trained").glob("*.tar")), ids=lambda path: path.stem)
def test_a_network_that_a_clone_has_scores_what_its_file_says(run, tmp_path, path):
    """test.py counts the same right answers, and says that there is no more training it."""
    (tmp_path / path.name).write_bytes(path.read_bytes())
    written = torch.load(path, weights_only=True)["weights_only"]
    code, printed, _ = run("test.py", "--fn_in_model", path.name, "--dir_model", tmp_path)
    report = json.loads((tmp_path / f"res_test_{path.stem.removeprefix('net_')}.json").read_text())
    assert code == 0
    assert (report["correct"], report["total"], report["split"]) == tuple(
        written[name] for name in ("correct", "total", "split")
    )
    assert report["weights_only"]
    assert "cannot be trained further" in printed


PAGES_OF_HELP = ["test.py", "query.py", "tools/curves.py", "paper/report.py"]


@pytest.mark.parametrize("script", PAGES_OF_HELP)
def test_what_a_notebook_leaves_in_the_environment_does_no_harm(script):
    """MPLBACKEND of a notebook names a module that is not there; only drawing needs matplotlib."""
    environment = {**os.environ, "MPLBACKEND": "module://no.such.backend"}
    command = [sys.executable, "-m", script.removesuffix(".py").replace("/", "."), "-h"]
    outcome = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_a_picture_is_drawn_whatever_the_notebook_left(tmp_path):
    """The backend is ours: pictures go to files."""
    environment = {**os.environ, "MPLBACKEND": "module://no.such.backend"}
    curve = ROOT / "results" / "me" / "seed1.csv"
    command = [sys.executable, "-m", "tools.curves", str(curve), "--out", str(tmp_path / "curves.png")]
    assert subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode == 0
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_the_makefile_has_the_readmes_targets():
    """`make train` and `make test` are in the README and in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"`make (\w+)`", README)
    assert {"train", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
