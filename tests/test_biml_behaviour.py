"""Kinds of answers: hand-made ones are told apart, and the shares are of what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biml.behaviour import (
    Share,
    analyse_few_shot,
    analyse_open_ended,
    is_one_to_one,
    item_correlation,
    two_sided_p,
)
from biml.benchmarks import GOLD_QUERIES, OPEN_ENDED, gold_episode, split
from biml.grammar import OUTPUT_WORDS
from paper.comparison import T_QUANTILES

GOLD = {" ".join(one.input): one.output for one in gold_episode().query}
MEANINGS = st.lists(st.lists(st.sampled_from(OUTPUT_WORDS), min_size=1, max_size=3), min_size=5, max_size=5)


def spoken(meanings):
    """Answer the open-ended instructions by putting meanings one after the other."""
    meaning = dict(zip(("p1", "p2", "p3", "p4", "p5"), meanings, strict=True))
    return {query: tuple(symbol for word in split(query) for symbol in meaning[word]) for query in OPEN_ENDED}


def test_right_answers_are_all_right_and_no_errors():
    """Every share is full, and there are no errors to have a kind."""
    found = analyse_few_shot({query: [output] * 3 for query, output in GOLD.items()})
    assert found.accuracy == found.simple == found.complex == found.longest == 100
    assert set(found.items.values()) == {Share(3, 3)}
    assert (found.one_to_one, found.iconic) == (Share(0, 0), Share(0, 0))
    assert found.iconic.percent is None


def test_the_accuracy_is_a_mean_over_queries_not_answers():
    """A query with many wrong answers weighs as much as one with a single right one."""
    answers = {query: [GOLD[query]] for query in GOLD_QUERIES}
    answers[GOLD_QUERIES[9]] = [("1",)] * 50
    found = analyse_few_shot(answers)
    assert (found.accuracy, found.simple, found.complex, found.longest) == (90, 100, 80, 50)


def test_errors_are_sorted_into_kinds():
    """One-to-one: a symbol a word, primitives their own; iconic: the order of the words, only with `after`."""
    found = analyse_few_shot(
        {
            "3 after DAX": [("3", "1", "DAX"), ("3", "DAX"), ("1", "1", "1")],
            "DAX thrice": [("DAX", "2"), ("DAX", "DAX")],
        }
    )
    assert found.one_to_one == Share(3, 5)
    assert found.iconic == Share(1, 3)


@pytest.mark.parametrize(
    ("query", "answer", "expected"),
    [("3 after DAX", "3 1 DAX", True), ("3 after DAX", "1 1 DAX", False), ("3 after DAX", "3 DAX", False)],
)
def test_one_to_one_answers_have_a_symbol_a_word(query, answer, expected):
    assert is_one_to_one(split(query), split(answer)) == expected


def test_the_correlation_is_that_of_item_accuracies():
    """One with itself, minus one with its opposite, both of them hardly by chance; undefined where one is all alike."""
    up = analyse_few_shot({query: [GOLD[query]] * k + [()] * (9 - k) for k, query in enumerate(GOLD_QUERIES)})
    down = analyse_few_shot({query: [()] * k + [GOLD[query]] * (9 - k) for k, query in enumerate(GOLD_QUERIES)})
    flat = analyse_few_shot({query: [GOLD[query]] for query in GOLD_QUERIES})
    assert item_correlation(up, up) == pytest.approx((1, 10, 0), abs=1e-6)
    assert item_correlation(up, down) == pytest.approx((-1, 10, 0), abs=1e-6)
    assert item_correlation(up, flat) is None


def test_two_queries_have_a_correlation_without_p():
    """There is a line through any two points."""
    two = analyse_few_shot({query: [GOLD[query]] * k + [()] for k, query in enumerate(GOLD_QUERIES[:2])})
    assert item_correlation(two, two) == (pytest.approx(1), 2, None)


@pytest.mark.parametrize("freedom", range(1, 31))
def test_p_is_a_twentieth_at_the_quantiles_of_t(freedom):
    """As tabled, to four digits; on either side."""
    t = T_QUANTILES[freedom - 1]
    assert two_sided_p(t, freedom) == pytest.approx(0.05, abs=1e-4)
    assert two_sided_p(-t, freedom) == two_sided_p(t, freedom)


def test_p_of_known_values():
    """The published correlation of .788 over ten queries has p = .007; and some that can be worked out by hand."""
    assert two_sided_p(0.788 * (8 / (1 - 0.788**2)) ** 0.5, 8) == pytest.approx(0.00678, abs=1e-5)
    assert two_sided_p(1, 1) == pytest.approx(0.5)
    assert two_sided_p(1, 2) == pytest.approx(1 - 3**-0.5)
    assert (two_sided_p(0, 7), two_sided_p(float("inf"), 8)) == (1, 0)


@pytest.mark.parametrize("r", [0.3, 0.7])
def test_p_is_how_often_unrelated_numbers_go_together_as_well(r):
    """Of 20,000 samples of ten normal numbers, beside ten others."""
    samples = np.random.default_rng(0).normal(size=(20_000, 10))
    samples -= samples.mean(axis=1, keepdims=True)
    line = np.arange(10) - 4.5
    found = samples @ line / np.linalg.norm(samples, axis=1) / np.linalg.norm(line)
    assert two_sided_p(r * (8 / (1 - r**2)) ** 0.5, 8) == pytest.approx((abs(found) >= r).mean(), abs=0.01)


@given(MEANINGS)
def test_meanings_put_one_after_the_other_are_iconic(meanings):
    """Whatever each word means, as long as it means something."""
    assert analyse_open_ended(spoken(meanings)).iconic


@pytest.mark.parametrize(("word", "expected"), [("p2", True), ("p3", True), ("p4", False), ("p5", False)])
@given(MEANINGS)
def test_words_of_which_one_answer_tells_may_mean_nothing(word, expected, meanings):
    """As in the published analysis; the others are to mean something."""
    some = [() if f"p{number}" == word else meaning for number, meaning in enumerate(meanings, 1)]
    assert analyse_open_ended(spoken(some)).iconic == expected


@given(MEANINGS, st.sampled_from(["p1 p1", "p5 p4 p1"]), st.sampled_from(OUTPUT_WORDS))
def test_an_answer_that_contradicts_the_others_is_not_iconic(meanings, query, symbol):
    """The meanings follow from five answers; the other two have to agree with them."""
    answers = spoken(meanings)
    answers[query] += (symbol,)
    assert not analyse_open_ended(answers).iconic


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ("RED BLUE GREEN PINK YELLOW", (True, True, True, True)),
        ("RED RED GREEN PINK YELLOW", (True, False, True, False)),  # p1 p1 and p1 p2 sound alike
        ("RED BLUE GREEN PINK PINK", (True, True, True, False)),
    ],
)
def test_participants_are_told_apart(colours, expected):
    """Two words with one colour are not perfect; where they make two answers alike, mutual exclusivity is lost too."""
    assert tuple(analyse_open_ended(spoken([[colour] for colour in colours.split()]))) == expected


def test_longer_answers_are_not_one_to_one():
    answers = spoken([["RED", "RED"], ["BLUE"], ["GREEN"], ["PINK"], ["YELLOW"]])
    assert tuple(analyse_open_ended(answers)) == (False, True, True, False)


def test_a_missing_answer_is_an_error():
    answers = spoken([["RED"]] * 5)
    del answers["p1 p4 p1"]
    with pytest.raises(ValueError, match="p1 p4 p1"):
        analyse_open_ended(answers)
