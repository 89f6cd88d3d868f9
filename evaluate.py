"""Greedy decoding and exact-match scoring.

Takes encoded queries and a model, returns predictions and counts. Saves nothing, prints nothing.
An answer is correct only if every symbol and the stopping point match (Lake 2019, Section 4.3).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from episode_batch import EpisodeBatch, Sequences, Vocabulary
from model import Context, Memory, MetaSeq2Seq

QUERIES_AT_ONCE = 256  # large enough for full-rate products, small enough to stay in the cache
COMPACT_BELOW = 0.85  # finished queries leave the batch once fewer than this share is still being decoded


class Count(NamedTuple):
    """How many queries there were and how many were answered right."""

    correct: int = 0
    total: int = 0

    def plus(self, outcomes: Sequence[bool]) -> "Count":
        """Count further outcomes."""
        return Count(self.correct + sum(outcomes), self.total + len(outcomes))

    @property
    def percent(self) -> float | None:
        """Accuracy in percent, None without queries."""
        return 100 * self.correct / self.total if self.total else None


class Accuracy(NamedTuple):
    """Counts of queries that equal a support item (retrieval) and of those that do not (generalization)."""

    retrieval: Count = Count()
    generalize: Count = Count()

    def plus(self, outcomes: Sequence[bool], is_support: Sequence[bool]) -> "Accuracy":
        """Count further outcomes."""
        split = [[right for right, known in zip(outcomes, is_support, strict=True) if known == kind] for kind in (1, 0)]
        return Accuracy(self.retrieval.plus(split[0]), self.generalize.plus(split[1]))


class AttentionTrace(NamedTuple):
    """What a network attends to while it answers one query: T input steps, S support items, U output steps."""

    output: list[int]  # symbols, the final EOS included
    memory: Tensor | None  # (T, S), None without memory
    decoder: Tensor | None  # (U, T + 1), the last column for all padded steps together; None without attention


def store(model: MetaSeq2Seq, batch: EpisodeBatch) -> Memory:
    """Put an episode's support items into memory."""
    support_in, support_out = batch.support_in, batch.support_out
    return model.store(support_in.symbols, support_in.lengths, support_out.symbols, support_out.lengths)


def decode_steps(
    model: MetaSeq2Seq, context: Context, max_length: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Decode greedily, step by step, until every query has produced EOS or `max_length` symbols.

    Yields:
        The numbers of the queries still in the batch, (A,), their symbols of this step, (A,), and the attention
        weights, (A, T + 1). A finished query may stay for a few steps; what it produces after EOS means nothing.
    """
    eos = model.config.output_size - 1
    numbers = torch.arange(len(context.last), device=context.last.device)
    symbols, running = torch.full_like(numbers, eos - 1), torch.ones_like(numbers, dtype=torch.bool)
    state = model.decoder.start(context)
    for _ in range(max_length):
        logits, state, weights = model.step(symbols, state, context)
        symbols = logits.argmax(dim=1)
        yield numbers, symbols, weights
        running = running & (symbols != eos)
        n_running = int(running.sum())
        if n_running == 0:
            return
        if n_running < COMPACT_BELOW * len(running):
            kept = running.nonzero()[:, 0]
            numbers, symbols, running, context = numbers[kept], symbols[kept], running[kept], context.rows(kept)
            state = state[0][:, kept], state[1][:, kept]


def answer(model: MetaSeq2Seq, memory: Memory, queries: Sequences, max_length: int, at_once: int) -> list[list[int]]:
    """Answer queries greedily; a query's answer does not depend on the others.

    Args:
        max_length: symbols after which an answer is cut off, EOS included.
        at_once: queries to decode together.
    Returns:
        The symbols of each answer, with EOS unless it was cut off.
    """
    answers: list[list[int]] = [[] for _ in queries.lengths]
    eos = model.config.output_size - 1
    model.eval()
    with torch.inference_mode():
        for chosen in queries.lengths.argsort(descending=True, stable=True).split(at_once):
            batch = queries.rows(chosen)
            context = model.recall(memory, batch.symbols, batch.lengths)
            produced = torch.full((len(chosen), max_length), eos, device=context.last.device)
            length = 0
            for length, (numbers, symbols, _) in enumerate(decode_steps(model, context, max_length), start=1):
                produced[numbers, length - 1] = symbols
            for number, symbols in zip(chosen.tolist(), produced[:, :length].tolist(), strict=True):
                answers[number] = symbols[: symbols.index(eos) + 1] if eos in symbols else symbols
    return answers


def judge(answers: Sequence[Sequence[int]], targets: Sequences) -> list[bool]:
    """Say which answers equal their target, the stopping point included."""
    wanted = (row[:length] for row, length in zip(targets.symbols.tolist(), targets.lengths.tolist(), strict=True))
    return [list(given) == target for given, target in zip(answers, wanted, strict=True)]


def evaluate_episodes(model: MetaSeq2Seq, batches: Iterable[EpisodeBatch], max_length: int) -> Accuracy:
    """Answer the queries of whole episodes and count."""
    accuracy = Accuracy()
    model.eval()
    for batch in batches:
        with torch.inference_mode():
            memory = store(model, batch)
        answers = answer(model, memory, batch.query_in, max_length, QUERIES_AT_ONCE)
        accuracy = accuracy.plus(judge(answers, batch.query_out), batch.is_support.tolist())
    return accuracy


def trace_attention(model: MetaSeq2Seq, memory: Memory, query: Sequences, max_length: int) -> AttentionTrace:
    """Answer a single query and keep the attention weights of every step (Lake 2019, Figures A.1 and A.2)."""
    model.eval()
    with torch.inference_mode():
        context = model.recall(memory, query.symbols, query.lengths)
        steps = list(decode_steps(model, context, max_length))
    output = [int(symbols[0]) for _, symbols, _ in steps]
    rows = [weights[0] for _, _, weights in steps if weights is not None]
    return AttentionTrace(
        output,
        context.memory_weights[0].cpu() if len(memory.keys) else None,
        torch.stack(rows).cpu() if rows else None,
    )


def words_of(answers: Iterable[Sequence[int]], vocabulary: Vocabulary) -> list[str]:
    """Write answers as words joined by blanks."""
    return [" ".join(vocabulary.decode(symbols)) for symbols in answers]
