"""R networks of model.py side by side, in training: every operation serves all of them.

Each network has its own weights and its own episode. Sequences are padded to lengths that do not depend on the data;
what stands behind a sequence's end is computed like the rest and masked out. So no shape depends on the data and the
host is never waited for, which a CUDA graph needs. Support inputs and queries go through the input encoder together.

Letters: R networks; N sequences (S support items, Q queries) of T steps (U output steps); m units, V symbols, K inputs.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from model import ModelConfig, attention
from packed_lstm import dropped
from stacked_lstm import stacked_layer

Weights = dict[str, Tensor]
"""The parameters of all networks by their names in MetaSeq2Seq, (R, ...) each."""


class Part(NamedTuple):
    """One part of R episodes: symbols (R, N, T) and lengths (R, N), int64, all on the device."""

    symbols: Tensor
    lengths: Tensor

    @property
    def steps(self) -> Tensor:
        """Number the steps: (T,)."""
        return torch.arange(self.symbols.shape[2], device=self.symbols.device)

    @property
    def real(self) -> Tensor:
        """Say which steps are not padding: (R, N, T)."""
        return self.steps < self.lengths[..., None]

    @property
    def reversal(self) -> Tensor:
        """Say where each step goes when every sequence is reversed within its own length: (R, N, T, 1)."""
        steps = self.steps
        return torch.where(self.real, self.lengths[..., None] - 1 - steps, steps)[..., None]

    def beside(self, other: "Part") -> "Part":
        """Put the sequences of two parts side by side, padded alike."""
        n_steps = max(self.symbols.shape[2], other.symbols.shape[2])
        both = [functional.pad(part.symbols, (0, n_steps - part.symbols.shape[2])) for part in (self, other)]
        return Part(torch.cat(both, dim=1), torch.cat((self.lengths, other.lengths), dim=1))

    def last(self, values: Tensor) -> Tensor:
        """Pick the last real step of each sequence: (R, N, T, K) -> (R, N, K)."""
        place = (self.lengths - 1)[..., None, None]
        return values.gather(2, place.expand(-1, -1, 1, values.shape[3]))[:, :, 0]


class StackedModel:
    """R networks of one configuration in training, with dropout; names, equations and symbols are those of model.py."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self._config, self._weights = config, weights

    def logits(self, support_in: Part, support_out: Part, query_in: Part, query_out: Part) -> Tensor:
        """Score the targets' symbols, each run on its own episode: (R, Q, U, V), meaningless in the padding."""
        n_query = query_in.lengths.shape[1]
        if self._config.disable_memory:
            steps, last = self._encode("input_encoder", query_in)
            padded_step = torch.zeros_like(last[:, :1])
        else:
            steps, last = self._encode("input_encoder", query_in.beside(support_in))
            _, values = self._encode("output_encoder", support_out)
            steps = steps[:, :n_query, : query_in.symbols.shape[2]]
            steps, padded_step = self._look_up(steps, last[:, n_query:], values)
            last = query_in.last(steps)
        g = self._decode(query_out, last)
        if not self._config.disable_attention:
            padded = padded_step[:, :, None].expand(-1, n_query, -1, -1)
            context = torch.cat((steps, padded), dim=2)  # (R, Q, T + 1, m)
            u, _ = attention(g, context, context, self._log_count(query_in, g.dtype))
            g = self._linear("decoder.attention_layer", torch.cat((g, u), dim=3)).tanh()
        return self._linear("decoder.output_layer", g)

    def _look_up(self, steps: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Look steps (R, Q, T, m) up in memories (R, S, m): their contexts, and that of a padded step, (R, 1, m)."""
        read, _ = attention(steps.flatten(1, 2), keys, values)
        contexts = self._linear("context_layer", torch.cat((steps, read.view_as(steps)), dim=3)).tanh()
        mean = values.mean(1, keepdim=True)
        return contexts, self._linear("context_layer", torch.cat((torch.zeros_like(mean), mean), dim=2)).tanh()

    def _log_count(self, queries: Part, dtype: torch.dtype) -> Tensor:
        """Count the steps that each slot of a context stands for, as a log: (R, Q, 1, T + 1)."""
        n_padded = queries.lengths.amax(1, keepdim=True) - queries.lengths
        if self._config.mask_padding:
            n_padded = torch.zeros_like(n_padded)
        return torch.cat((queries.real, n_padded[..., None]), dim=2).to(dtype).log()[:, :, None]

    def _encode(self, name: str, part: Part) -> tuple[Tensor, Tensor]:
        """Run a biLSTM: steps (R, N, T, m), meaningless in the padding, and last (R, N, m).

        Reversed within its own length, a sequence goes through the backward direction as through the forward one.
        """
        reversal = part.reversal
        x = self._embed(f"{name}.embedding", part.symbols)
        for layer in range(self._config.nlayers):
            x = self._dropped(x) if layer > 0 else x
            both = torch.stack((x, x.gather(2, reversal.expand_as(x))), dim=1).flatten(0, 1)  # (2R, N, T, K)
            start = x.new_zeros(len(both), x.shape[1], self._config.emb_size)
            h = self._layer(f"{name}.lstm", layer, ("", "_reverse"), both, start)
            forward, backward = h.unflatten(0, (-1, 2)).unbind(1)
            backward = backward.gather(2, reversal.expand_as(backward))
            x = torch.cat((forward, backward), dim=3)
        return forward + backward, part.last(forward) + backward[:, :, 0]

    def _decode(self, targets: Part, last: Tensor) -> Tensor:
        """Run the decoder's LSTM from C_T, (R, Q, m), over the targets' previous symbols: g, (R, Q, U, m)."""
        sos = torch.full_like(targets.symbols[..., :1], self._config.output_size - 2)
        x = self._embed("decoder.embedding", torch.cat((sos, targets.symbols[..., :-1]), dim=2))
        for layer in range(self._config.nlayers):
            x = self._dropped(x) if layer > 0 else x
            x = self._layer("decoder.lstm", layer, ("",), x, last)
        return x

    def _layer(self, name: str, layer: int, directions: tuple[str, ...], x: Tensor, start: Tensor) -> Tensor:
        """Run one layer of an LSTM in all runs and directions, (D, N, T, K) -> (D, N, T, m)."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w_input, w_hidden, b_input, b_hidden = (
            torch.stack([self._weights[f"{name}.{kind}_l{layer}{one}"] for one in directions], dim=1).flatten(0, 1)
            for kind in kinds
        )
        return stacked_layer(x, w_input, w_hidden, b_input + b_hidden, start)

    def _embed(self, name: str, symbols: Tensor) -> Tensor:
        """Look symbols up, with dropout, (R, N, T) -> (R, N, T, m), as a product, so that the gradient is one too."""
        table = self._weights[f"{name}.weight"]
        one_hot = symbols[..., None] == torch.arange(table.shape[1], device=symbols.device)
        embedded: Tensor = torch.bmm(one_hot.to(table.dtype).flatten(1, 2), table)
        return self._dropped(embedded.unflatten(1, symbols.shape[1:]))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        rows = torch.baddbmm(bias[:, None], x.flatten(1, -2), weight.mT)
        y: Tensor = rows.unflatten(1, x.shape[1:-1])
        return y

    def _dropped(self, x: Tensor) -> Tensor:
        return dropped(x, self._config.dropout, training=True)
