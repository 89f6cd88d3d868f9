"""Train a network to predict a piecewise-stationary source; stop and resume at any time.

    python -m nonstationary.train --data_distribution ptw --model lstm --fn_out_model net_lstm_ptw.tar

writes <dir_model>/<fn_out_model> and beside it the learning curve as .csv. A run is determined by its arguments:
interrupted and started again it ends with the very weights of an uninterrupted run (same machine, CPU).
"""

import argparse
from pathlib import Path

import torch

from common.command_line import run_script
from common.devices import choose_device, describe_device, keep_freed_memory
from common.errors import UserError
from common.run_loop import ANEW, check_same_arguments, claimed, refused_if_damaged
from nonstationary.networks import TrainedNetwork, load_network
from nonstationary.options import EVAL_SEED, complete, make_parser
from nonstationary.training import PLACES, Training

GONE = {"eval_every": 250, "eval_seed": EVAL_SEED}
"""Options of earlier versions that said what the curve shows, with their defaults."""


def find_earlier_run(path: Path, args: argparse.Namespace, device: torch.device) -> TrainedNetwork | None:
    """Load the checkpoint that this command resumes, if there is one.

    Raises:
        UserError: if the file is something else, or was trained with other arguments.
    """
    if args.overwrite or not path.exists():
        return None
    trained = load_network(path, device)
    may_change = {*PLACES, "train_steps"} if args.final_lr_fraction == 1 else {*PLACES}
    now = vars(args) | {name: default for name, default in GONE.items() if name in trained.arguments}
    check_same_arguments(path, trained.arguments, now, may_change, make_parser().get_default)
    if trained.step > args.train_steps:
        raise UserError(f"{path} has {trained.step} steps, more than --train_steps {args.train_steps}; {ANEW}")
    return trained


def main() -> None:
    """Train, resume, or report that there is nothing left to do."""
    args = make_parser(__doc__).parse_args()
    complete(args)
    device = choose_device(args.gpu, args.cpu, args.threads)
    keep_freed_memory()
    path = args.dir_model / args.fn_out_model
    with claimed([path], "choose another --fn_out_model"):
        earlier = find_earlier_run(path, args, device)
        training = Training(args, path, device, None if earlier is None else earlier.network)
        trained = sum(weight.numel() for weight in training.network.parameters() if weight.requires_grad)
        print(f"{args.model} ({trained} weights) on {args.data_distribution}, {describe_device(device)}, to {path}")
        if earlier is not None:
            with refused_if_damaged(path):
                training.resume_from(earlier)
        if not training.is_finished:
            training.run()


if __name__ == "__main__":
    run_script(main)
