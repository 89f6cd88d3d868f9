"""A user's mistake ends in one line on stderr and exit code 2, and changes no file; Ctrl-C in one line and 130.

Most commands run inside this process, since each new one has to import torch first; the tests whose names say
`as_a_process` start real ones.
"""

import hashlib
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from script_runs import Outcome, assert_one_line, contents, run_file
from test_checkpoint import Lang, original_contents
from test_common import files_of_at_most

from checkpoint import FORMAT, load_checkpoint
from scan_util import Item, all_items, split_items, split_path, write_items

ROOT = Path(__file__).resolve().parent.parent


def run_here(script, *arguments):
    """Run a script as if from the command line, in this process."""
    return run_file(ROOT / script, *arguments)


def command(script, *arguments):
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def run_process(script, *arguments):
    """Run a script in a process of its own."""
    done = subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=300)
    return Outcome(done.returncode, done.stdout, done.stderr)


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
    options = re.findall(r"^  (?:--\w+ DIR, )?(--\w+) DIR\b", run_here(script, "-h").out, re.MULTILINE)
    for option in options:
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            said = f"{tmp_path / 'file'} is a file, not a folder"
            assert_one_line(run_here(script, option, path), Path(script).name, option, said)
    assert options or "DIR" not in run_here(script, "-h").out


def test_a_file_in_place_of_the_folder_of_results_is_seen_before_hours_of_training(tmp_path, monkeypatch):
    """Also where the folder is the usual one, which nobody typed."""
    (tmp_path / "my_results").touch()
    monkeypatch.chdir(tmp_path)
    outcome = run_here("paper/reproduce.py", "--only", "me")
    assert_one_line(outcome, "reproduce.py", "--results_dir", "my_results is a file, not a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["my_results"]


TRAIN = ("--cpu", "--emb_size", "4", "--num_episodes", "2", "--fn_out_model", "net_ME.tar")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run of two episodes of ME."""
    folder = tmp_path_factory.mktemp("trained")
    outcome = run_process("train.py", *TRAIN, "--dir_model", folder)
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
    """Complete a line of MISTAKES: what it does not mention is small, on the CPU, and in the world's folders."""
    script, *given = shlex.split(line.format(world=world))
    defaults = ["--dir_model", world / "models", "--data_dir", world / "data"]
    defaults += ["--emb_size", 4, "--num_episodes", 2, "--fn_out_model", "net_ME.tar"] if script == "train.py" else []
    if script == "test.py" and "--fn_in_model" not in given:
        defaults += ["--fn_in_model", "net_ME.tar"]
    if "--gpu" not in given:
        defaults += ["--cpu"]
    return script, *defaults, *given


AROUND = "--fn_out_model new.tar --episode_type"
MISTAKES = {  # the command line and what the message must say
    # options out of their range
    "train: unknown type": ("train.py --episode_type scan", ["--episode_type", "'scan'", "scan_prim_permutation"]),
    "train: unknown option": ("train.py --speed 3", ["--speed"]),
    "train: no episodes": ("train.py --num_episodes 0", ["--num_episodes", "at least 1, found 0"]),
    "train: negative episodes": ("train.py --num_episodes -5", ["--num_episodes", "at least 1, found -5"]),
    "train: episodes in words": ("train.py --num_episodes ten", ["--num_episodes", "ten"]),
    "train: half an episode": ("train.py --num_episodes 0.5", ["--num_episodes", "0.5"]),
    "train: no units": ("train.py --emb_size 0", ["--emb_size", "at least 1"]),
    "train: no layers": ("train.py --nlayers 0", ["--nlayers", "at least 1"]),
    "train: no decay": ("train.py --lr_decay_schedule 0", ["--lr_decay_schedule", "at least 1"]),
    "train: no answer": ("train.py --max_length_eval 0", ["--max_length_eval", "at least 1"]),
    "train: no threads": ("train.py --threads 0", ["--threads", "at least 1"]),
    "train: negative seed": ("train.py --seed -1", ["--seed", "at least 0"]),
    "train: a seed twice": ("train.py --seeds 1,2,1", ["--seeds", "found 1 more often"]),
    "train: negative seeds": ("train.py --seeds 1,-1", ["--seeds", "at least 0"]),
    "train: a seed beyond all seeds": ("train.py --seeds 1,9223372036854775808", ["--seeds", "below 2^63"]),
    "train: seed and seeds": ("train.py --seed 1 --seeds 1,2", ["--seed", "--seeds"]),
    "train: one name for all": ("train.py --seeds 1,2", ["--fn_out_model", "net_seed{seed}.tar"]),
    "train: lr 0": ("train.py --lr 0", ["--lr", "above 0"]),
    "train: lr negative": ("train.py --lr -0.1", ["--lr", "above 0"]),
    "train: lr nan": ("train.py --lr nan", ["--lr", "above 0"]),
    "train: lr infinite": ("train.py --lr inf", ["--lr", "above 0"]),
    "train: dropout 1": ("train.py --dropout 1", ["--dropout", "below 1"]),
    "train: dropout negative": ("train.py --dropout -0.5", ["--dropout", "at least 0"]),
    "train: negative directions": (f"train.py {AROUND} scan_around_right --extra_directions -1", ["at least 0"]),
    "train: directions of ME": ("train.py --extra_directions 2", ["--extra_directions", "scan_around_right", "ME"]),
    "train: directions of primitives": (
        f"train.py {AROUND} scan_prim_augmentation --extra_directions 20",
        ["--extra_directions", "scan_around_right", "scan_prim_augmentation"],
    ),
    "test: unknown type": ("test.py --episode_type scan", ["--episode_type", "'scan'", "scan_prim_permutation"]),
    "test: no batch": ("test.py --batch_size 0", ["--batch_size", "at least 1"]),
    "test: no threads": ("test.py --threads 0", ["--threads", "at least 1"]),
    "test: negative support set": ("test.py --plot_attention dax --support_set -1", ["--support_set", "at least 0"]),
    "test: support set too far": ("test.py --plot_attention dax --support_set 5", ["--support_set 5", "0 to 4"]),
    # answers that are cut off before they can be right
    "train: short answers": (
        "train.py --fn_out_model new.tar --max_length_eval 6",
        ["--max_length_eval 6", "--max_length_eval 7"],
    ),
    "train: short answers of SCAN": (
        f"train.py {AROUND} scan_prim_permutation --max_length_eval 48",
        ["--max_length_eval 48", "--max_length_eval 49"],
    ),
    "test: short answers": ("test.py --max_length_eval 3", ["7 symbols", "cut off after 3", "--max_length_eval 7"]),
    # values that are empty, as of a shell variable that is not set
    **{
        f"train: empty {name}": (f"train.py {name} ''", [name, "an empty one"])
        for name in ("--fn_out_model", "--data_dir", "--dir_model", "--seeds", "--seed", "--episode_type", "--gpu")
    },
    "train: blank name": ("train.py --fn_out_model ' '", ["--fn_out_model", "an empty one"]),
    "train: empty behind =": ("train.py --seeds=", ["--seeds", "an empty one"]),
    "test: empty data folder": ("test.py --data_dir ''", ["--data_dir", "an empty one"]),
    # names of files
    "train: name without .tar": ("train.py --fn_out_model net", ["--fn_out_model", "NAME.tar", "'net'"]),
    "train: name of a result": ("train.py --fn_out_model net.csv", ["--fn_out_model", "NAME.tar", "'net.csv'"]),
    "train: name with a folder": ("train.py --fn_out_model a/net.tar", ["--fn_out_model", "--dir_model"]),
    "test: name without .tar": ("test.py --fn_in_model net_ME", ["--fn_in_model", "NAME.tar"]),
    "test: name with a folder": ("test.py --fn_in_model models/net_ME.tar", ["--fn_in_model", "--dir_model"]),
    "test: no such checkpoint": ("test.py --fn_in_model net_x.tar", ["no checkpoint at", "net_x.tar", "train.py"]),
    "test: no such folder": ("test.py --dir_model {world}/nowhere", ["no checkpoint at", "nowhere/net_ME.tar"]),
    # devices
    "train: absent GPU": ("train.py --gpu 99", ["GPU 99", "usable GPU", "--cpu"]),
    "train: negative GPU": ("train.py --gpu -1", ["--gpu", "at least 0"]),
    "train: GPU and CPU": ("train.py --gpu 0 --cpu", ["--cpu", "--gpu"]),
    "test: absent GPU": ("test.py --gpu 99", ["GPU 99", "usable GPU", "--cpu"]),
    # folders and data
    "train: folder below a file": ("train.py --dir_model {world}/file/models", ["file/models"]),
    "train: folder is a file": ("train.py --dir_model {world}/file", ["file"]),
    "test: folder is a file": ("test.py --dir_model {world}/file", ["--dir_model", "file is a file, not a folder"]),
    "train: data below a file": (
        f"train.py {AROUND} scan_around_right --data_dir {{world}}/file/data",
        ["file"],
    ),
    "train: malformed data": (
        f"train.py {AROUND} scan_prim_permutation",
        ["tasks_train_all.txt:2: ", "'I_HOP'"],
    ),
    "train: empty data": (f"train.py {AROUND} scan_length", ["tasks_train_length.txt: ", "empty"]),
    "train: malformed data, overwriting": (
        "train.py --overwrite --fn_out_model net_ME.tar --episode_type scan_around_right",
        ["tasks_train_all.txt:2: "],
    ),
    # a checkpoint that does not agree
    "train: other size": ("train.py --emb_size 5", ["net_ME.tar", "--emb_size 4 (now 5)", "--overwrite"]),
    "train: other seed": ("train.py --seed 7", ["--seed 1 (now 7)", "--overwrite"]),
    "train: other network": ("train.py --disable_memory", ["--disable_memory False (now True)", "--overwrite"]),
    "train: two others": ("train.py --lr 0.5 --nlayers 1", ["--lr 0.001 (now 0.5)", "--nlayers 2 (now 1)"]),
    "train: other type": (
        "train.py --fn_out_model net_ME.tar --episode_type scan_length",
        ["--episode_type ME (now scan_length)"],
    ),
    "train: fewer episodes": ("train.py --num_episodes 1", ["2 episodes", "--num_episodes 1", "--overwrite"]),
    "test: other type": ("test.py --episode_type scan_length", ["net_ME.tar", "ME", "--episode_type scan_length"]),
    # queries to plot
    "test: unknown word": ("test.py --plot_attention 'dax jump'", ["'jump'", "dax", "lug", "wif", "zup"]),
    "test: no word": ("test.py --plot_attention ''", ["--plot_attention", "an empty one"]),
}
AS_A_PROCESS = ("train: unknown type", "train: malformed data", "test: no such checkpoint", "test: unknown word")


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, case):
    """Exit code 2, one line that says what is wrong, every file as it was and none added."""
    line, said = MISTAKES[case]
    before = contents(world)
    script, *arguments = complete(world, line)
    assert_one_line(run_here(script, *arguments), script, *said)
    assert contents(world) == before


@pytest.mark.parametrize("case", AS_A_PROCESS)
def test_a_mistake_is_one_line_as_a_process(world, case):
    """The same of real processes: nothing else reaches stderr, from Python or any library."""
    line, said = MISTAKES[case]
    before = contents(world)
    script, *arguments = complete(world, line)
    assert_one_line(run_process(script, *arguments), script, *said)
    assert contents(world) == before


def test_a_checkpoint_must_be_named():
    """test.py has no default for --fn_in_model."""
    assert_one_line(run_here("test.py", "--cpu"), "test.py", "--fn_in_model")


# Files that are no checkpoints


def plain_tar(path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "net.py")


def zip_of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", "no pickle")


def future_version(path):
    torch.save({**torch.load(path, weights_only=True), "format_version": 99}, path)


def without_weights(path):
    saved = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in saved.items() if name != "model_state"}, path)


def weights_of_another_size(path):
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "model_config": {**saved["model_config"], "emb_size": 5}}, path)


def infinite_weights(path):
    saved = torch.load(path, weights_only=True)
    saved["model_state"]["context_layer.bias"][1] = torch.inf
    torch.save(saved, path)


WRONG_FILES = {  # each turns a checkpoint of ours into something else
    "text": lambda path: path.write_text("this is no checkpoint\n"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "first half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "all but the last byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "tar archive": plain_tar,
    "zip archive": zip_of_text,
    "picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "another project's": lambda path: torch.save({"state_dict": {"w": torch.zeros(2)}, "epoch": 3}, path),
    "list": lambda path: torch.save([1, 2, 3], path),
    "tensor": lambda path: torch.save(torch.zeros(3), path),
    "pickled network": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "later version": future_version,
    "bare format": lambda path: torch.save({"format": FORMAT, "format_version": 1}, path),
    "without weights": without_weights,
    "weights of another size": weights_of_another_size,
    "infinite weights": infinite_weights,
    "almost an original": lambda path: torch.save({"encoder_state_dict": {}}, path),
}


@pytest.mark.parametrize("script", ["train.py", "test.py"])
@pytest.mark.parametrize("kind", WRONG_FILES)
def test_what_is_no_checkpoint_is_refused(world, script, kind):
    """Whatever torch makes of a file, the user gets one line with its name, and the file stays."""
    path = world / "models" / "net_ME.tar"
    WRONG_FILES[kind](path)
    before = contents(world)
    script, *arguments = complete(world, script)
    assert_one_line(run_here(script, *arguments), script, str(path))
    assert contents(world) == before


@pytest.mark.parametrize("entry", ["optimizer_state", "random_states", "loss_sum", "seconds"])
def test_a_checkpoint_without_what_going_on_takes_is_refused(world, entry):
    """A file of ours with weights only, say, can be scored; train.py says in one line that it cannot go on from it."""
    path = world / "models" / "net_ME.tar"
    saved = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in saved.items() if name != entry}, path)
    script, *arguments = complete(world, "train.py --num_episodes 3")
    assert_one_line(run_here(script, *arguments), script, str(path))


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def pickled(thing, path):
    path.write_bytes(pickle.dumps(thing, protocol=2))


MALICIOUS_FORMATS = {
    "zip": torch.save,
    "legacy": lambda thing, path: torch.save(thing, path, _use_new_zipfile_serialization=False),
    "in a dict": lambda thing, path: torch.save({"format": FORMAT, "format_version": 1, "arguments": thing}, path),
    "bare pickle": pickled,
}


@pytest.mark.parametrize("script", ["train.py", "test.py"])
@pytest.mark.parametrize("form", MALICIOUS_FORMATS)
def test_a_malicious_checkpoint_is_refused_and_not_run(world, script, form):
    """A pickle that would run code when loaded carelessly ends in one line, and its code does not run."""
    path, trace = world / "models" / "net_ME.tar", world / "trace"
    MALICIOUS_FORMATS[form](Malicious(trace), path)
    if form == "bare pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    trace.rmdir()  # it was there: the file does what it is made for
    script, *arguments = complete(world, script)
    assert_one_line(run_here(script, *arguments), script, str(path), "nothing in it was run")
    assert not trace.exists()


def test_a_malicious_checkpoint_is_refused_as_a_process(world):
    """Nor does the code run in a real process of test.py."""
    path, trace = world / "models" / "net_ME.tar", world / "trace"
    torch.save(Malicious(trace), path)
    script, *arguments = complete(world, "test.py")
    assert_one_line(run_process(script, *arguments), script, str(path), "nothing in it was run")
    assert not trace.exists()


def test_a_file_of_the_original_release_is_not_resumed(world, monkeypatch):
    """It loads, but has no optimizer state to go on from; the message says so and what to do."""
    path = world / "models" / "net_ME.tar"
    ours = load_checkpoint(path, torch.device("cpu"))
    monkeypatch.setattr(Lang, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Lang", Lang, raising=False)
    vocabularies = ours.input_vocabulary, ours.output_vocabulary
    flags = {"disable_memory": False, "disable_attention": False}
    torch.save(original_contents(ours.model, ours.validation, vocabularies, **flags), path)
    before = contents(world)
    script, *arguments = complete(world, "train.py")
    assert_one_line(run_here(script, *arguments), script, str(path), "original release", "--overwrite")
    assert contents(world) == before


# Files that cannot be written


@pytest.mark.parametrize(("script", "name"), [("test.py", "res_test_ME.json"), ("train.py", "new.csv")])
def test_a_result_that_cannot_be_written_leaves_nothing_half_done(world, script, name):
    """A folder stands where a result should go: one line that names it, and no temporary file stays."""
    (world / "models" / name).mkdir()
    before = contents(world)
    script, *arguments = complete(world, script)
    arguments += ["--fn_out_model", "new.tar"] if script == "train.py" else []
    assert_one_line(run_here(script, *arguments), script, name)
    assert contents(world) == before


@pytest.mark.parametrize(
    "items",
    [all_items()[:30], [*all_items()[:50], Item(("jump",), ("I_JUMP",) * 60)]],
    ids=["too few commands", "too many actions"],
)
def test_data_that_no_episode_can_use_is_reported(world, items):
    """Well-formed lines, but too few for an episode or longer than any of SCAN: a mistake like others."""
    write_items(world / "data" / "tasks_train_all.txt", items)
    before = contents(world)
    script, *arguments = complete(world, f"train.py {AROUND} scan_prim_permutation")
    assert_one_line(run_here(script, *arguments), script)
    assert contents(world) == before


def test_data_are_named_recorded_and_kept_to(tmp_path):
    """Own lines in a split's file are said and recorded, by training and test; a run does not go on with others."""
    data, flags = tmp_path / "data", ("--cpu", "--data_dir", tmp_path / "data", "--dir_model", tmp_path / "models")
    tiny = ("--emb_size", 4, "--nlayers", 1, "--fn_out_model", "net.tar", "--episode_type", "standard_length")
    write_items(split_path(data, "train", "length"), split_items("length")["train"][:5000])
    outcome = run_here("train.py", *tiny, *flags, "--num_episodes", 1)
    assert (outcome.code, outcome.err) == (0, "")
    said = "note: tasks_train_length.txt does not hold the published lines: 11990 of 16990 are missing"
    assert outcome.out.count(said) == 1
    assert outcome.out.count("tasks_test_length.txt was not there") == 1
    files = load_checkpoint(tmp_path / "models" / "net.tar", torch.device("cpu")).saved["scan_files"]
    paths = [split_path(data, part, "length") for part in ("train", "test")]
    assert [file["sha256"] for file in files] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    outcome = run_here("test.py", "--fn_in_model", "net.tar", *flags)
    assert (outcome.code, outcome.err) == (0, "")
    assert said in outcome.out
    report = json.loads((tmp_path / "models" / "res_test_net.tar.json").read_text())
    assert report["scan_files"] == report["training_scan_files"] == files
    write_items(paths[0], split_items("length")["train"])
    before = contents(tmp_path)
    outcome = run_here("train.py", *tiny, *flags, "--num_episodes", 2)
    assert_one_line(outcome, "train.py", "net.tar", "another content of tasks_train_length.txt", "--overwrite")
    assert contents(tmp_path) == before


def test_a_network_that_has_diverged_is_not_saved(world):
    """A single step can do it: only what the run began with is there, and no row says that all is well."""
    before = contents(world)
    script, *arguments = complete(world, "train.py --fn_out_model new.tar --num_episodes 1 --lr 1e39")
    assert_one_line(run_here(script, *arguments), script, "new.tar: some weights", "--lr")
    assert load_checkpoint(world / "models" / "new.tar", torch.device("cpu")).episode == 0
    after = contents(world)
    del after["models/new.tar"]
    assert after == before


@pytest.mark.parametrize("line", ["train.py --num_episodes 3", "test.py", "test.py --plot_attention dax"])
def test_a_full_disk_is_one_line_that_names_the_file(world, line):
    """The checkpoint, the result, the picture: each names the file it could not write and leaves the others."""
    before = contents(world)
    script, *arguments = complete(world, line)
    with files_of_at_most(1500):
        assert_one_line(run_here(script, *arguments), script, f"{world}/models/", "File too large")
    after = contents(world)
    assert after.keys() == before.keys()
    assert after["models/net_ME.tar"] == before["models/net_ME.tar"]


# What is no mistake


def test_a_finished_run_is_left_alone(world):
    """The same command again, with another data folder, says that there is nothing to do and changes nothing."""
    before = contents(world)
    script, *arguments = complete(world, "train.py --data_dir {world}/elsewhere")
    outcome = run_here(script, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert "is finished (2 episodes)" in outcome.out
    assert "ValAccRetrieval: " in outcome.out
    assert contents(world) == before


def test_scoring_leaves_the_checkpoint_alone(world):
    """test.py adds its result under a name of its own and changes no other file."""
    before = contents(world)
    script, *arguments = complete(world, "test.py")
    outcome = run_here(script, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    after = contents(world)
    assert after.pop("models/res_test_ME.json")
    assert after == before


@pytest.mark.parametrize("script", ["train.py", "test.py", "scan_util.py"])
def test_help_is_printed(script):
    """-h is no mistake: exit code 0, the options on stdout."""
    outcome = run_here(script, "-h")
    assert (outcome.code, outcome.err) == (0, "")
    assert "--data_dir" in outcome.out


# Ctrl-C


@pytest.fixture(scope="module")
def interrupted(trained, tmp_path_factory):
    """The folder of a run that went on from two episodes and was interrupted, and how that ended."""
    folder = tmp_path_factory.mktemp("interrupted") / "models"
    shutil.copytree(trained, folder)
    arguments = *TRAIN, "--num_episodes", 100_000, "--dir_model", folder
    process = subprocess.Popen(
        command("train.py", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what runs the tests in the background may have it ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        lines = [process.stdout.readline() for _ in range(3)]  # the device, "going on", the row of episode 100
        assert "(100 0% finished)" in lines[2], lines
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return folder, Outcome(process.returncode, "".join(lines) + out, err)


def test_ctrl_c_is_one_line_and_130_as_a_process(interrupted):
    """An interrupted run says so in one line, and leaves no other files than one that ended."""
    folder, outcome = interrupted
    assert outcome.code == 130
    assert outcome.err.startswith("train.py: interrupted")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err + outcome.out
    assert sorted(contents(folder)) == ["net_ME.csv", "net_ME.tar"]


def test_ctrl_c_says_from_where_the_run_goes_on(interrupted):
    """The episode named is that of the checkpoint on the disk, saved when the signal came."""
    folder, outcome = interrupted
    episode = load_checkpoint(folder / "net_ME.tar", torch.device("cpu")).episode
    assert episode >= 100
    assert outcome.err.strip().endswith(f"goes on from episode {episode}")
