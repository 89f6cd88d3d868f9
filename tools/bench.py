"""Measure training and scoring, and beside them a plain version of the same arithmetic.

    python -m tools.bench                                      a training step of every episode type
    python -m tools.bench --gpu 0 --lock_step 1,5,10           a step of 1, 5 and 10 runs in lock step
    python -m tools.bench --checkpoint out_models/net_x.tar    scoring the test of a trained network

The plain version is how the equations read, and about how the original release computes them: all sequences padded to
one length, `nn.LSTM`, a decoder that takes one step at a time. The tests compare the network with it.

Times are medians, sampling included: CPU time, which other work on the machine changes less than wall time, or wall
time on a GPU.
"""

import argparse
import itertools
import math
import platform
import resource
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from checkpoint import load_checkpoint, network_config
from common.command_line import OneLineParser, count_list, json_path, positive_int, run_script
from common.devices import add_device_options, choose_device, describe_device
from common.files import save_json
from common.provenance import provenance
from common.timing import in_turns, seconds
from episode_batch import EpisodeBatch, Sequences, encode, vocabularies_of
from evaluate import QUERIES_AT_ONCE, answer, find_test, remember
from generate_episode import EXPERIMENTS, EpisodeSampler, find_experiment
from lockstep.lock_step import LockStep, shapes_of
from model import MetaSeq2Seq, SequenceEncoder, make_network
from scan_util import add_data_folder
from training_step import Learner

LR = 0.001  # Lake 2019, Section 4.1


def plain_encode(encoder: SequenceEncoder, sequences: Sequences, padded_length: int) -> tuple[Tensor, Tensor]:
    """Encode sequences: steps (N, padded_length, m), zero in the padding, and last states (N, m)."""
    embedded = nn.functional.dropout(encoder.embedding(sequences.symbols), encoder.dropout, encoder.training)
    packed = pack_padded_sequence(embedded, sequences.lengths, batch_first=True, enforce_sorted=False)
    steps, (h_n, _) = encoder.lstm(packed)
    padded, _ = pad_packed_sequence(steps, batch_first=True, total_length=padded_length)
    forward, backward = padded.chunk(2, dim=2)
    return forward + backward, h_n[-2] + h_n[-1]


def plain_logits(model: MetaSeq2Seq, batch: EpisodeBatch, n_steps: int | None = None) -> Tensor:
    """Score the target symbols step by step: logits (Q, U, V). With `n_steps`, feed back the network's own choices."""
    targets, decoder, lengths = batch.query_out.symbols, model.decoder, batch.query_in.lengths
    n_padded = int(lengths.max()) if model.training else max(model.config.padded_length, int(lengths.max()))
    context, last = plain_encode(model.input_encoder, batch.query_in, n_padded)
    if model.output_encoder is not None and model.context_layer is not None:
        _, keys = plain_encode(model.input_encoder, batch.support_in, batch.support_in.symbols.shape[1])
        _, values = plain_encode(model.output_encoder, batch.support_out, batch.support_out.symbols.shape[1])
        weights = (context @ keys.T / math.sqrt(keys.shape[1])).softmax(dim=2)
        context = model.context_layer(torch.cat((context, weights @ values), dim=2)).tanh()
        last = context[torch.arange(len(lengths)), lengths - 1]
    is_attended = (torch.arange(n_padded) < lengths[:, None]).to(context.device) | (not model.config.mask_padding)
    start = last.expand(decoder.lstm.num_layers, -1, -1).contiguous()
    state, symbols, scores = (start, start), torch.full_like(targets[:, 0], model.config.output_size - 2), []
    for step in range(n_steps or targets.shape[1]):
        embedded = nn.functional.dropout(decoder.embedding(symbols), decoder.dropout, decoder.training)
        outputs, state = decoder.lstm(embedded[None], state)
        g = outputs[0]
        if decoder.attention_layer is not None:
            score = (context @ g[:, :, None])[:, :, 0] / math.sqrt(g.shape[1])
            weights = score.masked_fill(~is_attended, -math.inf).softmax(dim=1)
            u = (weights[:, None] @ context)[:, 0]
            g = decoder.attention_layer(torch.cat((g, u), dim=1)).tanh()
        scores.append(decoder.output_layer(g))
        symbols = scores[-1].argmax(dim=1) if n_steps else targets[:, step]
    return torch.stack(scores, dim=1)


def plain_loss(logits: Tensor, targets: Sequences) -> Tensor:
    """Average the negative log-likelihood over the real target symbols."""
    losses = -logits.log_softmax(dim=2).gather(2, targets.symbols[:, :, None])[:, :, 0]
    real = (torch.arange(losses.shape[1]) < targets.lengths[:, None]).to(losses.device)
    return (losses * real).sum() / real.sum()


def plain_train_on_episode(model: MetaSeq2Seq, optimizer: torch.optim.Adam, batch: EpisodeBatch) -> Tensor:
    """Take one gradient step on an episode; `optimizer` need not be fused."""
    model.train()
    optimizer.zero_grad()
    loss = plain_loss(plain_logits(model, batch), batch.query_out)
    loss.backward()
    encoders = [parameter for name, parameter in model.named_parameters() if not name.startswith("decoder.")]
    for part in (encoders, model.decoder.parameters()):
        nn.utils.clip_grad_norm_(part, 50.0)  # Lake 2019, Section 4.1
    optimizer.step()
    return loss.detach()


def set_up(
    episode_type: str, n_runs: int, data_dir: Path, device: torch.device
) -> tuple[EpisodeSampler, Iterator[list[EpisodeBatch]], list[MetaSeq2Seq]]:
    """Make what training runs at the defaults start from: sampler, endless batches, one for each run, and networks."""
    experiment = find_experiment(episode_type)
    sampler, vocabularies = EpisodeSampler(experiment, data_dir, support_loss=True), vocabularies_of(experiment)
    rngs = [np.random.default_rng(seed) for seed in range(n_runs)]
    batches = ([encode(sampler.training_episode(rng, ()), *vocabularies) for rng in rngs] for _ in itertools.count())
    config = network_config(experiment, disable_memory=experiment.is_standard)
    return sampler, batches, [make_network(config).to(device) for _ in rngs]


def bench_training(episode_type: str, data_dir: Path, device: torch.device, repeats: int) -> dict[str, Any]:
    """Measure a training step of one run, ours and the plain one."""
    _, batches, (model,) = set_up(episode_type, 1, data_dir, device)
    learner, plain_adam = Learner(model, LR), torch.optim.Adam(model.parameters(), LR)
    at_once = 10 if device.type == "cuda" else 2

    def ours() -> None:
        for _ in range(at_once):
            learner.step(next(batches), LR)

    def plain() -> None:
        for _ in range(at_once):
            plain_train_on_episode(model, plain_adam, next(batches)[0].to(device))

    our_ms, plain_ms = ([1000 * time / at_once for time in times] for times in in_turns([ours, plain], repeats, device))
    return {
        "episode_type": episode_type,
        "ms": statistics.median(our_ms),
        "ms_range": [round(min(our_ms), 3), round(max(our_ms), 3)],
        "plain_ms": statistics.median(plain_ms),
        "ratio": statistics.median(theirs / own for own, theirs in zip(our_ms, plain_ms, strict=True)),
    }


def bench_lock_step(episode_type: str, n_runs: int, data_dir: Path, device: torch.device, steps: int) -> dict[str, Any]:
    """Measure a step of several runs in lock step."""
    sampler, batches, models = set_up(episode_type, n_runs, data_dir, device)
    lock_step = LockStep(models, shapes_of(sampler), LR)

    def take(count: int) -> None:
        for batch in itertools.islice(batches, count):
            lock_step.step(batch, LR)

    take(3)  # warm up; a GPU records the step as a graph
    ms = 1000 * seconds(lambda: take(steps), device) / steps
    return {"episode_type": episode_type, "runs": n_runs, "ms_a_step": ms, "ms_an_episode": ms / n_runs}


def peak_memory(device: torch.device) -> float:
    """Give the most memory that was in use, in GB: what torch took on a GPU, or all of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts kilobytes


def bench_scoring(path: Path, data_dir: Path, device: torch.device, repeats: int) -> dict[str, Any]:
    """Measure the scoring of a test, in turns with the plain way: all at once, gradients on, to the last step."""
    network = load_checkpoint(path, device)
    _, episodes = find_test(network, data_dir)
    batches = [encode(episode, *network.vocabularies).to(device) for episode in episodes]
    model, longest = network.model, network.max_length_eval

    def fast() -> None:
        for batch in batches:
            answer(model, remember(model, batch), batch.query_in, longest, QUERIES_AT_ONCE)

    def plain() -> None:
        for batch in batches:
            plain_logits(model, batch, n_steps=longest).argmax(2).tolist()

    before, times, peaks = peak_memory(device), [], []
    for _ in range(repeats):
        for work in (fast, plain):
            times.append(seconds(work, device))
            peaks.append(peak_memory(device) - before)  # never falls, so the first two tell: the smaller comes first
    n_queries = sum(len(batch.query_in.lengths) for batch in batches)
    figures = {
        how: {"queries": n_queries, "seconds": statistics.median(times[side::2]), "peak_above_start_gb": peaks[side]}
        for side, how in enumerate(("fast", "plain"))
    }
    return {"checkpoint": str(path), **figures}


def show(figures: Mapping[str, Any]) -> None:
    """Print figures on a line."""
    texts = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    ]
    print(", ".join(texts), flush=True)


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
    help_text = "measure so many runs in lock step, which is meant for GPUs"
    which.add_argument("--lock_step", type=count_list, metavar="R,...", help=help_text)
    add_data_folder(parser)
    parser.add_argument("--out", type=json_path, metavar="PATH.json", help="also write the figures")
    add_device_options(parser)
    args = parser.parse_args()
    if args.checkpoint is not None and args.episode_types is not None:
        parser.error("--checkpoint measures the network's own type of episode; leave out --episode_types")
    return args


def main() -> None:
    """Measure, print and write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    clock = "wall time" if device.type == "cuda" else "CPU time"
    figures: dict[str, Any] = {
        "device": describe_device(device),
        "machine": platform.machine(),
        "clock": clock,
        **provenance(),
    }
    show(figures)
    if args.checkpoint is not None:
        figures["scoring"] = bench_scoring(args.checkpoint, args.data_dir, device, min(args.repeats, 3))
        for how in ("fast", "plain"):
            show({"scoring": how, **figures["scoring"][how]})
    else:
        rows = figures["training" if args.lock_step is None else "lock_step"] = list[dict[str, Any]]()
        for episode_type, n_runs in itertools.product(args.episode_types or EXPERIMENTS, args.lock_step or [None]):
            if n_runs is None:
                rows.append(bench_training(episode_type, args.data_dir, device, args.repeats))
            else:
                rows.append(bench_lock_step(episode_type, n_runs, args.data_dir, device, 10 * args.repeats))
            show(rows[-1])
    if args.out is not None:
        save_json(args.out, figures)
        print(f"written to {args.out}")


if __name__ == "__main__":
    run_script(main)
