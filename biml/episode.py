"""Episodes: study examples and queries of one hidden grammar, drawn at random or given by people.

The study examples mostly, but not always, show what each word means: nothing makes sure that every word is among them.
All randomness comes from a generator that the caller passes in.

Source: Lake & Baroni 2023, "Human-like systematic generalization through a meta-learning neural network".
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from biml.dice import Dice
from biml.grammar import (
    INPUT_WORDS,
    OUTPUT_WORDS,
    SEQUENCE_VARIABLES,
    WORD_VARIABLES,
    Grammar,
    Interpreter,
    Words,
    draw_grammar,
    is_mini_scan,
)
from common.errors import UserError

MOST_REJECTED_GRAMMARS = 100  # in a row
MOST_VAIN_DRAWS = 10_000  # in a row without a new example
MOST_VAIN_QUERIES = 500  # the same where queries must need a function, which not every grammar has


class Example(NamedTuple):
    """An input sequence and its output sequence, in words."""

    input: Words
    output: Words


class Episode(NamedTuple):
    """One small seq2seq problem."""

    support: tuple[Example, ...]  # what can be studied
    query: tuple[Example, ...]  # what is asked, with the right answers or those that people gave
    grammar: Grammar | None  # what the outputs come from; None where people gave them
    allowed_outputs: Words = ()  # what an answer may be made of; (): anything


@dataclass(frozen=True)
class EpisodeSizes:
    """How large a random episode is; UserError if there are not enough words or colours."""

    primitives: int = 4
    functions: int = 3
    longest_input: int = 8  # words
    longest_output: int = 8  # words
    num_support: int = 14
    num_query: int = 10
    longest_study: int | None = None  # words of a studied input; queries are then longer and cannot be copied

    def __post_init__(self) -> None:
        if not 1 <= self.primitives <= len(OUTPUT_WORDS):
            raise UserError(
                f"expected 1 to {len(OUTPUT_WORDS)} primitives, each with a colour; found {self.primitives}"
            )
        if self.functions < 0 or self.primitives + self.functions > len(INPUT_WORDS):
            raise UserError(
                f"expected at most {len(INPUT_WORDS)} primitives and functions, a word for each; "
                f"found {self.primitives} and {self.functions}"
            )
        if self.num_support < 0 or min(self.longest_input, self.longest_output, self.num_query) < 1:
            raise UserError(f"expected lengths and a number of queries of at least 1, found {self}")
        if self.longest_study is not None and not 1 <= self.longest_study < self.longest_input:
            raise UserError(
                f"expected study examples of at least 1 word and shorter than the longest input, {self.longest_input} "
                f"words; found {self.longest_study}"
            )
        if self.longest_study is not None and self.functions == 0:
            raise UserError("without functions copying answers every query: ask for one, or leave out --longest_study")


PAPER_SIZES = EpisodeSizes()


def input_forms(grammar: Grammar) -> list[Words]:
    """List what an input can look like: a lone u, and the left-hand sides of functions and of concatenation."""
    return [WORD_VARIABLES[:1], *(rule.left for rule in grammar.rules if not rule.is_primitive)]


def draw_input(dice: Dice, primitives: Sequence[str], forms: Sequence[Words], longest: int) -> Words | None:
    """Draw an input sequence; None if it turns out longer than `longest` words.

    A sequence is one of the forms, all equally likely, with a primitive in place of each u and again a sequence in
    place of each x. These parts are independent of each other, so the order in which they are drawn does not matter.
    """
    pending = [SEQUENCE_VARIABLES[0]]
    backwards: list[str] = []
    while pending:
        symbol = pending.pop()
        if symbol in SEQUENCE_VARIABLES:
            pending += dice.choice(forms)
            if len(pending) + len(backwards) > longest:  # each symbol becomes at least one word
                return None
        else:
            backwards.append(dice.choice(primitives) if symbol in WORD_VARIABLES else symbol)
    return tuple(reversed(backwards))


def draw_examples(
    dice: Dice,
    grammar: Grammar,
    count: int,
    longest_input: int,
    longest_output: int,
    is_wanted: Callable[[Words, Words], bool] = lambda words, output: True,
    most_vain: int = MOST_VAIN_DRAWS,
) -> list[Example]:
    """Draw different examples, no output too long or with a word to which no rule applied; UserError if too few."""
    interpret, primitives, forms = Interpreter(grammar, longest_output), tuple(grammar.meanings), input_forms(grammar)
    examples: dict[Words, Words] = {}
    vain = 0
    while len(examples) < count:
        words = draw_input(dice, primitives, forms, longest_input)
        found = None if words is None or words in examples else interpret(words)
        if words is not None and found is not None and found.is_complete and is_wanted(words, found.output):
            examples[words] = found.output
            vain = 0
            continue
        vain += 1
        if vain == most_vain:
            raise UserError(
                f"found only {len(examples)} of {count} different examples with inputs of at most {longest_input} and "
                f"outputs of at most {longest_output} words; ask for fewer examples or longer ones"
            )
    return [Example(*both) for both in examples.items()]


def sample_episode(
    rng: np.random.Generator, excluded: Collection[str] = (), sizes: EpisodeSizes = PAPER_SIZES
) -> Episode:
    """Draw an episode; its grammar is neither mini-SCAN nor in `excluded` (identifiers); UserError if there is none."""
    dice = Dice(rng)
    for _ in range(MOST_REJECTED_GRAMMARS):
        grammar = draw_grammar(dice, sizes.primitives, sizes.functions)
        if is_mini_scan(grammar) or grammar.identifier in excluded:
            continue
        if sizes.longest_study is None:
            count = sizes.num_support + sizes.num_query
            examples = draw_examples(dice, grammar, count, sizes.longest_input, sizes.longest_output)
            order = tuple(dice.shuffled(examples))
            return Episode(order[: sizes.num_support], order[sizes.num_support :], grammar)
        episode = _with_longer_queries(dice, grammar, sizes, sizes.longest_study)
        if episode is not None:
            return episode
    why, advice = "were excluded", "ask for fewer validation episodes"
    if sizes.longest_study is not None:
        why, advice = f"{why} or left no query that needs a function", f"{advice} or fewer queries"
    raise UserError(f"{MOST_REJECTED_GRAMMARS} grammars in a row {why}; {advice}")


def _with_longer_queries(dice: Dice, grammar: Grammar, sizes: EpisodeSizes, longest_study: int) -> Episode | None:
    """Draw study examples, and queries that are longer than any and need a function; None if there seem to be none."""
    study = draw_examples(dice, grammar, sizes.num_support, longest_study, sizes.longest_output)

    def is_wanted(words: Words, output: Words) -> bool:
        return len(words) > longest_study and needs_function(words, output, study, grammar)

    try:
        query = draw_examples(
            dice, grammar, sizes.num_query, sizes.longest_input, sizes.longest_output, is_wanted, MOST_VAIN_QUERIES
        )
    except UserError:
        return None  # a function that changes nothing, or makes every answer too long
    return Episode(tuple(dice.shuffled(study)), tuple(dice.shuffled(query)), grammar)


def needs_function(query: Words, answer: Words, study: Collection[tuple[Words, Words]], grammar: Grammar) -> bool:
    """Say whether someone who only copies cannot answer, even with the luck to copy the right thing.

    The answer is not that of a study example, nor the colours of the query's words, nor made of studied parts.
    """
    return (
        all(answer != output for _, output in study)
        and answer != tuple(colour for word in query for colour in grammar.meanings.get(word, ()))
        and not is_put_together(query, answer, study)
    )


def is_put_together(query: Words, answer: Words, parts: Collection[tuple[Words, Words]]) -> bool:
    """Say whether the query can be cut into the inputs of some parts whose outputs, in order, are the answer."""
    return not (query or answer) or any(
        query[: len(given)] == given
        and answer[: len(output)] == output
        and is_put_together(query[len(given) :], answer[len(output) :], parts)
        for given, output in parts
        if given
    )
