"""What networks are shown and asked: vocabularies, benchmarks, bent targets, renaming, and every episode type."""

from itertools import pairwise

import numpy as np
import pytest
from probe_tasks import PROBES, probes

from biml.batch import assemble
from biml.benchmarks import OPEN_ENDED, gold_episode, open_ended_episode
from biml.dice import Dice
from biml.episode import Episode, Example, sample_episode
from biml.episode_files import format_episode
from biml.episode_types import (
    EVALUATED_ONLY,
    FEWER_STUDY,
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
from biml.stream import evaluation_batches, fingerprint_of_views
from biml.views import HEURISTIC, NOISE, UNDEFINED, Recipe, one_to_one, random_episode_view, rename, role_flip, view_of
from biml.vocabulary import MAIN, VANILLA


def words_of(text):
    return tuple(text.split())


MAIN_SOURCE = words_of("BLUE GREEN IO PINK PURPLE RED YELLOW blicket dax fep gazzer kiki lug tufa wif zup")


def dice(seed=0):
    return Dice(np.random.default_rng(seed))


def example(text):
    words, output = text.split(" : ")
    return Example(words_of(words), words_of(output))


def episode(support, query, grammar=None, allowed=""):
    return Episode(tuple(map(example, support)), tuple(map(example, query)), grammar, words_of(allowed))


def in_words(pairs, language=MAIN):
    """The pairs of a view as examples."""
    return [Example(language.source.decode(words), language.target.decode(output)) for words, output in pairs]


def undone(view, pairs):
    """Pairs of a view in canonical symbols."""
    return [view.renaming.undo(one) for one in in_words(pairs)]


def is_studied(view):
    """Which queries are study examples, by their inputs."""
    return [given in [shown for shown, _ in view.support] for given, _ in view.query]


def about(probability, n):
    """What a count of n draws divided by n is to be: within four standard errors."""
    return pytest.approx(probability, abs=4 * (probability * (1 - probability) / n) ** 0.5)


# Vocabularies and benchmarks


@pytest.mark.parametrize(
    ("vocabulary", "words"),
    [
        (MAIN.source, MAIN_SOURCE),
        (MAIN.target, words_of("RED YELLOW GREEN BLUE PURPLE PINK")),
        (VANILLA.source, words_of("1 2 3 DAX IO after surround thrice")),
        (VANILLA.target, words_of("1 2 3 DAX")),
    ],
)
def test_words_have_their_published_numbers(vocabulary, words):
    """Sorted words, or the colours in their own order, then SOS, EOS and PAD; decoding undoes encoding."""
    n = len(words)
    assert (vocabulary.encode(words), vocabulary.decode(range(n))) == (bytes(range(n)), words)
    assert (vocabulary.sos, vocabulary.eos, vocabulary.pad, len(vocabulary)) == (n, n + 1, n + 2, n + 3)
    assert vocabulary.decode([vocabulary.pad, vocabulary.sos]) == ("<PAD>", "<SOS>")
    with pytest.raises(ValueError, match=f"'jump'; known are {' '.join(words)}"):
        vocabulary.encode(["jump"])


GOLD = """
1 : 1, 2 : 2, 3 : 3, DAX : DAX, 2 after 3 : 3 2, 1 after 2 : 2 1, 1 thrice : 1 1 1, 2 thrice : 2 2 2,
2 surround 3 : 2 3 2, 3 surround 1 : 3 1 3, 2 thrice after 3 : 3 2 2 2, 2 after 3 thrice : 3 3 3 2,
3 after 1 surround 2 : 1 2 1 3, 3 surround 1 after 2 : 2 3 1 3,
3 after DAX : DAX 3, DAX after 1 : 1 DAX, DAX thrice : DAX DAX DAX, 1 surround DAX : 1 DAX 1,
DAX surround 2 : DAX 2 DAX, 2 after 3 surround DAX : 3 DAX 3 2, DAX thrice after 2 : 2 DAX DAX DAX,
3 after DAX thrice : DAX DAX DAX 3, DAX surround DAX after DAX thrice : DAX DAX DAX DAX DAX DAX,
DAX surround 3 after 1 thrice : 1 1 1 DAX 3 DAX
"""


def test_the_tasks_are_the_published_ones():
    """All 24 gold pairs in their order, 14 of them to be studied; seven instructions over five words, six colours."""
    gold = gold_episode()
    assert [*gold.support, *gold.query] == [example(text) for text in " ".join(GOLD.split()).split(", ")]
    assert (len(gold.support), len(gold.query)) == (14, 10)
    asked = open_ended_episode()
    said = [" ".join(one.input) for one in asked.query]
    assert said == ["p1", "p1 p1", "p1 p2", "p3 p1", "p1 p4 p5", "p1 p4 p1", "p5 p4 p1"]
    assert asked.support == () and len(set(asked.allowed_outputs)) == 6


# Sources and targets


def test_views_are_put_together_in_their_order():
    """A batch of several views has the rows of each, with further padding, and says which view a row is from.

    By hand: dax (8) SOS (16), wif (14) IO (2) GREEN (1) SOS, EOS (17), PAD (18); answers: PINK 5, RED 0, GREEN 2.
    """
    short, longer = (episode(study, ["dax : PINK RED"]) for study in ([], ["wif : GREEN"]))
    arrays = assemble([view_of(short, MAIN), view_of(longer, MAIN, copies=True)], MAIN)
    assert arrays.view.tolist() == [0, 1, 1]
    assert arrays.source.tolist() == [
        [8, 16, 17, 18, 18, 18, 18],
        [14, 16, 14, 2, 1, 16, 17],
        [8, 16, 14, 2, 1, 16, 17],
    ]
    assert arrays.target_in.tolist() == [[6, 5, 0], [6, 2, 8], [6, 5, 0]]
    assert arrays.target_out.tolist() == [[5, 0, 7], [2, 7, 8], [5, 0, 7]]


# Random episodes


@pytest.fixture(scope="module")
def random_episodes():
    return [sample_episode(np.random.default_rng(seed)) for seed in range(5)]


@pytest.fixture(scope="module")
def packed(random_episodes):
    return pack(random_episodes, {}).renumbered(MAIN)


def test_without_dice_a_view_is_the_stored_episode(packed, random_episodes):
    """Study examples in the order of the file, asked first, then the queries with the right answers.

    A file numbers words in their own order, the source's vocabulary sorts them; other words are refused.
    """
    for index, stored in enumerate(random_episodes):
        view = random_episode_view(packed, index, Recipe(), None)
        assert in_words(view.support) == list(stored.support)
        assert in_words(view.query) == [*stored.support, *stored.query]
        assert (view.renaming, view.allowed_outputs) == (None, b"")
    with pytest.raises(ValueError, match="unknown word 'jump'"):
        pack([*random_episodes, episode(["jump : JUMP"], ["run : RUN"])], {}).renumbered(MAIN)


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_view_shuffles_the_study_examples_and_asks_for_them(packed, random_episodes, name):
    """All 14 in a new order each time, copies first with clean targets, then the queries in their own order."""
    orders = set()
    for seed in range(30):
        stored = random_episodes[seed % 5]
        view, again = (random_episode_view(packed, seed % 5, RECIPES[name], dice(seed)) for _ in range(2))
        assert view == again
        support, query = in_words(view.support), in_words(view.query)
        assert sorted(support) == sorted(stored.support)
        assert query[:14] == support
        novel = () if name == "retrieve" else stored.query
        assert [one.input for one in query[14:]] == [one.input for one in novel]
        if name == "algebraic":
            assert query[14:] == list(stored.query)
        orders.add(tuple(stored.support.index(one) for one in support))
    assert len(orders) == 30


# Answers as people give them

SWAPPED = parse_grammar(["dax -> RED", "wif -> BLUE", "x1 lug x2 -> [x2] [x2] [x1] [x1]", "u1 x1 -> [u1] [x1]"])
RIGHT, FLIPPED = "BLUE BLUE RED RED", "RED RED BLUE BLUE"
N_QUERIES = 20


def asking(asked, grammar=SWAPPED, support=("dax : RED", "wif : BLUE", "dax wif : RED BLUE")):
    """One packed episode that asks one thing 20 times."""
    return pack([episode(support, [asked] * N_QUERIES, grammar)], {}).renumbered(MAIN)


SWAPPING = f"dax lug wif : {RIGHT}"  # the right answer has 4 symbols, one to one there are 3


def answers_of(packed, recipe, n_views, index=0):
    """The targets of the novel queries in some views, one list a view."""
    for seed in range(n_views):
        view = random_episode_view(packed, index, recipe, dice(seed))
        novel = [one for one, is_copy in zip(view.query, is_studied(view), strict=True) if not is_copy]
        yield view, [one.output for one in in_words(novel)]


def targets_of(*about):
    return [target for _, targets in answers_of(*about) for target in targets]


def test_copies_are_never_answered_otherwise(packed):
    """With heuristics and noise everywhere the copies are still the stored study examples; all can be written."""
    for index in range(5):
        stored = random_episode_view(packed, index, Recipe(), None)
        for seed in range(20):
            view = random_episode_view(packed, index, Recipe(noise=0.9, heuristic=1.0), dice(seed))
            assert sorted(view.support) == sorted(stored.support)
            assert view.query[:14] == view.support
            assert [words for words, _ in view.query[14:]] == [words for words, _ in stored.query[14:]]
            assert all(1 <= len(target) <= 8 and max(target) < 6 for _, target in view.query)


def test_one_to_one_answers_know_the_words_that_stand_alone():
    """A word that is kept as a study example of its own has its colour, function words and others have any."""
    seen = set()
    for view, targets in answers_of(asking(SWAPPING), Recipe(heuristic=1.0, fewest_study=0), 150):
        known = {one.input[0]: one.output[0] for one in in_words(view.support) if len(one.input) == 1}
        for target in (target for target in targets if len(target) == 3):
            pairs = list(zip(("dax", "lug", "wif"), target, strict=True))
            assert all(colour == known.get(word, colour) for word, colour in pairs)
            seen |= {(word in known, word, colour) for word, colour in pairs}
    assert seen == {(True, "dax", "RED"), (True, "wif", "BLUE")} | {
        (False, word, colour) for word in ("dax", "lug", "wif") for colour in OUTPUT_WORDS
    }
    thrown = dice()  # an unknown word has a new colour each time it stands there
    pairs = {tuple(one_to_one(bytes([7, 7, 9]), {9: 4}, 6, thrown)) for _ in range(300)}
    assert pairs == {(one, other, 4) for one in range(6) for other in range(6)}


ANY_PLACE = [
    (f"{left} -> [u1] [x1] [x1]", left, {"RED BLUE BLUE", "BLUE RED RED"}) for left in ("lug u1 x1", "u1 x1 lug")
]
BOTH = {"RED BLUE BLUE RED", "RED RED RED BLUE", "BLUE BLUE RED RED", "RED RED BLUE RED"}
EIGHT = {"RED BLUE RED BLUE RED RED RED", "RED RED RED BLUE RED BLUE RED BLUE"}


@pytest.mark.parametrize(
    ("rules", "asked", "flips"),
    [
        *ANY_PLACE,
        ("u1 lug x1 -> [u1]", "u1 lug lug", {"RED", None}),
        ("x1 lug u1 -> [x1] [x1] [u1] [u1] [u1]", "u1 x1 lug u1", EIGHT),
        ("x1 lug u1 -> [x1] [u1] [u1] [u1] [u1]", "u1 x1 lug u1", {"RED BLUE RED RED RED RED", None}),
        ("x1 lug x2 -> [x1] [x2]; u1 kiki x1 -> [u1] [u1] [x1]", "u1 lug x1 kiki u1", BOTH),
        ("u1 lug -> [u1] [u1]", "u1 lug", {"RED RED"}),
        ("u1 lug -> [u1] [u1]", "u1 x1", {"RED BLUE"}),
    ],
)
def test_roles_flip_where_they_can(rules, asked, flips):
    """Each function of two arguments for itself, wherever it stands; those of one, and concatenation, never.

    No flip leaves a word without a rule, or has more than eight symbols.
    """
    grammar = parse_grammar(["dax -> RED", "wif -> BLUE", *rules.split("; "), "u1 x1 -> [u1] [x1]"])
    words = words_of(asked.replace("u1", "dax").replace("x1", "wif"))
    found = {role_flip(words, grammar, dice(seed)) for seed in range(40)}
    assert found == {flip and words_of(flip) for flip in flips}
    if len(words) == 4:  # then the right answer stays where a flip cannot be
        right = grammar.interpret(words)
        targets = targets_of(asking(f"{' '.join(words)} : {' '.join(right)}", grammar), Recipe(heuristic=1.0), 20)
        assert {target for target in targets if len(target) > 4} == {*found, right} - {None}
        assert any(len(target) == 4 for target in targets)


def test_noise_comes_after_the_heuristics():
    """It may shorten an answer, but leaves something; a fifth of the answers is a heuristic's, a hundredth noise."""
    assert (NOISE, HEURISTIC) == (0.01, 0.2)
    noise_and_heuristic = {name: recipe[1:3] for name, recipe in RECIPES.items()}
    assert noise_and_heuristic == {
        **{"retrieve": (0, 0), "algebraic": (0, 0)},
        **{"algebraic_noise": (NOISE, 0), "algebraic+biases": (NOISE, HEURISTIC)},
    }
    assert Recipe(noise=NOISE, heuristic=HEURISTIC, fewest_study=0) == FEWER_STUDY
    for recipe, lengths in ((Recipe(noise=0.5, heuristic=1.0), {1, 2, 3, 4}), (Recipe(heuristic=1.0), {3, 4})):
        assert {len(target) for target in targets_of(asking(SWAPPING), recipe, 20)} == lengths


# Renaming


def test_every_word_can_stand_for_every_symbol():
    """Different symbols become different words and colours; undoing gives the episode back."""
    gold, names = gold_episode(), set()
    for seed in range(200):
        renamed, renaming = rename(gold, dice(seed))
        assert [*map(renaming.undo, (*renamed.support, *renamed.query))] == [*gold.support, *gold.query]
        names |= {*renaming.inputs.items(), *renaming.outputs.items()}
    assert len(names) == 9 * 7 + 6 * 4
    free = (set(OUTPUT_WORDS) - set(renaming.outputs)).pop()  # a network may answer with it
    assert renaming.undo(renamed.query[0]._replace(output=(free,))).output == (UNDEFINED,)


@pytest.mark.parametrize(
    ("query", "allowed", "said"),
    [
        ("a b c d e f g h i j : 1", "", "at most 9 input and 6 output symbols in an episode, found 10 and 1"),
        ("a : 1 2 3 4 5 6 7", "", "at most 9 input and 6 output symbols in an episode, found 1 and 7"),
        ("a : c3", "c1 c2", "expected answers made of c1 c2, found c3"),
    ],
)
def test_what_cannot_be_renamed_is_refused(query, allowed, said):
    """There are nine words and six colours; answers are made of what is allowed."""
    with pytest.raises(ValueError, match=said):
        rename(episode([], [query], allowed=allowed), dice())


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


def write_people(folder, files):
    for name, one in files.items():
        path = folder / "data_human" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one if isinstance(one, str) else format_episode(one).rstrip("\n"))


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
    write_people(folder, files)
    return folder


OPEN_ENDED_FOLDS = [f"open_end_human_cross{fold}" for fold in HELD_OUT]
JOINT_FOLDS = [f"joint_cross{fold}" for fold in HELD_OUT]
OPEN_ENDED_TYPES = ("open_end_human_all", *OPEN_ENDED_FOLDS)
TRAINING_SIZES = dict.fromkeys(RECIPES, N_RANDOM["train"]) | {"few_shot_vanilla": 200}
TRAINING_SIZES |= dict.fromkeys((*OPEN_ENDED_TYPES, "probe_human_w_pool"), NOMINAL)
TRAINING_SIZES |= dict.fromkeys(JOINT_FOLDS, NOMINAL + 2 * N_RANDOM["train"])
EVALUATION_SIZES = dict.fromkeys(RECIPES, N_RANDOM["val"]) | {"few_shot_vanilla": 1, "open_end_human_all": 29}
EVALUATION_SIZES |= {name: len(HELD_OUT[name[-1]]) for name in (*OPEN_ENDED_FOLDS, *JOINT_FOLDS)}
EVALUATION_SIZES |= {"probe_human_w_pool": 12, "few_shot_gold": 100, "few_shot_human": 10, "few_shot_human_mult10": 10}
EVALUATION_SIZES |= {"human_vanilla": 10, "open_end_freeform": 100, "probe_human": 12}


SEEN = words_of(
    "2532b3c22 19ac52ed8 c9ffe36f 18ef95065 16fc1e765 1e28d473a 15383c7fa 25ad091ad 1759159bc 1e933a82f 1e86d1747 "
    "110d74d6a 1b9c7d695 14a2f3f04 2ac1278de 1dc6ccdab 1448948a3 98dff096 26c1c75d b01427a0 3c2b2db4 493566d0 e5bb8432"
)
FINGERPRINTS = dict(zip((*TRAINED, *EVALUATED_ONLY), SEEN, strict=True))


def checked(views):
    """Some views of a set: their bytes are words, copies are study examples, and arrays can be made; a fingerprint."""
    every = []
    for index in sorted({*range(9), views.size // 2, views.size - 1} & {*range(views.size)}):
        made = views.make(index, dice(index))
        for view in made:
            copies = [one for one, is_copy in zip(view.query, is_studied(view), strict=True) if is_copy]
            shown = [one for one in view.support if one[0]]
            assert view.query and copies in ([], shown, shown * 10)
            for words, output in view.query:
                assert words and max(words) < views.language.source.sos
                assert output and max(output) < views.language.target.sos
        assert len(assemble(made, views.language).source) == sum(len(view.query) for view in made)
        every += made
    return fingerprint_of_views(every)


@pytest.mark.parametrize("name", [*TRAINED, *EVALUATED_ONLY])
def test_every_type_has_its_views(data, name):
    """On as many episodes as there should be; the same dice make what they made when their chances were measured."""
    evaluation = evaluation_views(name, data)
    assert evaluation.size == EVALUATION_SIZES[name]
    fingerprints = [checked(evaluation)]
    if name in RECIPES:  # as they are stored; copies only for the type that learns nothing else
        ((view,), again) = (evaluation.make(1, dice(seed)) for seed in (1, 2))
        assert again == [view]
        assert is_studied(view) == [True] * 14 + [False] * (0 if name == "retrieve" else 10)
    assert len(list(evaluation_batches(evaluation, 25, 1))) == -(-evaluation.size // 25)
    if name in EVALUATED_ONLY:
        assert f"{fingerprints[0]:x}" == FINGERPRINTS[name]
        return
    training, validation = training_views(name, data), validation_views(name, data)
    assert (training.size, validation.size) == (TRAINING_SIZES[name], EVALUATION_SIZES[name])
    assert training.language == validation.language == (VANILLA if name == "few_shot_vanilla" else MAIN)
    fingerprints += [checked(training), checked(validation)]
    assert f"{sum(fingerprints):x}" == FINGERPRINTS[name]


def test_the_vanilla_network_has_nothing_to_study(data):
    """Trained on the study examples as queries, it is asked the gold ones; of people's answers those with a name."""
    asked = [(training_views("few_shot_vanilla", data), 0, gold_episode().support)]
    asked.append((validation_views("few_shot_vanilla", data), 0, gold_episode().query))
    human = evaluation_views("human_vanilla", data)
    asked += [(human, index, few_shot_answers(index).query[:2]) for index in range(10)]  # a third one is undefined
    for views, index, expected in asked:
        (view,) = views.make(index, dice(index))
        assert (in_words(view.query, VANILLA), view.support) == (list(expected), [])


def test_the_gold_episode_is_renamed_each_time(data):
    """Study examples in a new order, asked for too, under new names; undone, the answers are the gold ones."""
    gold, views = gold_episode(), evaluation_views("few_shot_gold", data)
    made = [views.make(index, dice(index))[0] for index in range(20)]
    for view in made:
        studied, asked = undone(view, view.support), undone(view, view.query)
        assert sorted(studied) == sorted(gold.support) and asked == [*studied, *gold.query]
    assert len({tuple(view.support) for view in made}) == 20


@pytest.mark.parametrize(("name", "times"), [("few_shot_human", 1), ("few_shot_human_mult10", 10)])
def test_answers_of_people_to_the_gold_queries(data, name, times):
    """One episode a query, all study examples shuffled and renamed, all answers, no copies."""
    views = evaluation_views(name, data)
    for index in range(10):
        (view,) = views.make(index, dice(index))
        assert undone(view, view.query) == list(few_shot_answers(index).query) * times
        support = undone(view, view.support)
        assert sorted(support) == sorted(gold_episode().support) and support != list(gold_episode().support)
        assert not any(is_studied(view))


@pytest.mark.parametrize("name", ["open_end_human_all", "open_end_human_cross2"])
def test_open_ended_answers_are_studied_and_asked(data, name):
    """None to six of the seven are studied, and asked for first; the others follow, in any order."""
    views = training_views(name, data)
    made = [views.make(seed, dice(seed))[0] for seed in range(200)]
    for view in made:
        n_study = len(view.support)
        assert len(view.query) == 7 and view.query[:n_study] == view.support
        assert is_studied(view) == [True] * n_study + [False] * (7 - n_study)
        assert 0 <= participant_of(in_words(view.query)) < N_PARTICIPANTS
    assert {len(view.support) for view in made} == {*range(7)}
    assert len({tuple(len(words) for words, _ in view.query) for view in made}) > 20


@pytest.mark.parametrize("name", [*OPEN_ENDED_FOLDS, *JOINT_FOLDS])
def test_no_participant_is_trained_and_tested_on(data, name):
    """In a fold the others are trained on, all of them; validation and evaluation have those held out."""
    held_out = set(HELD_OUT[name[-1]])
    training, *tested = (find(name, data) for find in (training_views, validation_views, evaluation_views))
    people = range(training.size - NOMINAL, training.size - NOMINAL + 250)
    trained = {participant_of(in_words(training.make(index, dice(index))[0].query)) for index in people}
    assert trained == set(range(N_PARTICIPANTS)) - held_out
    for views in tested:
        found = set()
        for index in range(len(held_out)):
            last = views.make(index, dice(index))[-1]  # one by one, the last has studied all others
            assert not any(is_studied(last)) and len(last.support) + len(last.query) == 7
            found.add(participant_of(in_words([*last.support, *last.query])))
        assert found == held_out
    assert sorted(number for numbers in HELD_OUT.values() for number in numbers) == list(range(N_PARTICIPANTS))
    assert HELD_OUT["1"] == (2, 8, 13, 14, 15, 22) and HELD_OUT["5"] == (1, 6, 10, 18, 27)


@pytest.mark.parametrize("name", ["open_end_human_all", "open_end_freeform"])
def test_open_ended_instructions_come_in_any_order(data, name):
    """One after the other, each with the answers before it as study examples, under the same names; freeform, at once.

    There any answer is allowed, and nothing is studied.
    """
    views, orders = evaluation_views(name, data), set()
    for index in range(N_PARTICIPANTS):
        made = views.make(index, dice(index))
        asked = [one for view in made for one in undone(view, view.query)]
        expected = (open_ended_episode() if name == "open_end_freeform" else participant(index)).query
        assert sorted(one.input for one in asked) == sorted(one.input for one in expected)
        assert made[0].support == [] and not any(view.allowed_outputs for view in made)
        if name == "open_end_human_all":
            assert sorted(asked) == sorted(expected) and [len(view.query) for view in made] == [1] * 7
        for view, later in pairwise(made):
            assert later.support == [*view.support, *view.query] and later.renaming == view.renaming
        orders.add(tuple([one.input for one in expected].index(one.input) for one in asked))
    assert len(orders) > 20


def test_joint_training_mixes_three_sets(data):
    """Random episodes bent as for the full type, the same with fewer study examples, and people's answers."""
    views, n = training_views("joint_cross2", data), N_RANDOM["train"]
    full, people = (training_views(name, data) for name in ("algebraic+biases", "open_end_human_cross2"))
    for index in range(n):
        assert all(views.make(index, dice(seed)) == full.make(index, dice(seed)) for seed in range(9))
        assert all(views.make(2 * n + seed, dice(seed)) == people.make(seed, dice(seed)) for seed in range(9))
    fewer = [views.make(n + seed % n, dice(seed))[0] for seed in range(300)]
    assert {len(view.support) for view in fewer} == set(range(15))
    for seed, view in enumerate(fewer):
        assert view.query[: len(view.support)] == view.support
        asked = [words for words, _ in full.make(seed % n, dice())[0].query[14:]]
        assert [words for words, _ in view.query[len(view.support) :]] == asked  # of the same episodes
    with pytest.raises(IndexError):
        views.make(views.size, dice())


@pytest.mark.parametrize("name", PROBES)
def test_probes_allow_what_the_pool_has(data, name):
    """Study examples and every answer, all ten times, as published; an answer may be made of the pool alone."""
    views = evaluation_views("probe_human", data)
    support, query, pool = probes()[name]
    (view,) = views.make(sorted(PROBES).index(name), dice(3))
    found = undone(view, view.query)
    once = len(support) + 2
    assert found == found[:once] * 10
    assert sorted(found[: len(support)]) == sorted(support)
    assert found[len(support) : once] == list(probe_answers(name).query)
    assert is_studied(view) == ([True] * len(support) + [False] * 2) * 10
    assert [view.renaming.outputs[colour] for colour in MAIN.target.decode(view.allowed_outputs)] == list(pool)
    assert found[-1].input == query


def test_the_pool_can_be_a_first_study_example(data):
    """`q.. SOS IO a b SOS x1..`: nothing, and what an answer may be made of, for which nobody asks; else as without."""
    plain, shown = (evaluation_views(name, data) for name in ("probe_human", "probe_human_w_pool"))
    for index in range(12):
        (view,), (without,) = (views.make(index, dice(index)) for views in (shown, plain))
        pool = without.allowed_outputs
        assert view == without._replace(support=[(b"", pool), *without.support])
        words = [*in_words(view.query)[0].input, "SOS", "IO", *MAIN.target.decode(pool), "SOS"]
        numbers = [[*MAIN_SOURCE, "SOS"].index(word) for word in words]
        assert assemble([view], MAIN).source[0, : len(numbers)].tolist() == numbers
    training = training_views("probe_human_w_pool", data)
    made = [training.make(index, dice(index))[0] for index in range(60)]
    for view in made:
        assert view.support[0] == (b"", view.allowed_outputs)
        assert view.query[: len(view.support) - 1] == view.support[1:] and len(view.query) == len(view.support) + 1
    assert len({tuple(view.renaming.inputs.values()) for view in made}) == 3  # probes with 2, 3 and 4 words


# Missing and damaged data

NEEDS_PEOPLE = [*OPEN_ENDED_TYPES, *JOINT_FOLDS, "probe_human_w_pool", "few_shot_human", "few_shot_human_mult10"]
NEEDS_PEOPLE += ["human_vanilla", "probe_human"]


def finders(name):
    return (evaluation_views, *((training_views, validation_views) if name in TRAINED else ()))


@pytest.mark.parametrize("name", [*TRAINED, *EVALUATED_ONLY])
def test_missing_data_are_one_clear_error(data, tmp_path, name):
    """It says what to bring, or which command makes it; some types need nothing."""
    if name in (*RECIPES, *JOINT_FOLDS):
        with pytest.raises(ValueError, match=r"data_algebraic/train.npz; make them with `python -m biml.generate`"):
            training_views(name, tmp_path)
    (tmp_path / "data_algebraic").symlink_to(data / "data_algebraic")
    for find in finders(name):
        if name not in NEEDS_PEOPLE:
            find(name, tmp_path)
            continue
        with pytest.raises(ValueError, match=r"no people's answers in .*data_human.* into --data_dir") as error:
            find(name, tmp_path)
        assert "\n" not in str(error.value)


DAMAGED = "*SUPPORT*\n\n*QUERY*\nIN dax OUT: RED\n\n*GRAMMAR*\n"
MISSING_ONE = {number: "" for number in range(N_PARTICIPANTS) if number != 1}


@pytest.mark.parametrize(
    ("name", "folder", "files", "said"),
    [
        ("few_shot_human", "few_shot/val_behavior", {0: DAMAGED}, r"00.txt:4: expected 'IN: "),
        ("open_end_human_all", "open_ended_all/train", {0: DAMAGED}, r"00.txt:4: expected 'IN: "),
        ("probe_human", "data_behavior_probes/val", {0: DAMAGED}, r"00.txt:4: expected 'IN: "),
        ("open_end_human_cross2", "open_ended_all/train", {0: "", 1: ""}, "29 participants .*, found 2"),
        ("open_end_human_cross2", "open_ended_all/train", MISSING_ONE, "29 participants .*, found 28"),
        ("mlc", "", {}, r"no --episode_type mlc; choose one of retrieve, .*, few_shot_gold"),
    ],
)
def test_damaged_answers_are_refused(tmp_path, name, folder, files, said):
    """With file and line; if a participant were missing, others than the published ones would be held out."""
    write_people(tmp_path, {f"{folder}/{number:02d}": text or participant(number) for number, text in files.items()})
    for find in finders(name):
        with pytest.raises(ValueError, match=said):
            find(name, tmp_path)
