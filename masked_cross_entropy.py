"""The loss: mean negative log-likelihood of the target symbols, padding left out.

Source: Lake 2019, Section 3 ("Meta-training"); as in the original release, every symbol of an episode weighs the same.
"""

import torch
from torch import Tensor, nn

IGNORED = -100  # the target value that torch's cross_entropy leaves out


def masked_cross_entropy(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Average the negative log-likelihood over the real symbols of all sequences, EOS included.

    Args:
        logits: (Q, U, V) scores of the V output symbols at each step.
        targets: (Q, U) int64 symbols.
        lengths: (Q,) int64 number of real steps of each sequence, on any device.
    Returns:
        A scalar, in nats per real symbol.
    """
    step = torch.arange(targets.shape[1], device=targets.device)
    real = step < lengths.to(targets.device, non_blocking=True)[:, None]
    marked = targets.masked_fill(~real, IGNORED)
    return nn.functional.cross_entropy(logits.flatten(0, 1), marked.flatten(), ignore_index=IGNORED)
