"""A gradient step on a GPU as one CUDA graph: thousands of small operations, launched all at once."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.devices import put_back, recorded
from nonstationary.recurrent import State
from nonstationary.training_step import StepResult, train_on_batch


class Recording(NamedTuple):
    """A step on a batch of one shape, with the tensors that it reads and writes at every replay."""

    graph: torch.cuda.CUDAGraph
    symbols: Tensor  # (B, T) int64
    state: State | None  # of the network before the first symbol
    results: list[StepResult]  # one, whose tensors every replay overwrites


class GraphedStep:
    """Does what `train_on_batch` does; records it at the first batch of each shape, and replays it from then on.

    Args:
        network: from make_network, on a GPU.
        optimizer: Adam over its weights, `capturable`; its learning rate has to be a tensor if it changes.
        chunk_length: as of train_on_batch.
        clip_grad_norm: as of train_on_batch.
        carries_state: whether batches come with the state after the batch before, all zeros if None.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        chunk_length: int | None = None,
        clip_grad_norm: float = 1.0,
        carries_state: bool = False,
    ) -> None:
        self._network, self._optimizer = network, optimizer
        self._chunk_length, self._clip_grad_norm, self._carries_state = chunk_length, clip_grad_norm, carries_state
        self._recordings: dict[torch.Size, Recording] = {}

    def __call__(self, symbols: Tensor, state: State | None = None) -> StepResult:
        """Take a gradient step; the next one on a batch of this shape overwrites what it returns."""
        assert state is None or self._carries_state, "a state that no recording reads"
        if symbols.shape not in self._recordings:
            self._recordings[symbols.shape] = self._record(symbols)
        recording = self._recordings[symbols.shape]
        recording.symbols.copy_(symbols)
        for number, held in enumerate(recording.state or ()):
            if state is None:
                held.zero_()
            else:
                held.copy_(state[number])
        recording.graph.replay()
        return recording.results[0]

    def _record(self, symbols: Tensor) -> Recording:
        """Record a step; of the steps taken to warm up nothing remains."""
        held, state = symbols.clone(), self._zero_state(symbols) if self._carries_state else None
        results: list[StepResult] = []

        def step() -> None:
            settings = self._chunk_length, self._clip_grad_norm
            results[:] = [train_on_batch(self._network, self._optimizer, held, state, *settings)]

        with put_back(self._changed(), symbols.device):
            graph = recorded(step, symbols.device)
        return Recording(graph, held, state, results)

    def _zero_state(self, symbols: Tensor) -> State:
        with torch.no_grad():
            _, state = self._network(symbols[:, :1], None)
        return tuple(torch.zeros_like(part) for part in state)

    def _changed(self) -> list[Tensor]:
        """Make Adam's state if it has none yet, and list the tensors that a step changes: weights, and that state."""
        changed = []
        for group in self._optimizer.param_groups:
            for weight in group["params"]:
                adam = self._optimizer.state[weight]
                if not adam:  # as Adam would make it at its first step
                    adam["step"] = torch.zeros((), device=weight.device)
                    adam["exp_avg"], adam["exp_avg_sq"] = (torch.zeros_like(weight.detach()) for _ in range(2))
                changed += [weight.detach(), *adam.values()]
        return changed
