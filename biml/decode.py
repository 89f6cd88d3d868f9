"""Answers and their likelihoods: greedy and sampled decoding, log-likelihood of given answers with lapses.

The decoder keeps what it has computed in earlier steps, and stops when every answer has ended; both change no answer.

Source: Lake & Baroni 2023, Methods ("Evaluation").
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from biml.batch import QueryTensors
from biml.model import BIML


def decode(
    model: BIML,
    source: Tensor,
    max_length: int,
    generator: torch.Generator | None = None,
    allowed: Tensor | None = None,
) -> list[list[int]]:
    """Answer queries with at most `max_length` symbols each, without EOS and what follows it.

    Args:
        model: in evaluation mode.
        source: (N, S) int64.
        max_length: steps.
        generator: on the device of the source; answers are sampled with it, and greedy without.
        allowed: (N, V) bool, the symbols that an answer may be made of, EOS included; None for all, even SOS and PAD,
            as in the published code.
    Returns:
        N lists of symbol numbers.
    """
    sos, eos = model.config.output_size - 3, model.config.output_size - 2
    with torch.inference_mode():
        encoded = model.encode(source)
        decoding = model.start_decoding(encoded)
        symbols = torch.full((len(source),), sos, device=source.device)
        has_ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        steps = []
        for _ in range(max_length):
            logits, decoding = model.decode_step(encoded, decoding, symbols)
            if allowed is not None:
                logits = logits.masked_fill(~allowed, -math.inf)
            symbols = choose(logits, generator)
            steps.append(symbols)
            has_ended |= symbols == eos
            if has_ended.all():
                break
    return [row[: row.index(eos)] if eos in row else row for row in torch.stack(steps, dim=1).tolist()]


def choose(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Choose a symbol in each row of logits (N, V): the likeliest, or one by chance."""
    if generator is None:
        return logits.argmax(1)
    return torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


def target_log_p(model: BIML, batch: QueryTensors) -> Tensor:
    """Compute the log-probability of every symbol of the targets, EOS included: (number of symbols,) float64, nats."""
    with torch.inference_mode():
        log_p = functional.log_softmax(model(batch.source, batch.target_in).double(), dim=2)
        chosen = log_p.gather(2, batch.target_out[..., None]).squeeze(2)
        return chosen[batch.target_out != model.target_pad]


def with_lapse(log_p: Tensor, lapse: float, n_choices: int) -> Tensor:
    """Mix log-probabilities, in nats: with probability `lapse` a symbol is one of `n_choices`, all words and EOS."""
    return log_p if lapse == 0 else ((1 - lapse) * log_p.exp() + lapse / n_choices).log()
