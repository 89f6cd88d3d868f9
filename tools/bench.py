"""Measure training and scoring against a plain version of the same arithmetic, in turns in the same run.

    python -m tools.bench                                      training, every episode type
    python -m tools.bench --checkpoint out_models/net_x.tar    scoring the test split of a trained network
    python -m tools.bench --side_by_side 4                     four training runs at once
    python -m tools.bench --gpu 0 --lock_step 1,5,10           so many runs in lock step

The plain version (plain_reference.py) pads everything and decodes step by step. Times are medians over episodes: CPU
time, which other work on the machine changes less than the wall clock, or wall time on a GPU and of runs side by side.
The arithmetic is counted from the shapes of each episode and held against the rate of a large matrix product.
"""

import argparse
import functools
import itertools
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from checkpoint import Checkpoint, load_checkpoint, network_config
from common.command_line import OneLineParser, count_list, json_path, positive_int, run_script
from common.devices import add_device_options, choose_device, describe_device
from common.errors import UserError
from common.files import save_json
from common.provenance import provenance
from common.timing import now
from episode_batch import EpisodeBatch, encode, vocabularies_of
from evaluate import QUERIES_AT_ONCE, answer, find_test, remember
from generate_episode import EXPERIMENTS, EpisodeSampler, find_experiment
from lockstep import LockStep, shapes_of
from model import MetaSeq2Seq, ModelConfig, make_network
from scan_util import add_data_folder
from tools.plain_reference import plain_logits, plain_train_on_episode
from train import random_streams
from training_step import clip_gradients, episode_loss, make_optimizer, train_on_episode

STAGES = ("sampling", "forward", "backward", "optimizer")
MATRIX_SIZE = 1024
BARRIER_TIMEOUT = 300  # seconds for all processes to be ready
UNTRAINED_QUERIES = 1000  # of a test split, answered by an untrained network


class Subject(NamedTuple):
    """A network at the default size with its optimizers and an endless stream of episodes."""

    model: MetaSeq2Seq
    optimizer: torch.optim.Adam
    plain_optimizer: torch.optim.Adam
    batches: Iterator[EpisodeBatch]
    device: torch.device


def make_setting(episode_type: str, data_dir: Path) -> tuple[EpisodeSampler, ModelConfig]:
    """Find what a training run at the defaults draws from, and what its network is made of."""
    experiment = find_experiment(episode_type)
    config = network_config(experiment, disable_memory=experiment.is_standard)
    return EpisodeSampler(experiment, data_dir, support_loss=True), config


def make_subject(episode_type: str, data_dir: Path, device: torch.device) -> Subject:
    """Set a training run up as train.py does."""
    rng, _ = random_streams(1)
    sampler, config = make_setting(episode_type, data_dir)
    vocabularies, model = vocabularies_of(sampler.experiment), make_network(config).to(device)
    optimizer = make_optimizer(model, 0.001)
    batches = (encode(sampler.training_episode(rng, ()), *vocabularies).to(device) for _ in itertools.count())
    return Subject(model, optimizer, torch.optim.Adam(model.parameters(), 0.001), batches, device)


def matrix_rate(device: torch.device) -> float:
    """Measure the rate of a large matrix product, in 10^9 floating-point operations a second."""
    left, right = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device) for _ in range(2))
    seconds = []
    for _ in range(12):
        start = now(device)
        left @ right
        seconds.append(now(device) - start)
    return 2 * MATRIX_SIZE**3 / statistics.median(seconds) / 1e9


def stage_seconds(subject: Subject) -> list[float]:
    """Take one training step and time its stages: sampling, forward, backward, optimizer."""
    marks = [now(subject.device)]
    batch = next(subject.batches)
    marks.append(now(subject.device))
    subject.model.train()
    subject.optimizer.zero_grad()
    loss = episode_loss(subject.model, batch)
    marks.append(now(subject.device))
    loss.backward()
    marks.append(now(subject.device))
    clip_gradients(subject.model)
    subject.optimizer.step()
    marks.append(now(subject.device))
    return [after - before for before, after in itertools.pairwise(marks)]


def whole_seconds(subject: Subject, step: Callable[[EpisodeBatch], torch.Tensor], episodes: int) -> float:
    """Time whole training steps, sampling included and nothing waited for in between; seconds per episode."""
    start = now(subject.device)
    for _ in range(episodes):
        step(next(subject.batches))
    return (now(subject.device) - start) / episodes


def count_operations(model: MetaSeq2Seq, batch: EpisodeBatch) -> float:
    """Count the floating-point operations of one training step on the network's matrix products.

    A product (a, b) x (b, c) has 2abc; backward costs twice the forward. Padding counts nothing.
    """
    m = model.config.emb_size

    def lstm(steps: float, directions: int) -> float:
        layers = [m + m, *[directions * m + m] * (model.config.nlayers - 1)]
        return sum(2 * steps * directions * 4 * m * inputs for inputs in layers)

    support_in, support_out, query_in, query_out = (
        float(side.lengths.sum()) for side in (batch.support_in, batch.support_out, batch.query_in, batch.query_out)
    )
    n_support = len(batch.support_in.lengths)
    attended = float(((batch.query_in.lengths + 1) * batch.query_out.lengths).sum())
    memory = 0.0
    if not model.config.disable_memory:
        memory = lstm(support_in + support_out, 2) + 4 * query_in * n_support * m + 2 * query_in * 2 * m * m
    forward = (
        memory
        + lstm(query_in, 2)
        + lstm(query_out, 1)
        + 4 * attended * m  # decoder attention
        + 2 * query_out * (2 * m * m + m * model.config.output_size)  # attention and output layers
    )
    return 3 * forward


def untrained_scoring(subject: Subject, episode_type: str, data_dir: Path) -> dict[str, float | None]:
    """Answer test queries with the untrained network, which hardly ever ends an answer early: the slowest case.

    Returns:
        Queries a second, and the most memory that torch has taken on the GPU, in GB, None on a CPU.
    """
    experiment = find_experiment(episode_type)
    vocabularies = vocabularies_of(experiment)
    _, validation_rng = random_streams(1)
    validation = EpisodeSampler(experiment, data_dir, support_loss=True).validation_episodes(validation_rng)
    _, episodes = find_test(
        Checkpoint(subject.model, *vocabularies, experiment, validation, 50, 0, 1, {}, {}), data_dir
    )
    batch = encode(episodes[0], *vocabularies).to(subject.device)
    queries = batch.query_in.rows(torch.arange(min(UNTRAINED_QUERIES, len(batch.query_in.lengths))))
    memory = remember(subject.model, batch)
    is_gpu = subject.device.type == "cuda"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(subject.device)
    start = now(subject.device)
    answer(subject.model, memory, queries, 50, QUERIES_AT_ONCE)
    peak = torch.cuda.max_memory_allocated(subject.device) / 2**30 if is_gpu else None
    return {"untrained_queries_per_s": len(queries.lengths) / (now(subject.device) - start), "peak_gb": peak}


def bench_training(episode_type: str, data_dir: Path, device: torch.device, repeats: int) -> dict[str, Any]:
    """Measure the training of one episode type."""
    subject = make_subject(episode_type, data_dir, device)
    operations = statistics.mean(count_operations(subject.model, next(subject.batches)) for _ in range(30))
    fast = functools.partial(train_on_episode, subject.model, subject.optimizer)
    plain = functools.partial(plain_train_on_episode, subject.model, subject.plain_optimizer)
    at_once = 10 if device.type == "cuda" else 2
    scoring = untrained_scoring(subject, episode_type, data_dir)
    for step in (fast, plain):  # warm up
        whole_seconds(subject, step, 2)
    pairs, stages, rates = [], [], []
    for _ in range(repeats):
        rates.append(matrix_rate(device))
        pairs.append((whole_seconds(subject, fast, at_once), whole_seconds(subject, plain, at_once)))
        stages.append(stage_seconds(subject))
    fast_ms, plain_ms = ([1000 * seconds for seconds in side] for side in zip(*pairs, strict=True))
    rate, median = statistics.median(rates), statistics.median(fast_ms)
    return {
        "episode_type": episode_type,
        "ms": median,
        "ms_range": [min(fast_ms), max(fast_ms)],
        "plain_ms": statistics.median(plain_ms),
        "ratio": statistics.median(plain / fast for fast, plain in pairs),
        "stages_ms": {
            name: 1000 * statistics.median(times) for name, times in zip(STAGES, zip(*stages, strict=True), strict=True)
        },
        "gflop": operations / 1e9,
        "matrix_gflop_per_s": rate,
        "share_of_matrix_rate": operations / 1e6 / median / rate,
        **scoring,
    }


def decode_in_own_process(
    how: str, path: Path, data_dir: Path, options: tuple[int | None, bool, int], pipe: Any
) -> None:
    """Answer a checkpoint's test split, fast or plainly, and report time and memory."""
    device = choose_device(*options)
    checkpoint = load_checkpoint(path, device)
    _, episodes = find_test(checkpoint, data_dir)
    batches = [encode(episode, *checkpoint.vocabularies).to(device) for episode in episodes]
    before, start = resource.getrusage(resource.RUSAGE_SELF), now(device)
    for batch in batches:
        if how == "plain":  # all at once, gradients on, to the last step
            plain_logits(checkpoint.model, batch, n_steps=checkpoint.max_length_eval).argmax(2).tolist()
        else:
            memory = remember(checkpoint.model, batch)
            answer(checkpoint.model, memory, batch.query_in, checkpoint.max_length_eval, QUERIES_AT_ONCE)
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), now(device) - start
    pipe.send(
        {
            "queries": sum(len(batch.query_in.lengths) for batch in batches),
            "seconds": seconds,
            "peak_gb": after.ru_maxrss / 2**20,
            "peak_above_start_gb": (after.ru_maxrss - before.ru_maxrss) / 2**20,
            "peak_gpu_gb": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
        }
    )


def received(pipe: Any) -> Any:
    """Take what a process sends.

    Raises:
        UserError: if it ended without sending anything.
    """
    try:
        return pipe.recv()
    except EOFError:
        raise UserError("a measuring process ended early; its error stands above, or memory ran out") from None


def bench_decoding(path: Path, data_dir: Path, options: tuple[int | None, bool, int], repeats: int) -> dict[str, Any]:
    """Measure the scoring of a test split in turns, each in a process of its own so that its peak memory is its own."""
    start_fresh = multiprocessing.get_context("spawn")
    runs: dict[str, list[dict[str, Any]]] = {"fast": [], "plain": []}
    for how in ("fast", "plain") * repeats:
        receiver, sender = start_fresh.Pipe(duplex=False)
        process = start_fresh.Process(target=decode_in_own_process, args=(how, path, data_dir, options, sender))
        process.start()
        sender.close()
        runs[how].append(received(receiver))
        process.join()
    middle = {
        how: {key: statistics.median(run[key] for run in side) for key in side[0] if side[0][key] is not None}
        for how, side in runs.items()
    }
    return {"checkpoint": str(path), **middle}


def train_in_own_process(episode_type: str, data_dir: Path, options: Any, episodes: int, ready: Any, pipe: Any) -> None:
    """Train for some episodes beside other processes and report the milliseconds an episode."""
    subject = make_subject(episode_type, data_dir, choose_device(*options))
    step = functools.partial(train_on_episode, subject.model, subject.optimizer)
    whole_seconds(subject, step, 3)
    ready.wait(timeout=BARRIER_TIMEOUT)
    start = time.perf_counter()
    whole_seconds(subject, step, episodes)
    pipe.send(1000 * (time.perf_counter() - start) / episodes)


def bench_side_by_side(episode_type: str, n_runs: int, data_dir: Path, options: Any, episodes: int) -> dict[str, Any]:
    """Measure several training runs at once on the same device."""
    start_fresh = multiprocessing.get_context("spawn")
    ready = start_fresh.Barrier(n_runs)
    pipes = [start_fresh.Pipe(duplex=False) for _ in range(n_runs)]
    arguments = (episode_type, data_dir, options, episodes, ready)
    processes = [start_fresh.Process(target=train_in_own_process, args=(*arguments, sender)) for _, sender in pipes]
    for process, (_, sender) in zip(processes, pipes, strict=True):
        process.start()
        sender.close()
    each = [received(receiver) for receiver, _ in pipes]
    for process in processes:
        process.join()
    return {
        "episode_type": episode_type,
        "runs": n_runs,
        "ms_each": statistics.median(each),
        "ms_per_episode_of_all": 1 / sum(1 / ms for ms in each),
    }


def bench_lock_step(episode_type: str, n_runs: int, data_dir: Path, device: torch.device, steps: int) -> dict[str, Any]:
    """Measure a step of several runs in lock step, sampling included."""
    sampler, config = make_setting(episode_type, data_dir)
    vocabularies = vocabularies_of(sampler.experiment)
    rngs = [random_streams(seed)[0] for seed in range(n_runs)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    lock_step = LockStep([make_network(config).to(device) for _ in rngs], shapes_of(sampler), 0.001)

    def take(count: int) -> float:
        start = now(device)
        for _ in range(count):
            lock_step.step([encode(sampler.training_episode(rng, ()), *vocabularies) for rng in rngs])
        return now(device) - start

    first = take(1)  # with all that a graph needs to be recorded
    take(2)
    ms = 1000 * take(steps) / steps
    return {
        "episode_type": episode_type,
        "runs": n_runs,
        "ms_a_step": ms,
        "ms_an_episode": ms / n_runs,
        "first_step_s": first,
        "peak_gb": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
    }


def shown_peak(row: dict[str, Any]) -> str:
    """Write the gigabytes that a GPU needed; on a CPU they are not measured."""
    return "—" if row["peak_gb"] is None else f"{row['peak_gb']:.2f}"


def print_training(row: dict[str, Any]) -> None:
    """Print a line of the training table."""
    stages = " ".join(f"{row['stages_ms'][name]:9.2f}" for name in STAGES)
    print(
        f"{row['episode_type']:23} {row['ms']:7.1f} {1000 / row['ms']:7.1f} {stages} {row['plain_ms']:8.1f} "
        f"{row['ratio']:6.2f} {row['gflop']:6.2f} {row['matrix_gflop_per_s']:9.0f} {row['share_of_matrix_rate']:7.0%} "
        f"{row['untrained_queries_per_s']:9.0f} {shown_peak(row):>7}",
        flush=True,
    )


def print_decoding(measured: dict[str, Any]) -> None:
    """Print the scoring table."""
    print(
        f"\nscoring with {measured['checkpoint']}\n{'':6} {'queries/s':>9} {'s':>7} {'peak GB':>8} {'above start':>12}"
    )
    for how in ("fast", "plain"):
        row = measured[how]
        rate = row["queries"] / row["seconds"]
        print(f"{how:6} {rate:9.0f} {row['seconds']:7.2f} {row['peak_gb']:8.2f} {row['peak_above_start_gb']:12.2f}")
    times, memory = (measured["plain"][key] / measured["fast"][key] for key in ("seconds", "peak_above_start_gb"))
    print(f"plain / fast: {times:.1f} times the time, {memory:.0f} times the memory above the start")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = f"of {', '.join(EXPERIMENTS)} (default: all)"
    parser.add_argument("--episode_types", nargs="+", choices=list(EXPERIMENTS), metavar="TYPE", help=help_text)
    help_text = "measurements of which the median is taken"
    parser.add_argument("--repeats", type=positive_int, default=15, metavar="N", help=help_text)
    which = parser.add_mutually_exclusive_group()
    help_text = "measure scoring with this trained network, three times at most"
    which.add_argument("--checkpoint", type=Path, metavar="FILE", help=help_text)
    which.add_argument("--side_by_side", type=positive_int, metavar="N", help="measure N training runs at once")
    help_text = "measure so many runs in lock step, which is meant for GPUs"
    which.add_argument("--lock_step", type=count_list, metavar="R,...", help=help_text)
    add_data_folder(parser)
    parser.add_argument("--out", type=json_path, metavar="PATH.json", help="also write the figures")
    add_device_options(parser)
    args = parser.parse_args()
    if args.checkpoint is not None and args.episode_types is not None:
        parser.error("--checkpoint measures the network's own type of episode; leave out --episode_types")
    args.episode_types = args.episode_types or list(EXPERIMENTS)
    return args


def measure(args: argparse.Namespace, device: torch.device) -> dict[str, Sequence[Any] | dict[str, Any]]:
    """Run the measurement that was asked for, printing as it goes."""
    options = args.gpu, args.cpu, args.threads
    if args.checkpoint is not None:
        load_checkpoint(args.checkpoint, device)  # a bad file is refused here rather than in a process of its own
        measured = bench_decoding(args.checkpoint, args.data_dir, options, min(args.repeats, 3))
        print_decoding(measured)
        return {"scoring": measured}
    rows = []
    if args.side_by_side is not None:
        print(f"{'':23} {'runs':>5} {'ms/episode each':>16} {'ms/episode of all':>18}")
        for episode_type in args.episode_types:
            row = bench_side_by_side(episode_type, args.side_by_side, args.data_dir, options, 2 * args.repeats)
            print(f"{episode_type:23} {row['runs']:5} {row['ms_each']:16.1f} {row['ms_per_episode_of_all']:18.1f}")
            rows.append(row)
        return {"side_by_side": rows}
    if args.lock_step is not None:
        print(f"{'':35} {'runs':>5} {'ms a step':>10} {'ms an episode':>14} {'first step, s':>14} {'peak GB':>8}")
        for episode_type, n_runs in itertools.product(args.episode_types, args.lock_step):
            row = bench_lock_step(episode_type, n_runs, args.data_dir, device, 10 * args.repeats)
            times = f"{row['ms_a_step']:10.2f} {row['ms_an_episode']:14.2f} {row['first_step_s']:14.1f}"
            print(f"{episode_type:35} {n_runs:5} {times} {shown_peak(row):>8}", flush=True)
            rows.append(row)
        return {"lock_step": rows}
    stages = " ".join(f"{name:>9}" for name in STAGES)
    ours = f"{'':23} {'ms/ep.':>7} {'ep./s':>7} {stages}"
    print(
        f"{ours} {'plain ms':>8} {'ratio':>6} {'GFLOP':>6} {'GFLOP/s*':>9} {'share':>7} {'answers/s':>9} {'peak GB':>7}"
    )
    for episode_type in args.episode_types:
        rows.append(bench_training(episode_type, args.data_dir, device, args.repeats))
        print_training(rows[-1])
    print(f"* of a {MATRIX_SIZE} x {MATRIX_SIZE} float32 product; share: of that rate, reached by the whole step")
    print("answers/s: test queries answered by the untrained network, which decodes nearly all of them to the end")
    return {"training": rows}


def main() -> None:
    """Measure and report."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    clock = "wall time" if device.type == "cuda" or args.side_by_side is not None else "CPU time"
    machine = {"device": describe_device(device), "machine": platform.machine(), "clock": clock, **provenance()}
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    figures = measure(args, device)
    if args.out is not None:
        save_json(args.out, {**machine, **figures})
        print(f"written to {args.out}")


if __name__ == "__main__":
    run_script(main)
