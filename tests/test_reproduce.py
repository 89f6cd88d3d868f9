"""The grid of runs: what it starts and in which order, that it stops and resumes, what it tells, and Ray.

Most tests put other scripts in the place of train.py and test.py, which take no time. Two run the real ones: a tiny
cell that is killed in the middle, and two on a Ray cluster one node of which is killed.
"""

import contextlib
import fcntl
import json
import multiprocessing
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from script_runs import contents, run_file

import paper.runs
import train
from common.command_line import run_script
from common.files import save_json
from paper.cells import CELLS, Cell, recipe_of
from paper.cluster import outcome
from paper.progress import SHOW_EVERY, Progress
from paper.reproduce import main
from paper.runs import PICTURES, Run, result_of, work_on

NO_RAY = "Ray is not installed (requirements-cluster.txt)"
ROOT = Path(__file__).resolve().parent.parent
FAIL, LONG = "--nlayers 77", "--nlayers 99"  # what makes this train.py fail, or wait
FAKE_TRAIN = """
import json, pathlib, signal, sys, time
options = dict(zip(sys.argv, sys.argv[1:]))
if options.get("--nlayers") == "77" and not pathlib.Path("repaired").exists():
    print("some lines\\nthe last line")
    sys.exit(7)
if options.get("--nlayers") == "99":
    def save(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it
        time.sleep(1)
        print("saved", flush=True)
        sys.exit(1)
    signal.signal(signal.SIGTERM, save)
    print("waiting", flush=True)
    time.sleep(60)
names = [name for name in ("nlayers", "emb_size", "num_episodes", "lr") if f"--{name}" in options]
numbers = {name: json.loads(options[f"--{name}"]) for name in names}
for seed in options.get("--seeds", options.get("--seed")).split(","):
    path = pathlib.Path(options["--dir_model"]) / options["--fn_out_model"].replace("{seed}", seed)
    path.with_suffix(".csv").write_text("episode,seconds\\n")
    path.with_suffix(".json").write_text(json.dumps({"episode_type": "ME", **numbers, "seed": int(seed)}))
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
TINY = "--episode_type ME --emb_size 2 --nlayers 1 --disable_recon_loss --num_episodes"


def cell(name, flags="", cost=1.0):
    return Cell(name, flags, "", cost=cost)


def table(*cells):
    return {one.name: one for one in cells}


def read(world, name):
    """A result, or why there is none."""
    return json.loads((world / "my_results" / f"{name}.json").read_text())


def a_result(one, **changed):
    """What is read of a result that was trained as a cell says, but for what is given here."""
    return {"accuracy": 99.0, "correct": 99, "total": 100, "arguments": {**recipe_of(one.flags), **changed}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder to run in, and other scripts in the place of train.py and test.py."""
    for folder in ("scripts", "world"):
        (tmp_path / folder).mkdir()
    (tmp_path / "scripts/train.py").write_text(FAKE_TRAIN)
    (tmp_path / "scripts/test.py").write_text(FAKE_TEST)
    monkeypatch.chdir(tmp_path / "world")
    monkeypatch.setattr(paper.runs, "HERE", tmp_path / "scripts")
    return tmp_path / "world"


@pytest.fixture
def start(monkeypatch, capsys):
    """Run reproduce.py's main in this process; gives its exit code and what it printed."""

    def run(cells, arguments):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *arguments.split(" ")])
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


def wait_until(is_true, process=None, seconds=300):
    """Wait for something, for as long as a process lives."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it takes too long"
        assert process is None or process.is_alive(), process.exitcode
        time.sleep(0.05)


def says(log, text):
    return log.exists() and text in log.read_text()


# What is run, and in which order


def test_a_dry_run_prints_what_a_user_types(start, world, monkeypatch):
    """One line a run, cheap cells first, all first seeds before a second one; nothing is written."""
    monkeypatch.setattr(paper.runs, "HERE", world)  # so that the scripts' names are short
    cells = table(cell("far", "--emb_size 20"), cell("me", "--episode_type ME", cost=0.5))
    code, out, err = start(cells, "--dry_run --seeds 7,1 --cpu --jobs 1000")
    assert (code, err) == (0, "0 of 4 runs have a result in my_results/\n")
    train = "python train.py --episode_type ME --seed 1 --dir_model out_models/me --fn_out_model net_seed1.tar --cpu"
    test = "python test.py --fn_in_model net_seed1.tar --overwrite --dir_model out_models/me --cpu"
    queries = ("'lug zup lug wif dax zup'", "'lug dax dax wif lug'")
    plots = [f"{test} --plot_attention {query}" for query in queries]
    pictures = [f"{plot} --fn_out_plot out_models/me/attention_seed1_{n}.png" for n, plot in enumerate(plots, 1)]
    first, *others = out.splitlines()
    assert first == " && ".join([train, test, *pictures])
    places = [re.findall(r"--(?:dir_model|seed) (\S+)", line)[:2] for line in others]
    assert places == [["1", "out_models/far"], ["7", "out_models/me"], ["7", "out_models/far"]]
    assert "--plot_attention" not in "".join(others)
    assert contents(world) == {}


def test_every_cell_of_the_paper_has_its_runs(start, world):
    """Seventeen cells with five seeds, seed 1 of each first, except what has a result already."""
    lines = start(CELLS, "--dry_run")[1].splitlines()
    assert len(lines) == 85
    assert all(" --seed 1 " in line for line in lines[:17])
    save_json(world / "my_results/me/seed1.json", a_result(CELLS["me"]))
    save_json(world / "my_results/length/seed1.json", {"error": "no"})
    (world / "my_results/length/seed2.json").write_text('{"accu')
    left = start(CELLS, "--dry_run")[1].splitlines()
    assert left == [line for line in lines if "--seed 1 --dir_model out_models/me " not in line]


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
    """--gpu and --cpu go through; on a cluster the demand counts, and without one for GPUs the CPU is used."""
    _, out, _ = start(table(cell("one")), f"--dry_run --seeds 1 {flags}")
    commands = out.strip().split(" && ")
    ends = ["net_seed1.tar ", "out_models/one "]  # of the arguments that are not the device's
    assert [command.partition(end)[2] for command, end in zip(commands, ends, strict=True)] == [expected] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--only me,jump", "no cell 'jump'; the cells are me, other"),
        ("--only ", "expected a value, found an empty one"),
        ("--seeds 1,x", "--seeds: expected a whole number, found 'x'"),
        ("--seeds 1,-2", "--seeds: expected a whole number of at least 0 and below 2^63, found -2"),
        ("--jobs 0", "at least 1"),
        ("--gpu one", "--gpu"),
        ("--gpu 0 --cpu", "not allowed with"),
        ("--cpus_per_run 2", "--cpus_per_run goes with --ray"),
        ("--gpus_per_run 0.5", "--gpus_per_run goes with --ray"),
        ("--ray auto --gpu 0", "--gpu goes without --ray"),
        ("--ray auto --jobs 2", "--jobs goes without --ray"),
        ("--ray auto --gpus_per_run 0", "above 0"),
        ("-- --seed 3", "--seed cannot be a flag of a cell"),
        ("-- --num_episodes 0", "at least 1"),
        ("me", "unrecognized arguments: me"),
        ("--num_episodes 3", "unrecognized arguments: --num_episodes"),
        ("--cells cells.txt", "cells.txt: No such file"),
        (f"--cells {__file__}", "expected 'name: flags of train.py'"),
        ("--cells .", "Is a directory"),
        ("--results_dir ../scripts/train.py", "is a file, not a folder"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(start, world, arguments, said):
    """Exit code 2, one line that says what is possible, no file."""
    code, out, err = start(table(cell("me"), cell("other")), arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("reproduce.py: error: ")
    assert said in err
    assert contents(world) == {}


# Results


def test_a_result_holds_what_test_py_wrote_but_for_the_wrong_answers(start, world):
    """Cell, seed, commands and times are added; learning curve and attention weights lie beside it.

    What is done is not repeated. What comes with the code is no result of one's own, and stays as it is.
    """
    me = cell("me", "--lr 0.1")
    save_json(world / "results/me/seed1.json", a_result(me))
    code, out, err = start(table(me), "--seeds 1,2 --jobs 2 --cpu")
    assert (code, err) == (0, "")
    first, *told, last = out.splitlines()
    assert (first, last) == ("0 of 2 runs have a result in my_results/", "2 of 2 runs done, 0 failed")
    score = ": 50.00 % (1 of 2) of the test right"
    ends = [("finished", score), ("started", "")]
    assert sorted(told) == [f"{what} me seed {seed}{score}" for what, score in ends for seed in (1, 2)]
    result = read(world, "me/seed1")
    assert 5.0 < result.pop("wall_seconds") < 60.0  # of training, as test.py tells, and since
    scripts = [shlex.split(command)[1] for command in result.pop("command")]
    assert scripts == ["train.py", "test.py", "test.py", "test.py"]
    assert result.pop("arguments")["lr"] == 0.1
    assert result == {
        "cell": "me", "seed": 1, "accuracy": 50.0, "correct": 1, "total": 2, "training_seconds": 5.0
    }  # fmt: skip
    pictures = [f"attention_seed1_{number}" for number in (1, 2)]
    assert [read(world, f"me/{name}")["query"] for name in pictures] == [*PICTURES["me", 1]]
    names = [*(f"{name}.json" for name in pictures), "seed1.csv", "seed1.json", "seed2.csv", "seed2.json"]
    assert sorted(path.name for path in (world / "my_results/me").iterdir()) == names
    before = contents(world)
    for n, where, options in ((2, "my_results", "--seeds 1,2"), (1, "results", "--seeds 1 --results_dir results")):
        out = f"{n} of {n} runs have a result in {where}/\n{n} of {n} runs done, 0 failed\n"
        assert start(table(me), f"{options} --cpu") == (0, out, "")
    assert contents(world) == before


def test_further_flags_go_to_train_py_and_leave_the_cell_alone(start, world, tmp_path):
    """Their runs have a name, networks and results of their own, which count for nothing but themselves."""
    cells, where = table(cell("one"), cell("other", "--nlayers 3")), tmp_path / "deep" / "down"
    more = f"--seeds 1 --cpu --results_dir {where} -- --num_episodes 2000 --lr 1e-2"
    assert start(cells, more)[::2] == (0, "")
    names = [f"{name}_num_episodes2000_lr0.01" for name in cells]
    for folder in (where, world / "out_models"):
        assert sorted(path.name for path in folder.iterdir()) == names
    result = json.loads((where / names[1] / "seed1.json").read_text())
    assert result["cell"] == names[1]
    assert [result["arguments"][name] for name in ("nlayers", "num_episodes", "lr")] == [3, 2000, 0.01]
    assert start(cells, more)[1].startswith("2 of 2 runs have a result")
    assert start(cells, f"--seeds 1 --dry_run --results_dir {where}")[1].count("train.py") == 2


def test_a_file_of_cells_takes_the_tables_place(start, world):
    """It is what there is to choose from, its flags are what is trained, and other flags make a result no result."""
    path, arguments = world / "cells.txt", "--cells cells.txt --seeds 1 --cpu"
    path.write_text("small: --emb_size 50\n# a remark\nsmaller: --emb_size 20\n")
    assert start(CELLS, arguments)[1].endswith("2 of 2 runs done, 0 failed\n")
    assert read(world, "smaller/seed1")["arguments"]["emb_size"] == 20
    path.write_text("small: --emb_size 50\nsmaller: --emb_size 30\n")
    out = start(CELLS, f"{arguments} --dry_run")[1]
    assert out.count("train.py") == 1 and "--emb_size 30" in out
    code, out, err = start(CELLS, f"{arguments} --only me")
    assert (code, out) == (2, "") and "no cell 'me'; the cells are small, smaller" in err


@pytest.mark.parametrize("changed", [{"keep_moments": True}, {"num_episodes": 10}, {"seed": 1}, None, {}, "ME"])
def test_what_is_no_result_of_a_run(world, changed):
    """A run of another recipe, a copied file, one that lacks a number or does not tell its arguments."""
    run = Run(CELLS["jump_perm"], 2)
    right = a_result(run.cell, seed=2)
    save_json(world / run.result, right)
    assert result_of(run, world) == right
    arguments = {**right["arguments"], **changed} if isinstance(changed, dict) and changed else changed
    save_json(world / run.result, right | ({"accuracy": None} if changed is None else {"arguments": arguments}))
    assert result_of(run, world) is None


# Failures


def test_a_failed_run_is_reported_and_tried_again(start, world):
    """The end of its log is shown at once and in the end, the others run, exit code 1; later it may succeed.

    A result of another recipe is never shown as the run's and is replaced, though not by an error.
    """
    cells = table(cell("bad", FAIL, cost=0.1), cell("worse", FAIL, cost=0.2), cell("good"))
    earlier = a_result(cells["worse"], keep_moments=True)
    save_json(world / "my_results/worse/seed1.json", earlier)
    code, out, err = start(cells, "--seeds 1")
    end = "train.py ended with exit code 7; the end of out_models/{}/seed1.log:\n    some lines\n    the last line"
    bad, worse = (f"failed {name} seed 1: {end.format(name)}\n" for name in ("bad", "worse"))
    assert (code, err) == (1, "")
    assert out.count(bad) == out.count(worse) == 2
    assert out.index(bad) < out.index(worse) < out.index("finished good seed 1: 50.00 % (1 of 2)")
    assert out.endswith(f"{bad}{worse}1 of 3 runs done, 2 failed\n") and "99.00" not in out
    assert read(world, "bad/seed1") == {"cell": "bad", "seed": 1, "error": end.format("bad")}
    assert read(world, "worse/seed1") == earlier
    good = contents(world / "my_results/good")
    (world / "repaired").touch()
    code, out, _ = start(cells, "--seeds 1")
    assert (code, out.splitlines()[-1]) == (0, "3 of 3 runs done, 0 failed")
    assert [read(world, f"{name}/seed1")["accuracy"] for name in ("bad", "worse")] == [50.0, 50.0]
    assert contents(world / "my_results/good") == good


@pytest.mark.parametrize(
    ("script", "old", "new", "error"),
    [
        ("train", '".csv").write_text(', '".csv").exists() or (lambda _: 0)(', "'out_models/one/net_seed1.csv'"),
        ("test", '"accuracy": 50.0, ', "", "it has no accuracy"),
        ("test", '"accuracy": 50.0, ', '"accuracy": None, ', "it has no accuracy"),
        ("train", '"seed": int(seed)', '"seed": 7', "it is not of seed 1"),
        ("train", '"ME"', '"scan_length"', "it was trained with another --episode_type than the cell's"),
    ],
)
def test_a_result_that_is_none_is_a_failed_run(start, world, script, old, new, error):
    """Never a number of none; the path is as seen from here."""
    path = paper.runs.HERE / f"{script}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    code, out, _ = start(table(cell("one")), "--seeds 1")
    assert (code, out.splitlines()[-1]) == (1, "0 of 1 runs done, 1 failed")
    assert error in read(world, "one/seed1")["error"]


def test_a_folder_in_the_way_stops_one_run_alone(start, world):
    """Neither the result nor why there is none can be written; the line says both, and the other run goes on."""
    (world / "my_results").mkdir()
    for name in ("bad", "worse"):
        (world / "my_results" / name).write_text("in the way")
    (world / "out_models/worst/seed1.log").mkdir(parents=True)
    cells = table(cell("bad", FAIL), cell("worse"), cell("worst"), cell("good"))
    code, out, err = start(cells, "--seeds 1 --jobs 4")
    assert (code, err) == (1, "")
    assert out.endswith("1 of 4 runs done, 3 failed\n")
    assert "failed bad seed 1: train.py ended with exit code 7" in out
    assert out.count("; nor can my_results/bad/seed1.json be written: ") == 2
    assert result_of(Run(cells["good"], 1), world) is not None
    assert (world / "my_results/bad").read_text() == "in the way"


# Several seeds in one process, several processes


def train_commands(world):
    """What started train.py, from all logs."""
    logs = "".join(path.read_text() for path in sorted(world.glob("out_models/*/*.log")))
    return re.findall(r"^\$ (.*train\.py.*)$", logs, re.MULTILINE)


def test_on_a_gpu_one_process_trains_the_seeds_of_a_cell(start, world):
    """Every run gets a result of its own, which names that process. Runs of one process fail together."""
    cells = table(cell("one"), cell("bad", FAIL))
    assert start(cells, "--only one --seeds 2")[0] == 0
    before = read(world, "one/seed2")
    code, out, _ = start(cells, "--gpu 0 --seeds 1,2,3 --jobs 2")
    assert (code, out.splitlines()[-1]) == (1, "3 of 6 runs done, 3 failed")
    trained = [re.search(r"--seeds? (\S+)", command)[1] for command in train_commands(world)]
    assert sorted(trained) == ["1,2,3", "1,3", "2"]
    for seed in (1, 3):
        result = read(world, f"one/seed{seed}")
        assert (result["seed"], result["arguments"]["seed"]) == (seed, seed)
        assert "--seeds 1,3 " in result["command"][0] and "--gpu 0" in result["command"][0]
        assert (world / f"my_results/one/seed{seed}.csv").exists()
    assert read(world, "one/seed2") == before
    (said,) = {read(world, f"bad/seed{seed}")["error"] for seed in (1, 2, 3)}
    assert said.startswith("train.py ended with exit code 7; the end of out_models/bad/seed1.log:")
    assert "the last line" in said
    assert start(cells, "--gpu 0 --dry_run")[1].count("train.py") == 2  # seeds 4 and 5 of one, all of bad


def test_two_at_once_do_not_work_on_the_same_run(start, world, monkeypatch):
    """The second one says that it waits, does, and does nothing once there is a result."""
    runs, notes = [Run(cell("one"), seed) for seed in (1, 2)], []
    first = threading.Thread(target=work_on, args=(runs, [], world), kwargs={"say": notes.append})
    (world / runs[1].models).mkdir(parents=True)
    with (world / runs[1].log).open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        first.start()
        wait_until(lambda: notes)
        say = Progress.say
        let_go = lambda self, text: (say(self, text), "waits" in text and fcntl.flock(log, fcntl.LOCK_UN))  # noqa: E731
        monkeypatch.setattr(Progress, "say", let_go)
        code, out, err = start(table(cell("one")), "--gpu 0 --seeds 1,2")
        first.join()
    assert (code, err) == (0, "")
    assert notes == ["one seed 2 waits until another process that works on it has ended"]
    assert out.count("one seed 1 waits until another process that works on it has ended\n") == 1
    assert out.endswith("2 of 2 runs done, 0 failed\n")
    assert len(train_commands(world)) == 1


# Stopping


def run_grid(folder, cells, arguments):
    """Be reproduce.py in a folder, with cells of our own."""
    for number in (signal.SIGINT, signal.SIGHUP):  # which a shell that runs tests in the background ignores
        signal.signal(number, signal.SIG_DFL)
    os.chdir(folder)
    sys.argv = ["reproduce.py", *arguments.split()]
    sys.stdout, sys.stderr = open("out", "w", 1), open("err", "w", 1)  # noqa: PTH123, SIM115
    run_script(lambda: main(table(*cells)))


@contextlib.contextmanager
def started_grid(folder, cells, arguments, how="fork"):
    """Start `run_grid` as a process; one that is forked has imported everything, and has the fixture's scripts."""
    process = multiprocessing.get_context(how).Process(target=run_grid, args=(folder, cells, arguments))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stop_stops_what_was_started(world, how):
    """Ctrl-C, SIGTERM and a closed terminal end in one line and 130, and a second one does not disturb who is saving.

    Even killed outright it leaves no process (on Linux).
    """
    cells = [cell("one", LONG), cell("two", LONG), cell("three")]
    logs = [world / Run(one, 1).log for one in cells[:2]]
    with started_grid(world, cells, "--seeds 1 --jobs 2") as process:
        wait_until(lambda: all(says(log, "waiting") for log in logs), process)
        os.kill(process.pid, how)
        if how != signal.SIGKILL:
            time.sleep(0.5)
            os.kill(process.pid, how)
        process.join(60)
        assert process.exitcode == (-how if how == signal.SIGKILL else 130)
    if how != signal.SIGKILL:
        said = "reproduce.py: interrupted; the same command resumes from the last checkpoints\n"
        assert (world / "err").read_text() == said
        assert all(says(log, "saved") and not is_worked_on(log) for log in logs)
    elif sys.platform == "linux":
        wait_until(lambda: not any(map(is_worked_on, logs)))
    assert not (world / "my_results").exists() and not (world / "out_models/three").exists()


@pytest.mark.slow
def test_a_killed_grid_resumes_where_it_was(tmp_path):
    """A tiny cell for real, killed on its way: its train.py saves when it is told to end."""
    run, arguments = Run(cell("tiny", f"{TINY} 200"), 1), "--seeds 1 --cpu"
    log, result = tmp_path / run.log, tmp_path / run.result
    with started_grid(tmp_path, [run.cell], arguments) as process:
        wait_until(lambda: says(log, "(100 50% finished)"), process)
    wait_until(lambda: not is_worked_on(log))
    assert not result.exists()
    with started_grid(tmp_path, [run.cell], arguments) as process:
        process.join(300)
        assert process.exitcode == 0
    assert (tmp_path / "err").read_text() == ""
    resumed = re.findall(r"^resuming from episode (\d+)$", log.read_text(), re.MULTILINE)
    assert [int(episode) >= 100 for episode in resumed] == [True]
    found = json.loads(result.read_text())
    assert (found["cell"], found["seed"], found["episode"], found["finished"]) == ("tiny", 1, 200, True)
    assert "dir_model" not in found["arguments"] and "wrong" not in found
    assert str(tmp_path).encode() not in b"".join(contents(result.parent).values())
    assert result.with_suffix(".csv").read_bytes() == (tmp_path / run.curve).read_bytes()


# What is told

HEADER = "episode,seconds,lr,train_loss,retrieval,generalize\n1,0.5,0.001,2.5,,\n"
CURVE = f"{HEADER}4400,100.4,0.001,0.4123,99.0,87.5\n"


@pytest.mark.parametrize(
    ("curve", "told"),
    [(None, "0 %"), ("", "0 %"), (HEADER, "0 %"), (CURVE, "44 % (ValAccGeneralize 87.5)"), (f"{CURVE}45,1", "0 %")],
)
def test_a_line_a_minute_tells_how_far_everything_has_come(world, capsys, curve, told):
    """The last row of the learning curve counts, unless it is just being written."""
    assert {"episode", "generalize"} <= {*train.Row.__annotations__}  # the columns that are read
    runs = [Run(cell("one"), seed) for seed in (1, 2, 3, 4)]
    progress = Progress(runs, 6, world)
    progress.begin(runs[0])
    progress.end(runs[1], "broken")
    progress.show()
    (world / runs[0].models).mkdir(parents=True)
    if curve is not None:
        (world / runs[0].curve).write_text(curve)
    progress._shown -= SHOW_EVERY
    progress._started -= 3800
    progress.show()
    progress.show()
    counts = "6 of 10 runs done, 1 failed, 1 running, 2 waiting; 1h 3m so far"
    said = ["started one seed 1", "failed one seed 2: broken", f"{counts}; one seed 1 at {told}"]
    assert capsys.readouterr().out.splitlines() == said


# Ray


def test_a_node_that_died_over_another_recipes_result_left_none(world):
    """On a cluster too an earlier result does not stand for the run, and no error takes its place."""
    run, ray = Run(CELLS["jump_perm"], 1), mock.Mock()
    ray.exceptions.RayError = RuntimeError
    ray.get.side_effect = RuntimeError("the node died")
    for changed, said in (({}, ""), ({"keep_moments": True}, "RuntimeError: the node died")):
        earlier = a_result(run.cell, **changed)
        save_json(world / run.result, earlier)
        assert outcome(ray, None, run, world) == said
        assert read(world, "jump_perm/seed1") == earlier


@pytest.mark.parametrize("address", [None, "localhost:9", "nowhere.invalid:6379", "localhost:99999", "?"])
def test_without_ray_or_a_cluster_there_is_one_line(start, world, monkeypatch, address):
    """It says what to install or to start, and does not wait for minutes."""
    if address is None:
        monkeypatch.setitem(sys.modules, "ray", None)
    else:
        pytest.importorskip("ray", reason=NO_RAY)
    code, out, err = start(table(cell("one")), f"--ray {address or 'auto'}")
    assert (code, out, err.count("\n")) == (2, "0 of 5 runs have a result in my_results/\n", 1)
    assert err.startswith(f"reproduce.py: error: --ray {address}: " if address else "reproduce.py: error: --ray needs")
    assert ("`ray start` starts one" if address else "requirements-cluster.txt") in err
    assert contents(world) == {}


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster on the loopback interface: a head node without cores and two nodes with one each."""
    pytest.importorskip("ray", reason=NO_RAY)
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # the names of sockets in it must be short
        for name, value in {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}.items():
            monkeypatch.setenv(name, value)
        common = {"node_ip_address": "127.0.0.1", "include_dashboard": False, "include_log_monitor": False}
        health = {"initial_delay_ms": 0, "period_ms": 500, "failure_threshold": 4}
        config = {f"health_check_{name}": value for name, value in health.items()}
        made = Cluster(initialize_head=True, head_node_args={**common, "num_cpus": 0, "_system_config": config})
        try:
            nodes = [made.add_node(num_cpus=1, **common) for _ in range(2)]
            yield made, nodes
        finally:
            made.shutdown()


@pytest.mark.slow
def test_a_run_whose_node_dies_resumes_on_another_one(tmp_path, cluster):
    """Two runs on two nodes, one of which is killed: its run resumes from the checkpoint, and all results are there."""
    cells, (made, nodes) = [cell(name, f"{TINY} 500") for name in ("one", "two")], cluster
    runs = [Run(one, 1) for one in cells]
    for run in runs:  # so that there is a checkpoint to resume from long before the first one that is saved on the way
        command = [*TINY.split(), 20, "--cpu", "--dir_model", tmp_path / run.models, "--fn_out_model", "net_seed1.tar"]
        assert run_file(ROOT / "train.py", *command).code == 0
    # Ray takes the names localhost and 127.0.0.1 for the address in the network, where nothing listens
    address = "LOCALHOST:" + made.address.rsplit(":", 1)[1]
    logs = [tmp_path / run.log for run in runs]
    with started_grid(tmp_path, cells, f"--ray {address} --seeds 1", how="spawn") as driver:
        wait_until(lambda: all(says(log, "(100 20% finished)") for log in logs), driver)
        made.remove_node(nodes[0], allow_graceful=False)
        driver.join(300)
        assert driver.exitcode == 0
    assert (tmp_path / "err").read_text() == ""
    out = (tmp_path / "out").read_text()
    assert out.startswith("0 of 2 runs have a result in my_results/\n2 runs for 2 CPUs and 0 GPUs\n")
    assert out.endswith("2 of 2 runs done, 0 failed\n")
    assert "raylet" not in out  # Ray tells much of a node's death, but in a file of its own
    starts = [log.read_text().count("resuming from episode 20\n") for log in logs]
    assert sorted(starts) == [1, 2]  # the second one on the node that lives
    for run, log in zip(runs, logs, strict=True):
        assert result_of(run, tmp_path)["episode"] == 500
        assert not is_worked_on(log)
