"""Grammars interpret as published, say what they cannot interpret, and are drawn with the published chances."""

import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biml.dice import Dice
from biml.grammar import (
    CONCATENATION,
    INPUT_WORDS,
    MINI_SCAN,
    MINI_SCAN_FUNCTIONS,
    OUTPUT_WORDS,
    VARIABLES,
    Interpretation,
    Interpreter,
    Rule,
    draw_grammar,
    format_grammar,
    is_mini_scan,
    parse_grammar,
    parse_rule,
)

COMPLETE = {"1 2 thrice": "1 2 2 2", "1 after 2 after 3": "3 2 1", "1 2 3 DAX": "1 2 3 DAX"}  # beside the gold episode
INCOMPLETE = {  # words to which no rule applies come out as they went in
    "thrice": "thrice",
    "thrice thrice": "thrice thrice thrice",
    "1 thrice 2": "1 thrice 2",
    "2 thrice thrice": "2 thrice thrice thrice",
    "1 after after 2": "2 1 after",
    "2 surround 3 surround 1": "2 surround 3 1 3",
    "unheard": "unheard",
    "unheard 1": "unheard 1",
    "": "",
}


# Interpretation


@pytest.mark.parametrize("text", COMPLETE | INCOMPLETE)
def test_mini_scan_interprets_nested_functions_and_reports_what_it_cannot_interpret(text):
    """Words to which no rule applies stay where they are, and the interpretation is not complete."""
    expected = tuple((COMPLETE | INCOMPLETE)[text].split())
    assert MINI_SCAN.interpret(text.split()) == expected
    assert Interpreter(MINI_SCAN)(tuple(text.split())) == Interpretation(expected, text in COMPLETE)


def test_input_words_are_the_pseudowords_or_the_grammar_s_own():
    """u1 stands for any pseudoword; in a grammar of other words for any of those."""
    assert parse_grammar(["dax -> RED"]).input_words == set(INPUT_WORDS)
    assert MINI_SCAN.input_words == {"1", "2", "3", "DAX", "thrice", "surround", "after"}


def reference(rules, words, text):
    """Interpret by regular expressions, rules being pairs of strings."""
    one, many = f"(?:{'|'.join(words)})", r"\S+(?: \S+)*"
    for left, right in rules:
        parts = [f"(?P<{v}>{one if v[0] == 'u' else many})" if v in VARIABLES else re.escape(v) for v in left.split()]
        found = re.fullmatch(" ".join(parts), text)
        if found:
            inner = [reference(rules, words, found[v[1:-1]]) if v[0] == "[" else v for v in right.split()]
            return " ".join(inner)
    return text


def strange_grammar(seed):
    """Draw a grammar of functions of the published kind and stranger ones, in any order."""
    draw = random.Random(seed)
    rules = [f"{word} -> {colour}" for word, colour in zip(INPUT_WORDS[:3], OUTPUT_WORDS, strict=False)]
    for _ in range(draw.randint(1, 3)):
        variables = draw.sample(VARIABLES, draw.randint(1, 3))
        left = variables + draw.sample(INPUT_WORDS[3:6], draw.randint(1, 2))
        right = draw.choices([*(f"[{variable}]" for variable in variables), "PINK"], k=draw.randint(1, 4))
        rules.append(f"{' '.join(draw.sample(left, len(left)))} -> {' '.join(right)}")
    rules += draw.choice([[], [str(CONCATENATION)]])
    return parse_grammar(draw.sample(rules, len(rules)))


grammars = st.integers(0, 10**9).map(strange_grammar)
sentences = st.lists(st.sampled_from((*INPUT_WORDS[:7], "unheard")), min_size=1, max_size=7).map(tuple)


@given(grammars, sentences, st.integers(0, 12))
def test_interpretation_agrees_with_regular_expressions(grammar, words, limit):
    """Matching word by word gives what a greedy regular expression over the whole text gives.

    No input word stands in a complete output; in any other there is one, unless a rule dropped it. With a limit there
    is the same interpretation, or none if it is longer; asking again changes nothing.
    """
    rules = [tuple(str(rule).split(" -> ")) for rule in grammar.rules]
    whole = Interpreter(grammar)(words)
    assert whole.output == tuple(reference(rules, INPUT_WORDS, " ".join(words)).split())
    leaked = set(whole.output) - set(OUTPUT_WORDS)
    assert whole.is_complete <= (not leaked)
    if all({f"[{item}]" for item in rule.left if item in VARIABLES} <= set(rule.right) for rule in grammar.rules):
        assert whole.is_complete == (not leaked)
    limited = Interpreter(grammar, limit)
    assert limited(words) == (whole if len(whole.output) <= limit else None)
    assert limited(words) == limited(words)


def test_a_limit_spares_the_work():
    """An output of 8^12 words is given up at once."""
    grammar = parse_grammar(["dax -> RED", f"x1 lug -> {'[x1] ' * 8}"])
    assert Interpreter(grammar, 8)(("dax", *["lug"] * 12)) is None


# Rules as text


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "": "without an arrow",
        "dax RED": "without an arrow",
        "dax -> RED -> BLUE": "one arrow",
        "dax->RED->BLUE": "one arrow",
        "-> RED": "both sides",
        "dax ->": "both sides",
        "->": "both sides",
        "u1 lug -> [u2]": "u2 stands on the right but not on the left",
        "dax -> [x1]": "x1 stands on the right but not on the left",
        "u1 lug u1 -> [u1]": "u1 stands twice",
        "u1 lug -> u1": "write [u1]",
        "dax -> u2": "write [u2]",
        "[u1] lug -> [u1]": "'[u1]' is no word",
        "u1 lug -> [u1": "'[u1' is no word",
        "dax -> [RED]": "'[RED]' is no word",
        "x1 -> [x1] [x1]": "for ever",
        "u1 -> [u1]": "for ever",
    }.items(),
)
def test_what_is_no_rule_is_refused(text, said):
    """The message has the rule and what is wrong with it."""
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        parse_rule(text)
    assert text[:3] in str(refused.value)
    with pytest.raises(ValueError, match="expected a rule"):
        parse_grammar(["dax -> RED", text])


def test_what_is_not_made_from_text_is_checked_too():
    """Words with blanks, empty words, and grammars without rules."""
    for left, right, said in (("big dax", "RED", "'big dax' is no word"), ("dax", "", "'' is no word")):
        with pytest.raises(ValueError, match=said):
            Rule((left,), (right,))
    with pytest.raises(ValueError, match="at least one rule"):
        parse_grammar([])


@given(grammars, st.integers(0, 10**6))
def test_parsing_undoes_formatting(grammar, seed):
    """Also with more blanks; the identifier ignores the order of rules and nothing else."""
    lines = format_grammar(grammar)
    assert parse_grammar(lines) == grammar
    assert parse_grammar(f"  {line.replace(' ', '   ')}\n" for line in lines) == grammar
    assert parse_grammar(random.Random(seed).sample(lines, len(lines))).identifier == grammar.identifier
    word = next(word for rule in grammar.rules for word in rule.literals)
    renamed = [line.replace(word, "another") for line in lines]
    assert parse_grammar(renamed).identifier != grammar.identifier


# Mini-SCAN


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_mini_scan_is_found_under_any_names(order):
    """Whatever the order of its functions, and whatever words and colours there are."""
    rng = np.random.default_rng(0)
    functions = [MINI_SCAN_FUNCTIONS[number] for number in order]
    for names in (rng.permutation(INPUT_WORDS) for _ in range(20)):
        text = "\n".join([f"{names[3]} -> RED", *functions, str(CONCATENATION)])
        for old, new in zip(("thrice", "surround", "after"), names, strict=False):
            text = text.replace(old, new)
        assert is_mini_scan(parse_grammar(text.split("\n")))
    assert is_mini_scan(MINI_SCAN)


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        *((0, "x1 thrice -> [x1] [x1] [x1]"), (0, "u1 thrice -> [u1] [u1]"), (0, "u1 thrice -> [u1] [u1] [u1] [u1]")),
        *((1, "u1 surround u2 -> [u2] [u1] [u2]"), (1, "u1 surround u2 -> [u1] [u1] [u2]")),
        *((1, "u1 surround x1 -> [u1] [x1] [u1]"), (1, "x1 surround x2 -> [x1] [x2] [x1]")),
        *((2, "x1 after x2 -> [x1] [x2]"), (2, "u1 after u2 -> [u2] [u1]"), (2, "x1 after x2 -> [x2] [x1] [x1]")),
        *((0, MINI_SCAN_FUNCTIONS[1]), (2, "dax -> RED")),
    ],
)
def test_near_misses_are_not_mini_scan(number, rule):
    """Another kind of variable, another order or number of arguments make another grammar."""
    functions = [*MINI_SCAN_FUNCTIONS[:number], rule, *MINI_SCAN_FUNCTIONS[number + 1 :]]
    assert not is_mini_scan(parse_grammar(["zup -> RED", *functions, str(CONCATENATION)]))


# Random grammars


@pytest.mark.parametrize(("primitives", "functions"), [(4, 3), (3, 2)])
def test_random_grammars_have_the_published_form(primitives, functions):
    """Primitives, functions, concatenation; no word and no colour is used twice.

    A function has one argument or two, u or x, and two to eight items on the right, which are the arguments.
    """
    dice, n = Dice(np.random.default_rng(5)), primitives + functions
    drawn = [draw_grammar(dice, primitives, functions) for _ in range(300)]
    for grammar in drawn:
        words = [word for rule in grammar.rules for word in rule.literals]
        assert [rule.is_primitive for rule in grammar.rules] == [True] * primitives + [False] * (functions + 1)
        assert [rule.is_function for rule in grammar.rules] == [False] * primitives + [True] * functions + [False]
        assert grammar.rules[n] == CONCATENATION
        assert len(set(words)) == len(words) == n and {*words} <= {*INPUT_WORDS}
        assert len({*grammar.meanings.values()}) == primitives
    rules = [rule for grammar in drawn for rule in grammar.rules[primitives:n]]
    forms = {" ".join("F" if item in rule.literals else item for item in rule.left) for rule in rules}
    assert forms == {"u1 F", "x1 F", "u1 F u2", "u1 F x1", "x1 F u1", "x1 F x2"}
    assert {len(rule.right) for rule in rules} == {*range(2, 9)}
    for rule in rules:
        assert {f"[{item}]" for item in rule.left if item in VARIABLES} == set(rule.right)


# Dice


def test_dice_take_their_numbers_from_the_generator_one_after_the_other():
    """None is left out between blocks."""
    dice = Dice(np.random.default_rng(3))
    assert [dice.fraction() for _ in range(500)] == np.random.default_rng(3).random(500).tolist()
