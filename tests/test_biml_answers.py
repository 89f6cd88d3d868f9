"""Files, pages and tables of answers show all of them and nothing else; symbolic models are the probabilities they say.

The scripts run inside this process, since each new one has to import torch first.
"""

import functools
import itertools
import json
import math
import re
import shlex
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from script_runs import assert_one_line, contents
from test_biml_behaviour import spoken
from test_biml_eval import people_asked, run_main, write_people

import biml.analyse
import biml.symbolic
from biml.answering import Answered, AnsweredEpisode
from biml.behaviour import FewShot, OpenEnded, Share, analyse_few_shot, analyse_open_ended, item_correlation, with_roles
from biml.benchmarks import GOLD_QUERIES, OPEN_ENDED, gold_episode, split
from biml.dashboard import draw_training, save_training, show_training
from biml.dice import Dice
from biml.episode import Episode, Example
from biml.episode_files import format_episode
from biml.grammar import INPUT_WORDS, MINI_SCAN, OUTPUT_WORDS
from biml.kinds_text import few_shot_table, open_ended_table
from biml.pages import few_shot_comparison, few_shot_page, listing, open_ended_comparison, open_ended_page
from biml.sampled_files import LISTED, AnswerFile, listed, people_open_ended, read_answers
from biml.scoring import LAPSES, fit_lapse
from biml.symbolic import (
    OPEN_ENDED_MODELS,
    answer_probability,
    likelihood,
    of_grammar,
    of_grammar_and_heuristics,
    open_ended_likelihood,
    round_log_p,
)
from biml.views import HEURISTIC, UNDEFINED, one_to_one, role_flip
from biml.vocabulary import VANILLA
from common.files import save_json

GOLD = {" ".join(one.input): one.output for one in gold_episode().query}
COLOURS = ("1", "2", "3", "DAX", "another", "a further")  # four with canonical names, and two others
NASTY = ("<b>&\"'", "</table>", "<SOS>", "&amp;", "<script>alert(1)</script>", UNDEFINED)
ANSWERS = st.lists(st.sampled_from(COLOURS[:4]), max_size=7).map(tuple)
STRANGE = st.lists(st.sampled_from([*NASTY, "1", "DAX", "c3"]), max_size=3).map(tuple)
FEW_SHOT = st.dictionaries(st.sampled_from(GOLD_QUERIES), st.lists(STRANGE, max_size=9))


# Files of answers

WORDS = st.lists(st.sampled_from([*INPUT_WORDS, *OUTPUT_WORDS, "<SOS>", '"', "[", "é"]), max_size=4).map(tuple)


def saved(path, answers):
    """Write answers as `biml.eval` does."""
    about = {"name": answers.name, "episode_type": answers.episode_type, "arguments": {"seed": 1}}
    save_json(path, {**about, LISTED: listed(answers.episodes)})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@given(st.lists(st.lists(st.tuples(WORDS, WORDS), max_size=3), max_size=3))
def test_answers_come_back_from_their_file(folder, episodes):
    """Whatever the words, none among them; in the order of episodes and queries."""
    episodes = [[(split(GOLD_QUERIES[0]), ())], *episodes]
    answers = AnswerFile("net", "few_shot_human", episodes)
    assert read_answers(saved(folder / "one.json", answers)) == answers
    by_query = answers.by_query()
    assert sum(map(len, by_query.values())) == sum(map(len, episodes))
    for query, found in by_query.items():
        assert found == [answer for episode in episodes for one, answer in episode if " ".join(one) == query]


KNOWN = {"name": "net", "episode_type": "few_shot_gold"}
OPEN = "open_end_freeform"
TWICE = [[query, "c1"] for query in (*OPEN_ENDED, "p1")]


@pytest.mark.parametrize(
    "text",
    [
        *("", "no JSON", "[]", "3", "null", "{}", '"text"', '{"name": "net", "episode_type": "few_shot_gold"}'),
        *(
            json.dumps({**KNOWN, "episodes": episodes})
            for episodes in (3, None, [3], [[3]], [[["1"]]], [[["1", "1", "1"]]], [[["1", 1]]], [[[None, "1"]]])
        ),
        json.dumps({"episode_type": "few_shot_gold", "episodes": []}),
        json.dumps({"name": "net", "episodes": []}),
        *(json.dumps({**KNOWN, "episodes": nothing}) for nothing in ([], [[]], "", {}, [["ab"]], [[["tufa", "1"]]])),
        *(
            json.dumps({**KNOWN, "episode_type": OPEN, "episodes": few})
            for few in ([], [[]], [[["p1", "c1"]]], [TWICE])
        ),
    ],
)
def test_another_file_is_refused(tmp_path, text):
    """One line with the file's name, that says which files are read."""
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json: expected answers written by biml\.eval") as error:
        read_answers(path)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    """A picture, say."""
    path = tmp_path / "picture.json"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(ValueError, match=r"picture\.json: expected answers written by biml\.eval"):
        read_answers(path)


@pytest.mark.parametrize("episode_type", ["algebraic", "probe_human", "human_vanilla", "mlc"])
def test_answers_of_other_types_are_not_analysed(tmp_path, episode_type):
    """Only the few-shot and the open-ended task have kinds of answers."""
    with pytest.raises(ValueError, match=rf"one\.json: .*answers of the type {episode_type} are not analysed"):
        read_answers(saved(tmp_path / "one.json", AnswerFile("net", episode_type, [])))


def test_rounds_are_analysed_one_by_one():
    """Answers to the open-ended instructions in any order, each round on its own."""
    perfect, longer = (spoken([[c] for c in "ABCDE"]), spoken([["A", "A"], *[[c] for c in "BCDE"]]))
    episodes = [[(split(query), one[query]) for query in reversed(OPEN_ENDED)] for one in (perfect, longer)]
    found = AnswerFile("net", "open_end_freeform", episodes)
    assert found.rounds() == [perfect, longer]
    assert found.open_ended() == [OpenEnded(True, True, True, True), OpenEnded(False, True, True, False)]


# Pages


class Page(HTMLParser):
    """Reads a page: checks that tags are balanced, and lists elements with their own text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []  # tag, class, text outside of inner elements
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert {name for name, _ in attributes} <= {"class", "style", "charset", "lang"}
        self.elements.append((tag, dict(attributes).get("class"), []))
        if tag != "meta":
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][2].append(data)

    def found(self):
        return [(tag, kind, "".join(data)) for tag, kind, data in self.elements]

    def texts(self, tag, kind=None):
        return [text for name, found, text in self.found() if name == tag and kind in (None, found)]


def assert_safe(text):
    """Nothing is run, nothing is fetched, and no symbol is taken for HTML."""
    for forbidden in ("<script", "http:", "https:", "src=", "href=", "@import", "url(", "<b>", "<SOS>", "\"'"):
        assert forbidden not in text


def rows_of(page):
    """The sections of a few-shot page: the query, and a list of its answers with how often they were given."""
    sections = []
    for tag, kind, text in page.found():
        if tag == "h2":
            sections.append((text.partition(" →")[0], []))
        elif not sections:
            continue
        elif tag == "tr":
            sections[-1][1].append({"is_right": kind == "right", "cells": [], "tiles": []})
        elif tag == "td":
            sections[-1][1][-1]["cells"].append(text)
        elif tag == "span" and kind == "tile" and sections[-1][1]:
            sections[-1][1][-1]["tiles"].append(text)
    return [(query, [row for row in rows if row["cells"]]) for query, rows in sections]


@settings(max_examples=40)
@given(FEW_SHOT)
def test_every_answer_stands_on_the_page_with_its_count(answers):
    """Below its query, the most frequent first, with its share; the right ones are marked, nothing is left out."""
    text = few_shot_page("a title", "a table", answers)
    assert_safe(text)
    sections = rows_of(Page(text))
    assert [query for query, _ in sections] == list(GOLD_QUERIES)
    for query, rows in sections:
        found = Counter(answers.get(query, ()))
        assert {tuple(row["tiles"]): int(row["cells"][0]) for row in rows} == found
        counts = [int(row["cells"][0]) for row in rows]
        assert counts == sorted(counts, reverse=True) and len(rows) == len(found)
        for row in rows:
            assert row["cells"][1] == f"{100 * int(row['cells'][0]) / found.total():.1f} %"
            assert row["is_right"] == (tuple(row["tiles"]) == GOLD[query])


@settings(max_examples=50)
@given(st.sampled_from(GOLD_QUERIES), st.lists(ANSWERS, min_size=1, max_size=9))
def test_the_page_counts_right_answers_and_names_errors(query, answers):
    """The same kinds as in the table: right, one-to-one, iconic, and those that are none of these."""
    word_by_word = tuple(word if word in COLOURS else "1" for word in split(query))
    answers = [*answers, GOLD[query], GOLD[query][::-1], word_by_word]
    page = Page(few_shot_page("", "", {query: answers}))
    kinds = analyse_few_shot({query: answers})
    rows = dict(rows_of(page))[query]
    shown = Counter()
    for row in rows:
        for kind in row["cells"][-1].split(", "):
            shown[kind] += int(row["cells"][0])
    assert shown["right"] == kinds.items[query].n
    assert (shown["one-to-one"], shown["iconic"]) == (kinds.one_to_one.n, kinds.iconic.n)
    assert f"{kinds.items[query].n} of {len(answers)} right" in page.texts("p", "note")


@settings(max_examples=50)
@given(st.lists(st.lists(STRANGE, min_size=7, max_size=7), max_size=3))
def test_every_round_stands_on_its_page(rounds):
    """Each answer beside its instruction, and which biases the round follows."""
    given_rounds = [dict(zip(OPEN_ENDED, answers, strict=True)) for answers in rounds]
    kinds = [analyse_open_ended(one) for one in given_rounds]
    text = open_ended_page("a title", "a table", given_rounds, kinds)
    assert_safe(text)
    page = Page(text)
    found = []
    for tag, kind, symbol in page.found():
        if tag == "tr":
            found.append(())
        elif tag == "span" and kind == "tile":
            found[-1] += (symbol,)
    assert found == [answer for one in given_rounds for answer in one.values()]
    assert [text for text in page.texts("td") if text] == [*OPEN_ENDED] * len(rounds)
    notes = page.texts("p", "note")
    assert len(notes) == len(kinds)
    for note, kind in zip(notes, kinds, strict=True):
        for name, holds in kind._asdict().items():
            assert (name.replace("_", "-") in note) == holds


def tables_of(page):
    """The rows of every table; a row is its cells, each the text and the tiles in it."""
    tables = []
    for tag, kind, text in page.found():
        if tag == "table":
            tables.append([])
        elif tag == "tr":
            tables[-1].append([])
        elif tag in ("td", "th"):
            tables[-1][-1].append((text, []))
        elif kind == "tile" and tables and tables[-1][-1][-1][0] == "":
            tables[-1][-1][-1][1].append(text)
    return tables


def test_people_and_a_network_stand_side_by_side_on_the_few_shot_page():
    """A row an answer, a column of counts each, the answers of the highest shares first; nothing for never."""
    query = GOLD_QUERIES[0]  # its answer is DAX 3
    right, iconic = GOLD[query], GOLD[query][::-1]
    columns = {"people": {query: [right] * 3 + [iconic]}, "net <b>": {query: [right, ("1",)]}, "idle": {}}
    text = few_shot_comparison("a title", "a table", columns)
    assert_safe(text)
    page = Page(text)
    assert [text.partition(" →")[0] for text in page.texts("h2")] == list(GOLD_QUERIES)
    heads, *rows = tables_of(page)[0]
    assert [text for text, _ in heads] == ["answer", "people", "net <b>", "idle", ""]
    assert [(tuple(row[0][1]), [text for text, _ in row[1:]]) for row in rows] == [
        (right, ["3 (75.0 %)", "1 (50.0 %)", "", "right"]),
        (("1",), ["", "1 (50.0 %)", "", ""]),
        (iconic, ["1 (25.0 %)", "", "", "iconic"]),
    ]
    assert [kind for tag, kind, _ in page.found() if tag == "tr"].count("right") == 1


def test_open_ended_answers_that_differ_in_colours_alone_are_one_row():
    """Counted by column, told with colours in the order in which they come up, and with the biases that they follow."""
    people = [spoken([[c] for c in colours]) for colours in ("ABCDE", "EDCBA", "AACDE")]
    text = open_ended_comparison("a title", "a table", {"people": people, "net": people[2:]})
    assert_safe(text)
    page = Page(text)
    ((heads, *rows),) = tables_of(page)
    assert [text for text, _ in heads] == ["people", "net", *OPEN_ENDED, "follows"]
    named = spoken([[c] for c in ("c1", "c2", "c3", "c4", "c5")])
    assert {tuple(text for text, _ in row[:2]) for row in rows} == {("2 (66.7 %)", ""), ("1 (33.3 %)", "1 (100.0 %)")}
    (perfect,) = (row for row in rows if row[-1][0].endswith("perfect"))
    assert [tuple(tiles) for _, tiles in perfect[2:-1]] == [named[query] for query in OPEN_ENDED]


@pytest.mark.parametrize("symbol", NASTY[:5])
@pytest.mark.parametrize("is_open", [False, True])
def test_title_and_table_are_escaped_too(symbol, is_open):
    """They come back as text; the page has no more elements than with plain text."""
    pages = []
    for text in (symbol, "plain"):
        if is_open:
            made = open_ended_page(text, f"{text}\n  1 %", [], [])
        else:
            made = few_shot_page(text, f"{text}\n  1 %", {GOLD_QUERIES[0]: [(text, "1")]})
        pages.append(Page(made))
        assert_safe(made)
    one, other = (Counter(tag for tag, _, _ in page.found()) for page in pages)
    assert one == other
    assert pages[0].texts("title") == pages[0].texts("h1") == [symbol]
    assert pages[0].texts("pre") == [f"{symbol}\n  1 %"]


def test_a_page_stands_alone():
    """A document with its language, its encoding and its own style; symbols are told by text, not by colour alone."""
    text = few_shot_page("title", "table", {query: [answer] for query, answer in GOLD.items()})
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    page = Page(text)
    assert all(len(page.texts(tag)) == 1 for tag in ("html", "head", "body", "meta", "style", "title", "h1"))
    assert sum(map(len, GOLD.values())) * 2 == len(page.texts("span", "tile"))
    assert all(page.texts("span", "tile"))


def test_a_listing_has_every_study_example_and_answer():
    """Retrieved and novel ones apart, with what would have been right; empty parts say so."""
    support = [Example(("1",), ("1",)), Example(("1", "thrice"), ("1", "1", "1"))]
    right = Answered(("1",), ("1",), ("1",), True)
    wrong = Answered(("2", "thrice"), ("2", "2", "2"), (), False)
    text = listing([AnsweredEpisode(support, [right, wrong]), AnsweredEpisode([], [wrong._replace(answer=("3", "2"))])])
    assert [line.rstrip() for line in text.splitlines()] == [
        *("Evaluation episode 1", "support items;", "    1 -> 1", "    1 thrice -> 1 1 1"),
        *("retrieval items; 1 of 1 right", "    1 -> 1", "generalization items; 0 of 1 right"),
        "    2 thrice ->  (** target: 2 2 2)",
        *("Evaluation episode 2", "support items;", "    no patterns", "retrieval items;", "    no patterns"),
        *("generalization items; 0 of 1 right", "    2 thrice -> 3 2 (** target: 2 2 2)"),
    ]
    assert "target" not in listing([AnsweredEpisode([], [wrong])], has_right_answers=False)
    assert "right" not in listing([AnsweredEpisode([], [right])], has_right_answers=False)


# Tables


def columns_of(table):
    """The heads of a table, and its rows: cells by name; all lines end where the head does."""
    head, *lines = table.splitlines()
    assert {len(line) for line in lines} == {len(head)}
    return head.split(), {name: cells for name, *cells in (re.split(" {2,}", line.strip()) for line in lines)}


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.sampled_from(GOLD_QUERIES), st.lists(ANSWERS, max_size=5)), min_size=1, max_size=3))
def test_a_table_has_a_column_for_each_network(answers):
    """Accuracies as means, shares with their counts, `none` of nothing."""
    columns = {f"net_{'x' * 9 * n}{n}": analyse_few_shot(one) for n, one in enumerate(answers)}
    heads, rows = columns_of(few_shot_table(columns))
    assert heads == list(columns)
    assert len(rows) == 6 + len(GOLD_QUERIES)
    for column, one in enumerate(columns.values()):
        means = (one.accuracy, one.simple, one.complex, one.longest)
        names = ("mean over queries, %", "simple queries, %", "complex queries, %", "answers of 6 symbols, %")
        assert [rows[name][column] for name in names] == ["none" if x is None else f"{x:.2f}" for x in means]
        shares = {"one-to-one, of errors": one.one_to_one, "iconic, of errors with `after`": one.iconic, **one.items}
        for name, share in shares.items():
            told = f"{100 * share.n / share.total:.1f} % ({share.n} of {share.total})" if share.total else "none"
            assert rows[name][column] == told


@given(st.lists(st.lists(st.tuples(*[st.booleans()] * 4), max_size=4), min_size=1, max_size=3))
def test_biases_are_counted_over_rounds(rounds):
    """How many follow each, and of how many."""
    columns = {f"net_{n}": [OpenEnded(*one) for one in many] for n, many in enumerate(rounds)}
    heads, rows = columns_of(open_ended_table(columns))
    assert heads == list(columns)
    assert list(rows) == ["one to one", "mutually exclusive", "iconic", "perfect"]
    for column, many in enumerate(rounds):
        for bias, cells in enumerate(rows.values()):
            n, total = sum(one[bias] for one in many), len(many)
            assert cells[column] == (f"{100 * n / total:.1f} % ({n} of {total})" if total else "none")


# A picture of the training

HISTORY = [
    {"step": step, "epoch": 1, "seconds": 2.0, "lr": 0.1 / step, "avg_train_loss": 3.0 / step, "val_loss": 2.0 / step}
    for step in (1, 25, 100, 200)
]


def test_the_picture_shows_losses_and_rate_by_step():
    """Three lines with the numbers of the history, and a name for both axes and each loss."""
    figure = Figure()
    draw_training(figure, HISTORY, "net.tar, algebraic")
    top, bottom = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in top.get_lines()}
    assert drawn == {
        "training": [[one["step"], one["avg_train_loss"]] for one in HISTORY],
        "validation": [[one["step"], one["val_loss"]] for one in HISTORY],
    }
    assert bottom.get_lines()[0].get_xydata().tolist() == [[one["step"], one["lr"]] for one in HISTORY]
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["training", "validation"]
    assert (bottom.get_xlabel(), bool(top.get_ylabel()), bool(bottom.get_ylabel())) == ("step", True, True)
    assert figure.get_suptitle() == "net.tar, algebraic"


@pytest.mark.parametrize("history", [HISTORY, HISTORY[:1]], ids=["whole", "one step"])
def test_the_picture_is_written_without_a_display(tmp_path, history):
    """A PNG that is not empty, nothing beside it, and no figure left open."""
    save_training(tmp_path / "new" / "net.png", history, "title", False)
    assert contents(tmp_path).keys() == {"new/net.png"}
    pixels = matplotlib.image.imread(tmp_path / "new" / "net.png")
    assert pixels.ndim == 3 and min(pixels.shape[:2]) > 300
    assert pixels.std() > 0.01
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("backend", "is_shown"), [("TkAgg", True), ("agg", False)])
def test_the_picture_is_shown_where_there_is_a_display(backend, is_shown):
    """Once, and nothing is left open."""
    plt.switch_backend("agg")
    with mock.patch.object(plt, "get_backend", lambda: backend), mock.patch.object(plt, "show") as show:
        show_training(HISTORY, "title")
    assert show.called == is_shown and plt.get_fignums() == []


# Roles of a participant's words

PEOPLES_WORDS = st.permutations(INPUT_WORDS).map(lambda words: words[:5])
ROUNDS = st.lists(STRANGE, min_size=7, max_size=7)


def with_words(words, answers):
    """The seven instructions in other words, with their answers."""
    name = dict(zip(("p1", "p2", "p3", "p4", "p5"), words, strict=True))
    return [
        (tuple(name[word] for word in split(text)), answer) for text, answer in zip(OPEN_ENDED, answers, strict=True)
    ]


@given(PEOPLES_WORDS, ROUNDS, st.permutations(range(7)))
def test_roles_are_found_under_any_words_in_any_order(words, answers, order):
    """Each answer stands at its instruction again."""
    pairs = with_words(words, answers)
    assert with_roles([pairs[n] for n in order]) == dict(zip(OPEN_ENDED, answers, strict=True))


def roles_by_trying(pairs):
    """Whether some assignment of different roles to the words makes these the seven instructions."""
    words = sorted({word for query, _ in pairs for word in query})
    if len(words) != 5 or len(pairs) != 7:
        return False
    for roles in itertools.permutations(("p1", "p2", "p3", "p4", "p5")):
        role = dict(zip(words, roles, strict=True))
        if {" ".join(role[word] for word in query) for query, _ in pairs} == {*OPEN_ENDED}:
            return True
    return False


@given(PEOPLES_WORDS, st.permutations(range(7)), st.data())
def test_instructions_of_another_pattern_are_refused(words, order, data):
    """With a word changed here and there they are accepted exactly if other roles explain them."""
    pairs = [with_words(words, [(str(n),) for n in range(7)])[n] for n in order]
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, 6))
        query, answer = pairs[at]
        place = data.draw(st.integers(0, len(query) - 1))
        pairs[at] = (*query[:place], data.draw(st.sampled_from([*words, "new"])), *query[place + 1 :]), answer
    if roles_by_trying(pairs):
        assert with_roles(pairs).keys() == {*OPEN_ENDED}
    else:
        with pytest.raises(ValueError, match="expected the seven open-ended instructions p1, p1 p1") as error:
            with_roles(pairs)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["missing", "twice", "eighth", "none"])
def test_other_numbers_of_instructions_are_refused(change):
    """Six, an eighth, or one twice instead of another."""
    pairs = with_words(INPUT_WORDS[:5], [(str(n),) for n in range(7)])
    changed = {
        "missing": pairs[:6],
        "twice": [*pairs[:6], pairs[5]],
        "eighth": [*pairs, pairs[0]],
        "none": [],
    }[change]
    with pytest.raises(ValueError, match="expected the seven open-ended instructions"):
        with_roles(changed)


# Symbolic models

MODELS = pytest.mark.parametrize("intend", [of_grammar, of_grammar_and_heuristics])
LAPSE = st.floats(0.001, 1.0)


def tail(intentions, longest, lapse):
    """The chance of answers longer than that: every intended symbol is kept or lapsed to one, every end to a symbol."""
    total = 0.0
    for one in intentions:
        n_within = min(len(one.symbols), longest + 1)
        total += one.probability * (1 - lapse / 7) ** n_within * (6 * lapse / 7) ** (longest + 1 - n_within)
    return total


@MODELS
@pytest.mark.parametrize("lapse", [0.05, 0.6])
@pytest.mark.parametrize(
    ("query", "most_missing"),
    [("1", 1e-3), ("3 after DAX", 0.005), ("DAX thrice", 0.005), ("1 surround DAX", 0.005), ("2 after 3 thrice", 0.15)],
)
def test_the_probabilities_of_all_answers_add_up(intend, query, most_missing, lapse):
    """Over all of at most four symbols, one is missing but the chance of longer ones; the gold one leads by far."""
    intentions = intend(split(query))
    assert math.fsum(one.probability for one in intentions) == pytest.approx(1)
    p = {
        answer: answer_probability(intentions, answer, lapse)
        for length in range(5)
        for answer in itertools.product(COLOURS, repeat=length)
    }
    right = MINI_SCAN.interpret(split(query))
    rest = tail(intentions, 4, lapse)
    assert math.fsum(p.values()) == pytest.approx(1 - rest, abs=1e-12)
    if lapse < 0.1:
        assert rest < most_missing
        assert max(p, key=p.get) == right
        assert sorted(p.values())[-2] < p[right] / 5


@MODELS
@given(st.sampled_from(GOLD_QUERIES), ANSWERS, st.floats(0.001, 0.1))
def test_the_right_answer_is_likelier_than_any_other(intend, query, answer, lapse):
    """As long as lapses are rare."""
    intentions = intend(split(query))
    if answer != GOLD[query]:
        right = answer_probability(intentions, GOLD[query], lapse)
        assert answer_probability(intentions, answer, lapse) < right / 2


@MODELS
@given(st.sampled_from(GOLD_QUERIES), ANSWERS)
def test_someone_who_always_lapses_knows_nothing(intend, query, answer):
    """Each symbol, and the end, has the chance of one in seven."""
    assert answer_probability(intend(split(query)), answer, 1.0) == pytest.approx(7.0 ** -(len(answer) + 1))


@MODELS
@given(st.sampled_from(GOLD_QUERIES), ANSWERS, st.permutations(["another", "a further", UNDEFINED]), LAPSE)
def test_colours_without_a_canonical_name_are_alike(intend, query, answer, names, lapse):
    """Whatever they are called; nothing intends one of them for certain."""
    intentions = intend(split(query))
    one, other = ((*answer[:1], name, *answer[1:]) for name in names[:2])
    assert answer_probability(intentions, one, lapse) == pytest.approx(answer_probability(intentions, other, lapse))


@given(st.sampled_from(GOLD_QUERIES), st.lists(st.sampled_from(COLOURS), max_size=8).map(tuple), LAPSE)
def test_the_plain_grammar_scores_symbol_by_symbol(query, answer, lapse):
    """A symbol is right, or a lapse; behind the right answer everything but its end is one."""
    p, intended = 1.0, [*GOLD[query], *[None] * 9]
    for at, symbol in enumerate([*answer, None]):
        p *= (1 - lapse) * (symbol == intended[at]) + lapse / 7
    assert answer_probability(of_grammar(split(query)), answer, lapse) == pytest.approx(p)


def test_intentions_are_the_grammars_and_both_heuristics():
    """By hand: word by word, a function any colour; arguments confused by `after`, `surround`, both or neither."""
    expected = Counter({("3", "DAX", "3", "2"): 0.8 + 0.025})
    expected += Counter({("2", "any colour", "3", "any colour", "DAX"): 0.1})
    expected += Counter({("2", "3", "DAX", "3"): 0.025, ("DAX", "3", "DAX", "2"): 0.025})
    expected += Counter({("2", "DAX", "3", "DAX"): 0.025})
    found = Counter()
    for one in of_grammar_and_heuristics(split("2 after 3 surround DAX")):
        found[one.symbols] += one.probability
    assert found == pytest.approx(expected)


def drawn_answer(query, lapse, dice):
    """Someone's answer: what networks are trained with, each symbol by chance replaced, until it ends."""
    known = {VANILLA.source.numbers[word]: VANILLA.target.numbers[word] for word in COLOURS[:4]}
    intended = MINI_SCAN.interpret(query)
    if dice.fraction() < HEURISTIC:
        if dice.fraction() < 0.5:
            intended = [COLOURS[n] for n in one_to_one(VANILLA.source.encode(query), known, 6, dice)]
        else:
            intended = role_flip(query, MINI_SCAN, dice) or intended
    answer = []
    for symbol in itertools.chain(intended, itertools.repeat(None)):
        found = dice.choice([*COLOURS, None]) if dice.fraction() < lapse else symbol
        if found is None:
            return tuple(answer)
        answer.append(found)


@pytest.mark.parametrize(
    ("query", "lapse"), [("3 after DAX", 0.05), ("DAX surround 2", 0.3), ("2 after 3 surround DAX", 0.05)]
)
def test_answers_come_up_as_often_as_their_probability_says(query, lapse):
    """Drawn with the heuristics that targets of the training are made with, and lapses."""
    n = 20_000
    dice = Dice(np.random.default_rng(0))
    found = Counter(drawn_answer(split(query), lapse, dice) for _ in range(n))
    intentions = of_grammar_and_heuristics(split(query))
    assert found[GOLD[query]] == max(found.values())
    for answer, count in [*found.most_common(40), ((), found[()]), (("another",), found["another",])]:
        p = answer_probability(intentions, answer, lapse)
        assert count / n == pytest.approx(p, abs=4.5 * (p * (1 - p) / n) ** 0.5)


ASKED = [asked._replace(query=asked.query[1::4]) for asked in map(people_asked, range(10))]
PEOPLE = [one for asked in ASKED for one in asked.query]
N_SYMBOLS = sum(len(one.output) + 1 for one in PEOPLE)


def differing(answers):
    """The share of symbols, ends included, that are not what the gold grammar says in their place."""
    n_other = n_symbols = 0
    for query, output in answers:
        said, meant = [*output, None], [*MINI_SCAN.interpret(query), *[None] * 20]
        n_other += sum(one != other for one, other in zip(said, meant, strict=False))
        n_symbols += len(said)
    return n_other / n_symbols


ANSWERED = st.tuples(st.sampled_from(GOLD_QUERIES), st.one_of(ANSWERS, st.none()))


@settings(max_examples=40)
@given(st.lists(ANSWERED, min_size=1, max_size=9))
def test_the_best_lapse_is_the_share_of_wrong_symbols(given_answers):
    """Times 7/6, as one in seven lapses hits the right one by chance; of the lapses tried, one beside it."""
    answers = [Example(split(query), GOLD[query] if answer is None else answer) for query, answer in given_answers]
    exact = differing(answers) * 7 / 6
    lapse, _ = fit_lapse(functools.partial(likelihood, of_grammar, answers))
    assert lapse in {*[n for n in LAPSES if n <= exact][-1:], *[n for n in LAPSES if n >= exact][:1]}


def test_the_best_lapse_is_the_best_of_all_tried():
    """For the made-up answers of people; wrong and undefined symbols alike are lapses to the plain grammar."""
    assert 0.02 < differing(PEOPLE) < 0.2
    lapse, found = fit_lapse(functools.partial(likelihood, of_grammar, PEOPLE))
    assert lapse == max(LAPSES, key=lambda one: likelihood(of_grammar, PEOPLE, one).total)
    assert (found.n_symbols, found.per_symbol) == (N_SYMBOLS, found.total / N_SYMBOLS)


@MODELS
@given(st.lists(ANSWERED, min_size=1, max_size=4), LAPSE)
def test_the_likelihood_of_answers_is_a_product(intend, given_answers, lapse):
    """In nats, over all answers; symbols are counted with their ends."""
    answers = [Example(split(query), GOLD[query] if answer is None else answer) for query, answer in given_answers]
    found = likelihood(intend, answers, lapse)
    p = math.prod(answer_probability(intend(one.input), one.output, lapse) for one in answers)
    n = sum(len(one.output) + 1 for one in answers)
    assert found.total == pytest.approx(math.log(p))
    assert (found.total_sd, found.n_symbols, found.per_symbol) == (None, n, pytest.approx(math.log(p) / n))


BIASES = pytest.mark.parametrize("biases", OPEN_ENDED_MODELS.values(), ids=OPEN_ENDED_MODELS)


@BIASES
@pytest.mark.parametrize("lapse", [0.05, 0.6])
@pytest.mark.parametrize(("queries", "longest"), [(("p1", "p1 p2"), (2, 3)), (("p1", "p1", "p2 p1"), (1, 1, 2))])
def test_the_probabilities_of_all_rounds_add_up(biases, lapse, queries, longest):
    """Over all with answers of up to so many symbols, one is missing but the chance of longer ones."""
    rounds = itertools.product(
        *(
            [answer for length in range(most + 1) for answer in itertools.product(COLOURS, repeat=length)]
            for most in longest
        )
    )
    names = [query + " " * number for number, query in enumerate(queries)]  # the same instruction may come twice
    total = math.fsum(math.exp(round_log_p(biases, dict(zip(names, one, strict=True)), lapse)) for one in rounds)
    expected = 1.0
    for query, most in zip(queries, longest, strict=True):
        n_within = min(len(split(query)), most + 1)
        expected *= 1 - (1 - lapse / 7) ** n_within * (6 * lapse / 7) ** (most + 1 - n_within)
    assert total == pytest.approx(expected, abs=1e-12)


def test_each_bias_has_its_share():
    """By hand, without lapses to speak of: a colour for each of 15 places, for each of 5 words, or of what is left."""
    perfect, alike = (spoken([[c] for c in colours]) for colours in ("ABCDE", "AACDE"))
    other_place = perfect | {"p1 p1": ("A", "F")}
    one_to_one, iconic, exclusive = OPEN_ENDED_MODELS.values()
    n_words = sum(len(split(query)) for query in OPEN_ENDED)
    assert n_words == 16
    for biases, answers, expected in (
        *((one_to_one, answers, 6.0**-16) for answers in (perfect, alike, other_place)),
        *((iconic, answers, 6.0**-5) for answers in (perfect, alike)),
        (exclusive, perfect, 1 / 720),
        (exclusive, alike, 0),
        (iconic, other_place, 0),
    ):
        p = math.exp(round_log_p(biases, answers, 1e-9))
        assert p == pytest.approx(expected, abs=1e-8 if expected == 0 else 0, rel=1e-6)


@BIASES
@given(st.lists(st.lists(st.sampled_from("ABCDEF"), max_size=4).map(tuple), min_size=7, max_size=7))
def test_participants_who_always_lapse_know_nothing(biases, answers):
    """Each symbol, and each end, has the chance of one in seven."""
    n_symbols = sum(len(answer) + 1 for answer in answers)
    log_p = round_log_p(biases, dict(zip(OPEN_ENDED, answers, strict=True)), 1.0)
    assert log_p == pytest.approx(-n_symbols * math.log(7))


def test_more_colours_than_there_are_are_refused():
    """Six of them, besides the end."""
    answers = spoken([[c] for c in "ABCDE"]) | {"p1": ("F", "G")}
    with pytest.raises(ValueError, match="expected answers of 6 colours, found A, B, C, D, E, F, G"):
        round_log_p(OPEN_ENDED_MODELS["one-to-one and lapses"], answers, 0.1)


# The scripts

MEANINGS = {"perfect": "A B C D E", "alike": "A A C D E", "long": "AA B C D E"}


def rounds_of(*names):
    """Rounds of answers, one a name of MEANINGS."""
    rounds = [spoken([[*meaning] for meaning in MEANINGS[name].split()]) for name in names]
    return [[(split(query), answer) for query, answer in one.items()] for one in rounds]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Files of answers, people's answers to both tasks, and files to make mistakes with."""
    folder = tmp_path_factory.mktemp("world")
    gold = [[(split(query), answer) for query, answer in GOLD.items()]]
    sloppy = [[(split(query), answer[: 1 + n % 3]) for n, (query, answer) in enumerate(GOLD.items())], *gold]
    files = {
        "gold": AnswerFile("net_gold", "few_shot_gold", gold),
        "sloppy": AnswerFile("net_sloppy", "few_shot_human", sloppy),
        "again": AnswerFile("net_gold", "few_shot_gold", gold),
        "open": AnswerFile("net_open", "open_end_freeform", rounds_of("perfect", "alike", "long")),
        "more": AnswerFile("net_more", "open_end_freeform", rounds_of("perfect")),
        "part": AnswerFile("net_part", "open_end_freeform", [rounds_of("perfect")[0][:6]]),
        "random": AnswerFile("net_random", "algebraic", gold),
    }
    for name, answers in files.items():
        saved(folder / f"{name}.json", answers)
    (folder / "result.json").write_text('{"max": {"retrieve": 3.0}}')
    (folder / "file").write_text("no folder\n")
    (folder / "empty").mkdir()
    write_people(folder, ASKED)
    damaged = folder / "damaged" / "data_human"
    for number, name in enumerate(("perfect", "long")):
        (answers,) = rounds_of(name)
        words = INPUT_WORDS[number : number + 5]
        query = tuple(Example(*pair) for pair in with_words(words, [answer for _, answer in answers]))
        for path, shown in ((folder / "data_human", query[::-1]), (damaged, query[:6])):
            (path / "open_ended_all" / "train").mkdir(parents=True, exist_ok=True)
            text = format_episode(Episode((), shown, None))
            (path / "open_ended_all" / "train" / f"{number:02d}.txt").write_text(text)
    (damaged / "few_shot" / "val_behavior").mkdir(parents=True)
    (damaged / "few_shot" / "val_behavior" / "00.txt").write_text("*SUPPORT*\n\n*QUERY*\nIN 1 OUT: 1\n\n*GRAMMAR*\n")
    return folder


def run(module, world, line, *arguments):
    return run_main(module, *shlex.split(line.format(world=world)), *arguments)


def test_networks_and_people_stand_side_by_side(world, tmp_path):
    """Few-shot: people first, a column a file in the order given, and how accuracies go together; written as JSON."""
    result = tmp_path / "new" / "kinds.json"
    line = "{world}/gold.json {world}/sloppy.json --data_dir {world}"
    outcome = run(biml.analyse, world, line, "--fn_out_results", result)
    assert (outcome.code, outcome.err) == (0, "")
    people = analyse_few_shot(AnswerFile("", "", [[(one.input, one.output) for one in PEOPLE]]).by_query())
    read = [read_answers(world / f"{name}.json").few_shot() for name in ("gold", "sloppy")]
    columns = dict(zip(("people", "net_gold", "net_sloppy"), (people, *read), strict=True))
    assert few_shot_table(columns) in outcome.out
    one = item_correlation(people, read[1])
    assert "people and net_gold: r = undefined\n" in outcome.out  # always right
    assert f"people and net_sloppy: r = {one.r:.3f}, p = {one.p:.4f} (t, 10 queries)\n" in outcome.out
    report = json.loads(result.read_text())
    assert report["correlation_with_people"] == {"net_gold": None, "net_sloppy": pytest.approx(one._asdict())}
    for name, one in columns.items():
        found = report["kinds"][name]
        assert found.keys() == set(FewShot._fields)
        assert found["accuracy"] == pytest.approx(one.accuracy)
        assert Share(*found["one_to_one"]) == one.one_to_one
        assert {query: Share(*share) for query, share in found["items"].items()} == one.items


def test_open_ended_answers_of_people_have_words_of_their_own(world, tmp_path):
    """Each participant's words are found out; rounds of networks are counted beside them."""
    result = tmp_path / "kinds.json"
    line = "{world}/more.json {world}/open.json --data_dir {world}"
    outcome = run(biml.analyse, world, line, "--fn_out_results", result)
    assert (outcome.code, outcome.err) == (0, "")
    kinds = {"perfect": OpenEnded(True, True, True, True), "long": OpenEnded(False, True, True, False)}
    kinds["alike"] = OpenEnded(True, False, True, False)
    expected = {"people": ["perfect", "long"], "net_more": ["perfect"], "net_open": ["perfect", "alike", "long"]}
    columns = {name: [kinds[one] for one in many] for name, many in expected.items()}
    assert open_ended_table(columns) in outcome.out
    report = json.loads(result.read_text())
    assert report["kinds"] == {name: [one._asdict() for one in many] for name, many in columns.items()}


@pytest.mark.parametrize("task", ["few-shot", "open-ended"])
def test_a_page_shows_people_beside_networks(world, tmp_path, task):
    """The answers of both, in the columns of the table that is printed."""
    page = tmp_path / "new" / "page.html"
    name = {"few-shot": "sloppy", "open-ended": "open"}[task]
    outcome = run(biml.analyse, world, f"{{world}}/{name}.json --data_dir {{world}}", "--fn_out_page", page)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith(f"written to {page}\n")
    shown = Page(page.read_text())
    assert all(line in outcome.out for line in shown.texts("pre")[0].splitlines())
    heads, *rows = tables_of(shown)[0]
    names = [text for text, _ in heads]
    assert [one for one in names if one in ("people", f"net_{name}")] == ["people", f"net_{name}"]
    assert all(any(row[names.index(one)][0] for row in rows) for one in ("people", f"net_{name}"))


@pytest.mark.parametrize("names", ["gold", "sloppy gold", "open more"])
def test_without_a_data_folder_there_is_no_column_of_people(world, names):
    """Nor are any data looked for."""
    line = " ".join(f"{{world}}/{name}.json" for name in names.split())
    before = contents(world)
    outcome = run(biml.analyse, world, line)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.split()[: len(names.split())] == [f"net_{name}" for name in names.split()]
    assert "people" not in outcome.out
    assert contents(world) == before


def test_symbolic_models_are_scored_at_their_best_lapse(world, tmp_path):
    """Both of them, and chance, printed and written; whoever knows the heuristics is at least possible everywhere."""
    result = tmp_path / "symbolic.json"
    outcome = run(biml.symbolic, world, "--data_dir {world}", "--fn_out_results", result)
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads(result.read_text())
    models = {"gold grammar and lapses": of_grammar, "gold grammar, heuristics and lapses": of_grammar_and_heuristics}
    assert report["models"].keys() == models.keys()
    for name, intend in models.items():
        lapse, found = fit_lapse(functools.partial(likelihood, intend, PEOPLE))
        assert report["models"][name] == pytest.approx({"lapse": lapse, **found._asdict()})
        line = f"{name}: lapse {lapse}, log-likelihood {found.total:.2f} nats, {found.per_symbol:.4f} a symbol\n"
        assert line in outcome.out
        assert found.total > -N_SYMBOLS * math.log(7)
    assert (
        f"chance alone: {-N_SYMBOLS * math.log(7):.2f} nats; {len(PEOPLE)} answers, {N_SYMBOLS} symbols" in outcome.out
    )
    assert report["n_answers"] == len(PEOPLE) and "commit" in report["provenance"]
    rounds = people_open_ended(world).rounds()
    n_open = sum(len(answer) + 1 for one in rounds for answer in one.values())
    assert report["open_ended"].keys() == OPEN_ENDED_MODELS.keys() and report["n_participants"] == len(rounds) == 2
    for name, biases in OPEN_ENDED_MODELS.items():
        lapse, found = fit_lapse(functools.partial(open_ended_likelihood, biases, rounds))
        assert report["open_ended"][name] == pytest.approx({"lapse": lapse, **found._asdict()})
        assert f"{name}: lapse {lapse}, log-likelihood {found.total:.2f} nats" in outcome.out
    assert f"chance alone: {-n_open * math.log(7):.2f} nats; 14 answers, {n_open} symbols" in outcome.out


@pytest.mark.parametrize("lapse", [0.03, 1.0])
def test_symbolic_models_are_scored_at_a_given_lapse(world, lapse):
    """With lapse 1 both are chance."""
    outcome = run(biml.symbolic, world, "--data_dir {world} --ll_p_lapse", lapse)
    assert (outcome.code, outcome.err) == (0, "")
    for name, intend in biml.symbolic.MODELS.items():
        total = -N_SYMBOLS * math.log(7) if lapse == 1 else likelihood(intend, PEOPLE, lapse).total
        assert f"{name}: lapse {lapse}, log-likelihood {total:.2f} nats" in outcome.out


MISTAKES = {  # the script, its command line, and what the message must say
    "nothing to analyse": (biml.analyse, "", ["ANSWERS.json"]),
    "missing answers": (biml.analyse, "{world}/none.json", ["none.json", "No such file"]),
    "a folder": (biml.analyse, "{world}/empty", ["empty", "directory"]),
    "another file": (biml.analyse, "{world}/gold.json {world}/result.json", ["result.json: expected answers"]),
    "no JSON": (biml.analyse, "{world}/file", ["file: expected answers written by biml.eval"]),
    "answers of another type": (biml.analyse, "{world}/random.json", ["random.json", "algebraic are not analysed"]),
    "two tasks": (biml.analyse, "{world}/gold.json {world}/open.json", ["few-shot and open-ended"]),
    "a network twice": (biml.analyse, "{world}/gold.json {world}/again.json", ["the same network", "net_gold"]),
    "an instruction missing": (biml.analyse, "{world}/part.json", ["expected an answer to each", "p5 p4 p1"]),
    "no people": (biml.analyse, "{world}/gold.json --data_dir {world}/empty", ["data_human", "--data_dir"]),
    "no participants": (biml.analyse, "{world}/open.json --data_dir {world}/empty", ["data_human", "--data_dir"]),
    "damaged people": (biml.analyse, "{world}/gold.json --data_dir {world}/damaged", ["00.txt:4: expected 'IN:"]),
    "six instructions": (biml.analyse, "{world}/open.json --data_dir {world}/damaged", ["seven open-ended"]),
    "results of another kind": (biml.analyse, "{world}/gold.json --fn_out_results r.csv", ["PATH.json", "r.csv"]),
    "a page of another kind": (biml.analyse, "{world}/gold.json --fn_out_page p.htm", ["PATH.html", "p.htm"]),
    "results into a file": (biml.analyse, "{world}/gold.json --fn_out_results {world}/file/r.json", ["file"]),
    "unknown option": (biml.analyse, "{world}/gold.json --speed 3", ["--speed"]),
    "no answers to score": (biml.symbolic, "--data_dir {world}/empty", ["data_human", "--data_dir"]),
    "damaged answers": (biml.symbolic, "--data_dir {world}/damaged", ["00.txt:4: expected 'IN:"]),
    "no lapses": (biml.symbolic, "--data_dir {world} --ll_p_lapse 0", ["--ll_p_lapse", "above 0"]),
    "too many lapses": (biml.symbolic, "--data_dir {world} --ll_p_lapse 1.5", ["--ll_p_lapse", "a probability", "1.5"]),
    "lapse that is no number": (biml.symbolic, "--data_dir {world} --ll_p_lapse nan", ["--ll_p_lapse"]),
    "lapse in words": (biml.symbolic, "--data_dir {world} --ll_p_lapse few", ["--ll_p_lapse", "'few'"]),
    "scores of another kind": (biml.symbolic, "--data_dir {world} --fn_out_results r.txt", ["PATH.json", "r.txt"]),
    "scores into a file": (biml.symbolic, "--data_dir {world} --fn_out_results {world}/file/r.json", ["file"]),
    "a file too many": (biml.symbolic, "{world}/gold.json", ["gold.json"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, case):
    """Exit code 2, one line that says what is wrong, every file as it was and none added."""
    module, line, said = MISTAKES[case]
    before = contents(world)
    outcome = run(module, world, line)
    assert_one_line(outcome, Path(module.__file__).name, *said)
    assert contents(world) == before


@pytest.mark.parametrize("module", [biml.analyse, biml.symbolic])
def test_help_is_printed(module):
    """-h is no mistake: exit code 0, the options on stdout."""
    outcome = run_main(module, "-h")
    assert (outcome.code, outcome.err) == (0, "")
    assert "--data_dir" in outcome.out and "--fn_out_results" in outcome.out
