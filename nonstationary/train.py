"""Train a network to predict a piecewise-stationary source; stop and go on at any time.

    python -m nonstationary.train --data_distribution ptw --model lstm --fn_out_model net_lstm_ptw.tar

writes <dir_model>/<fn_out_model> and beside it the learning curve as .csv. A run is determined by its arguments:
interrupted and started again it ends with the very weights of an uninterrupted run (same machine, CPU).
"""

import argparse
from pathlib import Path

import torch

from common.command_line import OneLineParser, add_model_folder, checkpoint_name, positive_int, run_script
from common.devices import choose_device, describe_device, keep_freed_memory
from common.errors import UserError
from common.run_loop import ANEW, add_overwrite, claimed, differing_arguments, run_or_go_on
from nonstationary.network_file import TrainedNetwork, load_network
from nonstationary.options import (
    add_device_options,
    add_evaluation_set,
    add_source_options,
    competitors,
)
from nonstationary.sources import Source
from nonstationary.training import PLACES, Training
from nonstationary.training_options import (
    add_network_options,
    add_other_evaluation,
    add_training_options,
    check,
    reference_of,
)


def make_parser() -> OneLineParser:
    """Declare the command line."""
    parser = OneLineParser(__doc__)
    add_source_options(parser, Source())
    add_network_options(parser)
    add_training_options(parser)
    add_other_evaluation(add_evaluation_set(parser, n_eval=512))
    group = parser.add_argument_group("log and files")
    add = group.add_argument
    help_text = "exact predictors to compare with, comma between; differences are taken from the last (default: the "
    help_text += "exact mixture of the source of these sequences)"
    add("--competitors", type=competitors, metavar="NAMES", help=help_text)
    add("--eval_every", type=positive_int, default=250, metavar="N", help="steps from one evaluation to the next")
    add("--log_every", type=positive_int, default=250, metavar="N", help="steps from one log line to the next")
    add("--save_every", type=positive_int, default=1000, metavar="N", help="steps from one checkpoint to the next")
    add("--fn_out_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(group)
    add_overwrite(group, has_resume=True)
    add_device_options(parser)
    return parser


def find_earlier_run(path: Path, args: argparse.Namespace, device: torch.device) -> TrainedNetwork | None:
    """Load the checkpoint that this command goes on from, if there is one.

    Raises:
        UserError: if the file is something else, or was trained with other arguments.
    """
    if args.overwrite or not path.exists():
        return None
    trained = load_network(path, device)
    may_change = {*PLACES, "train_steps"} if args.final_lr_fraction == 1 else {*PLACES}
    differing = differing_arguments(trained.arguments, vars(args), may_change, make_parser().get_default)
    if differing:
        raise UserError(f"{path} was trained with {differing}; {ANEW}")
    if trained.step > args.train_steps:
        raise UserError(f"{path} has {trained.step} steps, more than --train_steps {args.train_steps}; {ANEW}")
    return trained


def main() -> None:
    """Train, go on, or report that there is nothing left to do."""
    args = make_parser().parse_args()
    args.competitors = args.competitors or (reference_of(args),)
    check(args)
    device = choose_device(args.gpu, args.cpu, args.threads)
    keep_freed_memory()
    path = args.dir_model / args.fn_out_model
    with claimed([path], "choose another --fn_out_model"):
        train(args, path, device)


def train(args: argparse.Namespace, path: Path, device: torch.device) -> None:
    """Train into a checkpoint that nobody else trains into."""
    earlier = find_earlier_run(path, args, device)
    training = Training(args, device, None if earlier is None else earlier.network)
    trained = sum(parameter.numel() for parameter in training.network.parameters() if parameter.requires_grad)
    print(f"{args.model} ({trained} weights) on {args.data_distribution}, {describe_device(device)}, to {path}")
    go_on = None if earlier is None else lambda: training.go_on_from(earlier)
    save, run = (lambda: training.save(path)), (lambda: training.run(path))
    run_or_go_on(path, args, args.train_steps, "step", lambda: training.saved_step, save, run, go_on)


if __name__ == "__main__":
    run_script(main)
