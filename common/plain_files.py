"""Files of tensors and plain data: saved whole, loaded without running anything in them.

What we save holds tensors, numbers, strings, lists and dicts only, so it loads with `weights_only=True`. The files that
were published with the papers name two classes, which stand for inert containers here; any other class is refused.
"""

import argparse
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.files import written_whole

DIVERGED = "the training has diverged; try a smaller --lr"


def save_plain(path: Path, contents: Mapping[str, Any]) -> None:
    """Save tensors and plain data, whole or not at all."""
    with written_whole(path) as file:
        torch.save(dict(contents), file)


def check_finite(path: Path, weights: Mapping[str, torch.Tensor], advice: str) -> None:
    """Make sure that the weights of a network are numbers, before they are written and after they are read.

    Raises:
        UserError: if some are not; the advice says what to do.
    """
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise UserError(f"{path}: some weights are infinite or no numbers; {advice}")


class _InertLang:
    """Stands for the `Lang` of published files: a container without code."""


def _lang_names(path: Path) -> set[str]:
    """Find under which names a file asks for a class `Lang`; old files, which are no archives, know one."""
    asked = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
    return {"__main__.Lang", *(name for name in asked if name.rpartition(".")[2] == "Lang")}


def load_plain(path: Path, missing: str) -> dict[str, Any]:
    """Load a file of tensors and plain data; nothing in it is run.

    Args:
        path: the file.
        missing: what to do if it is not there, for the message.
    Raises:
        UserError: if it is not there, is truncated, foreign, or names any class but the two that published files hold.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a checkpoint")
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; {missing}")
    path.open("rb").close()  # a file that may not be read is no damaged one
    try:
        allowed: list[Any] = [*((_InertLang, name) for name in _lang_names(path)), argparse.Namespace]
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings(action="ignore"):
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, some without a text
        reason = "it is truncated, no checkpoint, or holds more than tensors and plain data"
        raise UserError(f"{path}: cannot be loaded: {reason} ({type(error).__name__}); nothing in it was run") from None
    if not isinstance(contents, dict):
        raise UserError(f"{path}: expected a checkpoint, found a saved {type(contents).__name__}")
    return contents


def check_format(path: Path, saved: Mapping[str, Any], name: str, version: int) -> None:
    """Make sure that a file holds a network of the kind and format that the code reads.

    Raises:
        UserError: if it is another system's, or of another version.
    """
    if saved.get("format") != name:
        raise UserError(f"{path} holds no network of {name}; other checkpoints have scripts of their own")
    if saved.get("format_version") != version:
        raise UserError(f"{path} has format version {saved.get('format_version')}; this code reads {version}")
