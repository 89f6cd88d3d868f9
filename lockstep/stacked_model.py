"""R networks of model.py side by side: every operation serves all of them.

Each network has its own weights and its own episodes: one in training, one or more in validation. Sequences are padded
to lengths that do not depend on the data; what stands behind a sequence's end is computed like the rest and masked out.
So no shape depends on the data and the host is never waited for, which a CUDA graph needs. Support inputs and queries
go through the input encoder together.

Letters: R networks; N sequences (S support items, Q queries) of T steps (U output steps); m units, V symbols, K inputs.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lockstep.stacked_lstm import lstm_cell, stacked_layer
from model import ModelConfig, attention

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


class Contexts(NamedTuple):
    """What the decoders get to know about Q queries of every run, as in model.py's Context."""

    steps: Tensor  # (R, Q, T + 1, m)
    log_count: Tensor  # (R, Q, 1, T + 1)
    last: Tensor  # (R, Q, m), C_T


class StackedModel:
    """R networks of one configuration; names, equations and symbols are those of model.py.

    Args:
        config: of each of them.
        weights: of all of them.
        training: whether there is dropout, and padding to the longest query of the episode.
    """

    def __init__(self, config: ModelConfig, weights: Weights, training: bool) -> None:
        self._config, self._weights, self._training = config, weights, training
        self.sos, self.eos = config.output_size - 2, config.output_size - 1

    def logits(self, support_in: Part, support_out: Part, query_in: Part, query_out: Part) -> Tensor:
        """Score the targets' symbols, each run on its own episode: (R, Q, U, V), meaningless in the padding."""
        contexts = self._recall(support_in, support_out, query_in, n_episodes=1)
        return self._score(self._decode(query_out, contexts.last), contexts)

    def answers(self, support_in: Part, support_out: Part, query_in: Part, n_episodes: int, max_length: int) -> Tensor:
        """Answer queries greedily: (R, Q, U) symbols, U being `max_length`; those after EOS mean nothing.

        The parts hold the sequences of `n_episodes` episodes of every run, of one after those of the other.
        """
        contexts = self._recall(support_in, support_out, query_in, n_episodes)
        layers = [self._lstm_weights("decoder.lstm", layer, ("",)) for layer in range(self._config.nlayers)]
        symbols = torch.full_like(query_in.lengths, self.sos)
        hidden, cells = [contexts.last] * len(layers), [contexts.last.flatten(0, 1)] * len(layers)
        produced = []
        for _ in range(max_length):
            x = self._embed("decoder.embedding", symbols)
            for layer, (w_input, w_hidden, bias) in enumerate(layers):
                given = torch.baddbmm(bias[:, None], x, w_input.mT).flatten(0, 1)
                recurrent = torch.bmm(hidden[layer], w_hidden.mT).flatten(0, 1)
                h, cells[layer], _ = lstm_cell(given, recurrent, cells[layer])
                x = hidden[layer] = h.view_as(contexts.last)
            symbols = self._score(x[:, :, None], contexts)[:, :, 0].argmax(dim=2)
            produced.append(symbols)
        return torch.stack(produced, dim=2)

    def _recall(self, support_in: Part, support_out: Part, query_in: Part, n_episodes: int) -> Contexts:
        """Encode the support items and the queries, and look every step of the queries up in its episode's memory."""
        n_query = query_in.lengths.shape[1]
        if self._config.disable_memory:
            steps, last = self._encode("input_encoder", query_in)
            padded_step = torch.zeros_like(last)
        else:
            steps, last = self._encode("input_encoder", query_in.beside(support_in))
            _, values = self._encode("output_encoder", support_out)
            steps = steps[:, :n_query, : query_in.symbols.shape[2]]
            steps, padded_step = self._look_up(steps, last[:, n_query:], values, n_episodes)
            last = query_in.last(steps)
        steps = torch.cat((steps, padded_step[:, :, None]), dim=2)
        return Contexts(steps, self._log_count(query_in, steps.dtype), last)

    def _look_up(self, steps: Tensor, keys: Tensor, values: Tensor, n_episodes: int) -> tuple[Tensor, Tensor]:
        """Look steps (R, Q, T, m) up in memories (R, S, m): their contexts, and a padded step's for each query."""
        of_episodes = steps.unflatten(1, (n_episodes, -1))
        keys, values = keys.unflatten(1, (n_episodes, -1)), values.unflatten(1, (n_episodes, -1))
        read, _ = attention(of_episodes.flatten(2, 3), keys, values)  # (R, episodes, steps, m)
        contexts = self._linear("context_layer", torch.cat((steps, read.reshape(steps.shape)), dim=3)).tanh()
        mean = values.mean(2)  # what a padded step, a key of zeros, reads
        padded_step = self._linear("context_layer", torch.cat((torch.zeros_like(mean), mean), dim=2)).tanh()
        return contexts, padded_step[:, :, None].expand(-1, -1, of_episodes.shape[2], -1).flatten(1, 2)

    def _log_count(self, queries: Part, dtype: torch.dtype) -> Tensor:
        """Count the steps that each slot of a context stands for, as a log: (R, Q, 1, T + 1)."""
        longest = queries.lengths.amax(1, keepdim=True) if self._training else self._config.padded_length
        n_padded = (longest - queries.lengths).clamp(min=0)
        if self._config.mask_padding:
            n_padded = torch.zeros_like(n_padded)
        return torch.cat((queries.real, n_padded[..., None]), dim=2).to(dtype).log()[:, :, None]

    def _score(self, g: Tensor, contexts: Contexts) -> Tensor:
        """Score the output symbols from the decoder's states, (R, Q, U, m) -> (R, Q, U, V)."""
        if not self._config.disable_attention:
            u, _ = attention(g, contexts.steps, contexts.steps, contexts.log_count)
            g = self._linear("decoder.attention_layer", torch.cat((g, u), dim=3)).tanh()
        return self._linear("decoder.output_layer", g)

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
        sos = torch.full_like(targets.symbols[..., :1], self.sos)
        x = self._embed("decoder.embedding", torch.cat((sos, targets.symbols[..., :-1]), dim=2))
        for layer in range(self._config.nlayers):
            x = self._dropped(x) if layer > 0 else x
            x = self._layer("decoder.lstm", layer, ("",), x, last)
        return x

    def _layer(self, name: str, layer: int, directions: tuple[str, ...], x: Tensor, start: Tensor) -> Tensor:
        """Run one layer of an LSTM in all runs and directions, (D, N, T, K) -> (D, N, T, m)."""
        return stacked_layer(x, *self._lstm_weights(name, layer, directions), start)

    def _lstm_weights(self, name: str, layer: int, directions: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Put a layer's weights together: of inputs (D, 4m, K), of hidden states (D, 4m, m), and the bias (D, 4m)."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w_input, w_hidden, b_input, b_hidden = (
            torch.stack([self._weights[f"{name}.{kind}_l{layer}{one}"] for one in directions], dim=1).flatten(0, 1)
            for kind in kinds
        )
        return w_input, w_hidden, b_input + b_hidden

    def _embed(self, name: str, symbols: Tensor) -> Tensor:
        """Look symbols up, with dropout, (R, ...) -> (R, ..., m), as a product, so that the gradient is one too."""
        table = self._weights[f"{name}.weight"]
        one_hot = symbols[..., None] == torch.arange(table.shape[1], device=symbols.device)
        embedded: Tensor = torch.bmm(one_hot.to(table.dtype).flatten(1, -2), table)
        return self._dropped(embedded.unflatten(1, symbols.shape[1:]))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        rows = torch.baddbmm(bias[:, None], x.flatten(1, -2), weight.mT)
        y: Tensor = rows.unflatten(1, x.shape[1:-1])
        return y

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self._config.dropout, self._training)
