"""What a network is shown and asked in an episode: study examples kept, targets bent, symbols renamed.

A view is made anew each time an episode comes up. Sequences are bytes: inputs in numbers of the source's vocabulary,
outputs in numbers of the target's.

Source: Lake & Baroni 2023, Methods ("Meta-learning for compositionality", "Behavioural episodes").
"""

from collections.abc import Sequence
from typing import NamedTuple

from biml.dice import Dice
from biml.episode import Episode, Example
from biml.grammar import INPUT_WORDS, OUTPUT_WORDS, Grammar, Interpreter, Words
from biml.packed_episodes import PackedEpisodes
from biml.vocabulary import MAIN, Language
from common.errors import UserError

Pair = tuple[bytes, bytes]  # input and output

NOISE = 0.01  # chance that a symbol of a novel query's target is replaced
HEURISTIC = 0.2  # chance that a novel query is answered as people err
LONGEST_FLIPPED = 8  # words that a flipped grammar may produce
UNDEFINED = "undefined_action"  # an output that the canonical symbols have no name for


class Renaming(NamedTuple):
    """Which canonical symbol each word or colour of a view stands for."""

    inputs: dict[str, str]
    outputs: dict[str, str]

    def undo(self, example: Example) -> Example:
        """Write an example in the symbols that it had before."""
        given = tuple(self.inputs.get(word, word) for word in example.input)
        return Example(given, tuple(self.outputs.get(word, UNDEFINED) for word in example.output))


class View(NamedTuple):
    """One episode as a network meets it."""

    support: list[Pair]
    query: list[Pair]  # with the targets
    renaming: Renaming | None = None
    allowed_outputs: bytes = b""  # what an answer may be made of; empty: anything


class Recipe(NamedTuple):
    """How the view of a random episode is made; it always asks for the study examples too."""

    novel: bool = True  # ask the episode's own queries
    noise: float = 0.0  # chance for each symbol of a novel target
    heuristic: float = 0.0  # chance for each novel query
    fewest_study: int | None = None  # keep a random number of study examples, at least this many; None: all


def random_episode_view(packed: PackedEpisodes, index: int, recipe: Recipe, dice: Dice | None) -> View:
    """Make the view of a packed episode that is numbered like MAIN; without dice everything stays as it is stored."""
    inputs, outputs, num_support = packed.numbered(index)
    pairs = list(zip(inputs, outputs, strict=True))
    support, query = pairs[:num_support], pairs[num_support:]
    if dice is not None:
        support = dice.shuffled(support)
        if recipe.fewest_study is not None:
            support = support[: recipe.fewest_study + dice.below(len(support) - recipe.fewest_study + 1)]
        if recipe.novel and recipe.heuristic:
            query = _answered_by_people(query, support, recipe.heuristic, packed, index, dice)
        if recipe.novel and recipe.noise:
            query = [(given, _noisy(target, recipe.noise, dice)) for given, target in query]
    return View(support, [*support, *(query if recipe.novel else [])])


def _answered_by_people(
    query: Sequence[Pair], support: Sequence[Pair], chance: float, packed: PackedEpisodes, index: int, dice: Dice
) -> list[Pair]:
    """Answer some of the queries by one of two heuristics, both equally likely."""
    known = {given[0]: target[0] for given, target in support if len(given) == 1}
    grammar: Grammar | None = None
    answered = []
    for given, target in query:
        if dice.fraction() < chance:
            if dice.fraction() < 0.5:
                target = one_to_one(given, known, len(OUTPUT_WORDS), dice)
            else:
                grammar = grammar or packed.grammar(index)
                if grammar is not None:
                    words = role_flip(MAIN.source.decode(given), grammar, dice)
                    target = target if words is None else MAIN.target.encode(words)
        answered.append((given, target))
    return answered


def one_to_one(given: bytes, known: dict[int, int], n_outputs: int, dice: Dice) -> bytes:
    """Translate word by word: a word that is studied alone by its colour, any other by a random one."""
    return bytes([known[word] if word in known else dice.below(n_outputs) for word in given])


def role_flip(words: Words, grammar: Grammar, dice: Dice) -> Words | None:
    """Interpret by a grammar in which each function of two arguments confuses them with probability 1/2."""
    return interpret_flipped(
        words, grammar, [rule.has_two_arguments and dice.fraction() < 0.5 for rule in grammar.rules]
    )


def interpret_flipped(words: Words, grammar: Grammar, is_flipped: Sequence[bool]) -> Words | None:
    """Interpret by a grammar some of whose rules confuse their two arguments.

    None if the result is too long, or if no rule applies to one of its words: a function may drop an argument.
    """
    if any(is_flipped):
        rules = zip(grammar.rules, is_flipped, strict=True)
        grammar = Grammar(tuple(rule.flipped if flip else rule for rule, flip in rules))
    interpretation = Interpreter(grammar, LONGEST_FLIPPED)(words)
    return interpretation.output if interpretation is not None and interpretation.is_complete else None


def _noisy(target: bytes, chance: float, dice: Dice) -> bytes:
    """Replace symbols by chance with any colour, the same one included, or, except for the first, with the end."""
    fraction = dice.fraction
    replaced = [position for position in range(len(target)) if fraction() < chance]
    symbols = bytearray(target)
    for position in replaced:
        drawn = dice.below(len(OUTPUT_WORDS) + (position > 0))
        if drawn == len(OUTPUT_WORDS):
            return bytes(symbols[:position])
        symbols[position] = drawn
    return bytes(symbols)


def rename(episode: Episode, dice: Dice) -> tuple[Episode, Renaming]:
    """Give the symbols of an episode random words and colours; UserError if there are not enough of these."""
    examples = (*episode.support, *episode.query)
    inputs = sorted({word for example in examples for word in example.input})
    shown = {word for example in examples for word in example.output}
    outputs = sorted({*episode.allowed_outputs} or shown)
    if len(inputs) > len(INPUT_WORDS) or len(outputs) > len(OUTPUT_WORDS):
        raise UserError(
            f"expected at most {len(INPUT_WORDS)} input and {len(OUTPUT_WORDS)} output symbols in an episode, "
            f"found {len(inputs)} and {len(outputs)}"
        )
    if strange := shown - {*outputs}:
        raise UserError(f"expected answers made of {' '.join(outputs)}, found {min(strange)}")
    new_inputs = dict(zip(inputs, dice.shuffled(INPUT_WORDS), strict=False))
    new_outputs = dict(zip(outputs, dice.shuffled(OUTPUT_WORDS), strict=False))

    def renamed(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(
            Example(tuple(new_inputs[word] for word in given), tuple(new_outputs[word] for word in target))
            for given, target in examples
        )

    allowed = tuple(new_outputs[word] for word in episode.allowed_outputs)
    renaming = Renaming(*({new: old for old, new in names.items()} for names in (new_inputs, new_outputs)))
    return Episode(renamed(episode.support), renamed(episode.query), None, allowed), renaming


def view_of(episode: Episode, language: Language, copies: bool = False, renaming: Renaming | None = None) -> View:
    """View all study examples and queries of an episode; UserError if a word is not in the language."""
    support, query = (
        [(language.source.encode(example.input), language.target.encode(example.output)) for example in examples]
        for examples in (episode.support, episode.query)
    )
    copied = support if copies else []
    return View(support, [*copied, *query], renaming, language.target.encode(episode.allowed_outputs))
