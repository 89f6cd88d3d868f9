"""Time training steps, taken just as `biml.train` takes them, and tell their losses; no network is saved.

    python -m biml.steps --steps 200 --episode_type algebraic+biases --workers 8 --bf16

takes every option of `biml.train` that says what a step is. Milliseconds of a step, batches included, and of a
validation are printed; --fn_out_results also gets the loss of every step in nats a symbol.
"""

import argparse
import itertools
import math
import time
from typing import Any

import torch

import biml.training
from biml.episode_types import training_views, validation_views
from biml.workers import Batches, all_batches
from common.command_line import OneLineParser, json_path, natural_int, positive_int, run_script
from common.devices import choose_device, describe_device
from common.errors import UserError
from common.files import save_json
from common.provenance import provenance


def parse_arguments() -> tuple[argparse.Namespace, argparse.Namespace]:
    """Read the command line; returns what is asked here, and the arguments of the training."""
    parser = OneLineParser(__doc__)
    parser.add_argument("--steps", type=positive_int, default=200, metavar="N", help="how many are timed")
    parser.add_argument(
        "--warm_up", type=natural_int, default=10, metavar="N", help="steps before these, compilation among them"
    )
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    parser.add_argument("--no_validation", action="store_true", help="take steps only")
    own, others = parser.parse_known_args()
    return own, biml.training.make_parser().parse_args([*others, "--fn_out_model", "unsaved.tar"])


def wall_seconds(device: torch.device) -> float:
    """Read the clock once the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def take_steps(training: biml.training.Training, warm_up: int, steps: int) -> dict[str, Any]:
    """Take steps; returns what is measured."""
    args, device = training.args, training.device
    source = Batches(args.episode_type, args.data_dir, args.batch_size, args.seed)
    an_epoch = training.steps_an_epoch
    epochs = range(1, 1 + math.ceil((warm_up + steps) / an_epoch))
    sums = [training.loss_sum.clone()]
    began = wall_seconds(device)
    with all_batches(source, training.views, epochs, 0, args.workers) as made:
        for number, arrays in enumerate(itertools.islice(made, warm_up + steps)):
            if number == warm_up:
                began = wall_seconds(device)
            training.train_one(arrays, 1 + number // an_epoch, number % an_epoch)
            sums.append(training.loss_sum.clone())
        took = wall_seconds(device) - began
    losses = torch.stack(sums).diff().tolist()
    return {"milliseconds": 1000 * took / steps, "losses": losses, "shape": list(arrays.shape)}


def time_validation(training: biml.training.Training) -> dict[str, Any]:
    """Validate twice, the second time by the clock."""
    training.validate()
    began = wall_seconds(training.device)
    loss = training.validate()
    return {"validation_milliseconds": 1000 * (wall_seconds(training.device) - began), "validation_loss": loss}


def main() -> None:
    """Measure, print, write."""
    own, args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    views, validation = (find(args.episode_type, args.data_dir) for find in (training_views, validation_views))
    training = biml.training.Training(args, views, validation, device)
    steps = args.nepochs * training.steps_an_epoch
    if own.warm_up + own.steps > steps:
        raise UserError(f"{own.warm_up} and {own.steps} steps: --nepochs {args.nepochs} has {steps}; ask for fewer")
    measured = take_steps(training, own.warm_up, own.steps)
    if not own.no_validation:
        measured |= time_validation(training)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    about = {"device": describe_device(device), "peak_bytes": peak, "arguments": training.arguments}
    if own.fn_out_results:
        save_json(own.fn_out_results, {**measured, **about, "workers": args.workers, "provenance": provenance()})
    print(
        f"{describe_device(device)}: {measured['milliseconds']:.2f} ms a step of {measured['shape']}, "
        f"losses {measured['losses'][0]:.4f} to {measured['losses'][-1]:.4f}"
    )
    if not own.no_validation:
        print(f"{measured['validation_milliseconds']:.0f} ms a validation, loss {measured['validation_loss']:.4f}")


if __name__ == "__main__":
    run_script(main)
