"""Files of tensors and plain data: saved whole, loaded without running anything in them.

What we save holds tensors, numbers, strings, lists and dicts only, so it loads with `weights_only=True`. The files that
were published with the papers name two classes, which stand for inert containers here; any other class is refused.
"""

import argparse
import math
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import nn

from common.command_line import in_one_line
from common.errors import UserError
from common.files import written_whole

Network = TypeVar("Network", bound=nn.Module)

DIVERGED = "the training has diverged; try a smaller --lr"
LARGEST = 2**18  # of a network's sizes; more is no size but a damaged file, and its products overflow


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
        raise UserError(f"{path}: some weights are infinite or NaN; {advice}")


class _InertLang:
    """Stands for the `Lang` of published files: a container without code."""


def _lang_names(path: Path) -> set[str]:
    """Find under which names a file asks for a class `Lang`; old files, which are no archives, know one."""
    asked = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
    return {"__main__.Lang", *(name for name in asked if name.rpartition(".")[2] == "Lang")}


def _check_sums(path: Path) -> None:
    """Compare the contents with the check sums in the file, as torch does not; old files, no archives, have none.

    Raises:
        zipfile.BadZipFile: if some bytes are others than those that were written.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)


def load_plain(path: Path, missing: str) -> dict[str, Any]:
    """Load a file of tensors and plain data; nothing in it is run.

    Args:
        path: the file.
        missing: what to do if it is not there, for the message.
    Raises:
        UserError: if it is not there, is damaged, foreign, or names any class but the two that published files hold.
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
        _check_sums(path)
    except Exception as error:  # torch raises many kinds, some without a text
        reason = "it is truncated or damaged, no checkpoint, or holds more than tensors and plain data"
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


@contextmanager
def read_from(path: Path) -> Iterator[None]:
    """Turn whatever an ill-formed file leads to into a line about the file.

    Only for taking its contents apart. Making a network of them stays outside, behind `check_sizes` and with
    `network_of`: what goes wrong there is no fault of the file but a bug of ours, and keeps its traceback.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) and str(path) in str(error):
            raise
        reason = str(error) if isinstance(error, UserError) else in_one_line(error)
        raise UserError(f"{path}: not a usable checkpoint: damaged, or of a code that has changed ({reason})") from None


def check_sizes(config: Any) -> None:
    """Make sure that what a file says of a network, a dataclass, can be: each field of its type, and within bounds.

    Raises:
        UserError: if not; the message names the field.
    """
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _is_of(kind, value) or not _is_possible(name, value):
            raise UserError(f"its {name} is {str(value)[:50]!r}; sizes go up to {LARGEST}")


def _is_possible(name: str, value: Any) -> bool:
    """Say whether a number that is no size can be: a probability of dropout, or a positive scale."""
    if name == "dropout":
        return bool(0 <= value < 1)
    return not isinstance(value, float) or 0 < value < math.inf


def _is_of(kind: Any, value: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_is_of(one, value) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(get_args(kind)[0], one) for one in value)
    if kind is int:
        return type(value) is int and 1 <= value <= LARGEST
    return type(value) is kind or (kind is float and type(value) is int)


def network_of(path: Path, make: Callable[[], Network], state: Mapping[str, torch.Tensor], n_layers: int) -> Network:
    """Make a network and load a file's weights into it.

    It is made without memory first, so that a file cannot ask for more than it holds.

    Args:
        path: the file, for messages.
        make: makes the network, its sizes checked.
        state: the weights.
        n_layers: how many layers it is to have.
    Raises:
        UserError: if the weights are not those of such a network, or are infinite or NaN.
    """
    with read_from(path):
        found = {name: tuple(weight.shape) for name, weight in state.items()}
        if n_layers > len(found):
            raise UserError(f"it has {len(found)} tensors for {n_layers} layers")
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in make().state_dict().items()}
    for name in {**expected, **found}:
        shapes = [shown.get(name, "missing") for shown in (found, expected)]
        if shapes[0] != shapes[1]:
            wrong = f"its {name} is {shapes[0]}, of a network of its sizes {shapes[1]}"
            raise UserError(f"{path}: not a usable checkpoint: damaged, or of a code that has changed ({wrong})")
    check_finite(path, state, DIVERGED)
    network = make()
    network.load_state_dict(state)
    return network
