"""One gradient step on a batch of sequences: next-symbol log loss, truncated backpropagation, clipping, Adam.

On a GPU a step is one CUDA graph (`GraphedStep`): thousands of small operations, launched at once.

Source: Genewein et al. 2023, Section 5.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from common.devices import put_back, recorded
from nonstationary.recurrent import State


class StepResult(NamedTuple):
    """What a gradient step leaves behind."""

    loss: Tensor  # scalar, nats per predicted symbol
    gradient_norm: Tensor  # scalar, before clipping
    state: State | None  # of the network after the last symbol, detached; None if it has none


def learning_rate(step: int, peak: float, warmup_steps: int, train_steps: int, final_fraction: float) -> float:
    """Give the rate of step 0, 1, ...: a linear rise to `peak`, then a linear fall to a fraction of it at the end."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(train_steps - warmup_steps, 1)
    return peak * (1 - (1 - final_fraction) * done)


def sequence_loss(
    network: nn.Module, symbols: Tensor, state: State | None, chunk_length: int | None
) -> tuple[Tensor, State | None]:
    """Compute the mean loss of predicting symbols 1..T-1 and add its gradients to the network's.

    With `chunk_length` no gradient flows from a chunk to the one before. A chunk counts by its number of targets; its
    last target is the first symbol of the next chunk.

    Args:
        network: from make_network.
        symbols: (B, T) int64, T at least 2.
        state: of the network before the first symbol; all zeros if None.
        chunk_length: symbols per chunk; one chunk if None.
    Returns:
        The loss, in nats per predicted symbol, and the state after the last symbol, both detached.
    """
    length = symbols.shape[1]
    chunk_length = chunk_length or length
    total = torch.zeros((), device=symbols.device)
    for start in range(0, length, chunk_length):
        stop = min(start + chunk_length, length)
        targets = symbols[:, start + 1 : stop + 1]
        with torch.set_grad_enabled(targets.shape[1] > 0):  # the last symbol has no target
            logits, state = network(symbols[:, start:stop], state)
        if targets.shape[1] > 0:
            predicted = logits[:, : targets.shape[1]].transpose(1, 2)
            loss = functional.cross_entropy(predicted, targets, reduction="sum") / (len(symbols) * (length - 1))
            loss.backward()
            total += loss.detach()
        if state is not None:
            state = tuple(part.detach() for part in state)
    return total, state


def train_on_batch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    symbols: Tensor,
    state: State | None = None,
    chunk_length: int | None = None,
    clip_grad_norm: float = 1.0,
) -> StepResult:
    """Take one gradient step; arguments as in sequence_loss, and the norm to clip the gradient to (0: never)."""
    network.train()
    optimizer.zero_grad()
    loss, state = sequence_loss(network, symbols, state, chunk_length)
    parameters = [parameter for parameter in network.parameters() if parameter.grad is not None]
    norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if clip_grad_norm > 0:
        clip_grads_with_norm_(parameters, clip_grad_norm, norm)
    optimizer.step()
    return StepResult(loss, norm, state)


class GraphedStep:
    """Does what `train_on_batch` does: records the step for the first batch of each shape and replays it for others.

    Args:
        network: from make_network, on a GPU.
        optimizer: Adam over its weights, `capturable`; its learning rate has to be a tensor if it changes.
        chunk_length: as in train_on_batch.
        clip_grad_norm: as in train_on_batch.
        carries_state: whether batches may come with a state; None then means all zeros.
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
        self._settings, self._carries_state = (chunk_length, clip_grad_norm), carries_state
        self._recorded: dict[torch.Size, Callable[[Tensor, State | None], StepResult]] = {}

    def __call__(self, symbols: Tensor, state: State | None = None) -> StepResult:
        """Take a gradient step; the next step on a batch of this shape overwrites the result."""
        assert state is None or self._carries_state, "a state that no recording reads"
        if symbols.shape not in self._recorded:
            self._recorded[symbols.shape] = self._record(symbols)
        return self._recorded[symbols.shape](symbols, state)

    def _record(self, symbols: Tensor) -> Callable[[Tensor, State | None], StepResult]:
        """Record a step on tensors that stay where they are; the steps taken to warm up are undone."""
        held, held_state = symbols.clone(), self._zero_state(symbols) if self._carries_state else None
        result: list[StepResult] = []  # one, whose tensors every replay overwrites

        def step() -> None:
            result[:] = [train_on_batch(self._network, self._optimizer, held, held_state, *self._settings)]

        with put_back(self._changed(), symbols.device):
            graph = recorded(step, symbols.device)

        def replay(symbols: Tensor, state: State | None) -> StepResult:
            held.copy_(symbols)
            for number, part in enumerate(held_state or ()):
                if state is None:
                    part.zero_()
                else:
                    part.copy_(state[number])
            graph.replay()
            return result[0]

        return replay

    def _zero_state(self, symbols: Tensor) -> State:
        with torch.no_grad():
            _, state = self._network(symbols[:, :1], None)
        return tuple(torch.zeros_like(part) for part in state)

    def _changed(self) -> list[Tensor]:
        """List the tensors that a step changes: weights and Adam's state, which is made first if there is none."""
        changed = []
        for group in self._optimizer.param_groups:
            for weight in group["params"]:
                adam = self._optimizer.state[weight]
                if not adam:  # as Adam makes it at its first step
                    adam["step"] = torch.zeros((), device=weight.device)
                    adam["exp_avg"], adam["exp_avg_sq"] = (torch.zeros_like(weight.detach()) for _ in range(2))
                changed += [weight.detach(), *adam.values()]
        return changed
