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
from biml.vocabulary import Language
from common.errors import UserError

Pair = tuple[bytes, bytes]  # input and output

NOISE = 0.01  # chance that a symbol of a novel query's target is replaced
HEURISTIC = 0.2  # chance that a novel query is answered as people err
LONGEST_FLIPPED = 8  # words that a flipped grammar may produce
UNDEFINED = "undefined_action"  # an output that the canonical symbols have no name for


class Renaming(NamedTuple):
    """Which word or colour stands for which symbol in a view: from the word to the symbol."""

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
    """How the view of a random episode is made."""

    copies: bool = True  # ask for the study examples too
    novel: bool = True  # ask the episode's own queries
    noise: float = 0.0  # chance for each symbol of a novel target
    heuristic: float = 0.0  # chance for each novel query
    fewest_study: int | None = None  # draw how many study examples are kept, at least so many; None: all


AS_STORED = Recipe()  # for validation: nothing bent


def random_episode_view(
    packed: PackedEpisodes, index: int, recipe: Recipe, dice: Dice | None, language: Language
) -> View:
    """Make the view of a packed episode; without dice everything stays as and where it is.

    Args:
        packed: episodes with the numbers of the language's vocabularies (`PackedEpisodes.renumbered`).
        index: which of them.
        recipe: what to ask, and how to bend it.
        dice: what decides.
        language: the vocabularies.
    Raises:
        UserError: if a word is in none of the vocabularies.
    """
    inputs, outputs, num_support = packed.numbered(index)
    pairs = list(zip(inputs, outputs, strict=True))
    support, query = pairs[:num_support], pairs[num_support:]
    if dice is not None:
        support = dice.shuffled(support)
        if recipe.fewest_study is not None:
            support = support[: recipe.fewest_study + dice.below(len(support) - recipe.fewest_study + 1)]
        if recipe.novel and recipe.heuristic:
            query = _answered_by_people(query, support, recipe.heuristic, packed, index, dice, language)
        if recipe.novel and recipe.noise:
            query = [(given, _noisy(target, recipe.noise, dice, language)) for given, target in query]
    copies, novel = support if recipe.copies else [], query if recipe.novel else []
    return View(support, [*copies, *novel])


def _answered_by_people(
    query: Sequence[Pair],
    support: Sequence[Pair],
    probability: float,
    packed: PackedEpisodes,
    index: int,
    dice: Dice,
    language: Language,
) -> list[Pair]:
    """Answer some of the queries by one of two heuristics, with equal chances."""
    known = {given[0]: target[0] for given, target in support if len(given) == 1}
    grammar: Grammar | None = None
    answered = []
    for given, target in query:
        if dice.fraction() < probability:
            if dice.fraction() < 0.5:
                target = one_to_one(given, known, len(language.target.words), dice)
            else:
                grammar = grammar or packed.grammar(index)
                if grammar is not None:
                    words = role_flip(language.source.decode(given), grammar, dice)
                    target = target if words is None else language.target.encode(words)
        answered.append((given, target))
    return answered


def one_to_one(given: bytes, known: dict[int, int], n_outputs: int, dice: Dice) -> bytes:
    """Translate word by word: a word that was shown alone by its colour, any other by a random one."""
    return bytes([known[word] if word in known else dice.below(n_outputs) for word in given])


def role_flip(words: Words, grammar: Grammar, dice: Dice) -> Words | None:
    """Interpret by a grammar in which each function of two arguments has confused them with probability 1/2.

    None if that comes out too long, or a word is left to which no rule applies.
    """
    is_flipped = [rule.has_two_arguments and dice.fraction() < 0.5 for rule in grammar.rules]
    return interpret_flipped(words, grammar, is_flipped)


def interpret_flipped(words: Words, grammar: Grammar, is_flipped: Sequence[bool]) -> Words | None:
    """Interpret by a grammar some of whose rules have confused their two arguments.

    None if that comes out too long, or a word is left to which no rule applies: a function may drop an argument.
    """
    if any(is_flipped):
        rules = zip(grammar.rules, is_flipped, strict=True)
        grammar = Grammar(tuple(rule.flipped if flip else rule for rule, flip in rules))
    interpretation = Interpreter(grammar, LONGEST_FLIPPED)(words)
    return interpretation.output if interpretation is not None and interpretation.is_complete else None


def _noisy(target: bytes, probability: float, dice: Dice, language: Language) -> bytes:
    """Replace symbols by chance with a colour, which may be the same, or, except for the first, with the end."""
    fraction = dice.fraction
    replaced = [position for position in range(len(target)) if fraction() < probability]
    symbols = bytearray(target)
    n_words = len(language.target.words)
    for position in replaced:
        drawn = dice.below(n_words + (position > 0))
        if drawn == n_words:
            return bytes(symbols[:position])
        symbols[position] = drawn
    return bytes(symbols)


def rename(episode: Episode, dice: Dice) -> tuple[Episode, Renaming]:
    """Give the symbols of an episode random words and colours.

    Raises:
        UserError: if it has more different symbols than there are words or colours.
    """
    examples = (*episode.support, *episode.query)
    inputs = sorted({word for example in examples for word in example.input})
    outputs = sorted({*episode.allowed_outputs} or {word for example in examples for word in example.output})
    if len(inputs) > len(INPUT_WORDS) or len(outputs) > len(OUTPUT_WORDS):
        raise UserError(
            f"expected at most {len(INPUT_WORDS)} input and {len(OUTPUT_WORDS)} output symbols in an episode, "
            f"found {len(inputs)} and {len(outputs)}"
        )
    strange = {word for example in examples for word in example.output} - {*outputs}
    if strange:
        raise UserError(f"expected answers made of {' '.join(outputs)}, found {min(strange)}")
    new_inputs = dict(zip(inputs, dice.shuffled(INPUT_WORDS), strict=False))
    new_outputs = dict(zip(outputs, dice.shuffled(OUTPUT_WORDS), strict=False))

    def renamed(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(
            Example(tuple(new_inputs[word] for word in given), tuple(new_outputs[word] for word in target))
            for given, target in examples
        )

    allowed = tuple(new_outputs[word] for word in episode.allowed_outputs)
    renaming = Renaming(_inverse(new_inputs), _inverse(new_outputs))
    return Episode(renamed(episode.support), renamed(episode.query), None, allowed), renaming


def _inverse(mapping: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in mapping.items()}


def view_of(episode: Episode, language: Language, copies: bool = False, renaming: Renaming | None = None) -> View:
    """Turn an episode in words of the language into a view of all its study examples and queries.

    Raises:
        UserError: if a word is not in the language.
    """
    support, query = (
        [(language.source.encode(example.input), language.target.encode(example.output)) for example in examples]
        for examples in (episode.support, episode.query)
    )
    copied = support if copies else []
    return View(support, [*copied, *query], renaming, language.target.encode(episode.allowed_outputs))


def shuffled_support(episode: Episode, dice: Dice) -> Episode:
    """Put the study examples in a random order."""
    return episode._replace(support=tuple(dice.shuffled(episode.support)))


def shuffled_query(episode: Episode, dice: Dice) -> Episode:
    """Put the queries in a random order."""
    return episode._replace(query=tuple(dice.shuffled(episode.query)))
