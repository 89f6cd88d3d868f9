"""What everything shares: files written whole, devices that are there, and which code made a result."""

import os
import subprocess
import sys

import pytest
import torch

import common.provenance
from common.devices import choose_device
from common.files import written_whole


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


def test_a_stream_that_cannot_show_a_sign_does_not_end_a_run():
    """On a terminal that knows ASCII alone other signs are written out."""
    script = "from common.command_line import run_script; run_script(lambda: print('1 \\N{PLUS-MINUS SIGN} 2'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 \\xb1 2\n", "")
