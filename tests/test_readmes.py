"""The READMEs' commands of the sibling systems are understood as they stand there."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "nonstationary/README.md", "biml/README.md")


def commands():
    """Every `python -m nonstationary...` or `python -m biml...`, in a block or in a line."""
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in READMES)
    command = r"python -m (?:nonstationary|biml)\.[^\n`]*"
    found = re.findall(rf"^\s*({command})$|`({command})`", text, re.M)
    return sorted({" ".join((block or inline).split()) for block, inline in found})


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command, monkeypatch):
    """The module's own parser takes every one of them."""
    _, _, module, *arguments = shlex.split(command, comments=True)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    if "-h" not in arguments:
        path = ROOT / f"{module.replace('.', '/')}.py"
        names = runpy.run_path(str(path))  # not imported, so that other tests may run it afresh
        names["make_parser"]().parse_args() if "make_parser" in names else names["parse_arguments"]()


WRITES = re.compile(r"--(?:dir_out|fn_out_results|fn_out_plot|dir_model) (\S+)")


def test_commands_leave_the_tree_clean():
    """What they write, where they say so and by default, git ignores; an archive is written only with --results_dir."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    named = {match for command in commands() for match in WRITES.findall(command)}
    for place in {*named, "out_models", "out_models/nonstationary", "html_output", "data/data_algebraic"}:
        asked = [
            "git",
            "-C",
            str(ROOT),
            "check-ignore",
            "-q",
            place if place.endswith(".json") else f"{place}/new.json",
        ]
        assert subprocess.run(asked).returncode == 0, place


def test_there_are_commands():
    """The pattern above finds them."""
    assert sum("nonstationary" in command for command in commands()) >= 6
    assert sum("biml" in command for command in commands()) >= 6


def linked(page):
    """The files of the project that a page links or shows."""
    targets = re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8"))
    return [page.parent / target for target in targets]


PAGES = sorted(
    path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("results/*/*.md"))
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    """Whatever a page links or shows is there."""
    missing = [str(path) for path in linked(ROOT / page) if not path.exists()]
    assert not missing


def test_there_are_links():
    """The pattern above finds them."""
    assert len(linked(ROOT / "README.md")) > 10
