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

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from script_runs import assert_one_line, contents
from test_biml_behaviour import GOLD, spoken, with_words
from test_biml_eval import people_asked, run_main, write_people

import biml.analyse
import biml.symbolic
from biml.answering import LAPSES, Answered, AnsweredEpisode, fit_lapse
from biml.behaviour import OpenEnded, analyse_few_shot, item_correlation
from biml.benchmarks import GOLD_QUERIES, OPEN_ENDED, split
from biml.episode import Episode, Example
from biml.episode_files import format_episode
from biml.grammar import INPUT_WORDS, OUTPUT_WORDS
from biml.pages import answers_page, kinds_table, listing
from biml.sampled_files import LISTED, AnswerFile, people_open_ended, read_answers
from biml.symbolic import (
    ANY,
    END,
    OPEN_ENDED_MODELS,
    answer_probability,
    likelihood,
    of_grammar,
    of_grammar_and_heuristics,
    open_ended_likelihood,
    round_log_p,
)
from biml.views import UNDEFINED
from common.files import save_json

COLOURS = ("1", "2", "3", "DAX", "another", "a further")  # four with canonical names, and two others
NASTY = ("<b>&\"'", "</table>", "<SOS>", "&amp;", "<script>alert(1)</script>", UNDEFINED)
ANSWERS = st.lists(st.sampled_from(COLOURS[:4]), max_size=7).map(tuple)
STRANGE = st.lists(st.sampled_from([*NASTY, "1", "DAX", "c3"]), max_size=3).map(tuple)
FEW_SHOT = st.dictionaries(st.sampled_from(GOLD_QUERIES), st.lists(ANSWERS | STRANGE, max_size=9))
WORDS = st.lists(st.sampled_from([*INPUT_WORDS, *OUTPUT_WORDS, "<SOS>", '"', "[", "é"]), max_size=4).map(tuple)
OPEN = "open_end_freeform"


def few_shot_file(answers, name="net"):
    """Answers to the gold queries, each an episode of its own."""
    pairs = [(split(query), answer) for query, given in answers.items() for answer in given]
    return AnswerFile(name, "few_shot_gold", [[pair] for pair in pairs])


def open_file(rounds, name="net"):
    return AnswerFile(name, OPEN, [[(split(query), answer) for query, answer in one.items()] for one in rounds])


# Files of answers


def saved(path, answers):
    """Write answers as `biml.eval` does."""
    about = {"name": answers.name, "episode_type": answers.episode_type, "arguments": {"seed": 1}}
    save_json(path, {**about, LISTED: answers.listed()})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@settings(max_examples=30)
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
TWICE = [[query, "c1"] for query in (*OPEN_ENDED, "p1")]


@pytest.mark.parametrize(
    "given",
    [
        *(b"", b"no JSON", b"[]", b"3", b"null", b"{}", b'"text"', b"\x89PNG\r\n\xff\xfe", KNOWN),
        *({**KNOWN, "episodes": one} for one in (3, None, [3], [[3]], [[["1"]]], [[["1", "1", "1"]]], [[["1", 1]]])),
        *({**KNOWN, "episodes": one} for one in ([[[None, "1"]]], [], [[]], "", {}, [["ab"]], [[["tufa", "1"]]])),
        *({"episode_type": "few_shot_gold", "episodes": []}, {"name": "net", "episodes": []}),
        *({**KNOWN, "episode_type": OPEN, "episodes": one} for one in ([], [[]], [[["p1", "c1"]]], [TWICE])),
        *({**KNOWN, "episode_type": kind, "episodes": []} for kind in ("algebraic", "probe_human", "mlc")),
    ],
)
def test_another_file_is_refused(tmp_path, given):
    """One line with the file's name, that says which files are read."""
    path, kind = tmp_path / "other.json", isinstance(given, dict) and given.get("episode_type")
    path.write_bytes(given if isinstance(given, bytes) else json.dumps(given).encode())
    with pytest.raises(ValueError, match=r"^.*other\.json: expected answers written by biml\.eval.*$") as error:
        read_answers(path)
    if kind in ("algebraic", "probe_human", "mlc"):
        assert f"answers of the type {kind} are not analysed" in str(error.value)


# Pages


class Page(HTMLParser):
    """Reads a page: checks that tags are balanced, and lists elements with their own text."""

    def __init__(self, text):
        super().__init__()
        for forbidden in ("<script", "http:", "https:", "src=", "href=", "@import", "url(", "<b>", "<SOS>", "\"'"):
            assert forbidden not in text  # nothing is run, nothing is fetched, no symbol is taken for HTML
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

    def tables(self):
        """The rows of every table; a row is its cells, each the text and the tiles in it."""
        tables = []
        for tag, kind, text in self.found():
            if tag == "table":
                tables.append([])
            elif tag == "tr":
                tables[-1].append([])
            elif tag in ("td", "th"):
                tables[-1][-1].append((text, []))
            elif kind == "tile" and tables and tables[-1] and tables[-1][-1] and tables[-1][-1][-1][0] == "":
                tables[-1][-1][-1][1].append(text)
        return tables


@settings(max_examples=12)
@given(st.lists(FEW_SHOT, min_size=1, max_size=3))
def test_every_answer_stands_on_the_page_with_its_count(columns):
    """Below its query, the highest shares first, nothing for never; kinds are those of the table, right ones marked."""
    files = [few_shot_file(answers, f"net <{n}>") for n, answers in enumerate(columns)]
    page = Page(answers_page("a title", "a table", files))
    assert page.texts("h2") == [f"{query} → " for query in GOLD_QUERIES]
    n_right = 0
    for query, (heads, *rows) in zip(GOLD_QUERIES, page.tables(), strict=True):
        assert [text for text, _ in heads] == [*(file.name for file in files), "answer", ""]
        given_answers = [Counter(answers.get(query, ())) for answers in columns]
        shown = [tuple(row[-2][1]) for row in rows]
        assert {*shown} == {*itertools.chain(*given_answers)} and len({*shown}) == len(shown)
        shares = []
        for answer, row in zip(shown, rows, strict=True):
            counts = [(found[answer], found.total()) for found in given_answers]
            told = [f"{n} ({100 * n / total:.1f} %)" if n else "" for n, total in counts]
            assert [text for text, _ in row[:-2]] == told
            shares.append(sum(n / total for n, total in counts if n))
            assert (row[-1][0] == "right") == (answer == GOLD[query])
            n_right += answer == GOLD[query]
        assert shares == sorted(shares, reverse=True)
        for column, answers in enumerate(columns):
            kinds = analyse_few_shot({query: answers.get(query, ())})
            for name, n in (("one-to-one", kinds.one_to_one.n), ("iconic", kinds.iconic.n)):
                of_kind = [answer for answer, row in zip(shown, rows, strict=True) if name in row[-1][0].split(", ")]
                assert sum(given_answers[column][answer] for answer in of_kind) == n
    assert [kind for tag, kind, _ in page.found() if tag == "tr"].count("right") == n_right


@settings(max_examples=40)
@given(st.lists(st.lists(STRANGE, min_size=7, max_size=7), min_size=1, max_size=3))
def test_open_ended_answers_that_differ_in_colours_alone_are_one_row(rounds):
    """Counted by column, told with colours in the order in which they come up, and with the biases that they follow."""
    people = [spoken([[c] for c in colours]) for colours in ("ABCDE", "EDCBA", "AACDE")]
    strange = [dict(zip(OPEN_ENDED, answers, strict=True)) for answers in rounds]
    page = Page(answers_page("a title", "a table", [open_file(people, "people"), open_file([*strange, people[2]])]))
    ((heads, *rows),) = page.tables()
    assert [text for text, _ in heads] == ["people", "net", *OPEN_ENDED, "follows"]
    named = spoken([[c] for c in ("c1", "c2", "c3", "c4", "c5")])
    (perfect,) = (row for row in rows if row[-1][0] == "one-to-one, mutually-exclusive, iconic, perfect")
    assert [text for text, _ in perfect[:2]] == ["2 (66.7 %)", ""]
    assert [tuple(tiles) for _, tiles in perfect[2:-1]] == [named[query] for query in OPEN_ENDED]
    n = len(rounds) + 1
    assert ["1 (33.3 %)", f"1 ({100 / n:.1f} %)"] in [[text for text, _ in row[:2]] for row in rows]
    assert sum(int(row[1][0].split()[0]) for row in rows if row[1][0]) == n
    lengths = {tuple(len(one[query]) for query in OPEN_ENDED) for one in strange}
    assert lengths <= {tuple(len(tiles) for _, tiles in row[2:-1]) for row in rows}


@pytest.mark.parametrize("symbol", NASTY[:5])
def test_a_page_stands_alone(symbol):
    """A document with language, encoding and style of its own; title, table and names are escaped, as symbols are."""
    for made in (few_shot_file({GOLD_QUERIES[0]: [(symbol, "1")]}, symbol), open_file([], symbol)):
        text = answers_page(symbol, f"{symbol}\n  1 %", [made])
        assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
        page = Page(text)
        assert all(len(page.texts(tag)) == 1 for tag in ("html", "head", "body", "meta", "style", "title", "h1"))
        assert page.texts("title") == page.texts("h1") == [symbol]
        assert page.texts("pre") == [f"{symbol}\n  1 %"]
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


def share(n, total):
    return f"{100 * n / total:.1f} % ({n} of {total})" if total else "none"


@settings(max_examples=15)
@given(st.lists(st.dictionaries(st.sampled_from(GOLD_QUERIES), st.lists(ANSWERS, max_size=5)), min_size=1, max_size=3))
def test_a_table_has_a_column_for_each_network(answers):
    """Accuracies as means, shares with their counts, `none` of nothing."""
    columns = {f"net_{'x' * 9 * n}{n}": one for n, one in enumerate(answers)}
    heads, rows = columns_of(kinds_table([few_shot_file(one, name) for name, one in columns.items()]))
    assert heads == list(columns)
    assert len(rows) == 6 + len(GOLD_QUERIES)
    for column, one in enumerate(map(analyse_few_shot, columns.values())):
        means = (one.accuracy, one.simple, one.complex, one.longest)
        names = ("mean over queries, %", "simple queries, %", "complex queries, %", "answers of 6 symbols, %")
        assert [rows[name][column] for name in names] == ["none" if x is None else f"{x:.2f}" for x in means]
        shares = {"one-to-one, of errors": one.one_to_one, "iconic, of errors with `after`": one.iconic, **one.items}
        assert {name: rows[name][column] for name in shares} == {name: share(*one) for name, one in shares.items()}


MEANINGS = {"perfect": "A B C D E", "alike": "A A C D E", "long": "AA B C D E"}
BIASES_OF = {
    "perfect": (True, True, True, True),
    "alike": (True, False, True, False),
    "long": (False, True, True, False),
}
ROUNDS = {name: spoken([[*meaning] for meaning in meanings.split()]) for name, meanings in MEANINGS.items()}


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(list(MEANINGS)), max_size=4), min_size=1, max_size=3))
def test_biases_are_counted_over_rounds(names):
    """How many rounds of answers, in any order of instructions, follow each, and of how many."""
    files = [
        open_file([dict(reversed(ROUNDS[name].items())) for name in many], f"net_{n}") for n, many in enumerate(names)
    ]
    heads, rows = columns_of(kinds_table(files))
    assert heads == [file.name for file in files]
    assert list(rows) == ["one to one", "mutually exclusive", "iconic", "perfect"]
    for column, many in enumerate(names):
        assert files[column].open_ended() == [OpenEnded(*BIASES_OF[name]) for name in many]
        for bias, cells in enumerate(rows.values()):
            assert cells[column] == share(sum(BIASES_OF[name][bias] for name in many), len(many))


# Symbolic models

INTENDING = pytest.mark.parametrize("intend", [of_grammar, of_grammar_and_heuristics])
LAPSE = st.floats(0.001, 1.0)


@INTENDING
@given(st.sampled_from(GOLD_QUERIES), st.lists(st.sampled_from(COLOURS), max_size=8).map(tuple), LAPSE)
def test_an_answer_is_scored_symbol_by_symbol(intend, query, answer, lapse):
    """A symbol is what is intended, any colour where any is, or a lapse; behind the end everything but it is one."""
    intentions, expected = intend(split(query)), 0.0
    for probability, intended in intentions:
        for symbol, meant in zip([*answer, END], [*intended, *[END] * 9], strict=False):
            share = (symbol != END) / 6 if meant == ANY else symbol == meant
            probability *= (1 - lapse) * share + lapse / 7
        expected += probability
    assert answer_probability(intentions, answer, lapse) == pytest.approx(expected)
    assert math.fsum(one.probability for one in intentions) == pytest.approx(1)


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


ASKED = [asked._replace(query=asked.query[1::4]) for asked in map(people_asked, range(10))]
PEOPLE = [one for asked in ASKED for one in asked.query]
N_SYMBOLS = sum(len(one.output) + 1 for one in PEOPLE)


@INTENDING
@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from(GOLD_QUERIES), ANSWERS), min_size=1, max_size=6), LAPSE)
def test_the_likelihood_is_a_product(intend, pairs, lapse):
    """In nats, over all answers and their ends."""
    answers = [Example(split(query), answer) for query, answer in pairs]
    found = likelihood(intend, answers, lapse)
    p = math.prod(answer_probability(intend(one.input), one.output, lapse) for one in answers)
    n = sum(len(one.output) + 1 for one in answers)
    assert found == (pytest.approx(math.log(p)), None, n, pytest.approx(math.log(p) / n))


BIASES = pytest.mark.parametrize("biases", OPEN_ENDED_MODELS.values(), ids=OPEN_ENDED_MODELS)


@BIASES
@pytest.mark.parametrize("lapse", [0.05, 0.6])
@pytest.mark.parametrize(("queries", "longest"), [(("p1", "p1 p2"), (2, 2)), (("p1", "p1", "p2 p1"), (1, 1, 2))])
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
    """By hand, without lapses to speak of: a colour for each of 16 places, for each of 5 words, or of what is left."""
    perfect, alike = ROUNDS["perfect"], ROUNDS["alike"]
    other_place = perfect | {"p1 p1": ("A", "F")}
    one_to_one, iconic, exclusive = OPEN_ENDED_MODELS.values()
    assert sum(len(split(query)) for query in OPEN_ENDED) == 16
    for biases, answers, expected in (
        *((one_to_one, answers, 6.0**-16) for answers in (perfect, alike, other_place)),
        *((iconic, answers, 6.0**-5) for answers in (perfect, alike)),
        *((exclusive, perfect, 1 / 720), (exclusive, alike, 0), (iconic, other_place, 0)),
    ):
        p = math.exp(round_log_p(biases, answers, 1e-9))
        assert p == pytest.approx(expected, abs=1e-8 if expected == 0 else 0, rel=1e-6)
    with pytest.raises(ValueError, match="expected answers of 6 colours, found A, B, C, D, E, F, G"):
        round_log_p(one_to_one, perfect | {"p1": ("F", "G")}, 0.1)


# The scripts


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Files of answers, people's answers to both tasks, and files to make mistakes with."""
    folder = tmp_path_factory.mktemp("world")
    gold = [[(split(query), answer) for query, answer in GOLD.items()]]
    sloppy = [[(split(query), answer[: 1 + n % 3]) for n, (query, answer) in enumerate(GOLD.items())], *gold]
    part = {query: ROUNDS["perfect"][query] for query in OPEN_ENDED[:6]}
    files = {
        "gold": AnswerFile("net_gold", "few_shot_gold", gold),
        "sloppy": AnswerFile("net_sloppy", "few_shot_human", sloppy),
        "again": AnswerFile("net_gold", "few_shot_gold", gold),
        "open": open_file(ROUNDS.values(), "net_open"),
        "more": open_file([ROUNDS["perfect"]], "net_more"),
        "part": open_file([part], "net_part"),
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
        words = INPUT_WORDS[number : number + 5]
        query = tuple(Example(*pair) for pair in with_words(words, ROUNDS[name].values()))
        for path, shown in ((folder / "data_human", query[::-1]), (damaged, query[:6])):
            (path / "open_ended_all" / "train").mkdir(parents=True, exist_ok=True)
            text = format_episode(Episode((), shown, None))
            (path / "open_ended_all" / "train" / f"{number:02d}.txt").write_text(text)
    (damaged / "few_shot" / "val_behavior").mkdir(parents=True)
    (damaged / "few_shot" / "val_behavior" / "00.txt").write_text("*SUPPORT*\n\n*QUERY*\nIN 1 OUT: 1\n\n*GRAMMAR*\n")
    return folder


def run(module, world, line, *arguments):
    outcome = run_main(module, *shlex.split(line.format(world=world)), *arguments)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    return outcome.out


def test_few_shot_answers_of_networks_and_people_stand_side_by_side(world, tmp_path):
    """People first, a column a file in the order given, and how accuracies go together; as JSON and a page too."""
    result, page = tmp_path / "new" / "kinds.json", tmp_path / "new" / "page.html"
    out = run(
        biml.analyse,
        world,
        "{world}/gold.json {world}/sloppy.json --data_dir {world}",
        *("--fn_out_results", result, "--fn_out_page", page),
    )
    people = AnswerFile("people", "few_shot_human", [[(one.input, one.output) for one in PEOPLE]])
    files = [people, *(read_answers(world / f"{name}.json") for name in ("gold", "sloppy"))]
    columns = {file.name: file.few_shot() for file in files}
    report = json.loads(result.read_text())
    assert kinds_table(files) in out
    assert report["kinds"] == json.loads(json.dumps({name: one._asdict() for name, one in columns.items()}))
    found = item_correlation(columns["people"], columns["net_sloppy"])
    assert f"people and net_sloppy: r = {found.r:.3f}, p = {found.p:.4f} (t, {found.n} queries)\n" in out
    assert "people and net_gold: r = undefined\n" in out
    assert report["correlation_with_people"] == {"net_gold": None, "net_sloppy": found._asdict()}
    assert page.read_text() == answers_page("Few-shot answers: people, net_gold, net_sloppy", kinds_table(files), files)
    assert out.endswith(f"written to {result}\nwritten to {page}\n")


def test_open_ended_answers_of_networks_and_people_stand_side_by_side(world, tmp_path):
    """Roles are found for people's words."""
    result, page = tmp_path / "kinds.json", tmp_path / "page.html"
    line = "{world}/more.json {world}/open.json --data_dir {world}"
    out = run(biml.analyse, world, line, "--fn_out_results", result, "--fn_out_page", page)
    expected = {"people": ["perfect", "long"], "net_more": ["perfect"], "net_open": ["perfect", "alike", "long"]}
    files = [open_file([ROUNDS[one] for one in many], name) for name, many in expected.items()]
    assert kinds_table(files) in out
    kinds = {name: [OpenEnded(*BIASES_OF[one])._asdict() for one in many] for name, many in expected.items()}
    assert json.loads(result.read_text())["kinds"] == kinds
    assert page.read_text() == answers_page("Open-ended answers: people, net_more, net_open", kinds_table(files), files)


@pytest.mark.parametrize("names", ["gold", "sloppy gold", "open more"])
def test_without_a_data_folder_there_is_no_column_of_people(world, names):
    """Nor are any data looked for."""
    before = contents(world)
    out = run(biml.analyse, world, " ".join(f"{{world}}/{name}.json" for name in names.split()))
    assert out.split()[: len(names.split())] == [f"net_{name}" for name in names.split()]
    assert "people" not in out
    assert contents(world) == before


def test_symbolic_models_are_scored_at_their_best_lapse(world, tmp_path):
    """Few-shot and open-ended, and chance, printed and written; at a lapse of one all are chance."""
    result = tmp_path / "symbolic.json"
    out = run(biml.symbolic, world, "--data_dir {world}", "--fn_out_results", result)
    report, rounds = json.loads(result.read_text()), people_open_ended(world).rounds()
    scores = {
        "models": {
            name: functools.partial(likelihood, functools.cache(model), PEOPLE)
            for name, model in biml.symbolic.MODELS.items()
        },
        "open_ended": {
            name: functools.partial(open_ended_likelihood, one, rounds) for name, one in OPEN_ENDED_MODELS.items()
        },
    }
    for task, by_name in scores.items():
        assert report[task].keys() == by_name.keys()
        for name, score in by_name.items():
            lapse, found = fit_lapse(score)
            assert lapse == max(LAPSES, key=lambda one, score=score: score(one).total)
            assert report[task][name] == pytest.approx({"lapse": lapse, **found._asdict()})
            line = f"{name}: lapse {lapse}, log-likelihood {found.total:.2f} nats, {found.per_symbol:.4f} a symbol\n"
            assert line in out
    assert report["n_answers"] == len(PEOPLE) and report["n_participants"] == len(rounds) == 2
    assert "commit" in report["provenance"]
    lapsed = run(biml.symbolic, world, "--data_dir {world} --ll_p_lapse 1.0")
    n_open = sum(len(answer) + 1 for one in rounds for answer in one.values())
    for task, n_answers, n in (("models", len(PEOPLE), N_SYMBOLS), ("open_ended", 14, n_open)):
        chance = f"{-n * math.log(7):.2f} nats"
        assert f"chance alone: {chance}; {n_answers} answers, {n} symbols" in out
        assert lapsed.count(f"lapse 1.0, log-likelihood {chance}") == len(scores[task])


MISTAKES = {  # command lines of both scripts, and what the message must say
    biml.analyse: [
        ("", ["ANSWERS.json"]),
        ("{world}/none.json", ["none.json", "No such file"]),
        ("{world}/empty", ["empty", "directory"]),
        ("{world}/gold.json {world}/result.json", ["result.json: expected answers"]),
        ("{world}/file", ["file: expected answers written by biml.eval"]),
        ("{world}/random.json", ["random.json", "algebraic are not analysed"]),
        ("{world}/gold.json {world}/open.json", ["few-shot and open-ended"]),
        ("{world}/gold.json {world}/again.json", ["the same network", "net_gold"]),
        ("{world}/part.json", ["expected an answer to each", "p5 p4 p1"]),
        ("{world}/gold.json --data_dir {world}/empty", ["data_human", "--data_dir"]),
        ("{world}/open.json --data_dir {world}/empty", ["data_human", "--data_dir"]),
        ("{world}/gold.json --data_dir {world}/damaged", ["00.txt:4: expected 'IN:"]),
        ("{world}/open.json --data_dir {world}/damaged", ["seven open-ended"]),
        ("{world}/gold.json --fn_out_results r.csv", ["PATH.json", "r.csv"]),
        ("{world}/gold.json --fn_out_page p.htm", ["PATH.html", "p.htm"]),
        ("{world}/gold.json --fn_out_results {world}/file/r.json", ["file"]),
        ("{world}/gold.json --fn_out_results {world}/result.json", ["result.json is there already", "--overwrite"]),
        ("{world}/gold.json --speed 3", ["--speed"]),
    ],
    biml.symbolic: [
        ("--data_dir {world}/empty", ["data_human", "--data_dir"]),
        ("--data_dir {world}/damaged", ["00.txt:4: expected 'IN:"]),
        ("--data_dir {world} --ll_p_lapse 0", ["--ll_p_lapse", "above 0"]),
        ("--data_dir {world} --ll_p_lapse 1.5", ["--ll_p_lapse", "a probability", "1.5"]),
        ("--data_dir {world} --ll_p_lapse nan", ["--ll_p_lapse"]),
        ("--data_dir {world} --ll_p_lapse few", ["--ll_p_lapse", "'few'"]),
        ("--data_dir {world} --fn_out_results r.txt", ["PATH.json", "r.txt"]),
        ("--data_dir {world} --fn_out_results {world}/file/r.json", ["file"]),
        ("{world}/gold.json", ["gold.json"]),
    ],
}


@pytest.mark.parametrize("module", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, module):
    """Exit code 2, one line that says what is wrong, every file as it was; -h is none and prints the options."""
    before = contents(world)
    for line, said in MISTAKES[module]:
        outcome = run_main(module, *shlex.split(line.format(world=world)))
        assert_one_line(outcome, Path(module.__file__).name, *said)
        assert contents(world) == before, line
    assert "--data_dir" in run(module, world, "-h")
