"""R runs that differ in their seed take their gradient steps together, on a GPU as one CUDA graph a step.

A step of one small network leaves a GPU idle: it is a chain of small operations, each waiting for the one before, and
all for the host. Here every operation serves all runs. Loss, clipping and Adam are those of training_step.py.

The weights of all runs are one matrix, a row a run. Every episode is padded to the longest sequences that the pools of
its experiment hold, so a GPU records the step once and replays it; a CPU runs it as it stands, which is for tests.
Validation is one decoding for all runs. Drawing episodes, logging and saving are left to the caller.

Letters: R runs, N sequences of T steps, Q queries of U output steps, V output symbols, W weights of a run.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parameters_to_vector

from common.devices import put_back, recorded
from episode_batch import EpisodeBatch, Sequences
from evaluate import Accuracy, judge, up_to_end
from generate_episode import EpisodeSampler
from lockstep.stacked_model import Part, StackedModel, Weights
from masked_cross_entropy import masked_cross_entropy
from model import MetaSeq2Seq, ModelConfig
from training_step import AdamState, make_optimizer, restart_adam, take_step

ROW_ALIGNMENT = 4  # numbers, 16 bytes in float32: what a GPU loads at a time
N_HOST_BUFFERS = 4  # so many steps may be prepared while the GPU is at work


class Shapes(NamedTuple):
    """What every training episode of an experiment is padded to: (sequences, steps) of each part, EOS included."""

    support_in: tuple[int, int]
    support_out: tuple[int, int]
    query_in: tuple[int, int]
    query_out: tuple[int, int]


def shapes_of(sampler: EpisodeSampler) -> Shapes:
    """Find how many sequences a training episode has, and how long they can become."""
    draw = sampler.experiment.training
    support, query = ([length + 1 for length in sampler.longest(one)] for one in (draw.support_pool, draw.query_pool))
    n_query = draw.n_query
    if sampler.support_loss:
        n_query += draw.n_support
        query = [max(lengths) for lengths in zip(support, query, strict=True)]
    return Shapes((draw.n_support, support[0]), (draw.n_support, support[1]), (n_query, query[0]), (n_query, query[1]))


def parts_of(buffer: Tensor, shapes: Shapes) -> dict[str, Part]:
    """See a buffer of episodes, a row a run, as its parts; a row holds the lengths, then the symbols of each part."""
    blocks = iter(buffer.split([size for n, length in shapes for size in (n, n * length)], dim=1))
    named = zip(shapes._fields, shapes, blocks, blocks, strict=True)
    return {name: Part(symbols.unflatten(1, shape), lengths) for name, shape, lengths, symbols in named}


class Episodes:
    """R episodes in one buffer on the device, with further ones on the CPU on their way to it.

    Args:
        shapes: what they are padded to.
        n_runs: R.
        device: where the buffer is; a GPU copies from pinned memory while the host goes on.
    """

    def __init__(self, shapes: Shapes, n_runs: int, device: torch.device) -> None:
        self._shapes = shapes
        size = n_runs, sum(n * (1 + length) for n, length in shapes)
        self._buffer = torch.zeros(size, dtype=torch.int64, device=device)
        self.parts = parts_of(self._buffer, shapes)
        is_gpu = device.type == "cuda"
        hosts = [torch.zeros(size, dtype=torch.int64, pin_memory=is_gpu) for _ in range(N_HOST_BUFFERS)]
        self._hosts = itertools.cycle([(host, torch.cuda.Event() if is_gpu else None) for host in hosts])

    def put(self, batches: Sequence[EpisodeBatch]) -> None:
        """Send one episode a run to the device; waits only where the host is N_HOST_BUFFERS steps ahead."""
        host, is_sent = next(self._hosts)
        if is_sent is not None:
            is_sent.synchronize()
        for name, part in parts_of(host, self._shapes).items():
            for symbols, lengths, batch in zip(part.symbols, part.lengths, batches, strict=True):
                sequences = getattr(batch, name)
                lengths.copy_(sequences.lengths)
                symbols[:, : sequences.symbols.shape[1]] = sequences.symbols
        self._buffer.copy_(host, non_blocking=True)
        if is_sent is not None:
            is_sent.record(torch.cuda.current_stream(self._buffer.device))


def joined(parts: Sequence[Sequences]) -> Sequences:
    """Put the sequences of several episodes below each other."""
    n_steps = max(part.symbols.shape[1] for part in parts)
    symbols = [functional.pad(part.symbols, (0, n_steps - part.symbols.shape[1])) for part in parts]
    return Sequences(torch.cat(symbols), torch.cat([part.lengths for part in parts]))


def joined_episodes(batches: Sequence[EpisodeBatch]) -> EpisodeBatch:
    """Put several episodes, all with as many support items and queries, into one batch."""
    counts = {(len(batch.support_in.lengths), len(batch.query_in.lengths)) for batch in batches}
    assert len(counts) == 1, f"episodes of different sizes: {counts}"
    parts = {name: joined([getattr(batch, name) for batch in batches]) for name in Shapes._fields}
    return EpisodeBatch(**parts, is_support=torch.cat([batch.is_support for batch in batches]))


class Validation:
    """The validation episodes of R runs, answered by all networks in one decoding.

    Args:
        episodes: those of each run, on the CPU, in all as many, with as many support items and queries.
        config: of the networks.
        weights: of all of them; they may change in place.
        max_length: symbols after which an answer is cut off, EOS included.
    """

    def __init__(
        self, episodes: Sequence[Sequence[EpisodeBatch]], config: ModelConfig, weights: Weights, max_length: int
    ) -> None:
        self._n_episodes, self._max_length = len(episodes[0]), max_length
        self._batches = [joined_episodes(own) for own in episodes]
        self._model = StackedModel(config, weights, training=False)
        sizes = [[getattr(batch, name).symbols.shape for batch in self._batches] for name in Shapes._fields]
        shapes = Shapes(*((max(n for n, _ in part), max(length for _, length in part)) for part in sizes))
        device = next(iter(weights.values())).device
        self._on_device = Episodes(shapes, len(episodes), device)
        self._on_device.put(self._batches)
        self._produced = torch.zeros(len(episodes), shapes.query_in[0], max_length, dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def answers(self) -> list[list[list[int]]]:
        """Answer with the weights of now: for every run the symbols of each answer, with EOS unless it was cut off."""
        if self._produced.is_cuda:
            self._graph = self._graph or recorded(self.decode, self._produced.device)
            self._graph.replay()
        else:
            self.decode()
        return [up_to_end(rows, self._model.eos) for rows in self._produced.tolist()]

    def accuracies(self) -> list[Accuracy]:
        """Answer and score."""
        return [
            Accuracy().plus(judge(answers, batch.query_out), batch.is_support.tolist())
            for answers, batch in zip(self.answers(), self._batches, strict=True)
        ]

    def decode(self) -> None:
        """Do the part of it that a graph records."""
        asked = {name: part for name, part in self._on_device.parts.items() if name != "query_out"}
        with torch.no_grad():
            self._produced.copy_(self._model.answers(**asked, n_episodes=self._n_episodes, max_length=self._max_length))


class LockStep:
    """R networks of one configuration, trained together.

    Args:
        models: the networks, all on one device; from now on their weights are views of the matrix that is trained.
        shapes: what their episodes are padded to.
        lr: Adam's first learning rate.
    """

    def __init__(self, models: Sequence[MetaSeq2Seq], shapes: Shapes, lr: float) -> None:
        assert len({model.config for model in models}) == 1, "the runs differ in their seed alone"
        self._models = models
        rows = torch.stack([parameters_to_vector(model.parameters()).detach() for model in models])
        n_weights = rows.shape[1]
        self._filler = -n_weights % ROW_ALIGNMENT
        # the decoder's parameters come last
        self._n_encoders = n_weights - sum(parameter.numel() for parameter in models[0].decoder.parameters())
        self.weights = functional.pad(rows, (0, self._filler)).requires_grad_()  # (R, W)
        for name, weight in self.by_name(self.weights.detach()).items():
            for model, own in zip(models, weight, strict=True):
                model.get_parameter(name).data = own
        device = self.weights.device
        self._optimizer = make_optimizer([self.weights], lr)
        zeros = [torch.zeros_like(self.weights, requires_grad=False) for _ in range(2)]
        self._moments = {"step": torch.zeros((), device=device), "exp_avg": zeros[0], "exp_avg_sq": zeros[1]}
        self._optimizer.state[self.weights] = self._moments  # as Adam would make it at its first step
        self._episodes = Episodes(shapes, len(models), device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self.validation: Validation | None = None
        self.losses = self.weights.new_zeros(len(models))  # of the last step, (R,)
        self.loss_sums = torch.zeros(len(models), dtype=torch.float64, device=device)  # since last set to zero, (R,)

    def step(self, batches: Sequence[EpisodeBatch], lr: float) -> None:
        """Take a gradient step of every run on its own episode, a batch on the CPU."""
        self._optimizer.param_groups[0]["lr"].fill_(lr)
        self._episodes.put(batches)
        if self.weights.device.type == "cuda":
            self._graph = self._graph or self._record()
            self._graph.replay()
        else:
            self._advance()

    def _advance(self) -> None:
        """Take a step on the episodes that are on the device."""
        episodes = self._episodes.parts
        logits = StackedModel(self._models[0].config, self.by_name(self.weights), training=True).logits(**episodes)
        losses = masked_cross_entropy(logits, *episodes["query_out"])
        take_step(losses, self._gradients, self._optimizer)
        self.losses.copy_(losses.detach())
        self.loss_sums += self.losses

    def _gradients(self) -> list[list[Tensor]]:
        """Give the gradients of the encoders and of the decoder, a row a run."""
        gradient = self.weights.grad
        assert gradient is not None
        return [[gradient[:, : self._n_encoders]], [gradient[:, self._n_encoders :]]]

    def _record(self) -> torch.cuda.CUDAGraph:
        """Record a step as a graph; of the steps taken to warm up nothing remains."""
        device = self.weights.device
        with put_back([self.weights.detach(), *self._moments.values(), self.loss_sums], device):
            return recorded(self._advance, device)

    def validate(self, episodes: Sequence[Sequence[EpisodeBatch]], max_length: int) -> list[Accuracy]:
        """Score every run on its validation episodes, which are the same at every call."""
        if self.validation is None:
            self.validation = Validation(
                episodes, self._models[0].config, self.by_name(self.weights.detach()), max_length
            )
        return self.validation.accuracies()

    def by_name(self, matrix: Tensor) -> Weights:
        """See a matrix like that of the weights as parameters."""
        shapes = {name: parameter.shape for name, parameter in self._models[0].named_parameters()}
        blocks = matrix.split([*(shape.numel() for shape in shapes.values()), self._filler], dim=1)[:-1]
        named = zip(shapes.items(), blocks, strict=True)
        return {name: block.unflatten(1, shape) for (name, shape), block in named}

    def restart_adam(self) -> None:
        """Forget Adam's moments."""
        restart_adam(self._optimizer)

    def adam_states(self) -> list[AdamState]:
        """Give each run's state of Adam, for saving: what it would be had the run been trained alone."""
        count = self._moments["step"]
        named = {key: self.by_name(self._moments[key]) for key in ("exp_avg", "exp_avg_sq")}
        return [
            {
                name: {"step": count, **{key: named[key][name][run].clone() for key in named}}
                for name in named["exp_avg"]
            }
            for run in range(len(self._models))
        ]

    def load_adam_states(self, saved: Sequence[AdamState]) -> None:
        """Resume with the runs' states of Adam.

        Raises:
            ValueError: if the runs differ in how many steps Adam has counted.
        """
        (count,) = {float(state["step"]) for own in saved for state in own.values()}
        self._moments["step"].fill_(count)
        for key in ("exp_avg", "exp_avg_sq"):
            for name, rows in self.by_name(self._moments[key]).items():
                for row, own in zip(rows, saved, strict=True):
                    row.copy_(own[name][key])
