"""Which code and versions made a result."""

import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

COMMIT_VARIABLE = "META_SEQ2SEQ_COMMIT"  # in the environment: the commit of code that was copied without its history


NO_COMMIT = f"this folder is not the top of a git repository; {COMMIT_VARIABLE} can say which commit it is"
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
"""Variables with which git looks at another repository than the one around a folder."""


def provenance() -> dict[str, str | None]:
    """Tell which code and versions are running: the commit, Python, packages.

    The commit is marked `+` if files differ from it, `results/` left aside, which runs themselves replace. A repository
    around this project's folder, or named by git's variables, is another one and says nothing of this code. Where
    there is none of its own, the commit is what META_SEQ2SEQ_COMMIT says; without that it is None, and `commit_note`
    says why.
    """
    top = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        command = ["git", "--no-optional-locks", "-C", str(top), *arguments]  # leaves the index as it is
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()

    commit = os.environ.get(COMMIT_VARIABLE) or None
    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() == top:
            differing = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)results")
            commit = git("rev-parse", "HEAD") + ("+" if differing else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    note = {} if commit is not None else {"commit_note": NO_COMMIT}
    packages = {"torch": str(torch.__version__), "numpy": np.__version__}  # also where there is no package metadata
    return {"commit": commit, **note, "python": platform.python_version(), **packages}
