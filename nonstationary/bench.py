"""Time the exact predictors, the sampling of sequences and a training step beside torch's bare LSTM or ReLU-RNN.

    python -m nonstationary.bench

Everything is measured in CPU seconds of one thread (wall seconds on a GPU) as the median of several repeats; a step
and the bare network take turns, so that a busy machine slows both. On a GPU the step is replayed from a CUDA graph, and
"eager" is the same step without it; each waits for the sequences, which training draws while the GPU is at work. Writes
JSON.
"""

import argparse
import platform
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.command_line import OneLineParser, json_path, positive_int, run_script
from common.devices import choose_device, describe_device, keep_freed_memory
from common.files import save_json
from common.provenance import provenance
from common.timing import medians
from nonstationary.graphed_step import GraphedStep
from nonstationary.network_config import POSITIONS, RECURRENT, NetworkConfig
from nonstationary.networks import make_network
from nonstationary.options import add_device_options
from nonstationary.predictors import lin, ptw
from nonstationary.result_files import RESULTS
from nonstationary.sources import Source, sample
from nonstationary.training_step import train_on_batch

SHAPES = ((64, 64, 64), (128, 256, 128))  # batch, steps, units of a training step
SLOW_SHAPE = SHAPES[0]  # for other networks than these
FUSED = ("lstm", "rnn")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("--repeats", type=positive_int, default=7, metavar="N", help="measurements of each figure")
    help_text = f"the result file (default: {RESULTS}/bench_<cpu or cuda>.json)"
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help=help_text)
    add_device_options(parser)
    return parser.parse_args()


def bench_predictors(repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Time PTW, LIN and the source."""
    generator = torch.Generator().manual_seed(1)
    many = sample(Source(), 1000, 256, generator).symbols.to(device)
    works: dict[str, Callable[[], Any]] = {
        "PTW, 1000 sequences of 256": lambda: ptw(many),
        "LIN, 200 sequences of 256": lambda: lin(many[:200]),
        "PTW source, 1000 sequences of 256": lambda: sample(Source(), 1000, 256, generator),
        "LIN source, 1000 sequences of 256": lambda: sample(Source("lin"), 1000, 256, generator),
    }
    return [
        {"what": what, "seconds": one}
        for what, one in zip(works, medians(list(works.values()), repeats, device), strict=True)
    ]


def bench_training(config: NetworkConfig, shape: tuple[int, int, int], repeats: int, device: torch.device) -> Any:
    """Time a whole training step, sequences drawn, beside forward and backward pass of a bare network of that shape.

    It is torch's own ReLU-RNN for one of ours, else its LSTM.
    """
    batch, length, hidden = shape
    generator = torch.Generator().manual_seed(1)
    network = make_network(config, seed=1).to(device)
    is_gpu = device.type == "cuda"
    trained = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(trained, fused=True, capturable=is_gpu)
    bare: nn.RNN | nn.LSTM
    if config.model == "rnn":
        bare = nn.RNN(config.num_symbols, hidden, nonlinearity="relu").to(device)
    else:
        bare = nn.LSTM(config.num_symbols, hidden).to(device)
    symbols = sample(Source(), batch, length, generator).symbols.to(device)
    inputs = functional.one_hot(symbols.T, config.num_symbols).float()

    def draw() -> Tensor:
        return sample(Source(), batch, length, generator).symbols.to(device)

    def eager() -> None:
        train_on_batch(network, optimizer, draw())

    def bare_step() -> None:
        bare.zero_grad()
        bare(inputs)[0].mean().backward()

    works: dict[str, Callable[[], Any]] = {"step_seconds": eager, "bare_seconds": bare_step}
    if is_gpu:
        graphed = GraphedStep(network, optimizer)
        works = {"step_seconds": lambda: graphed(draw()), "eager_seconds": eager, "bare_seconds": bare_step}
    times = dict(zip(works, medians(list(works.values()), repeats, device), strict=True))
    return {"network": asdict(config), "shape": shape, **times}


def name_of(network: dict[str, Any]) -> str:
    """Name a network for people."""
    return ", ".join([network["model"], *([network["pos_enc"]] if network["model"] == "transformer" else [])])


def show(report: dict[str, Any]) -> str:
    """Write the tables for people."""
    kind = "CPU" if report["device"].startswith("CPU") else "wall"
    lines = [f"{report['device']}, median of {report['repeats']} repeats, {kind} seconds", ""]
    lines += [f"{one['what']:<36}{one['seconds']:>9.3f} s" for one in report["predictors"]]
    lines += ["", f"{'training step':<22}{'B x T x H':>14}{'step':>11}{'bare':>12}{'ratio':>8}"]
    for one in report["training"]:
        shape = " x ".join(map(str, one["shape"]))
        own, plain = one["step_seconds"], one["bare_seconds"]
        ratio = f"{own / plain:.2f}" if one["network"]["model"] in RECURRENT else "—"  # another kind of network
        times = f"{1000 * own:>8.1f} ms{1000 * plain:>9.1f} ms{ratio:>8}"
        if "eager_seconds" in one:
            times += f"   eager {1000 * one['eager_seconds']:.1f} ms"
        lines.append(f"{name_of(one['network']):<22}{shape:>14}{times}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    keep_freed_memory()
    subjects = [(NetworkConfig(name, hidden_size=shape[2]), shape) for name in FUSED for shape in SHAPES]
    subjects += [
        (NetworkConfig(name, hidden_size=SLOW_SHAPE[2]), SLOW_SHAPE) for name in RECURRENT if name not in FUSED
    ]
    subjects += [(NetworkConfig("transformer", pos_enc=name), SLOW_SHAPE) for name in POSITIONS]
    training = [bench_training(config, shape, args.repeats, device) for config, shape in subjects]
    report = {
        "device": describe_device(device),
        "processor": platform.processor() or platform.machine(),
        "repeats": args.repeats,
        "predictors": bench_predictors(args.repeats, device),
        "training": training,
        "provenance": provenance(),
    }
    path = args.fn_out_results or RESULTS / f"bench_{device.type}.json"
    save_json(path, report)
    print(show(report))
    print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
