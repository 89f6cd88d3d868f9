"""The grid of runs: what it starts and in which order, that it stops and goes on, what it shows, and Ray.

Most tests put other scripts in the place of train.py and test.py, which take no time. Two run the real ones: a grid of
two tiny cells that is killed in the middle, and the same on a Ray cluster one node of which is killed.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from script_runs import contents

import paper.processes
from common.command_line import run_script
from common.files import save_json
from paper.board import PRINT_EVERY, REDRAW_EVERY, Board
from paper.cells import CELLS, Cell, flag_values
from paper.cluster import outcome
from paper.reproduce import main, select_runs
from paper.run_logs import progress_of
from paper.runs import PICTURES, Company, Run, read_result, result_of, work_on

ROOT = Path(__file__).resolve().parent.parent
HEADER = "episode,seconds,lr,train_loss,retrieval,generalize\n"
CURVE = f"{HEADER}1,0.5,0.001,2.5,,\n4400,100.4,0.001,0.4123,99.0,87.5\n"
FAIL, LONG = ("--nlayers", "77"), ("--nlayers", "99")  # what makes this train.py fail, or wait
FAKE_TRAIN = """
import json, pathlib, sys, time
options = dict(zip(sys.argv, sys.argv[1:]))
if options.get("--nlayers") == "77" and not pathlib.Path("repaired").exists():
    print("some lines\\nthe last line")
    sys.exit(7)
if options.get("--nlayers") == "99":
    print("waiting", flush=True)
    time.sleep(60)
folder = pathlib.Path(options["--dir_model"])
def read(text):
    try:
        return json.loads(text)
    except ValueError:
        return True if text.startswith("--") else text
given = {word[2:]: read(value) for word, value in options.items() if word[:2] == "--" and word != "--seeds"}
done = {"episode_type": "ME", "keep_moments": False, **given}
for seed in options.get("--seeds", options.get("--seed")).split(","):
    path = folder / options["--fn_out_model"].replace("{seed}", seed)
    path.with_suffix(".csv").write_text("episode,seconds\\n")
    path.with_suffix(".json").write_text(json.dumps({**done, "seed": int(seed)}))
"""
FAKE_TEST = """
import json, pathlib, sys
options = dict(zip(sys.argv, sys.argv[1:]))
folder, seed = pathlib.Path(options["--dir_model"]), options["--fn_in_model"][8:-4]
if "--plot_attention" in sys.argv:
    picture = pathlib.Path(options["--fn_out_plot"])
    picture.with_suffix(".json").write_text(json.dumps({"query": options["--plot_attention"]}))
else:
    report = {"accuracy": 50.0, "correct": 1, "total": 2, "training_seconds": 5.0, "wrong": [{"query": "jump"}]}
    report["arguments"] = json.loads((folder / f"net_seed{seed}.json").read_text())
    (folder / f"res_test_seed{seed}.json").write_text(json.dumps(report))
"""
TINY = ("--episode_type", "ME", "--emb_size", "2", "--nlayers", "1", "--disable_recon_loss", "--num_episodes")


def cell(name, *flags, cost=1.0):
    return Cell(name, flags, "", None, None, cost)


def table(*cells):
    return {one.name: one for one in cells}


def a_result(one, **arguments):
    """What is read of a result that was trained as a cell says, except for the arguments given here."""
    done = {"episode_type": "ME", "keep_moments": False, **flag_values(one.flags), **arguments}
    return {"accuracy": 99.0, "arguments": {name: value for name, value in done.items() if value is not None}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder to run in, and other scripts in the place of train.py and test.py."""
    scripts, world = tmp_path / "scripts", tmp_path / "world"
    scripts.mkdir()
    world.mkdir()
    (scripts / "train.py").write_text(FAKE_TRAIN)
    (scripts / "test.py").write_text(FAKE_TEST)
    monkeypatch.chdir(world)
    monkeypatch.setattr(paper.processes, "HERE", scripts)
    monkeypatch.setattr("paper.reproduce.TICK", 0.02)
    return world


@pytest.fixture
def start(monkeypatch, capsys):
    """Run reproduce.py's main in this process; gives its exit code and what it printed."""

    def run(cells, *arguments):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *arguments])
        with pytest.raises(SystemExit) as end:
            run_script(lambda: main(cells))
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return run


def is_worked_on(log):
    """Say whether any process still writes to a log."""
    with log.open("ab") as file, contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    return True


def wait_until(is_true, process=None, seconds=120):
    """Wait for something, for as long as a process lives."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it takes too long"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def says(log, text):
    return log.exists() and text in log.read_text()


# What is run, and in which order


def test_first_seeds_come_first_and_cheap_cells_before_dear_ones():
    """The table fills evenly: one seed of everything, cheap cells first, before any second seed."""
    cells = table(cell("dear", cost=3.0), cell("cheap", cost=0.5), cell("middle"))
    runs = select_runs(cells.values(), [2, 1])
    names = ["cheap", "middle", "dear"]
    assert [(run.seed, run.cell.name) for run in runs] == [(seed, name) for seed in (1, 2) for name in names]


def test_a_dry_run_prints_what_a_user_types(start, tmp_path, monkeypatch):
    """One line a run, in order, with the scripts' names as they are from here; nothing is written."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("paper.runs.read_result", lambda path: None)  # whatever results are there
    before = sorted(path.name for path in ROOT.iterdir())
    table_of_two = table(cell("me", "--episode_type", "ME", cost=0.5), cell("far", "--emb_size", "20"))
    code, out, err = start(table_of_two, "--dry_run", "--seeds", "1,7", "--cpu", "--jobs", "1000")
    assert (code, err) == (0, "0 of 4 runs have a result in my_results/\n")
    train = "python train.py --episode_type ME --seed 1 --dir_model out_models/me --fn_out_model net_seed1.tar"
    test = "python test.py --fn_in_model net_seed1.tar --overwrite --dir_model out_models/me"
    assert out.splitlines()[0] == (
        f"{train} --cpu && {test} --cpu"
        f" && {test} --cpu --plot_attention 'lug zup lug wif dax zup'"
        " --fn_out_plot out_models/me/attention_seed1_1.png"
        f" && {test} --cpu --plot_attention 'lug dax dax wif lug'"
        " --fn_out_plot out_models/me/attention_seed1_2.png"
    )
    assert [re.findall(r"--(?:dir_model|seed) (\S+)", line)[:2] for line in out.splitlines()] == [
        ["1", "out_models/me"],
        ["1", "out_models/far"],
        ["7", "out_models/me"],
        ["7", "out_models/far"],
    ]
    assert "--plot_attention" not in "".join(out.splitlines()[1:])
    assert sorted(path.name for path in ROOT.iterdir()) == before


def test_every_cell_of_the_paper_has_its_runs(start, world):
    """Seventeen cells with five seeds, seed 1 of each first, except what has a result already."""
    _, out, _ = start(CELLS, "--dry_run")
    lines = out.splitlines()
    assert len(lines) == 85
    assert all(" --seed 1 " in line for line in lines[:17])
    me = json.dumps(a_result(CELLS["me"]))
    for name, contents_of_it in (("me", me), ("length", '{"error": "no"}'), ("jump_aug", '{"accu')):
        (world / "my_results" / name).mkdir(parents=True)
        (world / "my_results" / name / "seed1.json").write_text(contents_of_it)
    _, out, _ = start(CELLS, "--dry_run")
    assert out.splitlines() == [line for line in lines if "--seed 1 --dir_model out_models/me " not in line]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--gpu 0 --jobs 2", "--gpu 0"),
        ("--jobs 2", ""),
        ("--cpu", "--cpu"),
        ("--ray auto --cpus_per_run 2.5", "--threads 2 --cpu"),
        ("--ray auto --gpus_per_run 0.25", "--threads 1"),
    ],
)
def test_both_scripts_get_the_same_device(start, world, flags, expected):
    """--gpu and --cpu go through; on a cluster the demand counts, and without one for GPUs the CPU is used.

    A run takes the one thread that is the scripts' default, however many cores are there.
    """
    _, out, _ = start(table(cell("one")), "--dry_run", "--seeds", "1", *flags.split())
    commands = out.strip().split(" && ")
    ends = ["net_seed1.tar ", "out_models/one "]  # of the arguments that are not the device's
    assert [command.partition(end)[2] for command, end in zip(commands, ends, strict=True)] == [expected] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--only me,jump", "no cell 'jump'; the cells are me, other"),
        ("--only ME", "no cell 'ME'; the cells are me, other"),
        ("--only ", "expected a value, found an empty one"),
        ("--seeds 1,x", "--seeds: expected a whole number, found 'x'"),
        ("--seeds 1,-2", "--seeds: expected a whole number of at least 0 and below 2^63, found -2"),
        ("--seeds 1..5", "found '1..5'"),
        ("--jobs 0", "at least 1"),
        ("--gpu one", "--gpu"),
        ("--gpu 0 --cpu", "not allowed with"),
        ("--cpus_per_run 2", "--cpus_per_run goes with --ray"),
        ("--gpus_per_run 0.5", "--gpus_per_run goes with --ray"),
        ("--ray auto --jobs 2", "--jobs goes without --ray"),
        ("--ray auto --gpu 0", "--gpu goes without --ray"),
        ("--ray auto --gpus_per_run 0", "above 0"),
        ("-- --seed 3", "unrecognized arguments: --seed 3; the flags of a recipe are --episode_type, "),
        ("-- --num_episodes 0", "at least 1"),
        ("me", "unrecognized arguments: me"),
        ("--num_episodes 3", "unrecognized arguments: --num_episodes"),
        ("--cells cells.txt", "cells.txt: No such file"),
        ("--cells .", "Is a directory"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(start, world, arguments, said):
    """Exit code 2, one line that says what is possible, no file."""
    code, out, err = start(table(cell("me"), cell("other")), *arguments.split(" "))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("reproduce.py: error: ")
    assert said in err
    assert contents(world) == {}


# Results


def test_a_result_holds_what_test_py_wrote_but_for_the_wrong_answers(start, world):
    """Cell, seed, commands and times are added; learning curve and attention weights lie beside it.

    The commands are those of the project's folder, though the run was made elsewhere.
    """
    code, out, err = start(table(cell("me", "--lr", "0.1")), "--seeds", "1,2", "--jobs", "2", "--cpu")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "2 of 2 runs done, 0 failed"
    result = json.loads((world / "my_results/me/seed1.json").read_text())
    assert 5.0 < result.pop("wall_seconds") < 30.0  # of training, as test.py tells, and since
    commands = result.pop("command")
    assert result.pop("arguments")["lr"] == 0.1
    assert result == {
        "cell": "me", "seed": 1, "accuracy": 50.0, "correct": 1, "total": 2, "training_seconds": 5.0
    }  # fmt: skip
    assert [shlex.split(command)[1] for command in commands] == ["train.py"] + ["test.py"] * 3
    for number, query in enumerate(PICTURES["me", 1], start=1):
        assert json.loads((world / f"my_results/me/attention_seed1_{number}.json").read_text()) == {"query": query}
    assert sorted(path.name for path in (world / "my_results/me").iterdir()) == [
        "attention_seed1_1.json", "attention_seed1_2.json", "seed1.csv", "seed1.json", "seed2.csv", "seed2.json"
    ]  # fmt: skip
    before = contents(world)
    code, out, err = start(table(cell("me", "--lr", "0.1")), "--seeds", "1,2", "--cpu")
    found = "2 of 2 runs have a result in my_results/\n"
    assert (code, out, err) == (0, f"{found}2 of 2 runs done, 0 failed\n", "")
    assert contents(world) == before


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
def test_what_comes_with_the_code_is_not_taken_for_a_result_of_ones_own(start, world, flags):
    """A clone's results/ stay as they are, and every run is done; unless that is the folder to be filled."""
    one = cell("one")
    save_json(world / "results/one/seed1.json", a_result(one))
    before = contents(world)
    code, out, err = start(table(one), "--seeds", "1,2", "--cpu", *flags)
    first = "0 of 2 runs have a result in my_results/\n"
    assert code == 0 and (err if flags else out).startswith(first)
    assert out.count("train.py") == (2 if flags else 0)
    assert {name: made for name, made in contents(world).items() if name in before} == before
    code, out, err = start(table(one), "--seeds", "1,2", "--cpu", "--results_dir", "results", *flags)
    first = "1 of 2 runs have a result in results/\n"
    assert code == 0 and (err if flags else out).startswith(first)
    if not flags:
        assert {name: contents(world)[name] for name in before} == before
        assert contents(world / "results/one").keys() == contents(world / "my_results/one").keys() - {"seed1.csv"}


def test_the_folder_of_results_may_lie_anywhere(start, world, tmp_path):
    where = tmp_path / "elsewhere" / "deep"
    assert start(table(cell("one", *FAIL), cell("two")), "--seeds", "1", "--results_dir", str(where))[0] == 1
    assert sorted(contents(where)) == ["one/seed1.json", "two/seed1.csv", "two/seed1.json"]
    assert start(table(cell("two")), "--seeds", "1", "--results_dir", str(where))[1].startswith("1 of 1 runs have")


# Cells of one's own


def test_further_flags_go_to_train_py_and_leave_the_cell_alone(start, world):
    """Their runs have a name, networks and results of their own, which count for nothing but themselves."""
    cells = table(cell("one"), cell("other", "--nlayers", "3"))
    more = ["--", "--num_episodes", "2000", "--lr", "1e-2"]
    assert start(cells, "--seeds", "1", "--cpu", *more)[::2] == (0, "")
    names = [f"{name}_num_episodes2000_lr0.01" for name in cells]
    assert sorted(path.name for path in (world / "my_results").iterdir()) == names
    assert sorted(path.name for path in (world / "out_models").iterdir()) == names
    result = json.loads((world / f"my_results/{names[1]}/seed1.json").read_text())
    assert result["cell"] == names[1]
    assert [result["arguments"][name] for name in ("nlayers", "num_episodes", "lr")] == [3, 2000, 0.01]
    assert start(cells, "--seeds", "1", "--cpu", *more)[1].startswith("2 of 2 runs have a result")
    assert start(cells, "--seeds", "1", "--dry_run")[1].count("train.py") == 2


def test_a_file_of_cells_takes_the_tables_place(start, world):
    """It is what there is to choose from, its flags are what is trained, and other flags make a result no result."""
    path = world / "cells.txt"
    path.write_text("small: --emb_size 50\n# a remark\nsmaller: --emb_size 20\n")
    arguments = ["--cells", "cells.txt", "--seeds", "1", "--cpu"]
    assert start(CELLS, *arguments)[1].endswith("2 of 2 runs done, 0 failed\n")
    assert json.loads((world / "my_results/smaller/seed1.json").read_text())["arguments"]["emb_size"] == 20
    path.write_text("small: --emb_size 50\nsmaller: --emb_size 30\n")
    _, out, _ = start(CELLS, *arguments, "--dry_run")
    assert out.count("train.py") == 1 and "--emb_size 30" in out
    code, out, err = start(CELLS, *arguments, "--only", "me")
    assert (code, out) == (2, "")
    assert "no cell 'me'; the cells are small, smaller" in err


OTHER_RECIPES = {  # what jump_perm's result may have been trained with
    "before keep_moments": {"keep_moments": None},
    "kept moments": {"keep_moments": True},
    "another type of episode": {"episode_type": "scan_prim_augmentation"},
    "without support loss": {"disable_recon_loss": True},
    "with masked padding": {"mask_padding": True},
    "fewer episodes": {"num_episodes": 10},
    "a smaller network": {"emb_size": 20},
}


@pytest.mark.parametrize("case", OTHER_RECIPES)
def test_a_result_of_another_recipe_is_replaced(start, world, case):
    """It does not count as there, is never shown as the run's, and the run is done anew."""
    path = world / "my_results/jump_perm/seed1.json"
    earlier = a_result(CELLS["jump_perm"], **OTHER_RECIPES[case])
    save_json(path, earlier)
    _, out, _ = start(CELLS, "--dry_run", "--only", "jump_perm", "--seeds", "1")
    assert out.count("python ") == 3
    code, out, _ = start(CELLS, "--only", "jump_perm", "--seeds", "1")
    assert code == 0
    assert "99.00" not in out
    assert "finished jump_perm seed 1: 50.00 % (1 of 2)" in out
    assert json.loads(path.read_text())["accuracy"] == 50.0
    before = contents(world)
    assert start(CELLS, "--only", "jump_perm", "--seeds", "1") == (
        0,
        "1 of 1 runs have a result in my_results/\n1 of 1 runs done, 0 failed\n",
        "",
    )
    assert contents(world) == before


def test_a_result_of_another_seed_under_this_ones_name_does_not_count(world):
    """A copied file is no further run."""
    run = Run(CELLS["me"], 2)
    for seed, counts in ((1, False), (2, True)):
        save_json(world / run.result, a_result(run.cell, seed=seed))
        assert (result_of(run, world) is not None) == counts


@pytest.mark.parametrize("arguments", [None, [], "ME", {}])
def test_a_result_that_does_not_tell_its_arguments_does_not_count(world, arguments):
    run = Run(CELLS["me"], 1)
    save_json(world / run.result, {"accuracy": 99.0, "arguments": arguments})
    assert result_of(run, world) is None


def test_a_kept_moments_result_counts_where_the_cell_keeps_them(world):
    """The ones from before there was the flag count for the cell that has it."""
    run = Run(CELLS["me_kept_moments"], 1)
    for kept in (None, True):
        save_json(world / run.result, a_result(run.cell, keep_moments=kept))
        assert result_of(run, world)["accuracy"] == 99.0
    save_json(world / run.result, a_result(run.cell, keep_moments=False))
    assert result_of(run, world) is None


def test_a_node_that_died_over_another_recipes_result_left_none(world):
    """On a cluster too an earlier result does not stand for the run."""
    run = Run(CELLS["jump_perm"], 1)
    ray = mock.Mock()
    ray.exceptions.RayError = RuntimeError
    ray.get.side_effect = RuntimeError("the node died")
    save_json(world / run.result, a_result(run.cell))
    assert outcome(ray, None, run, world) == ""
    earlier = a_result(run.cell, keep_moments=True)
    save_json(world / run.result, earlier)
    assert outcome(ray, None, run, world) == "RuntimeError: the node died"
    assert read_result(world / run.result) == earlier  # an error takes no result's place


def train_commands(world):
    """What started train.py, from all logs."""
    logs = "".join(path.read_text() for path in sorted(world.glob("out_models/*/*.log")))
    return re.findall(r"^\$ (.*train\.py.*)$", logs, re.MULTILINE)


def test_on_a_gpu_one_process_trains_the_seeds_of_a_cell(start, world):
    """Every run gets a result of its own, which names that process; what has a result is not trained again."""
    cells = table(cell("one"), cell("other"))
    assert start(cells, "--only", "one", "--seeds", "2")[0] == 0
    before = (world / "my_results/one/seed2.json").read_bytes()
    code, out, _ = start(cells, "--gpu", "0", "--seeds", "1,2,3", "--jobs", "2")
    assert (code, out.splitlines()[-1]) == (0, "6 of 6 runs done, 0 failed")
    assert out.count("finished ") == 5
    trained = [re.search(r"--seeds? (\S+)", command)[1] for command in train_commands(world)]
    assert sorted(trained) == ["1,2,3", "1,3", "2"]
    for name, seeds in (("one", "1,3"), ("other", "1,2,3")):
        for seed in map(int, seeds.split(",")):
            result = json.loads((world / f"my_results/{name}/seed{seed}.json").read_text())
            assert (result["seed"], result["arguments"]["seed"]) == (seed, seed)
            assert f"--seeds {seeds} " in result["command"][0]
            assert "--gpu 0" in result["command"][0]
            assert (world / f"my_results/{name}/seed{seed}.csv").exists()
    assert (world / "my_results/one/seed2.json").read_bytes() == before
    assert start(cells, "--gpu", "0", "--dry_run")[1].count("train.py") == 2  # seeds 4 and 5 of both


def test_runs_in_company_fail_together_and_only_they(start, world):
    """All of them say why, with the end of the log that their process wrote."""
    cells = table(cell("bad", *FAIL), cell("good"))
    code, out, _ = start(cells, "--gpu", "0", "--seeds", "1,2")
    assert (code, out.splitlines()[-1]) == (1, "2 of 4 runs done, 2 failed")
    for seed in (1, 2):
        said = json.loads((world / f"my_results/bad/seed{seed}.json").read_text())["error"]
        assert said.startswith("train.py ended with exit code 7; the end of out_models/bad/seed1.log:")
        assert "the last line" in said
    (world / "repaired").touch()
    assert start(cells, "--gpu", "0", "--seeds", "1,2")[0] == 0


def test_two_companies_of_the_same_runs_do_not_wait_for_each_other(world):
    """Their locks are taken in one order, so one of them gets all; the other then finds the results."""
    runs = [Run(cell("one"), seed) for seed in (1, 2)]
    companies = [Company(runs) for _ in range(2)]
    works = [work_on(run, [], world, company) for company in companies for run in runs]
    for _ in range(2000):
        for work in [works[0], works[3], works[1], works[2]]:  # crosswise
            with contextlib.suppress(StopIteration):
                next(work)
        if all(work.gi_frame is None for work in works):
            break
        time.sleep(0.01)
    assert [work.gi_frame for work in works] == [None] * 4
    assert len(train_commands(world)) == 1


def test_a_failed_run_is_reported_and_tried_again(start, world):
    """The end of its log is shown at once and in the end, the others go on, exit code 1; later it may succeed."""
    cells = table(cell("bad", *FAIL, cost=0.1), cell("good"))
    code, out, err = start(cells, "--seeds", "1")
    said = "failed bad seed 1: train.py ended with exit code 7; the end of out_models/bad/seed1.log:\n"
    said += "    some lines\n    the last line\n"
    assert (code, err) == (1, "")
    assert out.count(said) == 2
    assert out.index(said) < out.index("finished good seed 1: 50.00 % (1 of 2)")
    assert out.endswith(f"{said}1 of 2 runs done, 1 failed\n")
    result = world / "my_results/bad/seed1.json"
    assert json.loads(result.read_text()) == {"cell": "bad", "seed": 1, "error": said.strip().split(": ", 1)[1]}
    assert read_result(result) is None
    good = (world / "my_results/good/seed1.json").read_bytes()
    (world / "repaired").touch()
    code, out, _ = start(cells, "--seeds", "1")
    assert (code, out.splitlines()[-1]) == (0, "2 of 2 runs done, 0 failed")
    assert read_result(result)["accuracy"] == 50.0
    assert (world / "my_results/good/seed1.json").read_bytes() == good


def test_a_result_that_cannot_be_gathered_is_a_failed_run(start, world):
    """A missing file is no reason to stop the other runs; its path is as seen from here."""
    train = paper.processes.HERE / "train.py"
    train.write_text(FAKE_TRAIN.replace('".csv").write_text(', '".csv").exists() or (lambda text: 0)('))
    code, out, _ = start(table(cell("one"), cell("two")), "--seeds", "1")
    assert code == 1
    assert out.splitlines()[-1] == "0 of 2 runs done, 2 failed"
    error = json.loads((world / "my_results/two/seed1.json").read_text())["error"]
    assert "'out_models/two/net_seed1.csv'" in error


def test_a_folder_in_the_way_stops_one_run_alone(start, world):
    """Neither the result nor why there is none can be written; the line says both, and the other run goes on."""
    for name in ("bad", "worse"):
        (world / "my_results").mkdir(exist_ok=True)
        (world / "my_results" / name).write_text("in the way")
    (world / "out_models/worst/seed1.log").mkdir(parents=True)
    cells = table(cell("bad", *FAIL), cell("worse"), cell("worst"), cell("good"))
    code, out, err = start(cells, "--seeds", "1", "--jobs", "4")
    assert (code, err) == (1, "")
    assert out.endswith("1 of 4 runs done, 3 failed\n")
    assert "failed bad seed 1: train.py ended with exit code 7" in out
    assert out.count("; nor can my_results/bad/seed1.json be written: ") == 2
    assert read_result(world / "my_results/good/seed1.json") is not None
    assert (world / "my_results/bad").read_text() == "in the way"


def test_two_processes_do_not_work_on_the_same_run(world):
    """The second one says that it waits, does, and does nothing once there is a result."""
    run = Run(cell("one"), 1)
    first, second = work_on(run, LONG, world), work_on(run, [], world)
    wait_until(lambda: next(first) or says(world / run.log, "waiting"))
    assert [next(second) for _ in range(10)] == ["waits until another process that works on it has ended", *[None] * 9]
    assert (world / run.log).read_text().count("train.py") == 1
    save_json(world / run.result, a_result(run.cell))
    first.close()  # stops the process, which gives the lock back
    with pytest.raises(StopIteration) as end:
        next(second)
    assert end.value.value == ""
    assert (world / run.log).read_text().count("train.py") == 1


def test_a_second_start_says_what_it_waits_for(start, world):
    """One line for each run that somebody else works on."""
    run = Run(cell("one"), 1)
    first = work_on(run, [], world)
    next(first)
    ended = threading.Timer(2.0, lambda: [None for _ in first])
    ended.start()
    code, out, err = start(table(cell("one")), "--seeds", "1", "--cpu")
    ended.join()
    assert (code, err) == (0, "")
    assert out.count("one seed 1 waits until another process that works on it has ended\n") == 1
    assert out.endswith("1 of 1 runs done, 0 failed\n")


# Stopping

GRID = """
import sys
sys.path.insert(0, {root!r})
import pathlib
import paper.processes
from common.command_line import run_script
from paper.cells import Cell
from paper.reproduce import main
if {scripts!r}:
    paper.processes.HERE = pathlib.Path({scripts!r})
cells = [Cell(name, flags, "", None, None, cost) for name, flags, cost in {cells!r}]
sys.argv[0] = "reproduce.py"
run_script(lambda: main({{cell.name: cell for cell in cells}}))
"""


def heed_signals():
    """Undo what a shell that runs the tests in the background, or nohup, has signals ignored; children inherit it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start_grid(folder, cells, *arguments, scripts=""):
    """Start reproduce.py as a process in a folder, with cells of our own."""
    text = GRID.format(root=str(ROOT), scripts=str(scripts), cells=[(one.name, one.flags, one.cost) for one in cells])
    (folder / "grid.py").write_text(text)
    return subprocess.Popen(
        [sys.executable, "grid.py", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stop_stops_what_was_started(world, how):
    """Ctrl-C, SIGTERM and a closed terminal end in one line and 130; even killed outright it leaves no process."""
    cells = [cell("one", *LONG), cell("two", *LONG)]
    process = start_grid(world, cells, "--seeds", "1", "--jobs", "2", scripts=paper.processes.HERE)
    logs = [world / Run(one, 1).log for one in cells]
    try:
        wait_until(lambda: all(says(log, "waiting") for log in logs), process)
        process.send_signal(how)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    if how != signal.SIGKILL:
        assert err == "reproduce.py: interrupted; the same command goes on from the last checkpoints\n"
        assert process.returncode == 130
        assert not any(map(is_worked_on, logs))
    elif sys.platform == "linux":
        wait_until(lambda: not any(map(is_worked_on, logs)))
    assert not (world / "my_results").exists()


@pytest.mark.slow
def test_a_killed_grid_goes_on_where_it_was(tmp_path):
    """Two tiny cells for real, killed when one is finished and the other on its way: nothing finished is repeated."""
    cells = [cell("short", *TINY, "20", cost=0.1), cell("me", *TINY, "1500")]
    arguments = "--seeds", "1", "--cpu", "--jobs", "2"
    short, log = tmp_path / "my_results/short/seed1.json", tmp_path / "out_models/me/seed1.log"
    process = start_grid(tmp_path, cells, *arguments)
    try:
        wait_until(lambda: short.exists() and says(log, "(100 6% finished)"), process)
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not is_worked_on(log))
    finished = contents(tmp_path / "my_results")
    assert sorted(finished) == ["short/seed1.csv", "short/seed1.json"]

    process = start_grid(tmp_path, cells, *arguments)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), out
    assert "started short" not in out
    went_on = re.findall(r"^going on from episode (\d+)$", log.read_text(), re.MULTILINE)
    assert [int(episode) >= 100 for episode in went_on] == [True]  # its train.py saves when it is told to end
    after = contents(tmp_path / "my_results")
    assert {name: after[name] for name in finished} == finished
    added = ["attention_seed1_1.json", "attention_seed1_2.json", "seed1.csv", "seed1.json"]
    assert sorted({*after} - {*finished}) == [f"me/{name}" for name in added]
    result = json.loads(after["me/seed1.json"])
    assert (result["cell"], result["seed"], result["episode"], result["finished"]) == ("me", 1, 1500, True)
    assert "dir_model" not in result["arguments"]
    assert "wrong" not in result
    assert str(tmp_path).encode() not in b"".join(after.values())
    assert after["me/seed1.csv"] == (tmp_path / "out_models/me/net_seed1.csv").read_bytes()
    assert json.loads(after["me/attention_seed1_2.json"])["query"].startswith("lug dax dax wif lug")


# What is shown


@pytest.mark.parametrize(
    ("curve", "fraction", "seconds", "shown"),
    [
        (None, 0.0, 0.0, "starting"),
        ("", 0.0, 0.0, "starting"),
        (HEADER, 0.0, 0.0, "starting"),
        (CURVE, 0.44, 100.4, "episode  4400  44%,   2m 7s left, ValAccGeneralize 87.5"),
        (f"{HEADER}1,5.5,0.001,2.5,,\n", 0.0001, 5.5, "episode     1   0%, 15h 16m left, ValAccGeneralize n/a"),
        (f"{CURVE}4500,10", 0.0, 0.0, "starting"),
        (f"{CURVE}10000,300,0.001,0.1,100.0,99.0\n", 1.0, 0.0, "scoring"),
    ],
)
def test_progress_is_read_from_the_learning_curve(tmp_path, curve, fraction, seconds, shown):
    """Its last row counts; a file that is just being written is no reason to stop."""
    path = tmp_path / "net.csv"
    if curve is not None:
        path.write_text(curve)
    assert progress_of(path, 10000) == (pytest.approx(fraction), seconds, shown)


def test_train_py_writes_the_columns_that_are_read(tmp_path):
    import train
    from common.learning_curve import Curve

    curve = Curve(tmp_path / "net.csv", [field.name for field in dataclasses.fields(train.Row)], 0, train.is_logged)
    curve.add(dataclasses.astuple(train.Row(300, 95.0, 0.001, 1.25, None, 50.0)))
    assert progress_of(tmp_path / "net.csv", 1000) == (
        0.3,
        95.0,
        "episode   300  30%,  3m 41s left, ValAccGeneralize 50.0",
    )


def make_board(world):
    """Make a board of four runs, the first one in progress and nearly half done."""
    runs = [Run(cell("one"), seed) for seed in (1, 2, 3, 4)]
    (world / runs[0].models).mkdir(parents=True)
    (world / runs[0].curve).write_text(CURVE)
    made = Board(runs, 6, world)
    made.begin(runs[0])
    return made


ROW = "one seed 1  episode  4400  44%,   2m 7s left, ValAccGeneralize 87.5"
TOTAL = "6 of 10 runs done, 1 running, 3 waiting; 0m 0s so far, 13m 32s left"


def test_lines_are_printed_now_and_then_into_a_pipe(world, capsys):
    """What begins is said at once, with the total; the lines come once a minute, without any control character."""
    board = make_board(world)
    assert capsys.readouterr().out == f"started one seed 1\n{TOTAL}\n"
    board.show()
    board.show()
    assert capsys.readouterr().out == f"{ROW}\n{TOTAL}\n"
    board._shown -= PRINT_EVERY
    board.end(board.running[0], "broken")
    board.show()
    total = "6 of 10 runs done, 0 running, 3 waiting, 1 failed; 0m 0s so far"
    assert capsys.readouterr().out == f"failed one seed 1: broken\n{total}\n{total}\n"


def test_a_closed_output_does_no_harm(world, monkeypatch):
    """There is nobody to show anything to."""
    monkeypatch.setattr(sys, "stdout", None)
    make_board(world).show()


def test_lines_are_redrawn_on_a_terminal(world, capsys, monkeypatch):
    """The lines replace those before and are cut to the width; what stays is printed above them."""
    board = make_board(world)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((30, 24)))
    board._is_terminal = True
    capsys.readouterr()
    board.show()
    board.show()  # too soon
    assert capsys.readouterr().out == f"{ROW[:29]}\n{TOTAL[:29]}\n"
    board._shown -= REDRAW_EVERY
    board.show()
    assert capsys.readouterr().out == f"\x1b[2A\x1b[J{ROW[:29]}\n{TOTAL[:29]}\n"
    board.end(board.running[0], "broken")
    assert capsys.readouterr().out == "\x1b[2A\x1b[Jfailed one seed 1: broken\n"
    board.show()
    assert capsys.readouterr().out == "6 of 10 runs done, 0 running,\n"


# Ray


def test_without_ray_there_is_one_line(start, world, monkeypatch):
    """It says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    code, out, err = start(table(cell("one")), "--ray", "auto")
    assert (code, out, err.count("\n")) == (2, "0 of 5 runs have a result in my_results/\n", 1)
    assert err.startswith("reproduce.py: error: --ray needs Ray")
    assert "requirements-cluster.txt" in err
    assert contents(world) == {}


@pytest.fixture
def ray_package():
    return pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")


@pytest.mark.parametrize("address", ["localhost:9", "nowhere.invalid:6379", "localhost:99999", "?"])
def test_an_address_without_a_cluster_is_one_line(ray_package, start, world, address):
    """It does not wait for minutes."""
    code, out, err = start(table(cell("one")), "--ray", address)
    assert (code, out, err.count("\n")) == (2, "0 of 5 runs have a result in my_results/\n", 1)
    assert err.startswith(f"reproduce.py: error: --ray {address}: ")
    assert contents(world) == {}


@pytest.fixture
def cluster(ray_package, monkeypatch):
    """A Ray cluster on the loopback interface: a head node without cores and two nodes with one each."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # the names of sockets in it must be short
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        common = {"node_ip_address": "127.0.0.1", "include_dashboard": False, "include_log_monitor": False}
        health = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 4,
        }
        made = Cluster(initialize_head=True, head_node_args={**common, "num_cpus": 0, "_system_config": health})
        try:
            nodes = [made.add_node(num_cpus=1, **common) for _ in range(2)]
            yield made, nodes
        finally:
            made.shutdown()


@pytest.mark.slow
def test_a_run_whose_node_dies_goes_on_at_another_one(tmp_path, ray_package, request):
    """Two runs on two nodes, one of which is killed: its run goes on from the checkpoint, and all results are there."""
    cells = [cell("one", *TINY, "900"), cell("two", *TINY, "900")]
    runs = [Run(one, 1) for one in cells]
    earlier = [  # so that there is a checkpoint to go on from long before the first one that is saved on the way
        subprocess.Popen(
            [sys.executable, ROOT / "train.py", *TINY, "20", "--cpu", *to],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        )
        for to in (["--dir_model", run.models, "--fn_out_model", "net_seed1.tar"] for run in runs)
    ]
    made, nodes = request.getfixturevalue("cluster")  # starts meanwhile
    assert [process.wait(120) for process in earlier] == [0, 0]
    # Ray takes the names localhost and 127.0.0.1 for the address in the network, where nothing listens
    address = "LOCALHOST:" + made.address.rsplit(":", 1)[1]
    driver = start_grid(tmp_path, cells, "--ray", address, "--seeds", "1")
    logs = [tmp_path / run.log for run in runs]
    try:
        wait_until(lambda: all(says(log, "(100 11% finished)") for log in logs), driver)
        made.remove_node(nodes[0], allow_graceful=False)
        out, err = driver.communicate(timeout=120)
    finally:
        driver.kill()
    assert (driver.returncode, err) == (0, ""), out
    assert out.startswith("0 of 2 runs have a result in my_results/\n2 runs for 2 CPUs and 0 GPUs\n")
    assert out.endswith("2 of 2 runs done, 0 failed\n")
    assert "raylet" not in out  # Ray tells much of a node's death, but in a file of its own
    starts = [log.read_text().count("going on from episode 20\n") for log in logs]
    assert sorted(starts) == [1, 2]  # the second one on the node that lives
    for run, log in zip(runs, logs, strict=True):
        assert read_result(tmp_path / run.result)["episode"] == 900
        assert not is_worked_on(log)
