"""What networks are shown and asked: vocabularies, benchmarks, bent targets, renaming, and every episode type."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from probe_tasks import PROBES, probes

from biml.batch import assemble
from biml.benchmarks import OPEN_ENDED, gold_episode, open_ended_episode
from biml.dice import Dice
from biml.episode import Episode, Example, sample_episode
from biml.episode_files import format_episode
from biml.episode_types import (
    EVALUATED_ONLY,
    FEWER_STUDY,
    FULL,
    HELD_OUT,
    NOMINAL,
    RECIPES,
    TRAINED,
    evaluation_views,
    training_views,
    validation_views,
)
from biml.grammar import INPUT_WORDS, OUTPUT_WORDS, parse_grammar
from biml.packed_episodes import pack, save_packed
from biml.stream import evaluation_batches
from biml.views import (
    AS_STORED,
    HEURISTIC,
    NOISE,
    UNDEFINED,
    Recipe,
    one_to_one,
    random_episode_view,
    rename,
    role_flip,
    view_of,
)
from biml.vocabulary import MAIN, VANILLA


def words_of(text):
    return tuple(text.split())


MAIN_SOURCE = words_of("BLUE GREEN IO PINK PURPLE RED YELLOW blicket dax fep gazzer kiki lug tufa wif zup")
MAIN_TARGET = words_of("RED YELLOW GREEN BLUE PURPLE PINK")
VANILLA_SOURCE = words_of("1 2 3 DAX IO after surround thrice")
VANILLA_TARGET = words_of("1 2 3 DAX")
WORDS = {"main source": MAIN_SOURCE, "main target": MAIN_TARGET}
WORDS |= {"vanilla source": VANILLA_SOURCE, "vanilla target": VANILLA_TARGET}
VOCABULARIES = {"main source": MAIN.source, "main target": MAIN.target}
VOCABULARIES |= {"vanilla source": VANILLA.source, "vanilla target": VANILLA.target}
every_vocabulary = pytest.mark.parametrize("name", WORDS)


def dice(seed=0):
    return Dice(np.random.default_rng(seed))


def example(text):
    words, output = text.split(" : ")
    return Example(tuple(words.split()), tuple(output.split()))


def episode(support, query, grammar=None, allowed=""):
    return Episode(tuple(map(example, support)), tuple(map(example, query)), grammar, tuple(allowed.split()))


def packed_one(*parts):
    """Packed episodes that are just one."""
    return pack([episode(*parts)], {}).renumbered(MAIN)


def in_words(pairs, language=MAIN):
    """The pairs of a view as examples."""
    return [Example(language.source.decode(words), language.target.decode(output)) for words, output in pairs]


def about(probability, n):
    """What a count of n draws divided by n is to be: within four standard errors."""
    return pytest.approx(probability, abs=4 * (probability * (1 - probability) / n) ** 0.5)


# Vocabularies


@every_vocabulary
def test_words_have_their_published_numbers(name):
    """Sorted words, or the colours in their own order, then SOS, EOS and PAD."""
    words, vocabulary = WORDS[name], VOCABULARIES[name]
    assert vocabulary.words == words
    assert {word: vocabulary.encode([word])[0] for word in words} == {word: n for n, word in enumerate(words)}
    assert (vocabulary.sos, vocabulary.eos, vocabulary.pad) == (len(words), len(words) + 1, len(words) + 2)
    assert len(vocabulary) == len(words) + 3


def test_there_are_as_many_symbols_as_published():
    """19 and 9 for random words, 11 and 7 for canonical symbols."""
    assert [len(VOCABULARIES[name]) for name in WORDS] == [19, 9, 11, 7]


@given(st.sampled_from(list(WORDS)), st.data())
def test_decoding_undoes_encoding(name, data):
    """Whatever the words; what is no word has a name of its own."""
    words = data.draw(st.lists(st.sampled_from(WORDS[name]), max_size=12))
    vocabulary = VOCABULARIES[name]
    assert vocabulary.decode(vocabulary.encode(words)) == tuple(words)
    assert vocabulary.decode([vocabulary.pad, vocabulary.sos]) == ("<PAD>", "<SOS>")


@every_vocabulary
def test_an_unknown_word_is_refused(name):
    """The message has the word and those that are known."""
    with pytest.raises(ValueError, match=f"'jump'; known are {' '.join(WORDS[name])}"):
        VOCABULARIES[name].encode(["jump"])


@pytest.mark.parametrize("language", [MAIN, VANILLA], ids=["main", "vanilla"])
def test_outputs_have_their_own_numbers_in_the_source(language):
    """The table turns every output into the same word of the source."""
    words = language.target.words
    translated = language.target.encode(words).translate(language.target_in_source)
    assert language.source.decode(translated) == words


# Benchmarks

GOLD = """
1 : 1, 2 : 2, 3 : 3, DAX : DAX, 2 after 3 : 3 2, 1 after 2 : 2 1, 1 thrice : 1 1 1, 2 thrice : 2 2 2,
2 surround 3 : 2 3 2, 3 surround 1 : 3 1 3, 2 thrice after 3 : 3 2 2 2, 2 after 3 thrice : 3 3 3 2,
3 after 1 surround 2 : 1 2 1 3, 3 surround 1 after 2 : 2 3 1 3,
3 after DAX : DAX 3, DAX after 1 : 1 DAX, DAX thrice : DAX DAX DAX, 1 surround DAX : 1 DAX 1,
DAX surround 2 : DAX 2 DAX, 2 after 3 surround DAX : 3 DAX 3 2, DAX thrice after 2 : 2 DAX DAX DAX,
3 after DAX thrice : DAX DAX DAX 3, DAX surround DAX after DAX thrice : DAX DAX DAX DAX DAX DAX,
DAX surround 3 after 1 thrice : 1 1 1 DAX 3 DAX
"""


def test_the_gold_episode_is_the_published_one():
    """All 24 pairs in their order, 14 of them to be studied."""
    gold = gold_episode()
    assert [*gold.support, *gold.query] == [example(text) for text in " ".join(GOLD.split()).split(", ")]
    assert (len(gold.support), len(gold.query)) == (14, 10)
    assert max(len(one.output) for one in gold.support) == 4


def test_the_open_ended_instructions_are_the_published_ones():
    """Seven over five words, nothing to study, six colours."""
    asked = open_ended_episode()
    assert [" ".join(one.input) for one in asked.query] == [
        *("p1", "p1 p1", "p1 p2", "p3 p1", "p1 p4 p5", "p1 p4 p1", "p5 p4 p1"),
    ]
    assert asked.support == () and len(set(asked.allowed_outputs)) == 6


# Sources and targets


def laid_out(query, support):
    """A source in words, put together item by item."""
    words = [*query, "SOS"]
    for one in support:
        words += [*one.input, "IO", *one.output, "SOS"]
    return [*words, "EOS"]


def padded(rows, names):
    longest = max(map(len, rows))
    return [[names.index(word) for word in [*row, *["PAD"] * (longest - len(row))]] for row in rows]


@pytest.mark.parametrize("n_study", [0, 1, 5, 14])
@pytest.mark.parametrize("language", ["main", "vanilla"])
def test_a_source_is_the_query_then_the_study_examples(language, n_study):
    """`q.. SOS x1.. IO y1.. SOS .. EOS PAD..`, and with nothing to study `q.. SOS EOS`; the targets end with EOS."""
    one, spoken = gold_episode(), VANILLA
    if language == "main":
        one, spoken = rename(one, dice())[0], MAIN
    one = one._replace(support=one.support[:n_study])
    arrays = assemble([view_of(one, spoken)], spoken)
    names = [*WORDS[f"{language} source"], "SOS", "EOS", "PAD"]
    assert arrays.source.tolist() == padded([laid_out(asked.input, one.support) for asked in one.query], names)
    names = [*WORDS[f"{language} target"], "SOS", "EOS", "PAD"]
    assert arrays.target_in.tolist() == padded([["SOS", *asked.output] for asked in one.query], names)
    assert arrays.target_out.tolist() == padded([[*asked.output, "EOS"] for asked in one.query], names)
    assert arrays.source.dtype == np.uint8


def test_a_source_in_numbers():
    """By hand: dax (8) SOS (16), wif (14) IO (2) GREEN (1) SOS, EOS (17); the answer PINK RED is 5 0 EOS (7)."""
    one = episode(["wif : GREEN"], ["dax : PINK RED"])
    arrays = assemble([view_of(one, MAIN)], MAIN)
    assert arrays.source.tolist() == [[8, 16, 14, 2, 1, 16, 17]]
    assert (arrays.target_in.tolist(), arrays.target_out.tolist()) == ([[6, 5, 0]], [[5, 0, 7]])


def test_views_are_put_together_in_their_order():
    """A batch of several views has the rows of each, with further padding, and says which view a row is from."""
    views = [view_of(rename(gold_episode()._replace(support=()), dice(seed))[0], MAIN) for seed in range(2)]
    views.append(view_of(episode(["wif : GREEN"], ["dax : PINK RED"]), MAIN, copies=True))
    together = assemble(views, MAIN)
    assert together.view.tolist() == [0] * 10 + [1] * 10 + [2, 2]
    for number, view in enumerate(views):
        alone = assemble([view], MAIN)
        for part, padding in (("source", 18), ("target_in", 8), ("target_out", 8)):
            rows, expected = getattr(together, part)[together.view == number], getattr(alone, part)
            width = expected.shape[1]
            assert np.array_equal(rows[:, :width], expected)
            assert (rows[:, width:] == padding).all()
    tensors = together.tensors(torch.device("cpu"))
    assert all(np.array_equal(tensor.numpy(), array) for tensor, array in zip(tensors, together[:3], strict=True))


# Random episodes


@pytest.fixture(scope="module")
def random_episodes():
    return [sample_episode(np.random.default_rng(seed)) for seed in range(5)]


def is_studied(view):
    """Which queries are study examples, by their inputs."""
    return [given in [shown for shown, _ in view.support] for given, _ in view.query]


@pytest.fixture(scope="module")
def packed(random_episodes):
    return pack(random_episodes, {}).renumbered(MAIN)


def test_without_dice_a_view_is_the_stored_episode(packed, random_episodes):
    """Study examples in the order of the file, asked first, then the queries with the right answers."""
    for index, stored in enumerate(random_episodes):
        view = random_episode_view(packed, index, AS_STORED, None, MAIN)
        assert in_words(view.support) == list(stored.support)
        assert in_words(view.query) == [*stored.support, *stored.query]
        assert is_studied(view) == [True] * 14 + [False] * 10
        assert (view.renaming, view.allowed_outputs) == (None, b"")


def test_a_file_with_other_words_is_refused(random_episodes):
    """Its numbers would not be those of the vocabularies; the message has the word."""
    other = pack([*random_episodes, episode(["jump : JUMP"], ["run : RUN"])], {})
    with pytest.raises(ValueError, match="unknown word 'jump'"):
        other.renumbered(MAIN)


def test_numbers_of_a_file_are_not_those_of_the_vocabulary():
    """A file numbers words in their own order, the source's vocabulary sorts them; words are what counts."""
    one = episode(
        [f"{word} : {colour}" for word, colour in zip(INPUT_WORDS, OUTPUT_WORDS * 2, strict=False)], ["dax : RED"]
    )
    view = random_episode_view(pack([one], {}).renumbered(MAIN), 0, AS_STORED, None, MAIN)
    assert in_words(view.support) == list(one.support)
    assert [words[0] for words, _ in view.support] == [MAIN_SOURCE.index(word) for word in INPUT_WORDS]


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_view_shuffles_the_study_examples_and_asks_for_them(packed, random_episodes, name):
    """All 14 in a new order each time, copies first with clean targets, then the queries in their own order."""
    orders = set()
    for seed in range(30):
        stored = random_episodes[seed % 5]
        view = random_episode_view(packed, seed % 5, RECIPES[name], dice(seed), MAIN)
        support, query = in_words(view.support), in_words(view.query)
        assert sorted(support) == sorted(stored.support)
        assert query[:14] == support and all(is_studied(view)[:14])
        novel = () if name == "retrieve" else stored.query
        assert [one.input for one in query[14:]] == [one.input for one in novel]
        assert is_studied(view)[14:] == [False] * len(novel)
        if name == "algebraic":
            assert query[14:] == list(stored.query)
        orders.add(tuple(stored.support.index(one) for one in support))
    assert len(orders) == 30


def test_every_study_example_is_first_about_equally_often(packed, random_episodes):
    """1400 views, 14 places."""
    first = Counter(random_episode_view(packed, 0, AS_STORED, dice(seed), MAIN).support[0] for seed in range(1400))
    assert len(first) == 14
    assert all(count / 1400 == about(1 / 14, 1400) for count in first.values())


def test_any_number_of_study_examples_is_kept_equally_often(packed):
    """From none to all 14; the copies are those that are kept, and all ten queries follow."""
    sizes = Counter()
    for seed in range(1500):
        view = random_episode_view(packed, 0, FEWER_STUDY, dice(seed), MAIN)
        sizes[len(view.support)] += 1
        assert view.query[: len(view.support)] == view.support
        assert is_studied(view) == [True] * len(view.support) + [False] * 10
    assert set(sizes) == set(range(15))
    assert all(count / 1500 == about(1 / 15, 1500) for count in sizes.values())


def test_the_fewest_study_examples_are_a_bound(packed):
    """At least 12 of 14: 12, 13 and 14 come up."""
    recipe = Recipe(fewest_study=12)
    assert {len(random_episode_view(packed, 0, recipe, dice(seed), MAIN).support) for seed in range(40)} == {12, 13, 14}


def test_a_view_depends_on_its_dice_alone(packed):
    """The same again from equal dice, another one from others."""
    one, again, other = (random_episode_view(packed, 0, FULL, dice(seed), MAIN) for seed in (1, 1, 2))
    assert one == again
    assert one != other


# Answers as people give them

SWAPPED = parse_grammar(["dax -> RED", "wif -> BLUE", "x1 lug x2 -> [x2] [x2] [x1] [x1]", "u1 x1 -> [u1] [x1]"])
RIGHT, FLIPPED = "BLUE BLUE RED RED", "RED RED BLUE BLUE"
N_QUERIES = 20


def swapped(support=("dax : RED", "wif : BLUE", "dax wif : RED BLUE")):
    """An episode that asks one thing 20 times: the right answer has 4 symbols, one to one there are 3."""
    return packed_one(support, [f"dax lug wif : {RIGHT}"] * N_QUERIES, SWAPPED)


def answers_of(packed, recipe, n_views, index=0):
    """The targets of the novel queries in some views, one list a view."""
    for seed in range(n_views):
        view = random_episode_view(packed, index, recipe, dice(seed), MAIN)
        novel = [one for one, is_copy in zip(view.query, is_studied(view), strict=True) if not is_copy]
        yield view, [one.output for one in in_words(novel)]


def test_a_fifth_of_the_queries_is_answered_by_a_heuristic():
    """Half of them one to one; the other half with confused roles, which is the right answer half of the time."""
    assert (HEURISTIC, FULL.heuristic, FEWER_STUDY.heuristic) == (0.2, 0.2, 0.2)
    n_views = 500
    n = n_views * N_QUERIES
    counts, changed = Counter(), []
    for _, targets in answers_of(swapped(), Recipe(heuristic=HEURISTIC), n_views):
        kinds = [" ".join(target) if len(target) == 4 else "one to one" for target in targets]
        counts.update(kinds)
        changed.append(N_QUERIES - kinds.count(RIGHT))
    assert counts.keys() == {RIGHT, FLIPPED, "one to one"}
    assert counts["one to one"] / n == about(0.1, n)
    assert counts[FLIPPED] / n == about(0.05, n)
    # each query for itself: variance of a binomial
    assert np.var(changed) == pytest.approx(N_QUERIES * 0.15 * 0.85, rel=0.3)


def test_only_recipes_with_heuristics_have_them():
    """Copies and clean algebra answer rightly."""
    for name in ("algebraic", "retrieve"):
        assert {target for _, targets in answers_of(swapped(), RECIPES[name], 50) for target in targets} <= {
            tuple(RIGHT.split())
        }
    assert RECIPES["algebraic_noise"].heuristic == 0


def test_copies_are_never_answered_otherwise(packed):
    """With heuristics and noise everywhere the copies are still the study examples, which are the stored ones."""
    recipe = Recipe(noise=0.9, heuristic=1.0)
    for index in range(5):
        stored = random_episode_view(packed, index, AS_STORED, None, MAIN)
        for seed in range(20):
            view = random_episode_view(packed, index, recipe, dice(seed), MAIN)
            assert sorted(view.support) == sorted(stored.support)
            assert view.query[:14] == view.support
            assert [words for words, _ in view.query[14:]] == [words for words, _ in stored.query[14:]]
            assert all(1 <= len(target) <= 8 and max(target) < 6 for _, target in view.query)


def test_one_to_one_answers_know_the_words_that_stand_alone():
    """A word that is kept as a study example of its own has its colour, function words and others have any."""
    seen = Counter()
    for view, targets in answers_of(swapped(), Recipe(heuristic=1.0, fewest_study=0), 150):
        known = {one.input[0]: one.output[0] for one in in_words(view.support) if len(one.input) == 1}
        for first, middle, last in (target for target in targets if len(target) == 3):
            for word, colour in (("dax", first), ("wif", last)):
                assert colour == known.get(word, colour)
                seen[word in known, colour] += 1
            seen["lug", middle] += 1
    for kind in (False, "lug"):  # any colour, each as often
        counts = [seen[kind, colour] for colour in OUTPUT_WORDS]
        assert all(count / sum(counts) == about(1 / 6, sum(counts)) for count in counts)
    assert {colour for kind, colour in seen if kind is True} == {"RED", "BLUE"}


def test_an_unknown_word_has_a_new_colour_each_time_it_stands_there():
    """Two in a row agree once in six times."""
    thrown = dice()
    pairs = [one_to_one(bytes([7, 7, 9]), {9: 4}, 6, thrown) for _ in range(3000)]
    assert {pair[2] for pair in pairs} == {4}
    assert sum(pair[0] == pair[1] for pair in pairs) / 3000 == about(1 / 6, 3000)


def test_roles_flip_rule_by_rule():
    """Each function of two arguments for itself, with chance 1/2; those of one argument and concatenation never."""
    left, right = ("[x1] [x2] [x1]", "[x2] [x1] [x2]"), ("[u1] [u1] [x1]", "[x1] [x1] [u1]")
    rules = "dax -> RED; wif -> BLUE; fep -> PINK; x1 lug x2 -> {}; u1 kiki x1 -> {}; u1 zup -> [u1] [u1]"
    words = words_of("dax lug wif kiki fep")
    expected = {
        parse_grammar([*rules.format(one, other).split(";"), "u1 x1 -> [u1] [x1]"]).interpret(words)
        for one in left
        for other in right
    }
    assert len(expected) == 4
    grammar = parse_grammar([*rules.format(left[0], right[0]).split(";"), "u1 x1 -> [u1] [x1]"])
    thrown = dice()
    found = Counter(role_flip(words, grammar, thrown) for _ in range(2000))
    # outputs have up to 7 symbols here, so that none is too long
    assert found.keys() == expected
    assert all(count / 2000 == about(1 / 4, 2000) for count in found.values())
    for single in ("dax zup", "dax wif", "dax wif fep zup"):
        words = tuple(single.split())
        assert {role_flip(words, grammar, thrown) for _ in range(20)} == {grammar.interpret(words)}


@pytest.mark.parametrize("left", ["lug u1 x1", "u1 lug x1", "u1 x1 lug"])
def test_a_function_may_stand_anywhere(left):
    """In grammars of one's own the arguments may come after it, or before it; they are confused all the same."""
    grammar = parse_grammar(["dax -> RED", "wif -> BLUE", f"{left} -> [u1] [x1] [x1]", "u1 x1 -> [u1] [x1]"])
    asked = tuple(left.replace("u1", "dax").replace("x1", "wif").split())
    assert {role_flip(asked, grammar, dice(seed)) for seed in range(30)} == {
        ("RED", "BLUE", "BLUE"),
        ("BLUE", "RED", "RED"),
    }


def test_a_flip_that_leaves_a_word_without_a_rule_is_not_given():
    """A function of one's own may drop an argument, its flip then the other one, which may be no command."""
    grammar = parse_grammar(["dax -> RED", "u1 lug x1 -> [u1]", "u1 x1 -> [u1] [x1]"])
    words = words_of("dax lug lug")
    assert grammar.interpret(words) == ("RED",)
    assert {role_flip(words, grammar, dice(seed)) for seed in range(30)} == {("RED",), None}


@pytest.mark.parametrize(("right_side", "flipped"), [("[x1] [x1] [u1] [u1] [u1]", 8), ("[x1] [u1] [u1] [u1] [u1]", 9)])
def test_a_flipped_answer_of_more_than_eight_symbols_is_not_given(right_side, flipped):
    """Then the right one stays; with eight the flipped one stands."""
    grammar = parse_grammar(["dax -> RED", "wif -> BLUE", f"x1 lug u1 -> {right_side}", "u1 x1 -> [u1] [x1]"])
    words = words_of("dax wif lug dax")
    right = grammar.interpret(words)
    thrown = dice()
    lengths = {len(flip) if flip else None for flip in (role_flip(words, grammar, thrown) for _ in range(30))}
    assert lengths == {len(right), flipped if flipped <= 8 else None}
    stored = packed_one(["dax : RED"], [f"dax wif lug dax : {' '.join(right)}"] * 10, grammar)
    given_answers = [target for _, targets in answers_of(stored, Recipe(heuristic=1.0), 20) for target in targets]
    longer = {target for target in given_answers if len(target) > 4}
    assert right in longer
    assert {len(target) for target in longer} == {len(right), *([8] if flipped == 8 else [])}
    assert any(len(target) == 4 for target in given_answers)


def test_flips_of_random_episodes_can_always_be_written(packed):
    """Every flipped answer has one to eight colours."""
    for index in range(5):
        for _, targets in answers_of(packed, Recipe(heuristic=1.0), 40, index):
            assert all(1 <= len(target) <= 8 and set(target) <= set(OUTPUT_WORDS) for target in targets)


def noisy(probability, n_views, n_symbols=4):
    """Targets that were RED as many times as asked, with noise."""
    words = " ".join(["dax"] * n_symbols)
    asked = f"{words} : {words.replace('dax', 'RED')}"
    stored = packed_one(["dax : RED"], [asked] * N_QUERIES, SWAPPED)
    return [target for _, targets in answers_of(stored, Recipe(noise=probability), n_views) for target in targets]


def test_noise_replaces_symbols_by_chance():
    """By any colour, the same too, and, except the first, by the end; each with the same chance."""
    targets = noisy(0.42, 200)
    n = len(targets)
    assert all(targets)  # something is always left
    for colour in OUTPUT_WORDS[1:]:
        assert sum(target[0] == colour for target in targets) / n == about(0.07, n)
    for position in (1, 2, 3):
        reached = [target for target in targets if len(target) >= position]
        ended = sum(len(target) == position for target in reached)
        assert ended / len(reached) == about(0.06, len(reached))
        for colour in OUTPUT_WORDS[1:]:
            n_colour = sum(len(target) > position and target[position] == colour for target in reached)
            assert n_colour / len(reached) == about(0.06, len(reached))


def test_noise_is_a_hundredth():
    """In all recipes that have it."""
    assert [RECIPES[name].noise for name in ("retrieve", "algebraic")] == [0, 0]
    assert {NOISE, RECIPES["algebraic_noise"].noise, FULL.noise, FEWER_STUDY.noise} == {0.01}
    assert RECIPES["algebraic+biases"] == FULL
    targets = noisy(NOISE, 400, n_symbols=8)
    n_changed = sum(target[0] != "RED" for target in targets)
    n_ended = sum(len(target) < 8 for target in targets)
    assert n_changed / len(targets) == about(0.01 * 5 / 6, len(targets))
    assert n_ended / len(targets) == about(1 - (1 - 0.01 / 7) ** 7, len(targets))


def test_noise_comes_after_the_heuristics():
    """An answer one to one can be noisy, too: known words have other colours at times, and answers end early."""
    found = [target for _, ts in answers_of(swapped(), Recipe(heuristic=1.0, noise=0.5), 20) for target in ts]
    assert {len(target) for target in found} == {1, 2, 3, 4}
    clean = [target for _, ts in answers_of(swapped(), Recipe(heuristic=1.0), 20) for target in ts]
    assert {len(target) for target in clean} == {3, 4}


# Renaming


@given(st.integers(0, 2**32))
def test_renaming_can_be_undone(seed):
    """Different symbols become different words and colours, all examples alike; undoing gives the episode back."""
    gold = gold_episode()
    renamed, renaming = rename(gold, dice(seed))
    assert [renaming.undo(one) for one in renamed.support] == list(gold.support)
    assert [renaming.undo(one) for one in renamed.query] == list(gold.query)
    assert len(renaming.inputs) == 7 and len(renaming.outputs) == 4
    assert set(renaming.inputs) <= set(INPUT_WORDS) and set(renaming.outputs) <= set(OUTPUT_WORDS)
    assert set(renaming.inputs.values()) == {"1", "2", "3", "DAX", "after", "surround", "thrice"}
    assert renamed.allowed_outputs == ()


def test_every_word_can_stand_for_every_symbol():
    """Each about equally often."""
    n = 900
    words, colours = Counter(), Counter()
    for seed in range(n):
        renaming = rename(gold_episode(), dice(seed))[1]
        words.update(renaming.inputs.items())
        colours.update(renaming.outputs.items())
    assert len(words) == 9 * 7 and len(colours) == 6 * 4
    assert all(count / n == about(1 / 9, n) for count in words.values())
    assert all(count / n == about(1 / 6, n) for count in colours.values())


def test_a_colour_that_stands_for_nothing_is_undefined():
    """A network may produce one of the two that the gold episode does not use."""
    renamed, renaming = rename(gold_episode(), dice())
    free = (set(OUTPUT_WORDS) - set(renaming.outputs)).pop()
    answer = renamed.query[0]._replace(output=(free, *renamed.query[0].output))
    assert renaming.undo(answer).output == (UNDEFINED, "DAX", "3")


def test_what_may_be_answered_is_renamed_too():
    """All of the pool, whether it is shown or not."""
    for seed in range(20):
        one = episode(["p1 : c1"], ["p2 : c1"], allowed="c1 c2 c3")
        renamed, renaming = rename(one, dice(seed))
        assert [renaming.outputs[colour] for colour in renamed.allowed_outputs] == ["c1", "c2", "c3"]
        assert renamed.support[0].output == renamed.allowed_outputs[:1]


@pytest.mark.parametrize(
    ("support", "found"), [("a b c d e f g h i j : 1", "10 and 1"), ("a : 1 2 3 4 5 6 7", "1 and 7")]
)
def test_too_many_symbols_cannot_be_renamed(support, found):
    """There are nine words and six colours."""
    with pytest.raises(ValueError, match=f"at most 9 input and 6 output symbols in an episode, found {found}"):
        rename(episode([], [support]), dice())


# Episode types, on made-up answers

COLOURS = [f"color:#{code};" for code in ("ff0000", "0000ff", "33cc33", "b7b600", "ce9fcf", "00b0b3")]
N_PARTICIPANTS = 29
N_RANDOM = {"train": 6, "val": 3}


def participant(number):
    """Seven answers; the lengths of the first two tell who gave them."""
    words = dict(zip(("p1", "p2", "p3", "p4", "p5"), INPUT_WORDS[number % 5 :], strict=False))
    lengths = [1 + number // 6, 1 + number % 6, 14, 2, 3, 3, 3]
    query = [
        f"{' '.join(words[word] for word in text.split())} : {' '.join((COLOURS * 3)[number % 6 :][:length])}"
        for text, length in zip(OPEN_ENDED, lengths, strict=True)
    ]
    return episode([], query)


def participant_of(examples):
    """Who has given seven answers, under whatever names."""
    (one,) = (len(one.output) for one in examples if len(one.input) == 1)
    (twice,) = (len(two.output) for two in examples if len(two.input) == 2 and two.input[0] == two.input[1])
    return (one - 1) * 6 + twice - 1


def few_shot_answers(number):
    """What three people answer to a query of the gold episode: right, one symbol too many, something undefined."""
    gold = gold_episode()
    asked, output = gold.query[number]
    answers = [output, (*output, "1"), *[(UNDEFINED, "2")] * (number % 3 == 0)]
    return Episode(gold.support, tuple(Example(asked, answer) for answer in answers), None)


def probe_answers(name):
    support, query, pool = probes()[name]
    return Episode(support, (Example(query, pool[:2]), Example(query, pool[1:2])), None, pool)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with random episodes and made-up answers of people, laid out like the published ones."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in N_RANDOM.items():
        drawn = [sample_episode(np.random.default_rng(100 + seed)) for seed in range(count)]
        (folder / "data_algebraic").mkdir(exist_ok=True)
        save_packed(folder / "data_algebraic" / f"{split}.npz", pack(drawn, {}))
    files = {f"open_ended_all/train/{number:02d}": participant(number) for number in range(N_PARTICIPANTS)}
    files |= {f"few_shot/val_behavior/{number:02d}": few_shot_answers(number) for number in range(10)}
    files |= {f"data_behavior_probes/val/{name}": probe_answers(name) for name in PROBES}
    for name, one in files.items():
        path = folder / "data_human" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_episode(one).rstrip("\n"))
    return folder


OPEN_ENDED_FOLDS = [f"open_end_human_cross{fold}" for fold in HELD_OUT]
JOINT_FOLDS = [f"joint_cross{fold}" for fold in HELD_OUT]
OPEN_ENDED_TYPES = ("open_end_human_all", *OPEN_ENDED_FOLDS)
TRAINING_SIZES = dict.fromkeys(RECIPES, N_RANDOM["train"]) | {"few_shot_vanilla": 200}
TRAINING_SIZES |= dict.fromkeys((*OPEN_ENDED_TYPES, "probe_human_w_pool"), NOMINAL)
TRAINING_SIZES |= dict.fromkeys(JOINT_FOLDS, NOMINAL + 2 * N_RANDOM["train"])
VALIDATION_SIZES = dict.fromkeys(RECIPES, N_RANDOM["val"]) | {"few_shot_vanilla": 1, "open_end_human_all": 29}
VALIDATION_SIZES |= {name: len(HELD_OUT[name[-1]]) for name in (*OPEN_ENDED_FOLDS, *JOINT_FOLDS)}
VALIDATION_SIZES |= {"probe_human_w_pool": 12}
EVALUATION_SIZES = VALIDATION_SIZES | {"few_shot_gold": 100, "few_shot_human": 10, "few_shot_human_mult10": 10}
EVALUATION_SIZES |= {"human_vanilla": 10, "open_end_freeform": 100, "probe_human": 12}


def checked(views):
    """Look at some views of a set: their bytes are words, copies are study examples, and arrays can be made."""
    for index in {0, 1, views.size // 2, views.size - 1} & set(range(views.size)):
        made = views.make(index, dice(index))
        assert made == views.make(index, dice(index))  # nothing but the dice decides
        for view in made:
            assert len(view.query) > 0
            copies = [one for one, is_copy in zip(view.query, is_studied(view), strict=True) if is_copy]
            shown = [one for one in view.support if one[0]]
            assert copies in ([], shown, shown * 10)
            for words, output in view.query:
                assert words and max(words) < views.language.source.sos
                assert output and max(output) < views.language.target.sos
        assert len(assemble(made, views.language).source) == sum(len(view.query) for view in made)


@pytest.mark.parametrize("name", TRAINED)
def test_every_type_can_be_trained_and_validated(data, name):
    """On as many episodes as there should be."""
    training, validation = training_views(name, data), validation_views(name, data)
    assert (training.size, validation.size) == (TRAINING_SIZES[name], VALIDATION_SIZES[name])
    assert training.language == validation.language == (VANILLA if name == "few_shot_vanilla" else MAIN)
    checked(training)
    checked(validation)


@pytest.mark.parametrize("name", [*TRAINED, *EVALUATED_ONLY])
def test_every_type_can_be_evaluated(data, name):
    """On as many episodes as there should be; all of them make batches, the same twice."""
    views = evaluation_views(name, data)
    assert views.size == EVALUATION_SIZES[name]
    checked(views)
    one, again = (list(evaluation_batches(views, 25, 1)) for _ in range(2))
    assert len(one) == -(-views.size // 25)
    for batch, same in zip(one, again, strict=True):
        assert all(np.array_equal(part, same_part) for part, same_part in zip(batch, same, strict=True))


@pytest.mark.parametrize("name", EVALUATED_ONLY)
def test_what_is_for_evaluation_cannot_be_trained(data, name):
    """The message lists what can."""
    with pytest.raises(ValueError, match=f"{name} cannot be trained; choose one of retrieve, algebraic"):
        training_views(name, data)


def test_an_unknown_type_is_refused(data):
    """The message lists all."""
    with pytest.raises(ValueError, match=r"no --episode_type mlc; choose one of retrieve, .*, few_shot_gold"):
        evaluation_views("mlc", data)


def test_random_episodes_are_validated_as_stored(data):
    """Clean, in the order of the file; copies only for the type that learns nothing else."""
    for name in RECIPES:
        view, again = (validation_views(name, data).make(1, dice(seed))[0] for seed in (1, 2))
        assert view == again
        assert is_studied(view) == [True] * 14 + [False] * (0 if name == "retrieve" else 10)


def test_the_vanilla_network_is_trained_on_the_study_examples_as_queries(data):
    """In canonical symbols, with nothing to study; it is asked the gold queries."""
    for views, asked in (
        (training_views("few_shot_vanilla", data), gold_episode().support),
        (validation_views("few_shot_vanilla", data), gold_episode().query),
    ):
        (view,) = views.make(0, dice())
        assert in_words(view.query, VANILLA) == list(asked)
        assert view.support == [] and not any(is_studied(view))


def test_the_gold_episode_is_renamed_each_time(data):
    """Study examples in a new order, asked for too, under new names; undone, the answers are the gold ones."""
    views = evaluation_views("few_shot_gold", data)
    made = [views.make(index, dice(index))[0] for index in range(20)]
    for view in made:
        undone = [view.renaming.undo(one) for one in in_words(view.query)]
        assert sorted(undone[:14]) == sorted(gold_episode().support)
        assert undone[14:] == list(gold_episode().query)
        assert view.query[:14] == view.support
    assert len({tuple(view.support) for view in made}) == 20


@pytest.mark.parametrize(("name", "times"), [("few_shot_human", 1), ("few_shot_human_mult10", 10)])
def test_answers_of_people_to_the_gold_queries(data, name, times):
    """One episode a query, all study examples shuffled and renamed, all answers, no copies."""
    views = evaluation_views(name, data)
    for index in range(10):
        (view,) = views.make(index, dice(index))
        assert [view.renaming.undo(one) for one in in_words(view.query)] == list(few_shot_answers(index).query) * times
        support = [view.renaming.undo(one) for one in in_words(view.support)]
        assert sorted(support) == sorted(gold_episode().support) and support != list(gold_episode().support)
        assert not any(is_studied(view))


def test_undefined_answers_are_left_out_for_the_vanilla_network(data):
    """It has no name for them; the others keep their canonical symbols, and there is nothing to study."""
    views = evaluation_views("human_vanilla", data)
    for index in range(10):
        (view,) = views.make(index, dice(index))
        expected = [one for one in few_shot_answers(index).query if UNDEFINED not in one.output]
        assert in_words(view.query, VANILLA) == expected
        assert len(expected) == 2 and view.support == []


def test_freeform_instructions_are_asked_without_study_in_any_order(data):
    """Any answer is allowed; the seven instructions keep their pattern."""
    views = evaluation_views("open_end_freeform", data)
    first = Counter()
    for index in range(50):
        (view,) = views.make(index, dice(index))
        asked = [" ".join(view.renaming.undo(one).input) for one in in_words(view.query)]
        assert sorted(asked) == sorted(OPEN_ENDED)
        assert (view.support, view.allowed_outputs) == ([], b"")
        first[asked[0]] += 1
    assert set(first) == set(OPEN_ENDED)


@pytest.mark.parametrize("name", OPEN_ENDED_TYPES)
def test_open_ended_answers_are_studied_and_asked(data, name):
    """None to six of the seven are studied, equally often, and asked for first; the others follow."""
    views, n = training_views(name, data), 420
    sizes, orders = Counter(), set()
    for seed in range(n):
        (view,) = views.make(seed, dice(seed))
        n_study = len(view.support)
        assert len(view.query) == 7 and view.query[:n_study] == view.support
        assert is_studied(view) == [True] * n_study + [False] * (7 - n_study)
        assert 0 <= participant_of(in_words(view.query)) < N_PARTICIPANTS
        sizes[n_study] += 1
        orders.add(tuple(len(words) for words, _ in view.query))
    assert set(sizes) == set(range(7))
    assert all(count / n == about(1 / 7, n) for count in sizes.values())
    assert len(orders) > 20


def test_folds_share_no_participant():
    """Each of the 29 is tested once."""
    tested = [number for numbers in HELD_OUT.values() for number in numbers]
    assert sorted(tested) == list(range(N_PARTICIPANTS))
    assert [len(numbers) for numbers in HELD_OUT.values()] == [6, 6, 6, 6, 5]
    assert HELD_OUT["1"] == (2, 8, 13, 14, 15, 22) and HELD_OUT["5"] == (1, 6, 10, 18, 27)


@pytest.mark.parametrize("name", [*OPEN_ENDED_FOLDS, *JOINT_FOLDS])
def test_no_participant_is_trained_and_tested_on(data, name):
    """In a fold the others are trained on, all of them; validation and evaluation have those held out."""
    held_out = set(HELD_OUT[name[-1]])
    training = training_views(name, data)
    people = range(training.size - NOMINAL, training.size - NOMINAL + 400)
    trained = {participant_of(in_words(training.make(index, dice(index))[0].query)) for index in people}
    assert trained == set(range(N_PARTICIPANTS)) - held_out
    validated, evaluated = set(), set()
    for index in range(len(held_out)):
        (view,) = validation_views(name, data).make(index, dice(index))
        assert not any(is_studied(view)) and len(view.support) + len(view.query) == 7
        validated.add(participant_of(in_words([*view.support, *view.query])))
        one_by_one = evaluation_views(name, data).make(index, dice(index))
        evaluated.add(participant_of([in_words(view.query)[0] for view in one_by_one]))
    assert validated == evaluated == held_out


def test_answers_are_asked_one_after_the_other(data):
    """Each in a view of its own, with those before it as study examples, under the same names; any order comes up."""
    views, orders = evaluation_views("open_end_human_all", data), set()
    for index in range(N_PARTICIPANTS):
        made = views.make(index, dice(index))
        assert [len(view.support) for view in made] == list(range(7))
        assert all(len(view.query) == 1 and is_studied(view) == [False] for view in made)
        for view, later in pairwise(made):
            assert later.support == [*view.support, *view.query]
            assert later.renaming == view.renaming
        undone = [view.renaming.undo(in_words(view.query)[0]) for view in made]
        assert sorted(undone) == sorted(participant(index).query)
        orders.add(tuple(participant(index).query.index(one) for one in undone))
    assert len(orders) > 20


def test_joint_training_mixes_three_sets(data):
    """Random episodes with all study examples, the same with fewer, and people's answers, one behind the other."""
    views, n = training_views("joint_cross2", data), N_RANDOM["train"]
    whole = [views.make(index, dice(seed))[0] for index in range(n) for seed in range(10)]
    assert {(len(view.support), len(view.query)) for view in whole} == {(14, 24)}
    fewer = [views.make(index, dice(100 * index + seed))[0] for index in range(n, 2 * n) for seed in range(50)]
    assert {len(view.support) for view in fewer} == set(range(15))
    assert all(len(view.query) == len(view.support) + 10 for view in fewer)
    for index in range(n):  # the same episodes
        one, other = (sorted(words for words, _ in views.make(at, dice())[0].query[-10:]) for at in (index, index + n))
        assert one == other
    for index in (2 * n, views.size - 1):
        assert len(views.make(index, dice())[0].query) == 7
    with pytest.raises(IndexError):
        views.make(views.size, dice())


def test_joint_training_bends_targets(data):
    """Both kinds of random episodes have heuristic answers and noise, as the full type has."""
    joint, full = training_views("joint_cross1", data), training_views("algebraic+biases", data)
    assert [joint.make(1, dice(seed)) for seed in range(9)] == [full.make(1, dice(seed)) for seed in range(9)]
    clean = dict(training_views("algebraic", data).make(1, dice())[0].query[-10:])
    n = N_RANDOM["train"]
    novel = [joint.make(n + 1, dice(seed))[0].query[-10:] for seed in range(60)]
    share = np.mean([clean[words] != target for pairs in novel for words, target in pairs])
    assert 0.08 < share < 0.3


@pytest.mark.parametrize("name", PROBES)
def test_probes_allow_what_the_pool_has(data, name):
    """Study examples and every answer, all ten times, as published; an answer may be made of the pool alone."""
    views = evaluation_views("probe_human", data)
    support, query, pool = probes()[name]
    (view,) = views.make(sorted(PROBES).index(name), dice(3))
    undone = [view.renaming.undo(one) for one in in_words(view.query)]
    once = len(support) + 2
    assert undone == undone[:once] * 10
    assert sorted(undone[: len(support)]) == sorted(support)
    assert undone[len(support) : once] == list(probe_answers(name).query)
    assert is_studied(view) == ([True] * len(support) + [False] * 2) * 10
    assert [view.renaming.outputs[colour] for colour in MAIN.target.decode(view.allowed_outputs)] == list(pool)
    assert undone[-1].input == query


def test_the_pool_can_be_a_first_study_example(data):
    """`q.. SOS IO a b SOS x1..`: nothing, and what an answer may be made of; nobody asks for it.

    Its answers are made of that alone, and in an evaluation everything else is asked for ten times, as published.
    """
    training, evaluation = (find("probe_human_w_pool", data) for find in (training_views, evaluation_views))
    made = [(evaluation.make(index, dice(index))[0], 10) for index in range(12)]
    made += [(training.make(index, dice(index))[0], 1) for index in range(60)]
    pools = {tuple(probe.allowed_outputs) for probe in probes().values()}
    for view, times in made:
        (nothing, pool), *shown = view.support
        assert nothing == b""
        undone = tuple(view.renaming.outputs[colour] for colour in MAIN.target.decode(pool))
        assert undone in pools
        assert view.allowed_outputs == pool
        assert view.query == view.query[: len(shown) + 2] * times
        assert view.query[: len(shown)] == shown
        assert is_studied(view) == ([True] * len(shown) + [False] * 2) * times
        words = [*in_words(view.query)[0].input, "SOS", "IO", *MAIN.target.decode(pool), "SOS"]
        numbers = [[*MAIN_SOURCE, "SOS"].index(word) for word in words]
        assert assemble([view], MAIN).source[0, : len(numbers)].tolist() == numbers
    assert len({tuple(view.renaming.inputs.values()) for view, _ in made[12:]}) == 3  # probes with 2, 3 and 4 words


# Missing data

NEEDS_PEOPLE = [*OPEN_ENDED_TYPES, *JOINT_FOLDS, "probe_human_w_pool", "few_shot_human", "few_shot_human_mult10"]
NEEDS_PEOPLE += ["human_vanilla", "probe_human"]


@pytest.mark.parametrize("name", NEEDS_PEOPLE)
def test_missing_answers_of_people_are_one_clear_error(data, tmp_path, name):
    """It names the folder, and says that the user has to bring it."""
    (tmp_path / "data_algebraic").symlink_to(data / "data_algebraic")
    finders = [evaluation_views, *([training_views, validation_views] if name in TRAINED else [])]
    for find in finders:
        with pytest.raises(ValueError, match="no people's answers in") as error:
            find(name, tmp_path)
        assert str(tmp_path / "data_human") in str(error.value) and "--data_dir" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*RECIPES, *JOINT_FOLDS])
def test_missing_random_episodes_are_one_clear_error(tmp_path, name):
    """It names the file and the command that makes it."""
    with pytest.raises(ValueError, match=r"data_algebraic/train.npz; make them with `python -m biml.generate`"):
        training_views(name, tmp_path)


@pytest.mark.parametrize("name", ["few_shot_gold", "few_shot_vanilla", "open_end_freeform"])
def test_some_types_need_no_data_at_all(tmp_path, name):
    """Gold and open-ended instructions are part of the code."""
    checked(evaluation_views(name, tmp_path))


@pytest.mark.parametrize("name", ["few_shot_human", "open_end_human_all", "probe_human"])
def test_damaged_answers_name_their_file(tmp_path, name):
    """And the line."""
    folder = {"few_shot_human": "few_shot/val_behavior", "open_end_human_all": "open_ended_all/train"}
    path = tmp_path / "data_human" / folder.get(name, "data_behavior_probes/val") / "00.txt"
    path.parent.mkdir(parents=True)
    path.write_text("*SUPPORT*\n\n*QUERY*\nIN dax OUT: RED\n\n*GRAMMAR*\n")
    with pytest.raises(ValueError, match=r"00.txt:4: expected 'IN: "):
        evaluation_views(name, tmp_path)


def test_an_answer_outside_the_pool_is_one_clear_error(tmp_path):
    """A damaged probe file, like any other, is a ValueError."""
    path = tmp_path / "data_human" / "data_behavior_probes" / "val" / "one.txt"
    path.parent.mkdir(parents=True)
    path.write_text(format_episode(episode(["p1 : c1"], ["p2 : c3"], allowed="c1 c2")))
    with pytest.raises(ValueError, match="c3"):
        evaluation_views("probe_human", tmp_path).make(0, dice())


@pytest.mark.parametrize("present", [range(2), [number for number in range(N_PARTICIPANTS) if number != 1]])
def test_a_fold_does_not_shift_when_a_participant_is_missing(data, tmp_path, present):
    """Other people than those of the published folds would be held out, or nobody: that is an error."""
    folder = tmp_path / "data_human" / "open_ended_all" / "train"
    folder.mkdir(parents=True)
    for number in present:
        (folder / f"{number:02d}.txt").write_text(format_episode(participant(number)))
    for find in (training_views, validation_views, evaluation_views):
        with pytest.raises(ValueError, match="open_ended_all"):
            find("open_end_human_cross2", tmp_path)
