"""The loss, the schedule of the learning rate, and one gradient step.

Source: Lake & Baroni 2023, Methods ("Training").
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from biml.batch import QueryTensors
from biml.model import BIML

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.01  # on all parameters
FIRST_FRACTION = 1e-4  # of the learning rate, in the first step of the warm-up


def make_optimizer(model: BIML, lr: float) -> torch.optim.AdamW:
    """Make AdamW."""
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)


def learning_rate(
    epoch: int, step: int, steps: int, nepochs: int, peak: float, end_factor: float, has_warmup: bool
) -> float:
    """Give the rate of a step: a linear rise within the first epoch, then a linear fall from epoch to epoch.

    Args:
        epoch: from 1.
        step: of the epoch, from 0.
        steps: whole batches of an epoch.
        nepochs: epochs of the run.
        peak: the highest rate.
        end_factor: fraction of it that is the rate of the last epoch, unless the fall begins only there.
        has_warmup: whether the rate rises in the first epoch.
    """
    if has_warmup and epoch == 1:
        return peak * min(FIRST_FRACTION + (1 - FIRST_FRACTION) * step / max(steps, 1), 1.0)
    first = 2 if has_warmup else 1
    done = (epoch - first) / max(nepochs - first, 1)
    return peak * (1 - (1 - end_factor) * done)


def same_rates(epochs: int, nepochs: tuple[int, int], end_factor: float, has_warmup: bool) -> bool:
    """Say whether the first epochs of two runs that differ in `nepochs` alone have the same learning rates."""
    one, other = (
        [learning_rate(epoch, 0, 1, total, 1.0, end_factor, has_warmup) for epoch in range(1, epochs + 1)]
        for total in nepochs
    )
    return epochs <= min(nepochs) and one == other


def total_loss(logits: Tensor, target_out: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Sum the loss of all symbols except padding, in nats, and count them; two scalars.

    Logits are (N, U, V), targets (N, U) int64, each ending with EOS and padding, the symbol `pad`.
    """
    loss = functional.cross_entropy(
        logits.flatten(0, 1).float(), target_out.flatten(), ignore_index=pad, reduction="sum"
    )
    return loss, (target_out != pad).sum()


def train_on_batch(
    model: BIML,
    optimizer: torch.optim.Optimizer,
    batch: QueryTensors,
    bf16: bool = False,
    forward: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Take one gradient step on the mean loss per symbol; returns it, a detached scalar in nats.

    With `bf16` products are computed in bfloat16; `forward` is the network's own one, compiled.
    """
    model.train()
    optimizer.zero_grad()
    with torch.autocast(batch.source.device.type, torch.bfloat16, enabled=bf16):
        logits = (forward or model)(batch.source, batch.target_in)
    loss, count = total_loss(logits, batch.target_out, model.target_pad)
    mean = loss / count
    mean.backward()
    optimizer.step()
    return mean.detach()
