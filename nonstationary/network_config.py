"""What a network is made of: its kind and sizes, which of them make no sense together, and its first weights."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.errors import UserError

RECURRENT = ("rnn", "lstm", "stack_rnn", "stack_lstm")
MODELS = (*RECURRENT, "transformer")
POSITIONS = ("none", "sincos", "alibi", "relative")


@dataclass(frozen=True)
class NetworkConfig:
    """A network's kind and sizes; sizes of other kinds of network have no effect."""

    model: str = "lstm"
    num_symbols: int = 2  # K
    hidden_size: int = 128  # H, units of the recurrent core
    before_mlp: tuple[int, ...] = ()  # widths of layers before and after the recurrent core
    after_mlp: tuple[int, ...] = ()
    n_stacks: int = 1
    stack_size: int = 30  # cells of a stack, S
    stack_cell_size: int = 8  # width of a cell, C
    emb_size: int = 64  # E, width of the transformer
    nlayers: int = 5
    nheads: int = 8
    ff_mult: int = 4  # width of the feed-forward layers, in E
    dropout: float = 0.1
    pos_enc: str = "none"
    context_length: int | None = None  # cut the input into blocks of this length; one block if None
    attention_window: int | None = None  # attend to the half of this many steps before a step; to all if None
    head_size: int | None = None  # units of a head, d; E / heads if None
    emb_init_scale: float = 0.02  # standard deviation of the embedding's first weights
    max_time: float = 10000.0  # the sinusoids' largest period, in steps / (2 pi)

    @property
    def width_of_heads(self) -> int:
        """Units of all heads together, h d."""
        return self.nheads * (self.head_size or self.emb_size // self.nheads)

    @property
    def n_layers(self) -> int:
        """Layers beside embedding, recurrent core and output."""
        return self.nlayers if self.model == "transformer" else len(self.before_mlp) + len(self.after_mlp)


def check_network(config: NetworkConfig) -> None:
    """Raise UserError, naming the flags, if kind and sizes do not fit together."""
    if config.model not in MODELS:
        raise UserError(f"--model: expected one of {', '.join(MODELS)}, found {config.model!r}")
    if config.model != "transformer":
        return
    if config.pos_enc not in POSITIONS:
        raise UserError(f"--pos_enc: expected one of {', '.join(POSITIONS)}, found {config.pos_enc!r}")
    if config.head_size is None and config.emb_size % config.nheads:
        raise UserError(f"--emb_size {config.emb_size} cannot be shared by --nheads {config.nheads}")
    if config.pos_enc == "sincos" and config.emb_size % 2:
        raise UserError(f"--pos_enc sincos needs an even --emb_size, found {config.emb_size}")
    if config.pos_enc == "relative" and config.width_of_heads % 2:
        found = f"found {config.width_of_heads} (--emb_size, or --nheads times --head_size)"
        raise UserError(f"--pos_enc relative needs an even number of units in all heads, {found}")


def check_length(config: NetworkConfig, length: int, flag: str = "a length of") -> None:
    """Raise UserError, naming the flag if there is one, if a network cannot read `length` symbols at a time."""
    block = config.context_length
    if config.model == "transformer" and block is not None and length % block:
        raise UserError(f"{flag} {length} is not divisible by the network's context_length {block}")


def truncated_normal_(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """Fill a weight in place from a normal cut at two standard deviations; `std` is that before the cut."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


def linear(
    width_in: int, width_out: int, generator: torch.Generator, bias: bool = True, fan_in: int | None = None
) -> nn.Linear:
    """Make a linear layer: weights of standard deviation 1/sqrt(fan-in) before the cut, bias zero.

    The fan-in is `width_in` unless the layer is part of a wider map.
    """
    layer = nn.Linear(width_in, width_out, bias=bias)
    truncated_normal_(layer.weight, 1 / math.sqrt(fan_in or width_in), generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
