"""Time a training step of several networks, sequences drawn.

    python -m nonstationary.bench

Prints and writes the median of several repeats: CPU seconds of one thread, or wall seconds on a GPU, where a step is
replayed from a CUDA graph and "eager" is the same step without it, in turns.
"""

import argparse
from pathlib import Path

import torch

from common.command_line import OneLineParser, json_path, positive_int, run_script
from common.devices import add_device_options, choose_device, describe_device, keep_freed_memory
from common.files import save_json
from common.provenance import provenance
from common.timing import medians
from nonstationary import options
from nonstationary.result_files import RESULTS
from nonstationary.training import Training

SMALL, LARGE = "--batch_size 64 --seq_length 64", "--batch_size 128 --seq_length 256"
TRAININGS = (
    *(f"{SMALL} --hidden_size 64 --model {model}" for model in ("lstm", "rnn", "stack_rnn", "stack_lstm")),
    *(f"{LARGE} --hidden_size 128 --model {model}" for model in ("lstm", "rnn")),
    *(f"{SMALL} --model transformer --pos_enc {name}" for name in ("none", "sincos", "alibi", "relative")),
)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("--repeats", type=positive_int, default=7, metavar="N", help="measurements of each figure")
    help_text = f"the result file (default: {RESULTS}/bench_<cpu or cuda>.json)"
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help=help_text)
    add_device_options(parser)
    return parser.parse_args()


def timed(command: str, repeats: int, device: torch.device) -> dict[str, float]:
    """Time a step of a training: seconds by name."""
    args = options.make_parser().parse_args([*command.split(), "--fn_out_model", "none.tar"])
    options.complete(args)
    training = Training(args, Path("none.tar"), device)
    steps = {"step_seconds": training.step}
    if training.graphed is not None:
        eager = Training(args, Path("none.tar"), device)
        eager.graphed = None
        steps["eager_seconds"] = eager.step
    return dict(zip(steps, medians(list(steps.values()), repeats, device), strict=True))


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    keep_freed_memory()
    training = []
    for command in TRAININGS:
        seconds = timed(command, args.repeats, device)
        times = (f"{name.removesuffix('_seconds')} {1000 * one:.1f} ms" for name, one in seconds.items())
        print(f"{command}: {', '.join(times)}", flush=True)
        training.append({"options": command, **seconds})
    measured = {"device": describe_device(device), "repeats": args.repeats, "training": training}
    path = args.fn_out_results or RESULTS / f"bench_{device.type}.json"
    save_json(path, {**measured, "provenance": provenance()})
    print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
