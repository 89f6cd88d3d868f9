"""What the pages say: their commands are understood, their links lead somewhere, and first answers are as told."""

import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from script_runs import run_file

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WITH_COMMANDS = (*ROOT.glob("README.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").glob("*.md"))
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("results/*/*.md")))


def find_commands():
    """Every `python script.py ...` or `python -m folder.script ...` of ours: the script and words, block or inline."""
    command = r"python (?:\S+\.py|-m (?:paper|tools|nonstationary|biml)\.)[^\n`]*"
    text = "\n".join(page.read_text(encoding="utf-8") for page in WITH_COMMANDS)
    found = set()
    for block, inline in re.findall(rf"^\s*({command})$|`({command})`", text, re.MULTILINE):
        _, script, *words = shlex.split((block or inline).replace("<", "").replace(">", ""), comments=True)
        found.add((f"{words.pop(0).replace('.', '/')}.py" if script == "-m" else script, *words))
    return sorted(found)


COMMANDS = find_commands()
OF_SIBLINGS = [words for words in COMMANDS if words[0].startswith(("nonstationary/", "biml/"))]


@pytest.mark.parametrize("words", OF_SIBLINGS, ids=" ".join)
def test_commands_of_the_siblings_are_understood(words, monkeypatch):
    """The module's own parser takes every one of them."""
    monkeypatch.setattr(sys, "argv", list(words))
    if "-h" not in words:
        names = runpy.run_path(str(ROOT / words[0]))  # not imported, so that other tests may run it afresh
        names["make_parser"]().parse_args() if "make_parser" in names else names["parse_arguments"]()


@pytest.mark.parametrize("script", sorted({script for script, *_ in set(COMMANDS) - set(OF_SIBLINGS)}))
def test_flags_of_commands_exist(script):
    """The script is there and its help names every flag that the pages give it."""
    outcome = run_file(ROOT / script, "-h")
    assert outcome.code == 0
    known = set(re.findall(r"--\w+", outcome.out))
    for words in (words for name, *words in COMMANDS if name == script):
        words = words[: words.index("--")] if "--" in words else words  # what follows is another script's
        flags = {word for word in words if word.startswith("--")}
        assert flags <= known, flags - known
        assert flags or "-h" in words or not words or not words[0].startswith("-")


WRITES = ("--dir_out", "--fn_out_results", "--fn_out_plot", "--dir_model")


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a checkout")
def test_commands_leave_the_tree_clean():
    """What they write, where they say so and by default, git ignores; an archive is written only with --results_dir."""
    named = {place for words in OF_SIBLINGS for flag, place in itertools.pairwise(words) if flag in WRITES}
    for place in {*named, "out_models", "out_models/nonstationary", "html_output", "data/data_algebraic"}:
        asked = place if place.endswith(".json") else f"{place}/new.json"
        assert subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", asked]).returncode == 0, place


def linked(page):
    """The files of the project that a page links or shows."""
    targets = re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8"))
    return [page.parent / target for target in targets]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Whatever a page links or shows is there."""
    assert not [str(path) for path in linked(page) if not path.exists()]


def test_there_are_commands_and_links():
    """The patterns above find them."""
    scripts = [script for script, *_ in COMMANDS]
    assert sum(script.startswith("nonstationary") for script in scripts) >= 6
    assert sum(script.startswith("biml") for script in scripts) >= 6
    assert len(COMMANDS) - len(OF_SIBLINGS) >= 10
    assert {"paper/report.py", "paper/reproduce.py", "train.py", "test.py", "query.py"} <= set(scripts)
    assert len(linked(ROOT / "README.md")) > 10


def test_the_networks_that_a_clone_has_answer_as_the_readme_says(monkeypatch):
    """Its first queries, before any training, and the answers in their order."""
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^python (query.py .*)$", README, re.MULTILINE)
    (sentence,) = re.findall(r"The first two print ([^;]*);", README)
    answers = re.findall(r"`([A-Z_\s]+)`", sentence)
    assert len(commands) == len(answers) == 2
    for command, answer in zip(commands, answers, strict=True):
        assert run_file(*shlex.split(command), "--cpu") == (0, f"{' '.join(answer.split())}\n", "")


def test_the_makefile_has_the_readmes_targets():
    """Each `make` target that the README names is in the Makefile; `make test` is among them."""
    makefile, targets = (ROOT / "Makefile").read_text(encoding="utf-8"), re.findall(r"`make (\w+)`", README)
    assert "test" in targets
    assert set(targets) <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
