"""What a training command finds of earlier runs, and which of its runs are trained together."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from checkpoint import PLACES, Checkpoint, load_checkpoint
from common.errors import UserError
from common.run_loop import ANEW, check_same_arguments
from episode_batch import vocabularies_of
from generate_episode import Experiment
from scan_util import SplitFile


class Plan(NamedTuple):
    """What to train with one seed, and the checkpoint from which it resumes."""

    args: Any  # train.Arguments
    earlier: Checkpoint | None

    @property
    def path(self) -> Path:
        """Where the checkpoint is."""
        return path_of(self.args)

    @property
    def episode(self) -> int:
        """How far the run has come."""
        return self.earlier.episode if self.earlier is not None else 0

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.episode == self.args.num_episodes)


def path_of(args: Any) -> Path:
    """Say where a run's checkpoint is."""
    return Path(args.dir_model, args.fn_out_model)


def find_earlier_run(args: Any, experiment: Experiment, device: torch.device) -> Checkpoint | None:
    """Load the checkpoint from which a run resumes, if there is one.

    Raises:
        UserError: if the file is something else, or if it was trained with other arguments.
    """
    path = path_of(args)
    if args.overwrite or not path.exists():
        return None
    checkpoint = load_checkpoint(path, device)
    if checkpoint.is_original:
        raise UserError(f"{path} is a file of the original release, which cannot be resumed; {ANEW}")
    check_same_arguments(
        path, checkpoint.arguments, vars(args), {*PLACES, "num_episodes"}, lambda name: getattr(type(args), name)
    )
    contents_of = [[file.sha256 for file in one.files or ()] for one in (checkpoint.experiment, experiment)]
    if contents_of[0] != contents_of[1]:
        raise UserError(f"{path} was trained on other contents of --train_file or --test_file; {ANEW}")
    if checkpoint.vocabularies != vocabularies_of(experiment):
        raise UserError(f"{path} has another vocabulary than {args.episode_type}; {ANEW}")
    if checkpoint.episode > args.num_episodes:
        raise UserError(
            f"{path} has {checkpoint.episode} episodes, more than --num_episodes {args.num_episodes}; {ANEW}"
        )
    if checkpoint.episode < args.num_episodes and "adam_state" not in checkpoint.saved:
        raise UserError(f"{path} holds a network without what resuming its training takes; {ANEW}")
    return checkpoint


def check_files(plans: Sequence[Plan], files: Sequence[SplitFile]) -> None:
    """Make sure that runs resume with the data with which they began.

    Raises:
        UserError: if one would not.
    """
    now = {file.name: file.sha256 for file in files}
    for plan in plans:
        before = [] if plan.earlier is None else plan.earlier.saved.get("scan_files", [])
        for name in [one["name"] for one in before if now.get(one["name"]) != one["sha256"]]:
            advice = "point --data_dir at the one it began with, or pass --overwrite to start anew"
            raise UserError(f"{plan.path} was trained with another content of {name}; {advice}")


def trains_in_lock_step(device: torch.device) -> bool:
    """Say whether runs are trained in lock step: on a GPU, where even a single one is several times faster so."""
    return device.type == "cuda"


def in_groups(plans: Sequence[Plan], device: torch.device) -> list[list[Plan]]:
    """Say which unfinished runs are trained together: in lock step those that have come equally far."""
    if not trains_in_lock_step(device):
        return [[plan] for plan in plans]
    ordered = sorted(plans, key=lambda plan: plan.episode)
    return [list(group) for _, group in itertools.groupby(ordered, key=lambda plan: plan.episode)]
