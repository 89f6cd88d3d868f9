"""Random episodes hold what their sizes say, every output follows from the grammar, and nothing else decides them."""

import hashlib
import random

import numpy as np
import pytest
from script_runs import run_file

import biml.shortcuts
from biml import episode as episode_module
from biml.dice import Dice
from biml.episode import (
    MOST_REJECTED_GRAMMARS,
    PAPER_SIZES,
    Episode,
    EpisodeSizes,
    Example,
    draw_examples,
    draw_input,
    input_forms,
    is_put_together,
    needs_function,
    sample_episode,
)
from biml.episode_files import format_episode
from biml.grammar import (
    CONCATENATION,
    INPUT_WORDS,
    MINI_SCAN,
    OUTPUT_WORDS,
    Interpretation,
    Interpreter,
    is_mini_scan,
    parse_grammar,
)
from biml.packed_episodes import pack, save_packed

PILOT_SIZES = EpisodeSizes(3, 2, 5, 5, 8, 4)
LONGER_QUERIES = EpisodeSizes(2, 1, 4, 6, 4, 2, longest_study=3)
ALL_SIZES = pytest.mark.parametrize(
    "sizes", [PAPER_SIZES, PILOT_SIZES, LONGER_QUERIES], ids=["paper", "pilot", "longer"]
)


DIGESTS = {PAPER_SIZES: "21faa69c2e210dd2", PILOT_SIZES: "529ed956aa51a3ab", LONGER_QUERIES: "d4b75b2d7efce6ce"}


def drawn(seed, sizes=PAPER_SIZES, excluded=()):
    return sample_episode(np.random.default_rng(seed), excluded, sizes)


@ALL_SIZES
def test_examples_are_different_short_and_follow_from_the_grammar(sizes):
    """As many as asked for; interpreting an input again gives its output; none holds a word that was left."""
    for seed in range(40):
        episode = drawn(seed, sizes)
        both = (*episode.support, *episode.query)
        assert (len(episode.support), len(episode.query)) == (sizes.num_support, sizes.num_query)
        assert len({example.input for example in both}) == len(both)
        for words, output in both:
            assert 1 <= len(words) <= sizes.longest_input and 1 <= len(output) <= sizes.longest_output
            assert Interpreter(episode.grammar)(words) == Interpretation(output, True)
            assert set(output) <= set(OUTPUT_WORDS) and set(words) <= set(INPUT_WORDS)
        assert len(episode.grammar.rules) == sizes.primitives + sizes.functions + 1
        assert episode.grammar.rules[-1] == CONCATENATION and episode.allowed_outputs == ()


# Chance


@ALL_SIZES
def test_only_the_generator_decides(sizes):
    """Episodes of a seed are those that were drawn when their statistics were compared with the published sampler's."""
    random.seed(1)
    np.random.seed(1)
    drawn_here = [drawn(seed, sizes) for seed in range(20)]
    text = "".join(format_episode(one) for one in drawn_here)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == DIGESTS[sizes]


def test_inputs_that_grow_for_ever_are_given_up():
    """Seven forms of eight have two x, so most sequences would not end."""
    grammar = parse_grammar(["dax -> RED", *(f"x1 {name} x2 -> [x1] [x2]" for name in INPUT_WORDS[1:8])])
    dice = Dice(np.random.default_rng(0))
    found = [draw_input(dice, ("dax",), input_forms(grammar), 8) for _ in range(500)]
    lengths = [0 if words is None else len(words) for words in found]
    assert {0, 1, 3} <= set(lengths) <= {0, 1, 3, 5, 7} and lengths.count(0) > 300


# What is refused


def test_excluded_grammars_are_not_drawn():
    """An excluded identifier is passed over, as is the grammar in another order of rules."""
    episode = drawn(0, PILOT_SIZES)
    other = drawn(0, PILOT_SIZES, {episode.grammar.identifier})
    assert other.grammar.identifier != episode.grammar.identifier
    assert other == drawn(0, PILOT_SIZES, {episode.grammar.identifier})


def test_mini_scan_is_never_drawn(monkeypatch):
    """It is passed over like an excluded grammar; a hundred times in a row are an error, as there may be no other."""
    real = episode_module.draw_grammar
    for times in (MOST_REJECTED_GRAMMARS - 1, MOST_REJECTED_GRAMMARS):
        first = iter([MINI_SCAN] * times)
        monkeypatch.setattr(episode_module, "draw_grammar", lambda *how, first=first: next(first, None) or real(*how))
        if times < MOST_REJECTED_GRAMMARS:
            assert not is_mini_scan(drawn(0).grammar)
        else:
            with pytest.raises(ValueError, match="100 grammars in a row were excluded; ask for fewer validation"):
                drawn(0)


def test_words_that_no_rule_applies_to_are_refused():
    """Concatenation comes first here and cuts `dax lug` in two, so nothing interprets lug; such inputs are not used."""
    grammar = parse_grammar(["dax -> RED", "wif -> PINK", "u1 x1 -> [u1] [x1]", "u1 lug -> [u1] [u1]"])
    examples = draw_examples(Dice(np.random.default_rng(0)), grammar, 14, 3, 3)
    assert {word for example in examples for word in example.input} == {"dax", "wif"}
    assert len(examples) == 2 + 4 + 8


def test_all_examples_of_a_small_grammar_can_be_had_but_not_one_more():
    """Two words make 2 + 4 inputs of at most two words: the search for a seventh ends, and says how many there were."""
    grammar = parse_grammar(["dax -> RED", "wif -> PINK", "u1 x1 -> [u1] [x1]"])
    assert len(draw_examples(Dice(np.random.default_rng(0)), grammar, 6, 2, 8)) == 6
    with pytest.raises(ValueError, match=r"only 6 of 7 different examples with inputs of at most 2 .* ask for fewer"):
        draw_examples(Dice(np.random.default_rng(0)), grammar, 7, 2, 8)
    long = parse_grammar(["dax -> RED RED", "u1 x1 -> [u1] [x1]"])
    with pytest.raises(ValueError, match=r"only 0 of 1 .* outputs of at most 1"):
        draw_examples(Dice(np.random.default_rng(0)), long, 1, 8, 1)


@pytest.mark.parametrize(
    "sizes",
    [
        *({"primitives": 0}, {"primitives": 7}, {"functions": -1}, {"functions": 6}, {"longest_input": 0}),
        *({"longest_output": 0}, {"num_support": -1}, {"num_query": 0}, {"longest_study": 0}, {"longest_study": 8}),
    ],
)
def test_impossible_sizes_are_refused(sizes):
    """There are nine words and six colours, and at least one query."""
    with pytest.raises(ValueError, match="expected"):
        EpisodeSizes(**sizes)


# Queries that are longer than what was studied


def test_longer_queries_need_a_function():
    """Each has more words than any study example, and an answer that is neither copied nor put together from copies."""
    for seed in range(40):
        episode = drawn(seed, LONGER_QUERIES)
        outputs = {output for _, output in episode.support}
        colours = {rule.left[0]: rule.right for rule in episode.grammar.rules if rule.is_primitive}
        assert max(len(words) for words, _ in episode.support) <= 3
        for words, output in episode.query:
            assert len(words) == 4 and output not in outputs
            assert output != tuple(colour for word in words for colour in colours.get(word, ()))
            assert needs_function(words, output, episode.support, episode.grammar)


def test_grammars_without_a_need_for_functions_are_an_error():
    """Where there is no function every answer is that of the words; or there are too few queries."""
    with pytest.raises(ValueError, match="without functions copying answers every query"):
        EpisodeSizes(2, 0, 3, 6, 2, 1, longest_study=2)
    with pytest.raises(ValueError, match=r"100 grammars in a row .* needs a function; .* or fewer queries"):
        drawn(0, EpisodeSizes(1, 1, 3, 6, 1, 50, longest_study=2))


TAUGHT = parse_grammar(["dax -> RED", "wif -> PINK", "u1 lug -> [u1] [u1]", "u1 x1 -> [u1] [x1]"])
STUDY = [(("dax",), ("RED",)), (("wif", "lug"), ("PINK", "PINK")), (("dax", "wif"), ("RED", "PINK"))]


@pytest.mark.parametrize(
    ("query", "needs", "put_together"),
    [
        ("dax wif", False, True),  # a study example, its parts, its words
        ("wif wif", False, True),  # the answer of another study example
        ("wif dax", False, True),  # the colours of its words
        ("dax wif lug", False, True),  # studied parts
        ("wif dax wif lug", True, True),  # studied parts and words' colours, mixed
        ("dax lug", True, False),
        ("wif dax lug", True, False),
    ],
)
def test_shortcuts_are_told_apart(query, needs, put_together):
    """By hand; a mixture of studied parts and words' colours is counted, but is not what queries must not be."""
    words = tuple(query.split())
    answer = TAUGHT.interpret(words)
    assert needs_function(words, answer, STUDY, TAUGHT) == needs
    colours = [(("dax",), ("RED",)), (("wif",), ("PINK",))]
    assert is_put_together(words, answer, [*STUDY, *colours]) == put_together


def test_the_script_counts_shortcuts_over_episodes(tmp_path):
    """Each episode weighs alike, one without new queries not at all; if no episode has any, that is an error."""
    study = tuple(Example(*pair) for pair in STUDY)

    def asking(*queries):
        asked = (tuple(query.split()) for query in queries)
        return Episode(study, tuple(Example(words, TAUGHT.interpret(words)) for words in asked), TAUGHT)

    (tmp_path / "data_algebraic").mkdir()
    for episodes, said in (
        ([asking("dax wif lug"), asking("dax lug", "wif dax"), asking()], "75.00 % of the new queries of 2 "),
        ([asking()], "shortcuts.py: error: the episodes have no new queries\n"),
    ):
        save_packed(tmp_path / "data_algebraic" / "val.npz", pack(episodes, {}))
        outcome = run_file(biml.shortcuts.__file__, "--data_dir", tmp_path)
        assert said in outcome.out + outcome.err and outcome.code == (2 if "error" in said else 0)
