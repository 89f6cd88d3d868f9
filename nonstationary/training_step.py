"""One gradient step on a batch of sequences: next-symbol log loss, truncated backpropagation, clipping, Adam.

Source: Genewein et al. 2023, Section 5.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

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

    With `chunk_length` the gradients do not flow from a chunk to the one before; a chunk counts by its number of
    targets, the last of them being the first symbol of the next chunk.

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
    """Take one gradient step; the arguments are those of sequence_loss, and the norm to clip at, 0 for never."""
    network.train()
    optimizer.zero_grad()
    loss, state = sequence_loss(network, symbols, state, chunk_length)
    parameters = [parameter for parameter in network.parameters() if parameter.grad is not None]
    norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if clip_grad_norm > 0:
        clip_grads_with_norm_(parameters, clip_grad_norm, norm)
    optimizer.step()
    return StepResult(loss, norm, state)
