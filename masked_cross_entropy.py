"""The loss: mean negative log-likelihood of the target symbols, padding left out.

Source: Lake 2019, Section 3 ("Meta-training"); as in the original release, every symbol of an episode weighs the same.
"""

import torch
from torch import Tensor, nn

IGNORED = -100  # the target value that torch's cross_entropy leaves out


def masked_cross_entropy(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Average the negative log-likelihood over the real symbols of each episode, EOS included.

    Args:
        logits: (Q, U, V) scores of the V output symbols at each step, or (R, Q, U, V) for an episode of each of R runs.
        targets: (Q, U) or (R, Q, U) int64 symbols.
        lengths: (Q,) or (R, Q) int64 number of real steps of each sequence, on any device.
    Returns:
        The loss in nats per real symbol: a scalar, or (R,).
    """
    lengths = lengths.to(targets.device, non_blocking=True)
    real = torch.arange(targets.shape[-1], device=targets.device) < lengths[..., None]
    marked = targets.masked_fill(~real, IGNORED)
    nats = nn.functional.cross_entropy(logits.flatten(0, -2), marked.flatten(), ignore_index=IGNORED, reduction="none")
    return nats.view_as(targets).sum((-2, -1)) / lengths.sum(-1)
