"""Causal transformer with layer norm after each sublayer and a choice of position encodings.

Letters: B sequences, T steps, K symbols, E width, h heads of width d, which is E / h unless told.

Source: Genewein et al. 2023, Section 5; Vaswani et al. 2017 (sincos), Press et al. 2022 (alibi), Dai et al. 2019
(relative).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nonstationary.initialization import linear
from nonstationary.network_config import NetworkConfig, check_length

RELATIVE_STD = 0.02  # of the vectors u and v
FAST_WIDTH = 16  # the CPU's attention takes half as long with heads of 16 units as with heads of 8


class TransformerNetwork(nn.Module):
    """Embedding, blocks of attention and feed-forward layers, linear output.

    With `context_length` the input is cut into blocks that know nothing of one another.

    Shape: symbols (B, T) int64, None -> logits (B, T, K), None; it has no state.
    """

    def __init__(self, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        width = config.emb_size
        self.embedding = nn.Embedding(config.num_symbols, width)
        std = config.emb_init_scale
        nn.init.trunc_normal_(self.embedding.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, generator) for _ in range(config.nlayers))
        self.output = linear(width, config.num_symbols, generator)

    def forward(self, symbols: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Predict what follows each symbol.

        Raises:
            UserError: if T is not a multiple of `context_length`.
        """
        shape, block = symbols.shape, self.config.context_length
        check_length(self.config, shape[1])
        if block is not None:
            symbols = symbols.reshape(-1, block)
        width, length = self.config.emb_size, symbols.shape[1]
        hidden = self.embedding(symbols) * math.sqrt(width)
        places = sinusoids(torch.arange(length + 1, device=symbols.device), width, self.config.max_time)
        if self.config.pos_enc == "sincos":
            hidden = self.dropout(hidden + places[:-1])
        mask = attention_mask(length, self.config, symbols.device)
        for layer in self.blocks:
            hidden = layer(hidden, mask, places if self.config.pos_enc == "relative" else None)
        return self.output(hidden).view(*shape, -1), None


class Block(nn.Module):
    """Attention and feed-forward layer, each with dropout, a residual connection and layer norm after it.

    Shape: (B, T, E), mask as of attention_mask, sinusoids of 0..T (T+1, E) or None -> (B, T, E).
    """

    def __init__(self, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        width = config.emb_size
        self.attention = Attention(config, generator)
        self.attention_norm = nn.LayerNorm(width)
        self.wide = linear(width, config.ff_mult * width, generator)
        self.narrow = linear(config.ff_mult * width, width, generator)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None, places: Tensor | None) -> Tensor:
        """Apply both sublayers."""
        hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, mask, places)))
        hidden = hidden + self.dropout(self.narrow(self.wide(hidden).relu()))
        normed: Tensor = self.feed_forward_norm(hidden)
        return normed


class Attention(nn.Module):
    """Causal attention with several heads, no biases and no dropout on the weights.

    With relative positions the score of steps i and j is (q_i + u) k_j + (q_i + v) r_{i-j+1}, all over sqrt(d), where
    r_m is a linear map of the sinusoids of m.

    Shape: as Block.
    """

    def __init__(self, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        width, self.nheads = config.emb_size, config.nheads
        self.head_size = config.head_size or width // self.nheads
        heads = self.nheads * self.head_size
        self.query = linear(width, heads, generator, bias=False)
        self.key = linear(width, heads, generator, bias=False)
        self.value = linear(width, heads, generator, bias=False)
        self.merge = linear(heads, width, generator, bias=False)
        if config.pos_enc == "relative":
            self.relative = linear(width, heads, generator, bias=False)
            shape = self.nheads, 1, self.head_size
            self.u = nn.Parameter(torch.empty(shape).normal_(std=RELATIVE_STD, generator=generator))
            self.v = nn.Parameter(torch.empty(shape).normal_(std=RELATIVE_STD, generator=generator))

    def forward(self, hidden: Tensor, mask: Tensor | None, places: Tensor | None) -> Tensor:
        """Attend to the steps so far."""
        query, key, value = (self._heads(layer(hidden)) for layer in (self.query, self.key, self.value))
        width = self.head_size
        if places is not None:
            of_head = self.relative.weight.view(1, self.nheads, width, -1)
            turned = turned_queries((query + self.v) @ of_head, places[1:])
            query = torch.cat([query + self.u, turned], dim=3)
            key = torch.cat([key, places[:-1].expand(*key.shape[:3], -1)], dim=3)
        query, key, value = (widened(part, query.shape[3]) for part in (query, key, value))
        read = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=1 / math.sqrt(width)
        )
        merged: Tensor = self.merge(read[..., :width].transpose(1, 2).flatten(2))
        return merged

    def _heads(self, hidden: Tensor) -> Tensor:
        batch, length, _ = hidden.shape
        return hidden.view(batch, length, self.nheads, self.head_size).transpose(1, 2)  # (B, h, T, d)


def turned_queries(query: Tensor, places: Tensor) -> Tensor:
    """Make of queries for distances queries for places, so that no score of a distance has to be computed.

    The sinusoids of a distance i - j + 1 are sums of products of those of i + 1 and of j, as
    sin(x - y) = sin x cos y - cos x sin y; what is found here, times the sinusoids of j, is the query times those of
    the distance.

    Args:
        query: (B, h, T, E), a factor for each sinusoid of the distance.
        places: (T, E), sinusoids of i + 1.
    Returns:
        (B, h, T, E), a factor for each sinusoid of the place j.
    """
    of_sine, of_cosine = query.chunk(2, dim=3)
    sine, cosine = places.chunk(2, dim=1)
    return torch.cat([of_cosine * sine - of_sine * cosine, of_sine * sine + of_cosine * cosine], dim=3)


def widened(part: Tensor, width: int) -> Tensor:
    """Fill queries, keys or values up with zeros, (B, h, T, d) -> (B, h, T, a multiple of FAST_WIDTH)."""
    return functional.pad(part, (0, width - part.shape[3] + -width % FAST_WIDTH))


def sinusoids(positions: Tensor, width: int, max_time: float) -> Tensor:
    """Encode positions, (T,) -> (T, E): the sines of all frequencies, then the cosines."""
    frequencies = max_time ** -(torch.arange(0, width, 2, device=positions.device) / width)
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def alibi_slopes(nheads: int) -> list[float]:
    """Give each head the rate at which its scores fall with the distance: 2^(-8k/n), k = 1..n, for n a power of two.

    For other n, those of the largest power of two below, then every second one of twice that power.
    """
    power = 2 ** (nheads.bit_length() - 1)
    slopes = [2 ** (-8 * k / power) for k in range(1, power + 1)]
    between = [2 ** (-4 * k / power) for k in range(1, 2 * power + 1, 2)]
    return slopes + between[: nheads - power]


def attention_mask(length: int, config: NetworkConfig, device: torch.device) -> Tensor | None:
    """Make what is added to the scores: minus infinity where a step may not look, (1, 1 or h with alibi, T, T).

    None stands for "all steps so far", which needs no mask.
    """
    window, position = config.attention_window, config.pos_enc
    if window is None and position != "alibi":
        return None
    steps = torch.arange(length, device=device)
    distance = steps[:, None] - steps
    is_hidden = distance < 0
    if window is not None:
        is_hidden |= distance > window // 2
    mask = torch.zeros(1, 1, length, length, device=device)  # four dimensions, or torch takes a slow way
    if position == "alibi":
        slopes = torch.tensor(alibi_slopes(config.nheads), device=device)
        mask = slopes[:, None, None] * (0.5 - distance).masked_fill(distance == 0, 0.0)[None, None]
    return mask.masked_fill(is_hidden, -math.inf)
