"""A user's mistake ends in one line on stderr and exit code 2, and changes no file; Ctrl-C in one line and 130.

Commands run inside this process, since each new one has to import torch first; the tests whose names say `as_a_process`
start real ones.
"""

import hashlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from script_runs import Outcome, assert_one_line, contents, run_file
from test_checkpoint import WRONG_FILES, save_original
from test_common import files_of_at_most

from checkpoint import load_checkpoint
from scan_util import Item, all_items, split_items, split_path, write_items

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")


def command(script, *arguments):
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "biml", "nonstationary", "paper", "tools")
    for path in (ROOT / folder).glob("*.py")
    if "run_script(main)" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_file_is_no_folder(script, tmp_path):
    """Every option that names a folder says so of a file, or of a path below one, before anything is looked for."""
    (tmp_path / "file").touch()
    helped = run_file(ROOT / script, "-h")
    assert (helped.code, helped.err) == (0, "")
    options = re.findall(r"^  (?:--\w+ DIR, )?(--\w+) DIR\b", helped.out, re.MULTILINE)
    for option in options:
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            said = f"{tmp_path / 'file'} is a file, not a folder"
            assert_one_line(run_file(ROOT / script, option, path), Path(script).name, option, said)
    assert options or "DIR" not in helped.out


def test_a_file_in_place_of_the_folder_of_results_is_seen_before_hours_of_training(tmp_path, monkeypatch):
    """Also where the folder is the usual one, which nobody typed."""
    (tmp_path / "my_results").touch()
    monkeypatch.chdir(tmp_path)
    outcome = run_file(ROOT / "paper" / "reproduce.py", "--only", "me")
    assert_one_line(outcome, "reproduce.py", "--results_dir", "my_results is a file, not a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["my_results"]


TRAIN = ("--cpu", "--emb_size", 4, "--num_episodes", 2, "--fn_out_model", "net_ME.tar")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run of two episodes of ME."""
    folder = tmp_path_factory.mktemp("trained")
    outcome = run_file(ROOT / "train.py", *TRAIN, "--dir_model", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert sorted(contents(folder)) == ["net_ME.csv", "net_ME.tar"]
    return folder


@pytest.fixture
def world(tmp_path, trained):
    """A folder to make mistakes in: a finished run in models/, broken data in data/, and a regular file `file`."""
    shutil.copytree(trained, tmp_path / "models")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tasks_train_all.txt").write_text("IN: jump OUT: I_JUMP\nIN: jump twice OUT: I_JUMP I_HOP\n")
    (tmp_path / "data" / "tasks_train_length.txt").touch()
    (tmp_path / "file").write_text("no folder\n")
    return tmp_path


def complete(world, line):
    """Complete a command line: what it does not mention is small, on the CPU, and in the world's folders."""
    script, *given = shlex.split(line.format(world=world))
    defaults = ["--dir_model", world / "models", "--data_dir", world / "data"]
    defaults += TRAIN[1:] if script == "train.py" else []
    if script == "test.py" and "--fn_in_model" not in given:
        defaults += ["--fn_in_model", "net_ME.tar"]
    if "--gpu" not in given:
        defaults += ["--cpu"]
    return script, *defaults, *given


def run(world, line):
    """Run what `complete` makes of a line."""
    script, *arguments = complete(world, line)
    return run_file(ROOT / script, *arguments)


def assert_refused(world, line, *said):
    """One line says all that it should, and no file changes."""
    before = contents(world)
    assert_one_line(run(world, line), line.split()[0], *said)
    assert contents(world) == before


NEW = "--fn_out_model new.tar --episode_type"
MISTAKES = [  # the command line and what the message must say
    # options out of their range, among them empty values, as of a shell variable that is not set
    ("train.py --episode_type scan", "--episode_type", "'scan'", "scan_prim_permutation"),
    ("train.py --speed 3", "--speed"),
    *(
        (f"train.py --{name} {value}", f"--{name}", said)
        for name, value, said in (
            ("num_episodes", 0, "at least 1, found 0"),
            ("num_episodes", -5, "at least 1, found -5"),
            ("num_episodes", "ten", "ten"),
            ("num_episodes", 0.5, "0.5"),
            *((name, 0, "at least 1") for name in ("emb_size", "nlayers", "threads")),
            *((name, 0, "at least 1") for name in ("lr_decay_schedule", "max_length_eval")),
            ("seed", -1, "at least 0"),
            ("seeds", "1,2,1", "found 1 more often"),
            ("seeds", "1,-1", "at least 0"),
            ("seeds", "1,9223372036854775808", "below 2^63"),
            *(("lr", value, "above 0") for value in ("0", "-0.1", "nan", "inf")),
            ("dropout", 1, "below 1"),
            ("dropout", -0.5, "at least 0"),
            *((name, "''", "an empty one") for name in ("fn_out_model", "data_dir", "dir_model", "seeds", "seed")),
            *((name, "''", "an empty one") for name in ("episode_type", "gpu")),
            ("fn_out_model", "' '", "an empty one"),
            ("gpu", -1, "at least 0"),
            ("fn_out_model", "net", "expected NAME.tar, its folder goes to --dir_model; found 'net'"),
            ("fn_out_model", "net.csv", "expected NAME.tar, its folder goes to --dir_model; found 'net.csv'"),
            ("fn_out_model", "a/net.tar", "--dir_model"),
        )
    ),
    ("train.py --seeds=", "--seeds", "an empty one"),
    ("train.py --seed 1 --seeds 1,2", "--seed", "--seeds"),
    ("train.py --seeds 1,2", "--fn_out_model", "net_seed{seed}.tar"),
    (f"train.py {NEW} scan_around_right --extra_directions -1", "at least 0"),
    ("train.py --extra_directions 2", "--extra_directions", "scan_around_right", "ME"),
    (f"train.py {NEW} scan_prim_augmentation --extra_directions 20", "scan_around_right", "scan_prim_augmentation"),
    ("test.py --episode_type scan", "--episode_type", "'scan'", "scan_prim_permutation"),
    ("test.py --threads 0", "--threads", "at least 1"),
    ("test.py --max_length_eval 0", "--max_length_eval", "at least 1"),
    ("test.py --data_dir ''", "--data_dir", "an empty one"),
    ("test.py --fn_out_plot x.png", "--fn_out_plot", "--plot_attention"),
    ("test.py --fn_out_plot x.tar --plot_attention dax", "--fn_out_plot", "PATH.png"),
    # answers that are cut off before they can be right
    ("train.py --fn_out_model new.tar --max_length_eval 6", "--max_length_eval 6", "--max_length_eval 7"),
    (f"train.py {NEW} scan_prim_permutation --max_length_eval 48", "--max_length_eval 48", "--max_length_eval 49"),
    ("test.py --max_length_eval 3", "7 symbols", "cut off after 3", "--max_length_eval 7"),
    # names of files, devices, data
    ("test.py --fn_in_model net_ME", "--fn_in_model", "NAME.tar"),
    ("test.py --fn_in_model models/net_ME.tar", "--fn_in_model", "--dir_model"),
    ("test.py --fn_in_model net_x.tar", "no checkpoint at", "net_x.tar", "train.py"),
    ("test.py --dir_model {world}/nowhere", "no checkpoint at", "nowhere/net_ME.tar"),
    ("train.py --gpu 99", "GPU 99: ", " here"),
    ("train.py --gpu 0 --cpu", "--cpu", "--gpu"),
    ("test.py --gpu 99", "GPU 99: ", " here"),
    (f"train.py {NEW} scan_around_right --data_dir {{world}}/file/data", "file"),
    (f"train.py {NEW} scan_prim_permutation", "tasks_train_all.txt:2: ", "'I_HOP'"),
    (f"train.py {NEW} scan_length", "tasks_train_length.txt: ", "empty"),
    ("train.py --overwrite --episode_type scan_around_right", "tasks_train_all.txt:2: "),
    # a checkpoint that does not agree
    ("train.py --emb_size 5", "net_ME.tar", "--emb_size 4 (now 5)", "--overwrite"),
    ("train.py --seed 7", "--seed 1 (now 7)", "--overwrite"),
    ("train.py --disable_memory", "--disable_memory False (now True)", "--overwrite"),
    ("train.py --lr 0.5 --nlayers 1", "--lr 0.001 (now 0.5)", "--nlayers 2 (now 1)"),
    ("train.py --episode_type scan_length", "--episode_type ME (now scan_length)"),
    ("train.py --num_episodes 1", "2 episodes", "--num_episodes 1", "--overwrite"),
    ("test.py --episode_type scan_length", "net_ME.tar", "ME", "--episode_type scan_length"),
    # queries to plot
    ("test.py --plot_attention 'dax jump'", "'jump'", "dax", "lug", "wif", "zup"),
    ("test.py --plot_attention ''", "--plot_attention", "an empty one"),
]


@pytest.mark.parametrize(("line", "said"), [(line, said) for line, *said in MISTAKES])
def test_a_mistake_is_one_line_and_changes_nothing(world, line, said):
    """Exit code 2, one line that names what is wrong, and every file stays as it was."""
    assert_refused(world, line, *said)


def test_a_mistake_is_one_line_as_a_process(world):
    """The same of a real process: nothing else reaches stderr, from Python or any library."""
    assert_one_line(run_file(ROOT / "test.py", "--cpu"), "test.py", "--fn_in_model")  # has no default
    script, *arguments = complete(world, "test.py --plot_attention 'dax jump'")
    done = subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=300)
    assert_one_line(Outcome(done.returncode, done.stdout, done.stderr), script, "'jump'")


def without(*entries):
    """Take entries out of a checkpoint."""

    def change(path):
        saved = torch.load(path, weights_only=True)
        torch.save({name: value for name, value in saved.items() if name not in entries}, path)

    return change


WRONG_KINDS = ("first half", "another size", "infinite weights", "almost an original", "malicious")
RESUMING = ("adam_state", "random_states", "loss_sum", "seconds")


@pytest.mark.parametrize(
    ("line", "change"),
    [
        *((line, WRONG_FILES[kind]) for line in ("train.py", "test.py") for kind in WRONG_KINDS),
        *(("train.py --num_episodes 3", without(entry)) for entry in RESUMING),
    ],
)
def test_what_is_no_checkpoint_is_refused(world, line, change):
    """What loading raises is one line with the file's name; so is that weights alone can be scored, not resumed."""
    path = world / "models" / "net_ME.tar"
    change(path)
    assert_refused(world, line, str(path))


def test_a_file_of_the_original_release_is_not_resumed(world, monkeypatch):
    """It loads, but has no optimizer state; the message says so and what to do."""
    path = world / "models" / "net_ME.tar"
    save_original(path, monkeypatch)
    assert_refused(world, "train.py", str(path), "original release", "--overwrite")


@pytest.mark.parametrize(
    ("line", "name"), [("test.py", "res_test_ME.json"), ("train.py --fn_out_model new.tar", "new.csv")]
)
def test_a_result_that_cannot_be_written_leaves_nothing_half_done(world, line, name):
    """A folder stands where a result should go: one line that names it, and no temporary file stays."""
    (world / "models" / name).mkdir()
    assert_refused(world, line, name)


@pytest.mark.parametrize("items", [all_items()[:30], [*all_items()[:50], Item(("jump",), ("I_JUMP",) * 60)]])
def test_data_that_no_episode_can_use_is_reported(world, items):
    """Well-formed lines, but too few for an episode or longer than any of SCAN: a mistake like others."""
    write_items(world / "data" / "tasks_train_all.txt", items)
    assert_refused(world, f"train.py {NEW} scan_prim_permutation")


def test_data_are_named_recorded_and_kept_to(tmp_path):
    """Own lines in a split's file are said and recorded, by training and test; a run does not resume with others."""
    data, flags = tmp_path / "data", ("--cpu", "--data_dir", tmp_path / "data", "--dir_model", tmp_path / "models")
    tiny = ("--emb_size", 4, "--nlayers", 1, "--fn_out_model", "net.tar", "--episode_type", "standard_length")
    lines = split_items("length")["train"]
    write_items(split_path(data, "train", "length"), lines[:990])
    outcome = run_file(ROOT / "train.py", *tiny, *flags, "--num_episodes", 1)
    assert (outcome.code, outcome.err) == (0, "")
    said = "note: tasks_train_length.txt does not hold the published lines: 16000 of 16990 are missing"
    assert outcome.out.count(said) == 1
    assert outcome.out.count("tasks_test_length.txt was not there") == 1
    files = load_checkpoint(tmp_path / "models" / "net.tar", CPU).saved["scan_files"]
    paths = [split_path(data, part, "length") for part in ("train", "test")]
    assert [file["sha256"] for file in files] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    outcome = run_file(ROOT / "test.py", "--fn_in_model", "net.tar", *flags)
    assert (outcome.code, outcome.err) == (0, "")
    assert said in outcome.out
    report = json.loads((tmp_path / "models" / "res_test_net.tar.json").read_text())
    assert report["scan_files"] == report["training_scan_files"] == files
    write_items(paths[0], lines)
    before = contents(tmp_path)
    outcome = run_file(ROOT / "train.py", *tiny, *flags, "--num_episodes", 2)
    assert_one_line(outcome, "train.py", "net.tar", "another content of tasks_train_length.txt", "--overwrite")
    assert contents(tmp_path) == before


def test_a_network_that_has_diverged_is_not_saved(world):
    """A single step can do it: nothing is left, and no row says that all is well."""
    assert_refused(world, "train.py --fn_out_model new.tar --num_episodes 1 --lr 1e39", "new.tar: some weights", "--lr")


@pytest.mark.parametrize("line", ["train.py --num_episodes 3", "test.py", "test.py --plot_attention dax"])
def test_a_full_disk_is_one_line_that_names_the_file(world, line):
    """The checkpoint, the result, the picture: each names the file it could not write and leaves the others."""
    before = contents(world)
    with files_of_at_most(1500):
        assert_one_line(run(world, line), line.split()[0], f"{world}/models/", "File too large")
    after = contents(world)
    assert after.keys() == before.keys()
    assert after["models/net_ME.tar"] == before["models/net_ME.tar"]


def test_a_finished_run_and_its_result_are_left_alone(world):
    """Trained again, with another data folder, it says that it is finished; test.py adds its result and no more."""
    before = contents(world)
    outcome = run(world, "train.py --data_dir {world}/elsewhere")
    assert (outcome.code, outcome.err) == (0, "")
    assert "is finished (2 episodes)" in outcome.out
    assert "ValAccRetrieval: " in outcome.out
    assert contents(world) == before
    outcome = run(world, "test.py")
    assert (outcome.code, outcome.err) == (0, "")
    after = contents(world)
    assert after.pop("models/res_test_ME.json")
    assert after == before


def test_ctrl_c_is_one_line_and_130_as_a_process(trained, tmp_path):
    """It names the episode of the checkpoint on the disk, saved when the signal came, and leaves no other files."""
    folder = tmp_path / "models"
    shutil.copytree(trained, folder)
    process = subprocess.Popen(
        command("train.py", *TRAIN, "--num_episodes", 100_000, "--dir_model", folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what runs the tests in the background may have it ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        lines = [process.stdout.readline() for _ in range(3)]  # the device, where it resumes, the row of episode 100
        assert "(100 0% finished)" in lines[2], lines
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.startswith("train.py: interrupted")
    assert err.count("\n") == 1
    assert "Traceback" not in err + out
    assert sorted(contents(folder)) == ["net_ME.csv", "net_ME.tar"]
    episode = load_checkpoint(folder / "net_ME.tar", CPU).episode
    assert episode >= 100
    assert err.strip().endswith(f"resumes from episode {episode}")
