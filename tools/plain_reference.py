"""The same network computed the plain way: everything padded, one decoder step after the other.

This is how the equations read, and about how the original release computes them: queries padded to one length whose
padded steps pass through memory and context layer, `nn.LSTM` over torch's packed sequences, a decoder that calls LSTM,
attention and output layer once per step for all queries, finished or not, plain Adam. The tests hold the fast code
equal to it; `bench.py` measures against it. Nothing else uses it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from episode_batch import EpisodeBatch, Sequences
from model import MetaSeq2Seq, SequenceEncoder


def plain_encode(encoder: SequenceEncoder, sequences: Sequences, padded_length: int) -> tuple[Tensor, Tensor]:
    """Encode sequences: steps (N, padded_length, m), zero in the padding, and last states (N, m)."""
    embedded = nn.functional.dropout(encoder.embedding(sequences.symbols), encoder.dropout, encoder.training)
    packed = pack_padded_sequence(embedded, sequences.lengths, batch_first=True, enforce_sorted=False)
    steps, (h_n, _) = encoder.lstm(packed)
    padded, _ = pad_packed_sequence(steps, batch_first=True, total_length=padded_length)
    forward, backward = padded.chunk(2, dim=2)
    return forward + backward, h_n[-2] + h_n[-1]


def plain_context(model: MetaSeq2Seq, batch: EpisodeBatch, padded_length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the context at every step, padded ones included.

    Returns:
        C (Q, padded_length, m), C_T (Q, m), and which steps take part in the decoder's attention (Q, padded_length).
    """
    lengths = batch.query_in.lengths
    steps, last = plain_encode(model.input_encoder, batch.query_in, padded_length)
    if model.output_encoder is not None and model.context_layer is not None:
        _, keys = plain_encode(model.input_encoder, batch.support_in, batch.support_in.symbols.shape[1])
        _, values = plain_encode(model.output_encoder, batch.support_out, batch.support_out.symbols.shape[1])
        weights = (steps @ keys.T / math.sqrt(keys.shape[1])).softmax(dim=2)
        steps = model.context_layer(torch.cat((steps, weights @ values), dim=2)).tanh()
        last = steps[torch.arange(len(lengths)), lengths - 1]
    takes_part = torch.arange(padded_length) < lengths[:, None]
    return steps, last, (takes_part | (not model.config.mask_padding)).to(steps.device)


def plain_logits(model: MetaSeq2Seq, batch: EpisodeBatch, n_steps: int | None = None) -> Tensor:
    """Score the target symbols step by step: logits (Q, U, V). With `n_steps`, feed back the network's own choices."""
    longest = int(batch.query_in.lengths.max())
    padded_length = longest if model.training else max(model.config.padded_length, longest)
    context, last, takes_part = plain_context(model, batch, padded_length)
    targets, decoder = batch.query_out.symbols, model.decoder
    seed = last.expand(decoder.lstm.num_layers, -1, -1).contiguous()
    state, symbols, scores = (seed, seed), torch.full_like(targets[:, 0], model.config.output_size - 2), []
    for step in range(n_steps or targets.shape[1]):
        embedded = nn.functional.dropout(decoder.embedding(symbols), decoder.dropout, decoder.training)
        outputs, state = decoder.lstm(embedded[None], state)
        g = outputs[0]
        if decoder.attention_layer is not None:
            score = (context @ g[:, :, None])[:, :, 0] / math.sqrt(g.shape[1])
            weights = score.masked_fill(~takes_part, -math.inf).softmax(dim=1)
            u = (weights[:, None] @ context)[:, 0]
            g = decoder.attention_layer(torch.cat((g, u), dim=1)).tanh()
        scores.append(decoder.output_layer(g))
        symbols = scores[-1].argmax(dim=1) if n_steps else targets[:, step]
    return torch.stack(scores, dim=1)


def plain_loss(logits: Tensor, targets: Sequences) -> Tensor:
    """Average the negative log-likelihood over the real target symbols."""
    losses = -logits.log_softmax(dim=2).gather(2, targets.symbols[:, :, None])[:, :, 0]
    real = (torch.arange(losses.shape[1]) < targets.lengths[:, None]).to(losses.device)
    return (losses * real).sum() / real.sum()


def plain_train_on_episode(model: MetaSeq2Seq, optimizer: torch.optim.Adam, batch: EpisodeBatch) -> Tensor:
    """Take one gradient step on an episode; `optimizer` need not be fused."""
    model.train()
    optimizer.zero_grad()
    loss = plain_loss(plain_logits(model, batch), batch.query_out)
    loss.backward()
    decoder = list(model.decoder.parameters())
    encoders = [parameter for name, parameter in model.named_parameters() if not name.startswith("decoder.")]
    for part in (encoders, decoder):
        nn.utils.clip_grad_norm_(part, 50.0)
    optimizer.step()
    return loss.detach()
