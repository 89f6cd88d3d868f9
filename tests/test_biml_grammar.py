"""Grammars interpret as published, say what they cannot interpret, and are drawn with the published chances."""

import itertools
import random
import re
from collections import Counter

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
    Grammar,
    Interpretation,
    Interpreter,
    Rule,
    draw_grammar,
    format_grammar,
    is_mini_scan,
    parse_grammar,
    parse_rule,
)

GOLD = {  # the paper's study examples, then its queries
    "1": "1",
    "2": "2",
    "3": "3",
    "DAX": "DAX",
    "2 after 3": "3 2",
    "1 after 2": "2 1",
    "1 thrice": "1 1 1",
    "2 thrice": "2 2 2",
    "2 surround 3": "2 3 2",
    "3 surround 1": "3 1 3",
    "2 thrice after 3": "3 2 2 2",
    "2 after 3 thrice": "3 3 3 2",
    "3 after 1 surround 2": "1 2 1 3",
    "3 surround 1 after 2": "2 3 1 3",
    "3 after DAX": "DAX 3",
    "DAX after 1": "1 DAX",
    "DAX thrice": "DAX DAX DAX",
    "1 surround DAX": "1 DAX 1",
    "DAX surround 2": "DAX 2 DAX",
    "2 after 3 surround DAX": "3 DAX 3 2",
    "DAX thrice after 2": "2 DAX DAX DAX",
    "3 after DAX thrice": "DAX DAX DAX 3",
    "DAX surround DAX after DAX thrice": "DAX DAX DAX DAX DAX DAX",
    "DAX surround 3 after 1 thrice": "1 1 1 DAX 3 DAX",
}
COMPLETE = {  # more that mini-SCAN interprets
    "1 2 thrice": "1 2 2 2",
    "1 after 2 after 3": "3 2 1",
    "1 2 3 DAX": "1 2 3 DAX",
}
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


def interpretation(grammar, text):
    return Interpreter(grammar)(tuple(text.split()))


# Interpretation


@pytest.mark.parametrize("text", GOLD | COMPLETE)
def test_mini_scan_interprets_as_published(text):
    """The paper's examples and queries, and nested or repeated functions."""
    expected = tuple((GOLD | COMPLETE)[text].split())
    assert MINI_SCAN.interpret(text.split()) == expected
    assert interpretation(MINI_SCAN, text) == Interpretation(expected, True)


@pytest.mark.parametrize("text", INCOMPLETE)
def test_what_cannot_be_interpreted_is_left_and_reported(text):
    """The words stay where they are, and the interpretation says that it is not complete."""
    expected = tuple(INCOMPLETE[text].split())
    assert MINI_SCAN.interpret(text.split()) == expected
    assert interpretation(MINI_SCAN, text) == Interpretation(expected, False)


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        (["dax -> RED", "u1 lug -> BLUE", "x1 lug -> PINK"], "dax lug", "BLUE"),
        (["dax -> RED", "x1 lug -> PINK", "u1 lug -> BLUE"], "dax lug", "PINK"),
        (["dax -> RED", "dax -> BLUE"], "dax", "RED"),
        (["x1 lug x2 -> [x2] RED", "lug -> BLUE", "u1 lug -> PINK"], "dax lug lug", "BLUE RED"),
    ],
)
def test_the_first_matching_rule_applies(rules, text, expected):
    """Later rules are not tried, even if what follows cannot be interpreted."""
    assert parse_grammar(rules).interpret(text.split()) == tuple(expected.split())


@pytest.mark.parametrize(
    ("left", "text", "expected"),
    [
        ("x1 lug x2", "a lug b lug c", {"x1": "a lug b", "x2": "c"}),
        ("x1 lug x2", "lug lug lug", {"x1": "lug", "x2": "lug"}),
        ("u1 lug x1", "a lug b lug c", {"u1": "a", "x1": "b lug c"}),
        ("x1 lug u1", "a lug b lug c", {"x1": "a lug b", "u1": "c"}),
        ("x1 x2", "a b c", {"x1": "a b", "x2": "c"}),
        ("x2 x1", "a b c", {"x2": "a b", "x1": "c"}),
        ("u1 lug", "lug lug", {"u1": "lug"}),
        ("u1 lug", "d lug", None),
        ("x1 lug", "d lug", {"x1": "d"}),
        ("u1 lug x1", "lug a", None),
        ("x1 lug x2", "a lug", None),
        ("u1 lug u2", "a b c", None),
    ],
)
def test_the_first_variable_takes_as_much_as_it_can(left, text, expected):
    """u stands for one of the input words, functions among them, x for any words at all."""
    found = Rule(tuple(left.split()), ("RED",)).match(tuple(text.split()), {"a", "b", "c", "lug"})
    assert found == (expected and {variable: tuple(bound.split()) for variable, bound in expected.items()})


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


@given(grammars, sentences)
def test_interpretation_agrees_with_regular_expressions(grammar, words):
    """Matching word by word gives what a greedy regular expression over the whole text gives."""
    rules = [tuple(str(rule).split(" -> ")) for rule in grammar.rules]
    assert grammar.interpret(words) == tuple(reference(rules, INPUT_WORDS, " ".join(words)).split())


@given(grammars, sentences)
def test_an_interpretation_is_complete_or_shows_what_is_left(grammar, words):
    """No input word stands in a complete output, and in any other there is one, unless a rule dropped it."""
    output, is_complete = Interpreter(grammar)(words)
    leaked = set(output) - set(OUTPUT_WORDS)
    assert is_complete <= (not leaked)
    if all({f"[{item}]" for item in rule.left if item in VARIABLES} <= set(rule.right) for rule in grammar.rules):
        assert is_complete == (not leaked)


@given(grammars, sentences, st.integers(0, 12))
def test_outputs_over_the_limit_are_given_up(grammar, words, limit):
    """With a limit there is the same interpretation, or none if it is longer; asking again changes nothing."""
    whole = Interpreter(grammar)(words)
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


def test_words_with_blanks_are_refused():
    """Rules that are not made from text are checked, too."""
    with pytest.raises(ValueError, match="'big dax' is no word"):
        Rule(("big dax",), ("RED",))
    with pytest.raises(ValueError, match="'' is no word"):
        Rule(("dax",), ("",))


def test_a_grammar_needs_rules():
    """Nothing at all is no grammar."""
    with pytest.raises(ValueError, match="at least one rule"):
        parse_grammar([])


@given(grammars)
def test_parsing_undoes_formatting(grammar):
    """Also with more blanks."""
    assert parse_grammar(format_grammar(grammar)) == grammar
    assert parse_grammar(f"  {line.replace(' ', '   ')}\n" for line in format_grammar(grammar)) == grammar


@given(st.integers(0, 10**6))
def test_the_identifier_ignores_nothing_but_the_order_of_rules(seed):
    """Shuffled rules keep it; another name for a word changes it."""
    grammar = draw_grammar(Dice(np.random.default_rng(seed)), 4, 3)
    rules = random.Random(seed).sample(grammar.rules, len(grammar.rules))
    assert Grammar(tuple(rules)).identifier == grammar.identifier
    unused = next(word for word in INPUT_WORDS if word not in grammar.identifier)
    renamed = [line.replace(grammar.rules[0].left[0], unused) for line in format_grammar(grammar)]
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
    "changed",
    [
        {0: "x1 thrice -> [x1] [x1] [x1]"},
        {0: "u1 thrice -> [u1] [u1]"},
        {0: "u1 thrice -> [u1] [u1] [u1] [u1]"},
        {1: "u1 surround u2 -> [u2] [u1] [u2]"},
        {1: "u1 surround u2 -> [u1] [u1] [u2]"},
        {1: "u1 surround x1 -> [u1] [x1] [u1]"},
        {1: "x1 surround x2 -> [x1] [x2] [x1]"},
        {2: "x1 after x2 -> [x1] [x2]"},
        {2: "u1 after u2 -> [u2] [u1]"},
        {2: "x1 after x2 -> [x2] [x1] [x1]"},
        {0: MINI_SCAN_FUNCTIONS[1]},
        {2: "dax -> RED"},
    ],
)
def test_near_misses_are_not_mini_scan(changed):
    """Another kind of variable, another order or number of arguments make another grammar."""
    functions = [changed.get(number, rule) for number, rule in enumerate(MINI_SCAN_FUNCTIONS)]
    assert not is_mini_scan(parse_grammar(["zup -> RED", *functions, str(CONCATENATION)]))


# Random grammars

N_GRAMMARS = 6000
LEFT_SIDES = {"u1 F": 0.25, "x1 F": 0.25, "u1 F u2": 0.125, "u1 F x1": 0.125, "x1 F u1": 0.125, "x1 F x2": 0.125}
RIGHT_LENGTHS = {n: 0.6 * 0.4 ** (n - 2) for n in range(2, 8)} | {8: 0.4**6}


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(5)
    return [draw_grammar(Dice(rng), 4, 3) for _ in range(N_GRAMMARS)]


def assert_shares(found, expected):
    """The shares are as expected to four standard errors, and nothing else is found."""
    total = sum(found.values())
    assert set(found) <= set(expected)
    for kind, share in expected.items():
        assert abs(found[kind] / total - share) < 4 * (share * (1 - share) / total) ** 0.5, kind


def functions_of(grammars):
    return [rule for grammar in grammars for rule in grammar.rules[4:7]]


def test_random_grammars_have_the_published_form(drawn):
    """Four primitives, three functions, concatenation; no word and no colour is used twice."""
    for grammar in drawn:
        *primitives, last = (grammar.rules[n] for n in (0, 1, 2, 3, 7))
        words = [word for rule in grammar.rules for word in rule.literals]
        assert len(grammar.rules) == 8 and last == CONCATENATION
        assert all(rule.is_primitive for rule in primitives)
        assert all(rule.is_function for rule in grammar.rules[4:7])
        assert len(set(words)) == len(words) == 7 and set(words) <= set(INPUT_WORDS)
        assert len({rule.right for rule in primitives}) == 4 and {rule.right[0] for rule in primitives} <= {
            *OUTPUT_WORDS
        }


def test_names_and_colours_are_drawn_uniformly(drawn):
    """Every word takes every place as often, and so does every colour."""
    for place in range(7):
        assert_shares(Counter(g.rules[place].literals[0] for g in drawn), dict.fromkeys(INPUT_WORDS, 1 / 9))
    for place in range(4):
        assert_shares(Counter(g.rules[place].right[0] for g in drawn), dict.fromkeys(OUTPUT_WORDS, 1 / 6))


def test_left_sides_have_the_published_chances(drawn):
    """One argument or two, u or x."""
    found = Counter(" ".join("F" if i in rule.literals else i for i in rule.left) for rule in functions_of(drawn))
    assert_shares(found, LEFT_SIDES)


def test_right_sides_have_the_published_lengths(drawn):
    """Two to eight items, which are the arguments, each at least once."""
    functions = functions_of(drawn)
    for rule in functions:
        assert {f"[{item}]" for item in rule.left if item in VARIABLES} == set(rule.right)
    for n_arguments in (1, 2):
        chosen = [rule for rule in functions if len(rule.left) == n_arguments + 1]
        assert_shares(Counter(len(rule.right) for rule in chosen), RIGHT_LENGTHS)


def test_right_sides_are_shuffled(drawn):
    """Of three items the odd one out is either argument, and stands anywhere, as often."""
    three = ["".join("ab"[item[1:-1] == rule.left[2]] for item in rule.right) for rule in functions_of(drawn)
             if len(rule.left) == len(rule.right) == 3]  # fmt: skip
    assert_shares(Counter(three), dict.fromkeys(("aab", "aba", "baa", "abb", "bab", "bba"), 1 / 6))


def test_smaller_grammars():
    """Other numbers of primitives and functions."""
    grammar = draw_grammar(Dice(np.random.default_rng(0)), primitives=3, functions=2)
    assert [rule.is_primitive for rule in grammar.rules] == [True] * 3 + [False] * 3
    assert [rule.is_function for rule in grammar.rules] == [False] * 3 + [True] * 2 + [False]


# Dice


def test_dice_are_fair():
    """Numbers below a limit, things and orders come up equally often."""
    dice = Dice(np.random.default_rng(0))
    assert_shares(Counter(dice.below(5) for _ in range(5000)), dict.fromkeys(range(5), 0.2))
    assert_shares(Counter(dice.choice("abc") for _ in range(5000)), dict.fromkeys("abc", 1 / 3))
    orders = Counter("".join(dice.shuffled("abc")) for _ in range(6000))
    assert_shares(orders, {"".join(order): 1 / 6 for order in itertools.permutations("abc")})


def test_dice_take_their_numbers_from_the_generator_one_after_the_other():
    """None is left out between blocks."""
    dice = Dice(np.random.default_rng(3))
    assert [dice.fraction() for _ in range(500)] == np.random.default_rng(3).random(500).tolist()
