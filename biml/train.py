"""Train a network on a stream of episodes; stop and resume at any time.

    python -m biml.train --episode_type algebraic+biases --fn_out_model net_BIML.tar

writes <dir_model>/<fn_out_model> after the first step, after every epoch and when it is interrupted, and beside it the
learning curve as .csv. A run is determined by its arguments: interrupted and started again it ends with the very
weights of an uninterrupted run (same machine, CPU). Episodes of random grammars come from `python -m biml.generate`.

The command that resumes may have another --nepochs, as long as the learning rates have been the same up to now.
"""

import argparse
import functools
from pathlib import Path

import torch

from biml.episode_types import TRAINED, training_views, validation_views
from biml.model import ACTIVATIONS, ModelConfig
from biml.network_file import TrainedNetwork, load_network
from biml.stream import Batches
from biml.training import PLACES, Training, beside
from biml.training_step import same_rates
from common.command_line import (
    OneLineParser,
    add_model_folder,
    checkpoint_name,
    dropout_probability,
    folder_path,
    natural_int,
    positive_float,
    positive_int,
    run_script,
)
from common.devices import add_device_options, choose_device, describe_device, usable_cores
from common.errors import UserError
from common.run_loop import ANEW, add_overwrite, check_same_arguments, claimed, refused_if_damaged


def make_parser() -> OneLineParser:
    """Declare the command line; the names and defaults are those of the published code."""
    parser = OneLineParser(__doc__)
    add = parser.add_argument_group("training").add_argument
    help_text = f"what to train on: {', '.join(TRAINED)}"
    add("--episode_type", choices=TRAINED, default="retrieve", metavar="TYPE", help=help_text)
    add("--batch_size", type=positive_int, default=25, metavar="B", help="episodes of a step")
    add("--nepochs", type=positive_int, default=50, metavar="N", help="passes over the episodes")
    add("--lr", type=positive_float, default=0.001, help="AdamW's highest learning rate")
    add("--lr_end_factor", type=positive_float, default=0.05, metavar="F", help="fraction of --lr in the last epoch")
    add("--no_lr_warmup", action="store_true", help="let the rate fall from the first epoch on, without a rise before")
    add("--seed", type=natural_int, default=1, help="of weights, dropout, and what the episodes look like")
    add = parser.add_argument_group("network").add_argument
    default = ModelConfig()
    add("--nlayers_encoder", type=positive_int, default=default.nlayers_encoder, metavar="N", help="encoder layers")
    add("--nlayers_decoder", type=positive_int, default=default.nlayers_decoder, metavar="N", help="decoder layers")
    add("--emb_size", type=positive_int, default=default.emb_size, metavar="E", help="width, a multiple of 8")
    add("--ff_mult", type=positive_int, default=default.ff_mult, metavar="N", help="width of feed-forward layers, in E")
    add("--dropout", type=dropout_probability, default=default.dropout, metavar="P", help="in training")
    add("--act", choices=ACTIVATIONS, default=default.act, help="activation of the feed-forward layers")
    group = parser.add_argument_group("files")
    add = group.add_argument
    add("--fn_out_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(group)
    help_text = "folder with data_algebraic/ (of biml.generate) and data_human/ (your own download)"
    add("--data_dir", type=folder_path, default=Path("data"), metavar="DIR", help=help_text)
    add("--save_weights", action="store_true", help="also keep what using the network takes, NAME_weights.tar")
    add("--save_best", action="store_true", help="also keep the network with the lowest validation loss, NAME_best.tar")
    help_text = "fraction of the epochs, the first ones, whose losses do not count as the lowest"
    add("--save_best_skip", type=dropout_probability, default=0.2, metavar="F", help=help_text)
    add_overwrite(group, has_resume=True)
    add_device_options(parser)
    add = parser.add_argument_group("speed and time, off by default").add_argument
    add("--workers", type=natural_int, default=0, metavar="N", help="processes that make batches ahead; 0: none")
    add("--compile", action="store_true", help="compile the network (torch.compile)")
    add("--bf16", action="store_true", help="compute products in bfloat16")
    help_text = "begin no epoch that would not end within M minutes; the same command resumes"
    add("--minutes", type=positive_float, metavar="M", help=help_text)
    return parser


def may_end_elsewhere(trained: TrainedNetwork, args: argparse.Namespace) -> bool:
    """Say whether a checkpoint is one of a run with this `--nepochs` too; which losses are the best depends on it."""
    before = trained.arguments.get("nepochs")
    if before is None or args.save_best:
        return False
    begun = trained.epoch + (trained.saved.get("done_in_epoch", 0) > 0)
    return same_rates(begun, (before, args.nepochs), args.lr_end_factor, not args.no_lr_warmup)


def find_earlier_run(path: Path, args: argparse.Namespace, device: torch.device) -> TrainedNetwork | None:
    """Load the checkpoint that this command resumes, if any; UserError if it, or a file beside it, is another run's."""
    if args.overwrite:
        return None
    if not path.exists():
        for other in (one for one in files_beside(path) if one.exists()):
            raise UserError(f"{other} exists, without {path.name}; {ANEW}")
        return None
    trained = load_network(path, device)
    if "optimizer_state" not in trained.saved:
        raise UserError(f"{path} holds a network without its training, which cannot be trained further; {ANEW}")
    may_differ = (*PLACES, "nepochs") if may_end_elsewhere(trained, args) else PLACES
    check_same_arguments(path, trained.arguments, vars(args), may_differ, make_parser().get_default)
    return trained


def files_beside(path: Path) -> list[Path]:
    """List the networks that a run may have beside its checkpoint, which belong to no other run."""
    return [beside(path, kind) for kind in ("best", "weights")]


def train(args: argparse.Namespace, path: Path, device: torch.device) -> None:
    """Train into a checkpoint that nobody else trains into."""
    earlier = find_earlier_run(path, args, device)
    find_views = functools.partial(training_views, args.episode_type, args.data_dir)
    batches = Batches(find_views, args.batch_size, args.seed)
    size = batches.views.size  # first, should there be no episodes
    training = Training(args, batches, validation_views(args.episode_type, args.data_dir), path, device)
    weights = sum(parameter.numel() for parameter in training.model.parameters())
    print(f"{args.episode_type} ({size} episodes an epoch), {weights} weights, {describe_device(device)}, to {path}")
    if earlier is not None and earlier.saved.get("data", training.data) != training.data:
        advice = f"point --data_dir at those, or {ANEW}"
        raise UserError(f"{path} was trained on other episodes than those in {args.data_dir}; {advice}")
    if earlier is not None:
        with refused_if_damaged(path):
            training.resume_from(earlier)
    if not training.is_finished:
        training.run(replaced=files_beside(path) if args.overwrite else ())


def main() -> None:
    """Train, resume, or report that there is nothing left to do."""
    args = make_parser().parse_args()
    if args.workers > usable_cores():
        raise UserError(f"{args.workers} workers: there are {usable_cores()} cores to use; ask for fewer")
    device = choose_device(args.gpu, args.cpu, args.threads)
    path = args.dir_model / args.fn_out_model
    with claimed([path], "choose another --fn_out_model"):
        train(args, path, device)


if __name__ == "__main__":
    run_script(main)
