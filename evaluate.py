"""Greedy decoding and exact-match scoring.

Takes encoded queries and a model, returns predictions and counts. Saves nothing, prints nothing.
An answer is correct only if every symbol and the stopping point match (Lake 2019, Section 4.3).
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from checkpoint import Checkpoint
from common.errors import UserError
from episode_batch import EpisodeBatch, Sequences, encode, episode_from_items, items_of
from generate_episode import Episode
from model import Context, Memory, MetaSeq2Seq
from scan_util import TESTED_SPLITS, Item, Words, load_split, read_items

QUERIES_AT_ONCE = 512  # enough rows for full-rate products even when most queries have ended
COMPACT_BELOW = 0.85  # finished queries leave the batch once fewer than this share is still being decoded
END, PADDING = "<EOS>", "(padding)"  # labels of attention weights
LENGTHS_A_GROUP = 6  # if there are many output lengths, this many share a group of the breakdown


class Count(NamedTuple):
    """How many queries were answered right, and how many there were."""

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
        pairs = list(zip(outcomes, is_support, strict=True))
        known, novel = ([right for right, among in pairs if among == kind] for kind in (True, False))
        return Accuracy(self.retrieval.plus(known), self.generalize.plus(novel))


def store(model: MetaSeq2Seq, batch: EpisodeBatch) -> Memory:
    """Put an episode's support items into memory."""
    support_in, support_out = batch.support_in, batch.support_out
    return model.store(support_in.symbols, support_in.lengths, support_out.symbols, support_out.lengths)


def remember(model: MetaSeq2Seq, batch: EpisodeBatch) -> Memory:
    """Put an episode's support items into memory in order to answer: no dropout, no gradients."""
    with torch.inference_mode():
        return store(model.eval(), batch)


def decode_steps(
    model: MetaSeq2Seq, context: Context, max_length: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Decode greedily, step by step, until every query has produced EOS or `max_length` symbols.

    Yields:
        The numbers of the A queries still in the batch, (A,), their symbols at this step, (A,), and the decoder's
        attention weights, (A, T + 1), None without attention. A finished query may stay for a few steps; ignore what
        it produces after EOS.
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
    """Decode greedily; return the symbols of each answer, with EOS unless it was cut off after `max_length`."""
    eos = model.config.output_size - 1
    produced = torch.full((len(context.last), max_length), eos, device=context.last.device)
    length = 0
    for length, (numbers, symbols, _) in enumerate(decode_steps(model, context, max_length), start=1):
        produced[numbers, length - 1] = symbols
    return up_to_end(produced[:, :length].tolist(), eos)


def up_to_end(rows: Sequence[list[int]], eos: int) -> list[list[int]]:
    """Drop what follows the first EOS; a row without one is an answer that was cut off, and stays as it is."""
    return [row[: row.index(eos) + 1] if eos in row else row for row in rows]


def judge(answers: Sequence[Sequence[int]], targets: Sequences) -> list[bool]:
    """Tell which answers equal their target, the stopping point included."""
    wanted = (row[:length] for row, length in zip(targets.symbols.tolist(), targets.lengths.tolist(), strict=True))
    return [list(given) == target for given, target in zip(answers, wanted, strict=True)]


def evaluate_episodes(model: MetaSeq2Seq, batches: Iterable[EpisodeBatch], max_length: int) -> Accuracy:
    """Answer the queries of whole episodes, all in one decoding, and count."""
    batches = list(batches)
    with torch.inference_mode():
        contexts = [
            model.recall(remember(model, batch), batch.query_in.symbols, batch.query_in.lengths) for batch in batches
        ]
        answers = iter(decode(model, Context.joined(contexts), max_length))
    outcomes: list[bool] = []
    for batch in batches:
        outcomes += judge(list(itertools.islice(answers, len(batch.query_in.lengths))), batch.query_out)
    return Accuracy().plus(outcomes, [among for batch in batches for among in batch.is_support.tolist()])


def ask(checkpoint: Checkpoint, support: Sequence[tuple[str, str]], queries: Sequence[str]) -> list[str]:
    """Answer queries of your own: `ask(checkpoint, [("dax", "RED"), ("lug", "BLUE")], ["lug dax"])`.

    Inputs and outputs are words joined by blanks; a network without memory takes no support items. Raises as `asked`.
    """
    if not queries:
        return []
    batch, model = asked(checkpoint, support, queries), checkpoint.model
    produced = answer(model, remember(model, batch), batch.query_in, checkpoint.max_length_eval, QUERIES_AT_ONCE)
    return [" ".join(checkpoint.output_vocabulary.decode(symbols)) for symbols in produced]


def explain(checkpoint: Checkpoint, support: Sequence[tuple[str, str]], query: str) -> dict[str, Any]:
    """Answer a query, given as for `ask`, and label what the network attends to (Lake 2019, Figures A.1 and A.2).

    Returns:
        Plain data: "query", "output", and under "memory" and "decoder" the labels of "rows" and "columns" and the
        "weights", one list per row; None for an attention that the network does not have. The memory's rows are the
        steps of the query, its columns the support items. The decoder's rows are the steps of the output, its columns
        the steps of the query and a last one for all padded steps together. Raises as `asked`.
    """
    batch, model = asked(checkpoint, support, [query]), checkpoint.model
    memory = remember(model, batch)
    with torch.inference_mode():
        context = model.recall(memory, batch.query_in.symbols, batch.query_in.lengths)
        steps = list(decode_steps(model, context, checkpoint.max_length_eval))
    output = checkpoint.output_vocabulary.decode(int(symbols[0]) for _, symbols, _ in steps)
    attended = [weights[0] for _, _, weights in steps if weights is not None]
    given, produced = [*query.split(), END], [*output, END][: len(steps)]
    shown = [" → ".join(" ".join(side.split()) for side in item) for item in support]
    return {
        "query": " ".join(query.split()),
        "output": " ".join(output),
        "memory": _weight_table(given, shown, context.memory_weights[0]) if shown else None,
        "decoder": _weight_table(produced, [*given, PADDING], torch.stack(attended)) if attended else None,
    }


def _weight_table(rows: list[str], columns: list[str], weights: Tensor) -> dict[str, Any]:
    return {"rows": rows, "columns": columns, "weights": [[round(w, 5) for w in row] for row in weights.tolist()]}


def asked(checkpoint: Checkpoint, support: Sequence[tuple[str, str]], queries: Sequence[str]) -> EpisodeBatch:
    """Encode support items and queries, given as for `ask`, as an episode without targets.

    Raises:
        UserError: if the network does not know a word (the message lists those it knows), a query or an input has no
            words, or there are support items for a network without memory or none for one with it.
    """
    check_memory(checkpoint, support)
    if not support and not checkpoint.model.config.disable_memory:
        advice = "in query.py with --support, or a line 'support: dax -> RED; wif -> BLUE'"
        raise UserError(f"expected support items that say what words mean, found none; give them {advice}")
    items = [Item(tuple(given.split()), tuple(produced.split())) for given, produced in support]
    inputs = [tuple(query.split()) for query in queries]
    if not all(inputs) or not all(item.input for item in items):
        raise UserError("expected words in every query and support item, found none")
    episode = episode_from_items(items, [Item(words, ()) for words in inputs], *checkpoint.vocabularies)
    return encode(episode, *checkpoint.vocabularies).to(checkpoint.device)


def check_memory(checkpoint: Checkpoint, support: Collection[object]) -> None:
    """Raise UserError if there are support items for a network that would not read them."""
    if support and checkpoint.model.config.disable_memory:
        raise UserError("the network has no memory (it was trained with --disable_memory): it reads no support items")


def in_words(items: Iterable[Item]) -> list[tuple[str, str]]:
    """Write items as `ask` takes them: input and output, words joined by blanks."""
    return [(" ".join(item.input), " ".join(item.output)) for item in items]


def one_word(item: Item) -> str:
    """Write an item as a part of a file's name."""
    return f"{'+'.join(item.input)}={'+'.join(item.output)}"


def find_supports(checkpoint: Checkpoint) -> list[list[Item]]:
    """List the support sets of a test: the experiment's own, an empty one for standard seq2seq, or validation's."""
    experiment = checkpoint.experiment
    if experiment.is_standard or experiment.test_support:
        return [list(experiment.test_support)]
    return [items_of(episode.support, *checkpoint.vocabularies) for episode in checkpoint.validation]


def find_test(
    checkpoint: Checkpoint, data_dir: Path, split: str | None = None, support: Sequence[Item] = ()
) -> tuple[str, list[Episode]]:
    """Put together what a checkpoint is tested on: the split's name and the queries for each support set.

    Args:
        checkpoint: a loaded network.
        data_dir: folder of the SCAN files.
        split: a test other than the experiment's: the name of a split, or a file of `IN: ... OUT: ...` lines.
        support: what is in memory instead of the experiment's support sets.
    Raises:
        UserError: if there is no such split, a word is unknown, or nothing says what the words mean.
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
        advice = "give a file in its words as --split, and what they mean as --support"
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


def answer_episodes(
    checkpoint: Checkpoint, episodes: Sequence[Episode], at_once: int = QUERIES_AT_ONCE
) -> list[Answer]:
    """Answer every query of every episode.

    Raises:
        UserError: if some targets are longer than the network's answers may be.
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
        outcomes, is_support = judge(produced, batch.query_out), episode.is_support.tolist()
        support, queries = (items_of(pairs, *vocabularies) for pairs in (episode.support, episode.query))
        shown = {word for item in support for word in item.input}
        for item, symbols, is_right, known in zip(queries, produced, outcomes, is_support, strict=True):
            ((query, target),) = in_words([item])
            output = " ".join(checkpoint.output_vocabulary.decode(symbols))
            words = set(item.input)
            unshown, modifiers = (words & slots) - shown, tuple(sorted(words - slots))
            answers.append(Answer(number, query, output, target, is_right, known, bool(unshown), modifiers))
    return answers


def count(answers: Sequence[Answer]) -> Accuracy:
    """Count answers."""
    return Accuracy().plus([one.is_right for one in answers], [one.is_support for one in answers])


def break_down(answers: Sequence[Answer]) -> dict[str, dict[str, Count]]:
    """Count answers by the length of the target, by the modifiers in the query, and by whether memory shows its words.

    A table that would have a single row is left out.
    """
    lengths = [len(one.target.split()) for one in answers]
    step = 1 if max(lengths, default=0) <= 2 * LENGTHS_A_GROUP else LENGTHS_A_GROUP

    def group(length: int) -> str:
        first = (length - 1) // step * step + 1
        return str(first) if step == 1 else f"{first}-{first + step - 1}"

    by_length = sorted(zip(lengths, answers, strict=True))
    outcomes = {
        "output length": [(group(length), one.is_right) for length, one in by_length],
        "with the word": sorted((word, one.is_right) for one in answers for word in one.modifiers),
        "word not in support": sorted(("yes" if one.has_unshown else "no", one.is_right) for one in answers),
    }
    tables = {
        title: {
            name: Count().plus([is_right for _, is_right in rows])
            for name, rows in itertools.groupby(pairs, key=lambda pair: pair[0])
        }
        for title, pairs in outcomes.items()
    }
    return {title: table for title, table in tables.items() if len(table) > 1}
