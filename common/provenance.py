"""Which code and versions made a result."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

COMMIT_VARIABLE = "META_SEQ2SEQ_COMMIT"  # in the environment: the commit of code that was copied without its history


def provenance() -> dict[str, str | None]:
    """Tell which code and versions are running: the commit, Python, packages.

    The commit is marked `+` if files differ from it, `results/` left aside, which runs themselves replace. Where there
    is no git to ask, it is what META_SEQ2SEQ_COMMIT says, None without that.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    commit = os.environ.get(COMMIT_VARIABLE)
    try:
        differing = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)results")
        commit = git("rev-parse", "HEAD") + ("+" if differing else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    packages = {name: version(name) for name in ("torch", "numpy")}
    return {"commit": commit, "python": platform.python_version(), **packages}
