"""What everything shares: files written whole, devices that are there, and which code made a result."""

import contextlib
import os
import resource
import subprocess
import sys
from unittest import mock

import pytest
import torch

import common.provenance
from attention_plot import save_attention
from common.command_line import run_script
from common.devices import choose_device
from common.errors import UserError
from common.files import save_json, written_whole
from common.learning_curve import Curve
from common.plain_files import save_plain
from common.run_loop import claimed
from scan_util import all_items, write_items


def test_provenance_names_the_commit_and_marks_changed_code(tmp_path, monkeypatch):
    """The commit has a + if code differs from it; results that runs put in place of others do not count."""

    def git(*arguments):
        who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
        run = subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True, text=True)
        return run.stdout.strip()

    monkeypatch.setattr(common.provenance, "__file__", str(tmp_path / "common" / "code.py"))
    for folder in ("common", "results"):
        (tmp_path / folder).mkdir()
    code, result = tmp_path / "train.py", tmp_path / "results" / "seed1.json"
    for path in (code, result):
        path.write_text("before\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "HEAD")
    result.write_text("after\n")
    (tmp_path / "untracked").write_text("")
    assert common.provenance.provenance()["commit"] == commit
    code.write_text("after\n")
    assert common.provenance.provenance()["commit"] == f"{commit}+"
    monkeypatch.setattr(common.provenance, "__file__", "/common/provenance.py")  # no checkout
    monkeypatch.delenv("META_SEQ2SEQ_COMMIT", raising=False)
    assert common.provenance.provenance()["commit"] is None
    monkeypatch.setenv("META_SEQ2SEQ_COMMIT", "abc")
    assert common.provenance.provenance()["commit"] == "abc"


@pytest.mark.parametrize("variable", ["GIT_DIR", None])
def test_the_commit_of_another_repository_is_none(tmp_path, monkeypatch, variable):
    """A copy of the code inside another repository, or beside one that git's variables name, is not its commit."""
    who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    for command in (["init", "--quiet"], [*who, "commit", "--quiet", "--allow-empty", "--message", "theirs"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    copy = tmp_path / "copy" / "common"
    copy.mkdir(parents=True)
    monkeypatch.setattr(common.provenance, "__file__", str(copy / "provenance.py"))
    monkeypatch.delenv("META_SEQ2SEQ_COMMIT", raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, str(tmp_path / ".git"))
    found = common.provenance.provenance()
    assert found["commit"] is None
    assert "META_SEQ2SEQ_COMMIT" in found["commit_note"]
    monkeypatch.setenv("META_SEQ2SEQ_COMMIT", "")
    assert common.provenance.provenance()["commit"] is None
    monkeypatch.setenv("META_SEQ2SEQ_COMMIT", "abc")
    found = common.provenance.provenance()
    assert (found["commit"], "commit_note" in found) == ("abc", False)


def test_a_missing_gpu_is_an_error():
    """Asking for a device that is not there is a mistake, not a reason to fall back."""
    with pytest.raises(ValueError, match="GPU 99"):
        choose_device(99, False, torch.get_num_threads())
    assert choose_device(None, True, torch.get_num_threads()) == torch.device("cpu")


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path):
    """Writing stops half-way: the name still holds the old content."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), written_whole(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"old"}


def run_in_a_process(main, *shell, **environment):
    """Run a main with `run_script` in a process of its own."""
    script = f"from common.command_line import run_script\ndef main():\n    {main}\nrun_script(main)"
    command = [*shell, sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("main", "environment", "printed"),
    [
        ("print('1 \\N{PLUS-MINUS SIGN} 2')", {"PYTHONIOENCODING": "ascii"}, "1 \\xb1 2\n"),
        ("import matplotlib", {"MPLBACKEND": "module://no.such.backend"}, ""),
        ("import matplotlib", {"MPLBACKEND": "nonsense"}, ""),
    ],
)
def test_a_terminal_or_a_notebook_does_not_end_a_run(main, environment, printed):
    """Signs that it cannot show are written out; a backend that matplotlib does not know is ignored."""
    done = run_in_a_process(main, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_a_stream_that_is_closed_does_not_end_a_run(tmp_path):
    """Standard output and errors that are not there cost nothing."""
    main = f"print(1); from pathlib import Path; Path({str(tmp_path / 'done')!r}).touch()"
    done = run_in_a_process(main, "sh", "-c", 'exec "$@" >&- 2>&-', "sh")
    assert (done.returncode, (tmp_path / "done").exists()) == (0, True)


def test_files_follow_the_umask_and_links(tmp_path):
    """A file is as readable as any other that the user writes, and a symbolic link stays one."""
    before = os.umask(0o007)
    try:
        save_json(tmp_path / "file.json", 1)
    finally:
        os.umask(before)
    assert (tmp_path / "file.json").stat().st_mode & 0o777 == 0o660
    (tmp_path / "link.json").symlink_to("file.json")
    save_json(tmp_path / "link.json", 2)
    assert (tmp_path / "file.json").read_text() == "2\n" and (tmp_path / "link.json").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@contextlib.contextmanager
def files_of_at_most(n_bytes):
    """Stands for a disk that is full: no file grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


PANEL = {"rows": ["a"], "columns": ["b"], "weights": [[0.5]]}
WRITERS = {
    "tensors": lambda path: save_plain(path, {"weights": torch.zeros(5000)}),
    "JSON": lambda path: save_json(path, list(range(5000))),
    "picture": lambda path: save_attention({"query": "", "output": "", "memory": PANEL, "decoder": PANEL}, path, True),
    "SCAN": lambda path: write_items(path, all_items()),
    "new curve": lambda path: Curve(path, ["step" * 500], 0, lambda _: True).add([1]),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_is_said_of_the_file(tmp_path, kind):
    """Whatever the library that writes makes of it: the file and the reason are named, no other file is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large") as caught:
        WRITERS[kind](path)
    assert caught.value.filename == str(path)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"old"}


def test_a_row_for_which_there_is_no_room_is_not_begun(tmp_path):
    """The learning curve holds whole rows, and the file is named."""
    path = tmp_path / "curve.csv"
    curve = Curve(path, ["step", "loss"], 0, lambda _: True)
    curve.add([1, 0.25])
    with files_of_at_most(path.stat().st_size + 3), pytest.raises(OSError, match="File too large") as caught:
        curve.add([2, 0.125])
    assert caught.value.filename == str(path)
    assert path.read_text() == "step,loss\n1,0.25\n"


@pytest.mark.parametrize(
    "error",
    [
        UserError("too long;\nshorten it"),
        FileNotFoundError(2, "No such file", "a.txt"),
        MemoryError("no room"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=repr,
)
def test_a_users_mistake_is_one_line(capsys, error):
    """Only the exception made for it, and what the system refuses, ends in a line and exit code 2."""
    with pytest.raises(SystemExit) as end:
        run_script(mock.Mock(side_effect=error))
    said = capsys.readouterr().err
    assert (end.value.code, said.count("\n"), "error: " in said) == (2, 1, True)


@pytest.mark.parametrize(
    "error", [ValueError("not enough values"), RuntimeError("3 rows"), TypeError("a typo")], ids=repr
)
def test_a_bug_keeps_its_traceback(error):
    """A mistake of ours is no mistake of the user's."""
    with pytest.raises(type(error)):
        run_script(mock.Mock(side_effect=error))


def test_a_claim_leaves_no_folder_in_which_nothing_was_saved(tmp_path):
    """Of a command that is refused later on; what was saved stays, and so does a folder that was there."""
    (tmp_path / "there").mkdir()
    for folder in ("new/inner", "there"):
        with pytest.raises(ValueError, match="refused"), claimed([tmp_path / folder / "net.tar"], "try another"):
            raise ValueError("refused")
    with claimed([tmp_path / "kept/net.tar"], "try another"):
        (tmp_path / "kept/net.tar").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "net.tar", "there"]
