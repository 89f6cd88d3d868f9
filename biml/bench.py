"""Time a training step and greedy answers, on random episodes of the paper's sizes.

    python -m biml.bench --threads 1

Prints the median of several repeats, in CPU seconds (wall seconds on a GPU), and writes it as JSON. By default a step
has 25 episodes on a GPU, as in training, and 5 on a CPU.
"""

import argparse
import platform
from pathlib import Path

import numpy as np
import torch

from biml.decode import decode
from biml.episode import sample_episode
from biml.episode_types import FULL, random_views
from biml.model import BIML, ModelConfig
from biml.packed_episodes import pack
from biml.stream import Batches
from biml.training_step import make_optimizer, train_on_batch
from biml.vocabulary import MAIN
from common.command_line import OneLineParser, json_path, positive_int, run_script
from common.devices import add_device_options, choose_device, describe_device
from common.files import save_json
from common.provenance import provenance
from common.timing import medians

LONGEST_ANSWER = 10


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("--batch_size", type=positive_int, metavar="B", help="episodes of a step, and to be answered")
    parser.add_argument("--repeats", type=positive_int, default=7, metavar="N", help="measurements of each figure")
    help_text = "the result file (default: out_models/bench_biml_<cpu or cuda>.json)"
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help=help_text)
    add_device_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    size = args.batch_size or (25 if device.type == "cuda" else 5)
    packed = pack((sample_episode(np.random.default_rng(seed)) for seed in range(size)), {}).renumbered(MAIN)
    views = random_views(packed, FULL, bent=True)
    batch = Batches(lambda: views, size, seed=1)[0].tensors(device)
    torch.manual_seed(1)
    trained, asked = BIML(ModelConfig()).to(device), BIML(ModelConfig()).to(device).eval()
    optimizer = make_optimizer(trained, 0.001)
    works = [
        lambda: train_on_batch(trained, optimizer, batch),
        lambda: decode(asked, batch.source, LONGEST_ANSWER),
    ]
    step, answers = medians(works, args.repeats, device)
    report = {
        "device": describe_device(device),
        "processor": platform.processor() or platform.machine(),
        "repeats": args.repeats,
        "shape": list(batch.source.shape),
        "step_seconds": step,
        "answers_seconds": answers,
        "provenance": provenance(),
    }
    queries, length = batch.source.shape
    print(f"{report['device']}, median of {args.repeats} repeats, {queries} queries of {length} symbols")
    print(f"training step: {step:.3f} s\nanswers of {LONGEST_ANSWER} symbols: {answers:.3f} s")
    path = args.fn_out_results or Path("out_models") / f"bench_biml_{device.type}.json"
    save_json(path, report)
    print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
