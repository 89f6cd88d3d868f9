"""The first 20 losses of a tiny network that trains on ME, with a drop of the learning rate after the tenth.

    python tests/golden/curve.py

writes them to curve.json beside this file. They were written once and are not to change unless what a seed gives is
meant to change, which makes every result of a run before incomparable with those after.
"""

import itertools
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from earlier_runs import Plan
from generate_episode import find_experiment
from train import Training, complete, make_parser

PATH = Path(__file__).with_name("curve.json")
COMMAND = ("--emb_size", "8", "--lr", "0.01", "--lr_decay_schedule", "10", "--seed", "1", "--cpu")
N_EPISODES = 20


def losses() -> list[float]:
    """Train and give each episode's loss, in nats per symbol."""
    parser = make_parser()
    args = complete(parser.parse_args(COMMAND), 1, parser)
    training = Training([Plan(args, None)], find_experiment(args.episode_type), torch.device("cpu"), files=[])
    sums = [0.0]
    for _ in range(N_EPISODES):
        training.step()
        training.done += 1
        sums.append(training.loss_sums.item())
    return [after - before for before, after in itertools.pairwise(sums)]


if __name__ == "__main__":
    PATH.write_text(json.dumps({"command": COMMAND, "losses": [round(loss, 6) for loss in losses()]}, indent=1) + "\n")
