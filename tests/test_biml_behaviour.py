"""Kinds of answers: hand-made ones are told apart, and the shares are of what they say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biml.behaviour import (
    Share,
    analyse_few_shot,
    analyse_open_ended,
    gold_answers,
    is_one_to_one,
    item_correlation,
    two_sided_p,
    with_roles,
)
from biml.benchmarks import GOLD_QUERIES, OPEN_ENDED, split
from biml.grammar import INPUT_WORDS, OUTPUT_WORDS

GOLD = gold_answers()
MEANINGS = st.lists(st.lists(st.sampled_from(OUTPUT_WORDS), min_size=1, max_size=3), min_size=5, max_size=5)


def spoken(meanings):
    """Answer the open-ended instructions by putting meanings one after the other."""
    meaning = dict(zip(("p1", "p2", "p3", "p4", "p5"), meanings, strict=True))
    return {query: tuple(symbol for word in split(query) for symbol in meaning[word]) for query in OPEN_ENDED}


def test_accuracies_are_means_over_queries():
    """All right there are no errors to have a kind; a query with many wrong answers weighs as much as any other."""
    found = analyse_few_shot({query: [output] * 3 for query, output in GOLD.items()})
    assert found.accuracy == found.simple == found.complex == found.longest == 100
    assert set(found.items.values()) == {Share(3, 3)}
    assert (found.one_to_one, found.iconic, found.iconic.percent) == (Share(0, 0), Share(0, 0), None)
    found = analyse_few_shot({query: [output] for query, output in GOLD.items()} | {GOLD_QUERIES[9]: [("1",)] * 50})
    assert (found.accuracy, found.simple, found.complex, found.longest) == (90, 100, 80, 50)


def test_errors_are_sorted_into_kinds():
    """One-to-one: a symbol a word, primitives their own; iconic: the order of the words, only with `after`."""
    after = [("3", "1", "DAX"), ("3", "DAX"), ("1", "1", "1")]
    found = analyse_few_shot({"3 after DAX": after, "DAX thrice": [("DAX", "2"), ("DAX", "DAX")]})
    assert (found.one_to_one, found.iconic) == (Share(3, 5), Share(1, 3))
    for answer, expected in (("3 1 DAX", True), ("1 1 DAX", False), ("3 DAX", False)):
        assert is_one_to_one(split("3 after DAX"), split(answer)) == expected


def test_the_correlation_is_that_of_item_accuracies():
    """One with itself, minus one with its opposite, hardly by chance; undefined where one is all alike.

    Two queries have a correlation without p: there is a line through any two points.
    """
    up = analyse_few_shot({query: [GOLD[query]] * k + [()] * (9 - k) for k, query in enumerate(GOLD_QUERIES)})
    down = analyse_few_shot({query: [()] * k + [GOLD[query]] * (9 - k) for k, query in enumerate(GOLD_QUERIES)})
    flat = analyse_few_shot({query: [GOLD[query]] for query in GOLD_QUERIES})
    two = analyse_few_shot({query: [GOLD[query]] * k + [()] for k, query in enumerate(GOLD_QUERIES[:2])})
    assert item_correlation(up, up) == pytest.approx((1, 10, 0), abs=1e-6)
    assert item_correlation(up, down) == pytest.approx((-1, 10, 0), abs=1e-6)
    assert item_correlation(up, flat) is None
    assert item_correlation(two, two) == (pytest.approx(1), 2, None)


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [
        *((12.7062, 1, 0.05), (4.30265, 2, 0.05), (3.18245, 3, 0.05), (2.57058, 5, 0.05), (2.36462, 7, 0.05)),
        *((2.306, 8, 0.05), (2.22814, 10, 0.05), (2.13145, 15, 0.05), (2.04227, 30, 0.05)),
        (0.788 * (8 / (1 - 0.788**2)) ** 0.5, 8, 0.00678),  # published as .007
        *((1, 1, 0.5), (1, 2, 1 - 3**-0.5), (0, 7, 1), (float("inf"), 8, 0)),
    ],
)
def test_p_of_known_values(t, freedom, p):
    """The quantiles of t, the published correlation of .788 over ten queries, and what can be worked out by hand."""
    assert two_sided_p(t, freedom) == pytest.approx(p, abs=1e-5)
    assert two_sided_p(-t, freedom) == two_sided_p(t, freedom)


# Open-ended answers


@settings(max_examples=50)
@given(MEANINGS, st.sampled_from(["p1 p1", "p5 p4 p1"]), st.sampled_from(OUTPUT_WORDS))
def test_meanings_put_one_after_the_other_are_iconic(meanings, query, symbol):
    """Whatever each word means, as long as it means something, but for p2 and p3, as in the published analysis.

    The meanings follow from five answers; the other two have to agree with them.
    """
    answers = spoken(meanings)
    assert analyse_open_ended(answers).iconic
    assert not analyse_open_ended(answers | {query: (*answers[query], symbol)}).iconic
    for number, expected in ((2, True), (3, True), (4, False), (5, False)):
        some = [() if n == number else meaning for n, meaning in enumerate(meanings, 1)]
        assert analyse_open_ended(spoken(some)).iconic == expected


@pytest.mark.parametrize(
    ("meanings", "expected"),
    [
        ("RED BLUE GREEN PINK YELLOW", (True, True, True, True)),
        ("RED RED GREEN PINK YELLOW", (True, False, True, False)),  # p1 p1 and p1 p2 sound alike
        ("RED BLUE GREEN PINK PINK", (True, True, True, False)),
        ("RED+RED BLUE GREEN PINK YELLOW", (False, True, True, False)),
    ],
)
def test_participants_are_told_apart(meanings, expected):
    """Two words with one colour are not perfect; where they make two answers alike, mutual exclusivity is lost too."""
    answers = spoken([meaning.split("+") for meaning in meanings.split()])
    assert tuple(analyse_open_ended(answers)) == expected
    del answers["p1 p4 p1"]
    with pytest.raises(ValueError, match="p1 p4 p1"):
        analyse_open_ended(answers)


# Roles of a participant's words

PEOPLES_WORDS = st.permutations(INPUT_WORDS).map(lambda words: words[:5])


def with_words(words, answers):
    """The seven instructions in other words, with their answers."""
    name = dict(zip(("p1", "p2", "p3", "p4", "p5"), words, strict=True))
    return [
        (tuple(name[word] for word in split(text)), answer) for text, answer in zip(OPEN_ENDED, answers, strict=True)
    ]


@given(PEOPLES_WORDS, st.permutations(range(7)))
def test_roles_are_found_under_any_words_in_any_order(words, order):
    """Each answer goes to its instruction."""
    answers = [(str(n),) for n in range(7)]
    pairs = with_words(words, answers)
    assert with_roles([pairs[n] for n in order]) == dict(zip(OPEN_ENDED, answers, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda pairs: pairs[:6],
        lambda pairs: [*pairs[:6], pairs[5]],
        lambda pairs: [*pairs, pairs[0]],
        lambda pairs: [],
        *(
            lambda pairs, at=at: [*pairs[:at], ((*pairs[at][0][:-1], "new"), pairs[at][1]), *pairs[at + 1 :]]
            for at in (0, 1, 3, 4, 5, 6)
        ),
    ],
)
def test_other_instructions_are_refused(change):
    """Six, one twice instead of another, an eighth, none, or one that ends with a new word."""
    pairs = with_words(INPUT_WORDS[:5], [(str(n),) for n in range(7)])
    with pytest.raises(ValueError, match=r"^expected the seven open-ended instructions p1, p1 p1.*$"):
        with_roles(change(pairs))
