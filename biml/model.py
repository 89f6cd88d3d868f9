"""The network: a standard encoder-decoder transformer that reads a query with its study examples and answers it.

Weights have the names of the published ones. Letters: N sequences, S source and U target symbols, E width, V output
symbols, h heads.

Source: Lake and Baroni 2023, Methods ("Architecture").
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError

LONGEST = 5000  # positions in the table of encodings
ACTIVATIONS = ("gelu", "relu")  # of the feed-forward layers


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a network. The vocabularies end with SOS, EOS and PAD."""

    input_size: int = 19  # symbols of the source
    output_size: int = 9  # symbols of the target, V
    emb_size: int = 128  # E
    nheads: int = 8
    nlayers_encoder: int = 3
    nlayers_decoder: int = 3
    ff_mult: int = 4  # width of the feed-forward layers, in E
    dropout: float = 0.1
    act: str = ACTIVATIONS[0]


def check_config(config: ModelConfig) -> None:
    """Make sure that the heads can share the width and that there is such an activation; UserError names the flag."""
    if config.emb_size % config.nheads:
        raise UserError(f"--emb_size {config.emb_size} is no multiple of the {config.nheads} attention heads")
    if config.act not in ACTIVATIONS:
        raise UserError(f"--act: expected {' or '.join(ACTIVATIONS)}, found {config.act}")


class PositionalEncoding(nn.Module):
    """Add sinusoids of the position, sines and cosines alternating, then drop out.

    Shape: (N, T, E) -> (N, T, E); `start` is the position of the first of the T.
    """

    def __init__(self, emb_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        positions = torch.arange(LONGEST)[:, None]
        frequencies = torch.exp(torch.arange(0, emb_size, 2) * (-math.log(10000.0) / emb_size))
        table = torch.zeros(LONGEST, emb_size)
        table[:, 0::2] = torch.sin(positions * frequencies)
        table[:, 1::2] = torch.cos(positions * frequencies)
        self.register_buffer("pos_embedding", table[:, None])

    def forward(self, embedded: Tensor, start: int = 0) -> Tensor:
        """Encode T positions from `start` on; UserError if the table is too short."""
        table: Tensor = self.get_buffer("pos_embedding")
        if start + embedded.shape[1] > LONGEST:
            raise UserError(f"expected sequences of up to {LONGEST} symbols, found {start + embedded.shape[1]}")
        summed: Tensor = self.dropout(embedded + table[start : start + embedded.shape[1], 0])
        return summed


class Source(NamedTuple):
    """An encoded batch of sources."""

    steps: Tensor  # (N, S, E)
    is_padding: Tensor  # (N, S) bool


class Cache(NamedTuple):
    """What a decoder layer keeps of the steps so far and of the source: (N, h, T, E / h) each."""

    keys: Tensor
    values: Tensor
    source_keys: Tensor
    source_values: Tensor


class Decoding(NamedTuple):
    """The answers to a batch so far."""

    symbols: Tensor  # (N, U) int64, read so far
    caches: list[Cache]  # one a decoder layer


class BIML(nn.Module):
    """Transformer with layer norm after each sublayer and at the end of both stacks.

    Shape: source (N, S), target_in (N, U) int64 -> logits (N, U, V).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source_pad, self.target_pad = config.input_size - 1, config.output_size - 1
        self.transformer = nn.Transformer(
            config.emb_size,
            config.nheads,
            config.nlayers_encoder,
            config.nlayers_decoder,
            config.ff_mult * config.emb_size,
            config.dropout,
            config.act,
            batch_first=True,
        )
        self.transformer.encoder.use_nested_tensor = False  # it warns and saves little
        self.positional_encoding = PositionalEncoding(config.emb_size, config.dropout)
        self.input_embedding = nn.Embedding(config.input_size, config.emb_size)
        self.output_embedding = nn.Embedding(config.output_size, config.emb_size)
        self.out = nn.Linear(config.emb_size, config.output_size)

    def encode(self, source: Tensor) -> Source:
        """Encode the sources (N, S): query and study examples see one another."""
        is_padding = source == self.source_pad
        embedded = self.positional_encoding(self.input_embedding(source))
        return Source(self.transformer.encoder(embedded, src_key_padding_mask=is_padding), is_padding)

    def decode(self, source: Source, target_in: Tensor) -> Tensor:
        """Predict every symbol of the targets from SOS and the symbols before it: (N, U) -> (N, U, V)."""
        length = target_in.shape[1]
        is_later = torch.ones(length, length, dtype=torch.bool, device=target_in.device).triu(1)
        steps = self.transformer.decoder(
            self.positional_encoding(self.output_embedding(target_in)),
            source.steps,
            tgt_mask=is_later,
            tgt_key_padding_mask=target_in == self.target_pad,
            memory_key_padding_mask=source.is_padding,
            tgt_is_causal=False,
        )
        logits: Tensor = self.out(steps)
        return logits

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Encode, and decode the whole target."""
        return self.decode(self.encode(source), target_in)

    def start_decoding(self, source: Source) -> Decoding:
        """Project the source once for every decoder layer; no symbol is read yet."""
        caches = []
        for layer in self.transformer.decoder.layers:
            keys, values = self._project(layer.multihead_attn, source.steps, "key", "value")
            caches.append(Cache(keys[:, :, :0], values[:, :, :0], keys, values))
        return Decoding(source.is_padding.new_zeros(len(source.steps), 0, dtype=torch.int64), caches)

    def decode_step(self, source: Source, decoding: Decoding, symbols: Tensor) -> tuple[Tensor, Decoding]:
        """Predict the next symbol from the last one, (N,), and the cache of those before it.

        Only for a network in evaluation mode: nothing is dropped out.

        Returns:
            Logits (N, V), and the decoding after this step.
        """
        hidden = self.positional_encoding(self.output_embedding(symbols)[:, None], decoding.symbols.shape[1])
        read = torch.cat([decoding.symbols, symbols[:, None]], dim=1)
        is_seen, is_kept = ~source.is_padding[:, None, None], (read != self.target_pad)[:, None, None]
        grown = []
        for layer, cache in zip(self.transformer.decoder.layers, decoding.caches, strict=True):
            query, key, value = self._project(layer.self_attn, hidden, "query", "key", "value")
            keys, values = torch.cat([cache.keys, key], dim=2), torch.cat([cache.values, value], dim=2)
            hidden = layer.norm1(hidden + self._attend(layer.self_attn, query, keys, values, is_kept))
            (query,) = self._project(layer.multihead_attn, hidden, "query")
            studied = self._attend(layer.multihead_attn, query, cache.source_keys, cache.source_values, is_seen)
            hidden = layer.norm2(hidden + studied)
            hidden = layer.norm3(hidden + layer.linear2(layer.activation(layer.linear1(hidden))))
            grown.append(cache._replace(keys=keys, values=values))
        return self.out(self.transformer.decoder.norm(hidden))[:, 0], Decoding(read, grown)

    def _project(self, attention: nn.MultiheadAttention, steps: Tensor, *names: str) -> list[Tensor]:
        """Make queries, keys or values of steps (N, T, E): (N, h, T, E / h) each."""
        parts = dict(zip(("query", "key", "value"), attention.in_proj_weight.chunk(3), strict=True))
        biases = dict(zip(("query", "key", "value"), attention.in_proj_bias.chunk(3), strict=True))
        batch, length, width = steps.shape
        heads = batch, length, self.config.nheads, width // self.config.nheads
        return [functional.linear(steps, parts[name], biases[name]).view(heads).transpose(1, 2) for name in names]

    def _attend(
        self, attention: nn.MultiheadAttention, query: Tensor, keys: Tensor, values: Tensor, is_seen: Tensor
    ) -> Tensor:
        """Read values by queries, (N, h, 1, E / h) -> (N, 1, E)."""
        read = functional.scaled_dot_product_attention(query, keys, values, attn_mask=is_seen)
        merged: Tensor = attention.out_proj(read.transpose(1, 2).flatten(2))
        return merged
