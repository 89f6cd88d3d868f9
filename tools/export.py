"""Keep of a checkpoint what answering needs: the weights, in half precision if that changes no answer to its test.

    python -m tools.export --fn_in_model net_ME.tar --out out_models/trained/net_ME.tar

A checkpoint has 49 MB, two thirds of them Adam's moments; the file written here has 8 MB. It loads like any other, and
says what the network scored and which command trained it, but it cannot be trained further.
"""

import argparse
from pathlib import Path
from typing import Any

from checkpoint import Checkpoint, checkpoint_contents, load_checkpoint, save_checkpoint, without_places
from common.command_line import OneLineParser, add_model_folder, checkpoint_name, run_script, tar_path
from common.devices import add_device_options, choose_device
from common.errors import UserError
from evaluate import QUERIES_AT_ONCE, answer_episodes, count, find_test
from scan_util import add_data_folder

# What a checkpoint says of its training.
KEPT = ("provenance", "seconds", "device", "dropout_stream_of_seeds", "scan_files")


def slim(checkpoint: Checkpoint, data_dir: Path) -> tuple[dict[str, Any], str]:
    """Put the contents of a slim file together; may round the network's weights.

    Returns:
        The contents, and a line that says what the network scored and how its weights are kept.
    Raises:
        UserError: if the training is not finished.
    """
    if checkpoint.episode < checkpoint.num_episodes:
        raise UserError(f"the network has {checkpoint.episode} of {checkpoint.num_episodes} episodes; train it first")
    model, arguments = checkpoint.model, without_places(checkpoint.arguments)
    split, episodes = find_test(checkpoint, data_dir)
    exact = answer_episodes(checkpoint, episodes, QUERIES_AT_ONCE)
    contents = checkpoint_contents(model, checkpoint.experiment, checkpoint.validation, checkpoint.episode, arguments)
    halves = {name: weight.half() for name, weight in model.state_dict().items()}
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(halves)
    is_same = answer_episodes(checkpoint, episodes, QUERIES_AT_ONCE) == exact
    contents["model_state"] = {name: weight.cpu() for name, weight in (halves if is_same else weights).items()}
    right = count(exact).generalize
    contents["weights_only"] = {"split": split, "correct": right.correct, "total": right.total}
    contents |= {name: checkpoint.saved[name] for name in KEPT if name in checkpoint.saved}
    precision = "half" if is_same else "single precision, as half changes answers"
    return contents, f"{right.correct} of {right.total} right on {split}; weights in {precision}"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = "the checkpoint"
    parser.add_argument("--fn_in_model", type=checkpoint_name, required=True, metavar="NAME.tar", help=help_text)
    add_model_folder(parser)
    parser.add_argument("--out", type=tar_path, required=True, metavar="PATH.tar", help="the file to write")
    add_data_folder(parser)
    add_device_options(parser)
    return parser.parse_args()


def main() -> None:
    """Load, check, write."""
    args = parse_arguments()
    if args.out.exists():
        raise UserError(f"{args.out} exists; name another file")
    checkpoint = load_checkpoint(args.dir_model / args.fn_in_model, choose_device(args.gpu, args.cpu, args.threads))
    if checkpoint.is_original:
        raise UserError(f"{args.fn_in_model} is a file of the original release; export networks trained here")
    contents, description = slim(checkpoint, args.data_dir)
    save_checkpoint(args.out, contents)
    print(f"{args.out}: {description}, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_script(main)
