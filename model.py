"""The networks: a biLSTM key-value memory over the support items, and a seq2seq network that reads it.

| paper | here | shape |
|---|---|---|
| f_ie, h_t (Equation 1) | `input_encoder`, its steps | (Q, T, m) |
| f_oe | `output_encoder` | (S, m) |
| K, V | `Memory.keys`, `Memory.values` | (S, m) |
| A (Equation 2) | `Context.memory_weights` | (Q, T, S) |
| M = AV | `read` | (Q, T, m) |
| C = tanh(W_c1 [h; M]) | `context_layer`, `Context.steps` | (Q, T + 1, m), with a slot for padded steps |
| C_T | `Context.last` | (Q, m) |
| f_od, g_j (Equation 3) | `decoder.lstm`, its steps | (Q, U, m) |
| u_j = Attention(g_j, C, C) | `decoder.attend` | (Q, U, m) |
| g~_j = tanh(W_c2 [g_j; u_j]) | `decoder.attention_layer` | (Q, U, m) |
| softmax output layer | `decoder.output_layer` | (Q, U, V) |

S support items, Q queries, T input steps, U output steps, m units, V output symbols; of N sequences all real steps are
P rows, packed. The networks know neither words nor the loss. Where the paper is silent the original release decides:
the two directions of an encoder are added up; keys, values and, without memory, C_T are their final states in the top
layer; C_T starts the hidden and the cell state of every layer of the decoder; both attentions are scaled by 1/sqrt(m);
all three linear layers have biases; dropout is on every symbol embedding and between LSTM layers.

Padded steps. In the original release the decoder also attends to the padded steps of shorter queries. A padded step has
encoder state 0, so it attends to all of the memory alike, and its context tanh(W_c1 [0; mean of V]) sums up the support
set. That is kept here: in training with every query padded to the longest one of its episode, as there; in evaluation
with every query padded to `padded_length` steps, so that an answer never depends on the other queries of its batch. The
padded steps of an episode are all alike, and n equal keys are one key with log n added to its score; so they are held
as one further slot of the context. `mask_padding` gives the equations as the paper has them: then no padded step takes
part.

Source: Lake 2019, Section 3 and Figure 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from packed_lstm import Packing, State, run_lstm


@dataclass(frozen=True)
class ModelConfig:
    """What a network is made of; sizes count symbols with SOS and EOS."""

    input_size: int
    output_size: int
    padded_length: int  # steps that every query counts as padded to in evaluation, EOS included
    emb_size: int = 200
    nlayers: int = 2
    dropout: float = 0.5
    disable_memory: bool = False
    disable_attention: bool = False
    mask_padding: bool = False


class Memory(NamedTuple):
    """The support set as keys and values, (S, m) each; S is 0 in a network without memory."""

    keys: Tensor
    values: Tensor


class Context(NamedTuple):
    """What the decoder gets to know about Q queries.

    The last of the T + 1 slots stands for all padded steps; `log_count` is the log of how many steps a slot stands for:
    0 for a real step, -inf where there is none.
    """

    steps: Tensor  # (Q, T + 1, m)
    log_count: Tensor  # (Q, T + 1)
    last: Tensor  # (Q, m), C_T
    memory_weights: Tensor  # (Q, T, S), zero in padded steps

    def rows(self, chosen: Tensor) -> "Context":
        """Pick queries by number."""
        return Context(*(tensor[chosen] for tensor in self))

    @staticmethod
    def joined(contexts: "Sequence[Context]") -> "Context":
        """Put queries of several contexts together, without their memory weights, which are on different items."""
        n_slots = max(context.steps.shape[1] for context in contexts)

        def widened(slots: Tensor, nothing: float) -> Tensor:
            """Fill slots (Q, T + 1, ...) up to `n_slots`, with the one of the padded steps still the last."""
            missing = slots.new_full((len(slots), n_slots - slots.shape[1], *slots.shape[2:]), nothing)
            return torch.cat((slots[:, :-1], missing, slots[:, -1:]), dim=1)

        steps = torch.cat([widened(context.steps, 0.0) for context in contexts])
        log_count = torch.cat([widened(context.log_count, -math.inf) for context in contexts])
        last = torch.cat([context.last for context in contexts])
        return Context(steps, log_count, last, last.new_zeros(len(last), n_slots - 1, 0))


def attention(query: Tensor, keys: Tensor, values: Tensor, log_count: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Read values by likeness of their keys: softmax(Q K^T / sqrt(m) + log_count) V.

    Args:
        query: (..., R, m); keys and values: (..., N, m); log_count: how many keys each key stands for, as a log,
            broadcast to (..., R, N).
    Returns:
        What was read, (..., R, m), and the weights, (..., R, N); each row of weights sums to 1.
    Source: Lake 2019, Equation 2.
    """
    score = query @ keys.transpose(-2, -1) / math.sqrt(query.shape[-1])
    weights = (score if log_count is None else score + log_count).softmax(dim=-1)
    return weights @ values, weights


class SequenceEncoder(nn.Module):
    """Embed symbols and run a biLSTM; the two directions are added, so the result keeps m units.

    Shape: symbols (N, T) int64 -> packed steps (P, m), last (N, m).
    Source: Lake 2019, Equation 1.
    """

    def __init__(self, n_symbols: int, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_symbols, config.emb_size)
        self.lstm = make_lstm(config, bidirectional=True)
        self.dropout = config.dropout

    def forward(self, symbols: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
        """Encode sequences that `packing` describes."""
        embedded = nn.functional.dropout(self.embedding(packing.pack(symbols)), self.dropout, self.training)
        forward, backward = run_lstm(self.lstm, embedded, packing).chunk(2, dim=1)
        return forward + backward, forward[packing.last] + backward[packing.first]


class Decoder(nn.Module):
    """An LSTM with Luong attention over the context; with `disable_attention` it knows C_T alone.

    Shape: context of Q queries, symbols (Q, U) int64 -> logits (Q, U, V).
    Source: Lake 2019, Equation 3 and Section 3, "Output decoder".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.output_size, config.emb_size)
        self.lstm = make_lstm(config)
        self.attention_layer = None if config.disable_attention else nn.Linear(2 * config.emb_size, config.emb_size)
        self.output_layer = nn.Linear(config.emb_size, config.output_size)
        self.dropout = config.dropout

    def start(self, context: Context) -> State:
        """Seed the hidden and the cell state of every layer with C_T, (layers, Q, m) each."""
        seed = context.last.expand(self.lstm.num_layers, -1, -1).contiguous()
        return seed, seed

    def forward(self, context: Context, symbols: Tensor, packing: Packing) -> Tensor:
        """Score the targets' symbols, all steps at once: decoder inputs (Q, U) int64 -> logits (Q, U, V)."""
        embedded = nn.functional.dropout(self.embedding(packing.pack(symbols)), self.dropout, self.training)
        g = run_lstm(self.lstm, embedded, packing, self.start(context))
        u = None
        if self.attention_layer is not None:
            u = packing.pack(self.attend(packing.unpack(g), context)[0])
        return packing.unpack(self.score(g, u))

    def step(self, symbols: Tensor, state: State, context: Context) -> tuple[Tensor, State, Tensor | None]:
        """Take one step of greedy decoding; the first state is `start(context)`.

        Args:
            symbols: (Q,) int64 the previous output symbols, SOS before the first.
            state: hidden and cell state, (layers, Q, m) each.
            context: of the same Q queries.
        Returns:
            Logits (Q, V), the state after, and the attention weights (Q, T + 1), None without attention.
        """
        g, state = self.lstm(self.embedding(symbols)[None], state)  # (1, Q, m)
        if self.attention_layer is None:
            return self.score(g[0], None), state, None
        u, weights = self.attend(g[0][:, None], context)
        return self.score(g[0], u[:, 0]), state, weights[:, 0]

    def attend(self, g: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Read the context at each output step: (Q, U, m) -> u (Q, U, m), weights (Q, U, T + 1)."""
        return attention(g, context.steps, context.steps, context.log_count[:, None])

    def score(self, g: Tensor, u: Tensor | None) -> Tensor:
        """Score the output symbols from the LSTM's state and, with attention, what was read: (..., m) -> (..., V)."""
        if self.attention_layer is not None and u is not None:
            g = self.attention_layer(torch.cat((g, u), dim=-1)).tanh()
        scores: Tensor = self.output_layer(g)
        return scores


class MetaSeq2Seq(nn.Module):
    """Meta seq2seq learning. The same four calls serve every variant: store, recall, decode, decoder.step.

    Shape: support symbols (S, T) and (S, U), queries (Q, T), decoder inputs (Q, U), all int64 -> logits (Q, U, V).
    Source: Lake 2019, Section 3; without memory: Section 4.3, "Alternative models".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.input_encoder = SequenceEncoder(config.input_size, config)
        self.output_encoder = None if config.disable_memory else SequenceEncoder(config.output_size, config)
        self.context_layer = None if config.disable_memory else nn.Linear(2 * config.emb_size, config.emb_size)
        self.decoder = Decoder(config)

    def store(self, inputs: Tensor, input_lengths: Tensor, outputs: Tensor, output_lengths: Tensor) -> Memory:
        """Encode the support items: symbols (S, T) and (S, U) int64, lengths (S,) on the CPU."""
        if self.output_encoder is None:
            nothing = self.input_encoder.embedding.weight.new_zeros(0, self.config.emb_size)
            return Memory(nothing, nothing)
        _, keys = self.input_encoder(inputs, Packing(input_lengths, inputs.device))
        _, values = self.output_encoder(outputs, Packing(output_lengths, outputs.device))
        return Memory(keys, values)

    def recall(self, memory: Memory, queries: Tensor, lengths: Tensor) -> Context:
        """Encode queries (Q, T) int64 of the given lengths, (Q,) on the CPU, and look every step up in the memory."""
        packing = Packing(lengths, queries.device)
        steps, last = self.input_encoder(queries, packing)
        return self._look_up(memory, steps, last, packing, lengths)

    def store_and_recall(
        self,
        inputs: Tensor,
        input_lengths: Tensor,
        outputs: Tensor,
        output_lengths: Tensor,
        queries: Tensor,
        lengths: Tensor,
    ) -> Context:
        """Do what `store` and then `recall` do, with their arguments.

        Support inputs and queries go through the input encoder together: larger products, half as many steps.
        """
        if self.output_encoder is None:
            return self.recall(self.store(inputs, input_lengths, outputs, output_lengths), queries, lengths)
        n_steps = max(inputs.shape[1], queries.shape[1])
        both = torch.cat([nn.functional.pad(symbols, (0, n_steps - symbols.shape[1])) for symbols in (inputs, queries)])
        packing = Packing(torch.cat((input_lengths, lengths)), queries.device)
        steps, last = self.input_encoder(both, packing)
        keys, last = last[: len(inputs)], last[len(inputs) :]
        of_queries = (packing.sequence_of_row >= len(inputs)).nonzero()[:, 0].to(queries.device, non_blocking=True)
        _, values = self.output_encoder(outputs, Packing(output_lengths, outputs.device))
        steps = steps.index_select(0, of_queries)  # in the order in which the queries alone are packed
        return self._look_up(Memory(keys, values), steps, last, Packing(lengths, queries.device), lengths)

    def _look_up(self, memory: Memory, steps: Tensor, last: Tensor, packing: Packing, lengths: Tensor) -> Context:
        """Look the packed steps (P, m) of the queries up in the memory; `last`, (Q, m), is C_T where there is none."""
        weights = steps.new_zeros(len(steps), len(memory.keys))
        padded_step = steps.new_zeros(self.config.emb_size)
        if self.context_layer is not None:
            read, weights = attention(steps, memory.keys, memory.values)
            steps = self.context_layer(torch.cat((steps, read), dim=1)).tanh()
            padded_step = self.context_layer(torch.cat((padded_step, memory.values.mean(0)))).tanh()
            last = steps[packing.last]
        contexts = torch.cat((packing.unpack(steps), padded_step.expand(len(lengths), 1, -1)), dim=1)
        log_count = self._step_counts(lengths).to(contexts.dtype).log().to(contexts.device, non_blocking=True)
        return Context(contexts, log_count, last, packing.unpack(weights))

    def _step_counts(self, lengths: Tensor) -> Tensor:
        """Say how many steps each slot of a context stands for, (Q, T + 1) int64, on the CPU as the lengths are."""
        padded_length = int(lengths.max()) if self.training else self.config.padded_length
        n_padded = (padded_length - lengths).clamp(min=0)
        if self.config.mask_padding:
            n_padded.zero_()
        is_real = torch.arange(int(lengths.max())) < lengths[:, None]
        return torch.cat((is_real, n_padded[:, None]), dim=1)

    def decode(self, context: Context, targets: Tensor, lengths: Tensor) -> Tensor:
        """Score target sequences (Q, U) int64 of the given lengths, (Q,) on the CPU: logits (Q, U, V).

        The decoder is fed the target's own previous symbols (teacher forcing), SOS first.
        """
        sos = torch.full_like(targets[:, :1], self.config.output_size - 2)
        logits: Tensor = self.decoder(
            context, torch.cat((sos, targets[:, :-1]), dim=1), Packing(lengths, targets.device)
        )
        return logits


def make_network(config: ModelConfig) -> MetaSeq2Seq:
    """Make the network that a configuration describes, with random weights; whoever needs one gets it here."""
    return MetaSeq2Seq(config)


def make_lstm(config: ModelConfig, bidirectional: bool = False) -> nn.LSTM:
    """Make an LSTM of the network's width and depth, with dropout between its layers."""
    between = config.dropout if config.nlayers > 1 else 0.0  # nn.LSTM warns of dropout it has no place for
    return nn.LSTM(config.emb_size, config.emb_size, config.nlayers, dropout=between, bidirectional=bidirectional)
