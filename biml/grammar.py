"""Rewrite grammars from pseudowords to colours: rules, what they make of a sequence of words, and random grammars.

A rule is written `x1 lug x2 -> [x2] [x1]`. On the left, u1 and u2 stand for exactly one input word, x1 and x2 for one
word or more, everything else for itself. On the right, `[x1]` is the interpretation of what x1 stands for, everything
else is itself. Matching compares word with word, without regular expressions.

Source: Lake & Baroni 2023, "Human-like systematic generalization through a meta-learning neural network".
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from biml.dice import Dice
from common.errors import UserError

Words = tuple[str, ...]
Bindings = Mapping[str, Words]
"""What each variable of a left-hand side stands for."""

INPUT_WORDS = ("dax", "lug", "wif", "zup", "fep", "blicket", "kiki", "tufa", "gazzer")
OUTPUT_WORDS = ("RED", "YELLOW", "GREEN", "BLUE", "PURPLE", "PINK")
WORD_VARIABLES = ("u1", "u2")  # each stands for one input word
SEQUENCE_VARIABLES = ("x1", "x2")  # each stands for one word or more
VARIABLES = (*WORD_VARIABLES, *SEQUENCE_VARIABLES)
INTERPRETED = {f"[{variable}]": variable for variable in VARIABLES}  # how a right-hand side refers to the variables
ARROW = "->"

TWO_ARGUMENTS = 0.5  # chance that a random function has a second argument
GROW = 0.4  # chance that a random right-hand side of two items or more becomes longer by one
LONGEST_RIGHT = 8  # items of a random right-hand side


@dataclass(frozen=True)
class Rule:
    """One rewrite rule; UserError if the sides are not as the description of this file says."""

    left: Words
    right: Words

    def __post_init__(self) -> None:
        if fault := _fault_of(self.left, self.right):
            raise UserError(f"expected a rule like 'u1 lug x1 {ARROW} [x1] [u1]', found {str(self)!r}: {fault}")

    def __str__(self) -> str:
        return f"{' '.join(self.left)} {ARROW} {' '.join(self.right)}"

    @cached_property
    def literals(self) -> Words:
        """The words of the left-hand side that stand for themselves."""
        return tuple(item for item in self.left if item not in VARIABLES)

    @cached_property
    def has_sequence(self) -> bool:
        """Whether the left-hand side can match more words than it has items."""
        return any(item in SEQUENCE_VARIABLES for item in self.left)

    @property
    def is_primitive(self) -> bool:
        """Whether this is the meaning of a single word."""
        return len(self.left) == 1 and self.left == self.literals

    @property
    def is_function(self) -> bool:
        """Whether a word is rewritten together with the arguments around it."""
        return 0 < len(self.literals) < len(self.left)

    @property
    def has_two_arguments(self) -> bool:
        """Whether this is a function whose arguments can be confused."""
        return len(self.left) == 3 and len(self.literals) == 1

    @cached_property
    def flipped(self) -> "Rule":
        """A function of two arguments that takes each for the other."""
        first, second = (f"[{item}]" for item in self.left if item in VARIABLES)
        other = {first: second, second: first}
        return Rule(self.left, tuple(other.get(item, item) for item in self.right))

    def match(self, words: Words, input_words: Collection[str]) -> Bindings | None:
        """Bind the variables so that the left-hand side becomes `words`; None if that is impossible.

        Where there are several ways, the first variable takes as many words as it can, then the second.
        """
        if len(words) < len(self.left) or (len(words) > len(self.left) and not self.has_sequence):
            return None
        for literal in self.literals:  # rules out most rules that do not match
            if literal not in words:
                return None
        return _bind(self.left, words, input_words)


def _fault_of(left: Words, right: Words) -> str:
    """Say what is wrong with the sides of a rule; empty if nothing is."""
    if not (left and right):
        return "both sides need words"
    for item in (*left, *(item for item in right if item not in INTERPRETED)):
        if ARROW in item:
            return "there must be one arrow"
        if item.split() != [item] or "[" in item or "]" in item:
            return f"{item!r} is no word; only {', '.join(INTERPRETED)} have brackets, and only on the right"
    used = [item for item in left if item in VARIABLES]
    for variable in VARIABLES:
        if used.count(variable) > 1:
            return f"{variable} stands twice on the left"
        if variable in right:
            return f"write [{variable}] on the right"
        if f"[{variable}]" in right and variable not in used:
            return f"{variable} stands on the right but not on the left"
    if left == tuple(used) and len(left) == 1 and f"[{left[0]}]" in right:
        return "it would be applied to its own result for ever; the left-hand side needs a second item"
    return ""


def _bind(left: Words, words: Words, input_words: Collection[str]) -> dict[str, Words] | None:
    if not left:
        return None if words else {}
    if not words:
        return None
    first, others = left[0], left[1:]
    if first in SEQUENCE_VARIABLES:
        for length in range(len(words) - len(others), 0, -1):  # every other item needs a word too
            bindings = _bind(others, words[length:], input_words)
            if bindings is not None:
                return {**bindings, first: words[:length]}
        return None
    if first in WORD_VARIABLES:
        bindings = _bind(others, words[1:], input_words) if words[0] in input_words else None
        return None if bindings is None else {**bindings, first: words[:1]}
    return _bind(others, words[1:], input_words) if words[0] == first else None


def parse_rule(text: str) -> Rule:
    """Read a rule, whatever blanks are around and between its words; UserError if the text is no rule."""
    left, arrow, right = text.partition(ARROW)
    if not arrow:
        raise UserError(f"expected a rule '<words> {ARROW} <words>', found {text.strip()!r} without an arrow")
    return Rule(tuple(left.split()), tuple(right.split()))


class Interpretation(NamedTuple):
    """What a grammar makes of a sequence of words."""

    output: Words
    is_complete: bool  # False: no rule applied to some words, which stand in the output unchanged


@dataclass(frozen=True)
class Grammar:
    """Rules in the order in which they are tried; UserError if there are none."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if not self.rules:
            raise UserError("expected at least one rule, found none")

    @cached_property
    def input_words(self) -> frozenset[str]:
        """The words that u1 and u2 can stand for: all pseudowords, or those of a grammar that uses other words."""
        words = frozenset(word for rule in self.rules for word in rule.literals)
        return frozenset(INPUT_WORDS) if words <= frozenset(INPUT_WORDS) else words

    @property
    def identifier(self) -> str:
        """The rules as text in sorted order: the same for grammars that differ only in the order of rules."""
        return "\n".join(sorted(format_grammar(self)))

    @cached_property
    def meanings(self) -> dict[str, Words]:
        """What each primitive word means."""
        return {rule.left[0]: rule.right for rule in self.rules if rule.is_primitive}

    def interpret(self, words: Sequence[str]) -> Words:
        """Translate words by the first rule that matches all of them; where none does, they stay as they are."""
        interpretation = Interpreter(self)(tuple(words))
        assert interpretation is not None  # there is no limit
        return interpretation.output


class Interpreter:
    """Translates by a grammar, remembers its translations, and gives up outputs of more than `longest_output` words."""

    def __init__(self, grammar: Grammar, longest_output: int | None = None) -> None:
        self._rules = grammar.rules
        self._input_words = grammar.input_words
        self._longest = float("inf") if longest_output is None else longest_output
        self._known: dict[Words, Interpretation | None] = {}

    def __call__(self, words: Words) -> Interpretation | None:
        """Translate words; None if the output would be too long."""
        if words not in self._known:
            self._known[words] = self._interpret(words)
        return self._known[words]

    def _interpret(self, words: Words) -> Interpretation | None:
        for rule in self._rules:
            bindings = rule.match(words, self._input_words)
            if bindings is not None:
                return self._rewrite(rule.right, bindings)
        return Interpretation(words, False) if len(words) <= self._longest else None

    def _rewrite(self, right: Words, bindings: Bindings) -> Interpretation | None:
        """Put a right-hand side together. What is bound is shorter than what matched, so this ends."""
        output: list[str] = []
        is_complete = True
        for item in right:
            if item in INTERPRETED:
                part = self(bindings[INTERPRETED[item]])
                if part is None:
                    return None
                output += part.output
                is_complete &= part.is_complete
            else:
                output.append(item)
            if len(output) > self._longest:
                return None
        return Interpretation(tuple(output), is_complete)


def parse_grammar(lines: Iterable[str]) -> Grammar:
    """Read a grammar, one rule a line; UserError if a line is no rule, or there are no lines."""
    return Grammar(tuple(parse_rule(line) for line in lines))


def format_grammar(grammar: Grammar) -> list[str]:
    """Write a grammar, one rule a line."""
    return [str(rule) for rule in grammar.rules]


CONCATENATION = parse_rule("u1 x1 -> [u1] [x1]")
MINI_SCAN_FUNCTIONS = (
    "u1 thrice -> [u1] [u1] [u1]",
    "u1 surround u2 -> [u1] [u2] [u1]",
    "x1 after x2 -> [x2] [x1]",
)
MINI_SCAN = parse_grammar(("1 -> 1", "2 -> 2", "3 -> 3", "DAX -> DAX", *MINI_SCAN_FUNCTIONS, str(CONCATENATION)))
"""The grammar that people were tested on, in the symbols of the paper."""


def is_mini_scan(grammar: Grammar) -> bool:
    """Say whether the functions are those of mini-SCAN, under any names and in any order."""
    return _nameless_functions(grammar) == _nameless_functions(MINI_SCAN)


def _nameless_functions(grammar: Grammar) -> list[tuple[Words, Words]]:
    return sorted(
        (tuple(item if item in VARIABLES else "" for item in rule.left), rule.right)
        for rule in grammar.rules
        if rule.is_function
    )


def draw_grammar(dice: Dice, primitives: int, functions: int) -> Grammar:
    """Draw a grammar; no two of its rules share a word or a colour."""
    words, colours = dice.shuffled(INPUT_WORDS), dice.shuffled(OUTPUT_WORDS)
    meanings = [Rule((word,), (colour,)) for word, colour in zip(words[:primitives], colours, strict=False)]
    names = words[primitives : primitives + functions]
    return Grammar((*meanings, *(_draw_function(dice, name) for name in names), CONCATENATION))


def _draw_function(dice: Dice, name: str) -> Rule:
    """Draw a function of one or two arguments, each of which it uses: u1 is the first u, and x1 the first x."""
    u_left, x_left = list(WORD_VARIABLES), list(SEQUENCE_VARIABLES)
    n_arguments = 2 if dice.fraction() < TWO_ARGUMENTS else 1
    arguments = [(u_left if dice.fraction() < 0.5 else x_left).pop(0) for _ in range(n_arguments)]
    right = [f"[{argument}]" for argument in arguments]
    while len(right) < 2 or (len(right) < LONGEST_RIGHT and dice.fraction() < GROW):
        right.append(f"[{dice.choice(arguments)}]")
    return Rule((arguments[0], name, *arguments[1:]), tuple(dice.shuffled(right)))
