"""First weights: normal of standard deviation 1/sqrt(fan-in), cut at twice that and not corrected for the cut."""

import math

import torch
from torch import Tensor, nn


def truncated_normal_(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill a weight in place."""
    std = 1 / math.sqrt(fan_in)
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


def linear(
    width_in: int, width_out: int, generator: torch.Generator, bias: bool = True, fan_in: int | None = None
) -> nn.Linear:
    """Make a linear layer, its bias zero; its fan-in is its own unless it is part of a wider map."""
    layer = nn.Linear(width_in, width_out, bias=bias)
    truncated_normal_(layer.weight, fan_in or width_in, generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
