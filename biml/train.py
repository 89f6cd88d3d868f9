"""Train a network on a stream of episodes; stop and go on at any time.

    python -m biml.train --episode_type algebraic+biases --fn_out_model net_BIML.tar

writes <dir_model>/<fn_out_model> before the first and after every epoch and when it is interrupted, and beside it the
learning curve as .csv. A run is determined by its arguments: interrupted and started again it ends with the very
weights of an uninterrupted run (same machine, CPU). Episodes of random grammars come from `python -m biml.generate`.

The command that goes on may have another --nepochs, as long as the learning rates have been the same up to now.
"""

import argparse
import os
from pathlib import Path

import torch

from biml.episode_types import training_views, validation_views
from biml.network_file import TrainedNetwork, load_network
from biml.training import PLACES, Training, best_path, make_parser, weights_path
from biml.training_step import same_rates
from common.command_line import run_script
from common.devices import choose_device, describe_device
from common.errors import UserError
from common.run_loop import ANEW, claimed, differing_arguments, run_or_go_on


def may_end_elsewhere(trained: TrainedNetwork, args: argparse.Namespace) -> bool:
    """Say whether a checkpoint is one of a run with this `--nepochs` too; which losses are the best depends on it."""
    before = trained.arguments.get("nepochs")
    if before is None or args.save_best:
        return False
    begun = trained.epoch + (trained.done_in_epoch > 0)
    return same_rates(begun, (before, args.nepochs), args.lr_end_factor, not args.no_lr_warmup)


def files_beside(path: Path) -> list[Path]:
    """List the networks that a run may have beside its checkpoint, which belong to no other run."""
    return [best_path(path), weights_path(path)]


def find_earlier_run(path: Path, args: argparse.Namespace, device: torch.device) -> TrainedNetwork | None:
    """Load the checkpoint that this command goes on from, if there is one.

    Raises:
        UserError: if the file, or one beside it, is something else, or was trained with other arguments.
    """
    if args.overwrite:
        return None
    if not path.exists():
        for other in (one for one in files_beside(path) if one.exists()):
            raise UserError(f"{other} exists, without {path.name}; {ANEW}")
        return None
    trained = load_network(path, device)
    is_best = not trained.saved.get("is_between_epochs", True)  # of earlier code, whose best networks were checkpoints
    if "optimizer_state" not in trained.saved or is_best:
        raise UserError(f"{path} holds a network without its training, which cannot be trained further; {ANEW}")
    may_differ = (*PLACES, "nepochs") if may_end_elsewhere(trained, args) else PLACES
    differing = differing_arguments(trained.arguments, vars(args), may_differ, make_parser().get_default)
    if differing:
        raise UserError(f"{path} was trained with {differing}; {ANEW}")
    return trained


def check_workers(workers: int) -> None:
    """Refuse more processes than the machine has cores.

    Raises:
        UserError: if there are too many.
    """
    n_cores = os.cpu_count() or 1
    if workers > n_cores:
        raise UserError(f"{workers} workers: this machine has {n_cores} cores; ask for fewer")


def main() -> None:
    """Train, go on, or report that there is nothing left to do."""
    args = make_parser(__doc__).parse_args()
    check_workers(args.workers)
    device = choose_device(args.gpu, args.cpu, args.threads)
    path = args.dir_model / args.fn_out_model
    with claimed([path], "choose another --fn_out_model"):
        train(args, path, device)


def train(args: argparse.Namespace, path: Path, device: torch.device) -> None:
    """Train into a checkpoint that nobody else trains into."""
    earlier = find_earlier_run(path, args, device)
    views, validation = (
        training_views(args.episode_type, args.data_dir),
        validation_views(args.episode_type, args.data_dir),
    )
    training = Training(args, views, validation, device)
    weights = sum(parameter.numel() for parameter in training.model.parameters())
    print(
        f"{args.episode_type} ({views.size} episodes an epoch), {weights} weights, {describe_device(device)}, to {path}"
    )
    if earlier is not None:
        training.check_data(path, earlier)
    go_on = None if earlier is None else lambda: training.go_on_from(earlier)
    save, run = (lambda: training.save(path)), (lambda: training.run(path))
    steps = args.nepochs * training.steps_an_epoch
    run_or_go_on(path, args, steps, "step", lambda: training.saved_step, save, run, go_on, files_beside(path))


if __name__ == "__main__":
    run_script(main)
