"""Greedy decoding and exact-match scoring.

Takes encoded queries and a model, returns predictions and counts. Saves nothing, prints nothing.
An answer is correct only if every symbol and the stopping point match (Lake 2019, Section 4.3).
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from checkpoint import Checkpoint
from common.errors import UserError
from episode_batch import EpisodeBatch, Sequences, encode, episode_from_items, items_of, vocabularies_of
from generate_episode import Episode, EpisodeSampler
from model import Context, Memory, MetaSeq2Seq
from scan_util import TESTED_SPLITS, Item, Words, load_split, read_items

QUERIES_AT_ONCE = 512  # enough rows for full-rate products even when most queries have ended
COMPACT_BELOW = 0.85  # finished queries leave the batch once fewer than this share is still being decoded
AUGMENTED_TRAINING_COMMANDS = 7706  # as many as addprim_jump tests
END, PADDING = "<EOS>", "(padding)"  # labels of attention weights
LENGTHS_A_GROUP = 6  # output lengths are counted in groups of so many where there are many


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
        split = [
            [right for right, known in zip(outcomes, is_support, strict=True) if known == kind]
            for kind in (True, False)
        ]
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


def remember(model: MetaSeq2Seq, batch: EpisodeBatch) -> Memory:
    """Put an episode's support items into memory for answering: without dropout and without gradients."""
    with torch.inference_mode():
        return store(model.eval(), batch)


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
    state, step = model.decoder.start(context), model.decoder.step
    for _ in range(max_length):
        logits, state, weights = step(symbols, state, context)
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
    model.eval()
    with torch.inference_mode():
        for chosen in queries.lengths.argsort(descending=True, stable=True).split(at_once):
            batch = queries.rows(chosen)
            context = model.recall(memory, batch.symbols, batch.lengths)
            for number, symbols in zip(chosen.tolist(), decode(model, context, max_length), strict=True):
                answers[number] = symbols
    return answers


def decode(model: MetaSeq2Seq, context: Context, max_length: int) -> list[list[int]]:
    """Decode greedily; gives the symbols of each answer, with EOS unless it was cut off after `max_length`."""
    eos = model.config.output_size - 1
    produced = torch.full((len(context.last), max_length), eos, device=context.last.device)
    length = 0
    for length, (numbers, symbols, _) in enumerate(decode_steps(model, context, max_length), start=1):
        produced[numbers, length - 1] = symbols
    return up_to_end(produced[:, :length].tolist(), eos)


def up_to_end(rows: Sequence[list[int]], eos: int) -> list[list[int]]:
    """Cut what stands behind EOS; a row without EOS, an answer that was cut off, stays as it is."""
    return [row[: row.index(eos) + 1] if eos in row else row for row in rows]


def judge(answers: Sequence[Sequence[int]], targets: Sequences) -> list[bool]:
    """Say which answers equal their target, the stopping point included."""
    wanted = (row[:length] for row, length in zip(targets.symbols.tolist(), targets.lengths.tolist(), strict=True))
    return [list(given) == target for given, target in zip(answers, wanted, strict=True)]


def evaluate_episodes(model: MetaSeq2Seq, batches: Iterable[EpisodeBatch], max_length: int) -> Accuracy:
    """Answer the queries of whole episodes, all in one decoding, and count."""
    batches, accuracy = list(batches), Accuracy()
    with torch.inference_mode():
        contexts = [
            model.recall(remember(model, batch), batch.query_in.symbols, batch.query_in.lengths) for batch in batches
        ]
        answers = iter(decode(model, Context.joined(contexts), max_length))
    for batch in batches:
        own = list(itertools.islice(answers, len(batch.query_in.lengths)))
        accuracy = accuracy.plus(judge(own, batch.query_out), batch.is_support.tolist())
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


def explain(checkpoint: Checkpoint, support: Sequence[tuple[str, str]], query: str) -> dict[str, Any]:
    """Answer a query, told as for `ask`, and label what the network attends to meanwhile.

    Returns:
        Plain data: "query", "output", and under "memory" and "decoder" the labels of "rows" and "columns" and the
        "weights", a list a row; None for an attention that the network does not have. The memory's rows are the steps
        of the query and its columns the support items; the decoder's rows are the output's steps and its columns those
        of the query, the last one standing for all padded steps together.
    Raises:
        UserError: as `ask`.
    """
    episode = asked_episode(checkpoint, support, [query])
    batch = encode(episode, *checkpoint.vocabularies).to(checkpoint.device)
    memory = remember(checkpoint.model, batch)
    trace = trace_attention(checkpoint.model, memory, batch.query_in, checkpoint.max_length_eval)
    steps, output = [*query.split(), END], list(checkpoint.output_vocabulary.decode(trace.output))
    produced = [*output, END][: len(trace.output)]
    shown = [f"{' '.join(given.split())} → {' '.join(produced.split())}" for given, produced in support]
    return {
        "query": " ".join(query.split()),
        "output": " ".join(output),
        "memory": _weight_table(steps, shown, trace.memory),
        "decoder": _weight_table(produced, [*steps, PADDING], trace.decoder),
    }


def _weight_table(rows: list[str], columns: list[str], weights: Tensor | None) -> dict[str, Any] | None:
    if weights is None:
        return None
    return {"rows": rows, "columns": columns, "weights": [[round(w, 5) for w in row] for row in weights.tolist()]}


class Answer(NamedTuple):
    """A query with its output and target, in words."""

    support_set: int  # the number of its episode
    query: str
    output: str
    target: str
    is_right: bool
    is_support: bool
    has_unshown: bool  # whether it has a slot word that no support item shows, as in mutual exclusivity
    modifiers: tuple[str, ...]  # its words whose meaning never changes, each once


def find_supports(checkpoint: Checkpoint) -> list[list[Item]]:
    """Put together the support sets of a checkpoint's test, one or as many as there are validation episodes.

    Standard seq2seq has an empty one: what its validation asks for besides is no support set.
    """
    if checkpoint.experiment.is_standard:
        return [[]]
    if checkpoint.experiment.test_support:
        return [list(checkpoint.experiment.test_support)]
    return [items_of(episode.support, *checkpoint.vocabularies) for episode in checkpoint.validation]


def find_test(
    checkpoint: Checkpoint, data_dir: Path, split: str | None = None, support: Sequence[Item] = ()
) -> tuple[str, list[Episode]]:
    """Put together what a checkpoint is tested on: the split's name and the queries for each support set.

    Args:
        checkpoint: a loaded network.
        data_dir: folder of the SCAN files.
        split: another test than its experiment's: the name of a split, or a file of `IN: ... OUT: ...` lines.
        support: what is in memory instead of the experiment's support sets.
    Raises:
        UserError: if there is no such split, or a word is unknown, or it is not said what the words mean.
    Source: Lake 2019, Sections 4.2 to 4.6.
    """
    experiment = checkpoint.experiment
    check_memory(checkpoint, support)
    name = split if split is not None else experiment.test_split
    if name is None and support:
        raise UserError(f"{experiment.name} is tested on episodes with support sets of their own; name a --split")
    if name is None:
        return "the validation episodes", checkpoint.validation
    if split is not None and experiment.n_held_out_mappings and not support:
        advice = "ask it a file in its own words, and say what they mean: --support"
        raise UserError(f"{experiment.name} has no meanings of its own; {advice}")
    queries = experiment.items(f"{name}_test", data_dir) if split is None else find_queries(checkpoint, split, data_dir)
    supports = [list(support)] if support else find_supports(checkpoint)
    shown = experiment.files[1].path if split is None and experiment.files is not None else name
    return shown, [episode_from_items(support, queries, *checkpoint.vocabularies) for support in supports]


def find_queries(checkpoint: Checkpoint, split: str, data_dir: Path) -> list[Item]:
    """Read the test commands of a split, by its name, or those in a file."""
    if split in TESTED_SPLITS:
        return load_split(data_dir, "test", split)
    if not Path(split).is_file():
        raise UserError(f"--split {split}: there is no such file, and the splits are {', '.join(TESTED_SPLITS)}")
    inputs, outputs = (vocabulary.words for vocabulary in checkpoint.vocabularies)
    known = f"the network, which knows {', '.join(inputs)} and {', '.join(outputs)}"
    return read_items(Path(split), Words(inputs, outputs, known))


def find_training_commands(checkpoint: Checkpoint, data_dir: Path) -> Episode | None:
    """Put the training commands of a standard seq2seq network together, None for one that was meta-trained.

    Each distinct command stands there once; of the endless augmented ones as many as the test has, with a fixed seed.
    """
    experiment = checkpoint.experiment
    if not experiment.is_standard:
        return None
    sampler = EpisodeSampler(experiment, data_dir, support_loss=False)
    commands = sampler.training_commands(np.random.default_rng(0), at_most=AUGMENTED_TRAINING_COMMANDS)
    return episode_from_items([], items_of(commands, *vocabularies_of(experiment)), *checkpoint.vocabularies)


def answer_episodes(checkpoint: Checkpoint, episodes: Sequence[Episode], at_once: int) -> list[Answer]:
    """Answer every query of every episode.

    Raises:
        UserError: if some right answers are longer than the network's may be.
    """
    model, vocabularies = checkpoint.model, checkpoint.vocabularies
    slots = {*checkpoint.experiment.slots, *checkpoint.experiment.further_words}
    answers = []
    for number, episode in enumerate(episodes):
        batch = encode(episode, *vocabularies).to(checkpoint.device)
        longest = int(batch.query_out.lengths.max())
        if longest > checkpoint.max_length_eval:
            limit = f"some right answers have {longest} symbols, {END} included"
            advice = f"train it, or score it with test.py, with --max_length_eval {longest} or more"
            raise UserError(f"{limit}, and answers are cut off after {checkpoint.max_length_eval}; {advice}")
        produced = answer(model, remember(model, batch), batch.query_in, checkpoint.max_length_eval, at_once)
        shown = {word for item in items_of(episode.support, *vocabularies) for word in item.input}
        for item, symbols, is_right, is_support in zip(
            items_of(episode.query, *vocabularies),
            produced,
            judge(produced, batch.query_out),
            episode.is_support.tolist(),
            strict=True,
        ):
            words = set(item.input)
            answers.append(
                Answer(
                    number,
                    " ".join(item.input),
                    " ".join(vocabularies[1].decode(symbols)),
                    " ".join(item.output),
                    is_right,
                    is_support,
                    not shown.issuperset(words & slots),
                    tuple(sorted(words - slots)),
                )
            )
    return answers


def ask(checkpoint: Checkpoint, support: Sequence[tuple[str, str]], queries: Sequence[str]) -> list[str]:
    """Answer queries of your own: `ask(checkpoint, [("dax", "RED"), ("lug", "BLUE")], ["lug dax"])`.

    Args:
        checkpoint: a loaded network.
        support: input and output of each support item, words joined by blanks; at least one, and none if the network
            has no memory.
        queries: inputs, words joined by blanks.
    Returns:
        The outputs, words joined by blanks.
    Raises:
        UserError: if a word is unknown (the message has those that the network knows), an input has no words, or the
            support items do not fit the network.
    """
    if not queries:
        return []
    episode, model = asked_episode(checkpoint, support, queries), checkpoint.model
    batch = encode(episode, *checkpoint.vocabularies).to(checkpoint.device)
    produced = answer(model, remember(model, batch), batch.query_in, checkpoint.max_length_eval, QUERIES_AT_ONCE)
    return [" ".join(checkpoint.output_vocabulary.decode(symbols)) for symbols in produced]


def asked_episode(checkpoint: Checkpoint, support: Sequence[tuple[str, str]], queries: Sequence[str]) -> Episode:
    """Make an episode, without targets, of support items and queries as `ask` takes them.

    Raises:
        UserError: if a word is unknown, an input has no words, or there are support items where there is no memory, or
            none where there is one.
    """
    check_memory(checkpoint, support)
    items = [Item(tuple(given.split()), tuple(produced.split())) for given, produced in support]
    asked = [tuple(query.split()) for query in queries]
    if not all(asked) or not all(item.input for item in items):
        raise UserError("expected words in every query and support item, found none")
    if not items and not checkpoint.model.config.disable_memory:
        raise UserError("expected at least one support item, found none")
    return episode_from_items(items, [Item(words, ()) for words in asked], *checkpoint.vocabularies)


def check_memory(checkpoint: Checkpoint, support: Collection[object]) -> None:
    """Raise UserError if support items are given to a network that would not read them."""
    if support and checkpoint.model.config.disable_memory:
        raise UserError("the network has no memory (it was trained with --disable_memory): no support item is read")


def in_words(items: Iterable[Item]) -> list[tuple[str, str]]:
    """Write items as `ask` takes them: input and output, words joined by blanks."""
    return [(" ".join(item.input), " ".join(item.output)) for item in items]


def one_word(item: Item) -> str:
    """Write an item as a part of a file's name."""
    return f"{'+'.join(item.input)}={'+'.join(item.output)}"


def count(answers: Sequence[Answer]) -> Accuracy:
    """Count answers."""
    return Accuracy().plus([answer.is_right for answer in answers], [answer.is_support for answer in answers])


class Group(NamedTuple):
    """How many of a group of queries were answered right."""

    group: str
    correct: int
    total: int


def break_down(answers: Sequence[Answer]) -> dict[str, list[Group]]:
    """Count answers by the length of the target, by the modifiers in the query, and by whether memory shows its words.

    Groups without queries are left out, and so is a table that would have a single row.
    """
    longest = max((len(answer.target.split()) for answer in answers), default=0)
    step = 1 if longest <= 2 * LENGTHS_A_GROUP else LENGTHS_A_GROUP
    groups: dict[str, dict[str, list[bool]]] = {"output length": {}, "with the word": {}, "word not in support": {}}
    for start in range(1, longest + 1, step):
        name = str(start) if step == 1 else f"{start}-{start + step - 1}"
        inside = [answer.is_right for answer in answers if start <= len(answer.target.split()) < start + step]
        groups["output length"][name] = inside
    for word in sorted({word for answer in answers for word in answer.modifiers}):
        groups["with the word"][word] = [answer.is_right for answer in answers if word in answer.modifiers]
    for name, kind in (("no", False), ("yes", True)):
        groups["word not in support"][name] = [answer.is_right for answer in answers if answer.has_unshown == kind]
    tables = {
        title: [Group(name, sum(rights), len(rights)) for name, rights in rows.items() if rights]
        for title, rows in groups.items()
    }
    return {title: rows for title, rows in tables.items() if len(rows) > 1}
