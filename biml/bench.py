"""Time the generation of episodes, the making of batches, a training step and decoding, beside their plain versions.

    python -m biml.bench

Everything is measured in CPU seconds (wall seconds on a GPU) as the median of several repeats; the drawing of
episodes, in CPU seconds, once for many. What is compared takes turns and must come out alike. A training step is of 25
episodes on a GPU and of 5 on a CPU. Writes JSON.
"""

import argparse
import itertools
import platform
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from biml.batch import QueryTensors, assemble
from biml.decode import decode
from biml.episode_sets import EpisodeSet, generate
from biml.episode_types import FULL, ViewSet, random_views
from biml.model import BIML, ModelConfig
from biml.plain_reference import plain_batch, plain_decode
from biml.stream import EPISODES, dice_of
from biml.training_step import make_optimizer, train_on_batch
from biml.views import View
from biml.vocabulary import MAIN
from common.command_line import OneLineParser, json_path, positive_int, run_script
from common.devices import add_device_options, choose_device, describe_device
from common.files import save_json
from common.provenance import provenance
from common.timing import medians, seconds

BATCH = 25  # episodes, as in training
N_EPISODES = 500  # generated
SLOW_BATCH = 5  # episodes of a training step on a CPU
DECODED = 10  # episodes
LONGEST_ANSWER = 10
MATRIX_SIZE = 2048  # of the product that shows what the machine can do


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("--repeats", type=positive_int, default=7, metavar="N", help="measurements of each figure")
    help_text = "the result file (default: out_models/bench_biml_<cpu or cuda>.json)"
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help=help_text)
    add_device_options(parser)
    return parser.parse_args()


def bench_generation() -> tuple[ViewSet, float]:
    """Generate episodes; returns the views that training makes of them, and the CPU seconds an episode."""
    generated = []
    total = seconds(
        lambda: generated.append(generate(EpisodeSet(seed=1, split="train"), N_EPISODES)),
        torch.device("cpu"),
    )
    return random_views(generated[0].renumbered(MAIN), FULL, bent=True), total / N_EPISODES


def bench_batches(views: ViewSet, repeats: int) -> dict[str, float]:
    """Time a batch of 25 episodes: making the views, and putting the arrays together in both ways."""
    numbers = itertools.cycle(range(views.size))
    epochs = itertools.count(1)

    def make() -> list[View]:
        epoch, chosen = next(epochs), itertools.islice(numbers, BATCH)
        return [view for number in chosen for view in views.make(number, dice_of(1, EPISODES, epoch, number))]

    for _ in range(0, views.size, BATCH):  # until the rules are known, as they are soon in a training
        made_views = make()
    cpu = torch.device("cpu")
    fast, plain = assemble(made_views, MAIN).tensors(cpu), plain_batch(made_views, MAIN)
    if not all(torch.equal(*pair) for pair in zip(fast, plain, strict=True)):
        raise RuntimeError("the batch differs from its plain version")
    works = [make, lambda: assemble(made_views, MAIN).tensors(cpu), lambda: plain_batch(made_views, MAIN)]
    return dict(zip(("views", "assembly", "plain_assembly"), medians(works, repeats, cpu), strict=True))


def batch_of(views: ViewSet, n_episodes: int, device: torch.device) -> QueryTensors:
    """Make a training batch."""
    made_views = [view for number in range(n_episodes) for view in views.make(number, dice_of(1, EPISODES, 1, number))]
    return assemble(made_views, MAIN).tensors(device)


def bench_step(batch: QueryTensors, repeats: int, device: torch.device) -> dict[str, float]:
    """Time a training step in turns with a large matrix product, whose rate the step's is a share of."""
    torch.manual_seed(1)
    model = BIML(ModelConfig()).to(device)
    optimizer = make_optimizer(model, 0.001)
    left, right = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device) for _ in range(2))
    with FlopCounterMode(display=False) as counter:
        train_on_batch(model, optimizer, batch)
    operations = counter.get_total_flops()
    step, product = medians([lambda: train_on_batch(model, optimizer, batch), lambda: left @ right], repeats, device)
    rate = 2 * MATRIX_SIZE**3 / product
    return {
        "seconds": step,
        "gflop": operations / 1e9,
        "matrix_gflop_per_s": rate / 1e9,
        "share_of_matrix_rate": operations / step / rate,
    }


def bench_decoding(batch: QueryTensors, repeats: int, device: torch.device) -> dict[str, float]:
    """Time greedy answers of an untrained network, in both ways."""
    torch.manual_seed(1)
    model = BIML(ModelConfig()).to(device).eval()
    if decode(model, batch.source, LONGEST_ANSWER) != plain_decode(model, batch.source, LONGEST_ANSWER):
        raise RuntimeError("the answers differ from those of the plain version")
    works = [
        lambda: model.encode(batch.source),
        lambda: decode(model, batch.source, LONGEST_ANSWER),
        lambda: plain_decode(model, batch.source, LONGEST_ANSWER),
    ]
    with torch.inference_mode():
        return dict(zip(("encoding_alone", "seconds", "plain_seconds"), medians(works, repeats, device), strict=True))


def show(report: dict[str, Any]) -> str:
    """Write the figures for people."""
    batch, step, answers = report["batch"], report["step"], report["decoding"]
    kind = "CPU" if report["device"].startswith("CPU") else "wall"
    whole = batch["views"] + batch["assembly"]
    return "\n".join(
        [
            f"{report['device']}, median of {report['repeats']} repeats, {kind} seconds",
            f"generation      {1000 * report['generation_seconds']:9.2f} ms an episode",
            f"batch of {BATCH}     {1000 * whole:9.2f} ms: views {1000 * batch['views']:.2f}, "
            f"arrays {1000 * batch['assembly']:.2f}",
            f"  plain arrays  {1000 * batch['plain_assembly']:9.2f} ms, "
            f"{batch['plain_assembly'] / batch['assembly']:.0f} times as long",
            f"training step   {step['seconds']:9.3f} s of {' x '.join(map(str, report['step_shape']))} symbols, "
            f"{step['gflop']:.0f} GFLOP, {step['share_of_matrix_rate']:.0%} of the matrix rate "
            f"({step['matrix_gflop_per_s']:.0f} GFLOP/s)",
            f"decoding        {answers['seconds']:9.3f} s for {report['n_decoded']} queries, "
            f"{answers['encoding_alone']:.3f} of them for reading the sources",
            f"  plain         {answers['plain_seconds']:9.3f} s, "
            f"{answers['plain_seconds'] / answers['seconds']:.1f} times as long",
        ]
    )


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    views, generation = bench_generation()
    trained = batch_of(views, BATCH if device.type == "cuda" else SLOW_BATCH, device)
    decoded = batch_of(views, DECODED, device)
    report = {
        "device": describe_device(device),
        "processor": platform.processor() or platform.machine(),
        "repeats": args.repeats,
        "generation_seconds": generation,
        "batch": bench_batches(views, args.repeats),
        "step": bench_step(trained, args.repeats, device),
        "step_shape": list(trained.source.shape),
        "decoding": bench_decoding(decoded, args.repeats, device),
        "n_decoded": len(decoded.source),
        "provenance": provenance(),
    }
    print(show(report))
    path = args.fn_out_results or Path("out_models") / f"bench_biml_{device.type}.json"
    save_json(path, report)
    print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
