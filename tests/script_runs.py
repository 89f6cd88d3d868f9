"""What tests of scripts share: running one in this process, networks to run it on, comparing what runs leave behind."""

import contextlib
import csv
import io
import runpy
import sys
import warnings
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch

from checkpoint import checkpoint_contents, network_config, save_checkpoint
from common.run_loop import claimed
from generate_episode import EpisodeSampler, find_experiment
from model import MetaSeq2Seq


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def run_file(path, *arguments):
    """Run a script in this process; a warning counts as a line on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [str(path), *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(record=True) as warned,
        pytest.raises(SystemExit) as end,
    ):
        warnings.simplefilter("always")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        runpy.run_path(str(path), run_name="__main__")
    return Outcome(end.value.code, out.getvalue(), err.getvalue() + "".join(f"{warning}\n" for warning in warned))


def save_untrained(path, episode_type="ME", episode=5, data_dir=None, seed=1, arguments=(), **config):
    """Save a network with random weights as one that has trained for some of five episodes; returns what is saved."""
    torch.manual_seed(seed)
    experiment = find_experiment(episode_type)
    sampler = EpisodeSampler(experiment, data_dir or path.parent, True)
    validation = sampler.validation_episodes(np.random.default_rng(0))
    told = {"episode_type": episode_type, "extra_directions": None, "max_length_eval": 50, "num_episodes": 5}
    model = MetaSeq2Seq(network_config(experiment, emb_size=6, **config))
    contents = checkpoint_contents(model, experiment, validation, episode, {**told, **dict(arguments)})
    save_checkpoint(path, contents)
    return contents


def assert_one_line(outcome, script, *said):
    """Exit code 2 and one line on stderr that names the script and says all that it should."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith(f"{script}: error: ")
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    for text in said:
        assert text in outcome.err


def assert_left_alone_while_claimed(train, path, finished):
    """`train(stem, *arguments)` is refused while another process claims `path`, before and after that has saved."""
    with claimed([path], "try another"):
        for argument in ((), ("--seed", 2), ("--overwrite",)):
            outcome = train(path.stem, *argument)
            assert_one_line(outcome, "train.py", "another process is training", path.name)
            assert outcome.out == "" and not path.exists()
        path.write_bytes(finished)
        assert_one_line(train(path.stem, "--seed", 2), "train.py", "another process is training", path.name)


def contents(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path):
    """A learning curve's rows, without the time taken."""
    with path.open(newline="") as lines:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


def same_contents(one, other, skipped=frozenset({"seconds", "sittings"})):
    """Compare what two checkpoints hold, bit for bit, except what is skipped: the time taken, as a rule."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            same_contents(one[k], other[k], skipped) for k in one.keys() - skipped
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same_contents(*pair, skipped) for pair in zip(one, other, strict=True))
    return one == other
