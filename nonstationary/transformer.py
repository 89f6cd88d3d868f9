"""Causal transformer with layer norm after each sublayer and a choice of position encodings.

Letters: B sequences, T steps, K symbols, E width, h heads of width d (E / h unless set).

Source: Genewein et al. 2023, Section 5; Vaswani et al. 2017 (sincos), Press et al. 2022 (alibi), Dai et al. 2019
(relative).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nonstationary.network_config import NetworkConfig, check_length, linear, truncated_normal_

RELATIVE_STD = 0.02  # of the vectors u and v
FAST_WIDTH = 16  # torch's attention takes less time on a CPU with heads of 16 units than with heads of 8
AT_ONCE = {"cpu": 2**20, "cuda": 2**27}  # scores with relative positions: as many as a CPU's cache holds


class TransformerNetwork(nn.Module):
    """Embedding, blocks of attention and feed-forward layers, linear output.

    With `context_length` the input is cut into independent blocks.

    Shape: symbols (B, T) int64, None -> logits (B, T, K), None; it has no state.
    """

    slopes: Tensor

    def __init__(self, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        width = config.emb_size
        self.embedding = nn.Embedding(config.num_symbols, width)
        truncated_normal_(self.embedding.weight, config.emb_init_scale, generator)
        self.register_buffer("slopes", torch.tensor(alibi_slopes(config.nheads)), persistent=False)
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
        config, length = self.config, symbols.shape[1]
        hidden = self.embedding(symbols) * math.sqrt(config.emb_size)
        steps, distances = torch.arange(length, device=symbols.device), None
        if config.pos_enc == "sincos":
            hidden = self.dropout(hidden + sinusoids(steps, config.emb_size, config.max_time))
        elif config.pos_enc == "relative":
            distances = sinusoids(steps + 1, config.width_of_heads, config.max_time)
        mask = attention_mask(length, config, self.slopes)
        for layer in self.blocks:
            hidden = layer(hidden, mask, distances)
        return self.output(hidden).view(*shape, -1), None


class Block(nn.Module):
    """Attention and feed-forward layer, each with dropout, a residual connection and layer norm after it.

    Shape: (B, T, E), mask as of attention_mask, sinusoids of 1..T (T, h d) or None -> (B, T, E).
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

    def forward(self, hidden: Tensor, mask: Tensor | None, distances: Tensor | None) -> Tensor:
        """Apply both sublayers."""
        hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, mask, distances)))
        hidden = hidden + self.dropout(self.narrow(self.wide(hidden).relu()))
        normed: Tensor = self.feed_forward_norm(hidden)
        return normed


class Attention(nn.Module):
    """Causal attention with several heads, no biases and no dropout on the weights.

    With relative positions the score of steps i and j is (q_i + u) k_j + (q_i + v) r_{i-j+1}, all over sqrt(d).

    Shape: as Block.
    """

    def __init__(self, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        width, self.nheads = config.emb_size, config.nheads
        heads = config.width_of_heads
        self.head_size = heads // self.nheads
        self.query = linear(width, heads, generator, bias=False)
        self.key = linear(width, heads, generator, bias=False)
        self.value = linear(width, heads, generator, bias=False)
        self.merge = linear(heads, width, generator, bias=False)
        if config.pos_enc == "relative":
            self.relative = linear(heads, heads, generator, bias=False)
            shape = self.nheads, 1, self.head_size
            self.u = nn.Parameter(torch.empty(shape).normal_(std=RELATIVE_STD, generator=generator))
            self.v = nn.Parameter(torch.empty(shape).normal_(std=RELATIVE_STD, generator=generator))

    def forward(self, hidden: Tensor, mask: Tensor | None, distances: Tensor | None) -> Tensor:
        """Attend to the steps so far."""
        query, key, value = (self._heads(layer(hidden)) for layer in (self.query, self.key, self.value))
        if distances is not None and mask is not None:
            distances = self._heads(self.relative(distances[None]))
            read = attend_relatively(query + self.u, query + self.v, key, value, distances, mask)
        else:
            query, key, value = (widened(part) for part in (query, key, value))
            read = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None, scale=1 / math.sqrt(self.head_size)
            )[..., : self.head_size]
        merged: Tensor = self.merge(read.transpose(1, 2).flatten(2))
        return merged

    def _heads(self, hidden: Tensor) -> Tensor:
        batch, length, _ = hidden.shape
        return hidden.view(batch, length, self.nheads, self.head_size).transpose(1, 2)  # (B, h, T, d)


def attend_relatively(
    by_content: Tensor, by_distance: Tensor, key: Tensor, value: Tensor, distances: Tensor, mask: Tensor
) -> Tensor:
    """Attend with scores of content and of distance, a part of the batch at a time.

    Args:
        by_content: q + u; by_distance: q + v. Both, like key and value, are (B, h, T, d).
        distances: r_1 to r_T, (1, h, T, d).
        mask: added to the scores, (1, 1, T, T).
    Returns:
        (B, h, T, d).
    """
    _, heads, length, width = key.shape
    by_content = by_content / math.sqrt(width)
    rows = max(1, AT_ONCE["cpu" if key.device.type == "cpu" else "cuda"] // (heads * length**2))
    parts = zip(*(x.split(rows) for x in (by_content, by_distance, key, value)), strict=True)
    read_parts = (
        (relative_scores(distance, distances) + mask + content @ k.transpose(2, 3)).softmax(3) @ v
        for content, distance, k, v in parts
    )
    if torch.is_grad_enabled():
        return torch.cat([*read_parts])
    read = torch.empty_like(value)  # made first, so that the parts reuse the same memory
    for start, part in zip(range(0, len(key), rows), read_parts, strict=True):
        read[start : start + rows] = part
    return read


def relative_scores(query: Tensor, distances: Tensor) -> Tensor:
    """Score the distance from each step to each step before it, over sqrt(d).

    Args:
        query: q + v, (B, h, T, d).
        distances: r_1 to r_T, (1, h, T, d).
    Returns:
        (B, h, T, T) with (q_i + v) r_{i-j+1} / sqrt(d) at i >= j; entries at i < j are meaningless.
    """
    batch, heads, length, width = query.shape
    scores = query @ (distances.flip(2).transpose(2, 3) / math.sqrt(width))  # column c has distance T - c
    shifted = functional.pad(scores, (1, 0)).view(batch, heads, length + 1, length)  # each row one further to the left
    return shifted[:, :, 1:]


def widened(part: Tensor) -> Tensor:
    """On a CPU, pad queries, keys or values with zeros: (B, h, T, d) -> (B, h, T, a multiple of FAST_WIDTH)."""
    if part.device.type != "cpu":
        return part
    return functional.pad(part, (0, -part.shape[3] % FAST_WIDTH))


def sinusoids(positions: Tensor, width: int, max_time: float) -> Tensor:
    """Encode positions, (T,) -> (T, width): the sines of all frequencies, then the cosines."""
    frequencies = max_time ** -(torch.arange(0, width, 2, device=positions.device) / width)
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def alibi_slopes(nheads: int) -> list[float]:
    """Give each head the rate at which its scores fall with distance: 2^(-8k/n), k = 1..n, if n is a power of two.

    Other n take the slopes of the largest power of two below n, then every second one of twice that power.
    """
    power = 2 ** (nheads.bit_length() - 1)
    slopes = [2 ** (-8 * k / power) for k in range(1, power + 1)]
    between = [2 ** (-4 * k / power) for k in range(1, 2 * power + 1, 2)]
    return slopes + between[: nheads - power]


def attention_mask(length: int, config: NetworkConfig, slopes: Tensor) -> Tensor | None:
    """Make what is added to the scores, (1, 1 or with alibi h, T, T): minus infinity where a step may not look.

    `slopes`, (h,), are those of alibi_slopes, on the mask's device. None means "all steps so far", without a mask.
    """
    window, position = config.attention_window, config.pos_enc
    if window is None and position in ("none", "sincos"):
        return None
    steps = torch.arange(length, device=slopes.device)
    distance = steps[:, None] - steps
    is_hidden = distance < 0
    if window is not None:
        is_hidden |= distance > window // 2
    mask = slopes.new_zeros(1, 1, length, length)  # four dimensions, or torch takes a slow way
    if position == "alibi":
        mask = slopes[:, None, None] * (0.5 - distance).masked_fill(distance == 0, 0.0)[None, None]
    return mask.masked_fill(is_hidden, -math.inf)
