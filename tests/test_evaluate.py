"""Greedy decoding, scoring and the test sets."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from checkpoint import Checkpoint, load_checkpoint, network_config
from episode_batch import encode, items_of, vocabularies_of
from evaluate import (
    Answer,
    answer,
    answer_episodes,
    ask,
    break_down,
    count,
    evaluate_episodes,
    explain,
    find_test,
    in_words,
    judge,
    remember,
)
from generate_episode import EpisodeSampler, find_experiment
from model import MetaSeq2Seq

ROOT = Path(__file__).resolve().parent.parent
SHOWN, QUERY = [("dax", "RED"), ("lug", "BLUE"), ("wif", "GREEN")], "zup lug dax"


@pytest.fixture(scope="module")
def trained():
    """The network for ME that comes with the code; its answers end at many different steps."""
    return load_checkpoint(ROOT / "out_models" / "trained" / "net_ME.tar", torch.device("cpu"))


@pytest.fixture(scope="module")
def learned(trained):
    """That network with the memory and the queries of a validation episode."""
    batch = encode(trained.validation[0], *trained.vocabularies)
    return trained.model, remember(trained.model, batch), batch


def untrained(data_dir, episode_type="ME", max_length=50, **config):
    """A checkpoint of a small network with random weights."""
    torch.manual_seed(0)
    experiment = find_experiment(episode_type)
    model = MetaSeq2Seq(network_config(experiment, emb_size=24, **config)).eval()
    validation = []  # which takes time, and only these need it:
    if not experiment.test_support and not experiment.is_standard:
        validation = EpisodeSampler(experiment, data_dir, True).validation_episodes(np.random.default_rng(0))
    return Checkpoint(model, *vocabularies_of(experiment), experiment, validation, max_length, 1, 1, {}, {})


def test_early_stop_and_dropping_finished_queries_change_no_answer(learned, monkeypatch):
    """Every symbol is the likeliest one after those before it, whatever is batched with it and whenever that ends."""
    model, memory, batch = learned
    answers = answer(model, memory, batch.query_in, 20, 40)
    assert {len(symbols) for symbols in answers} == {2, 3, 4, 5, 6, 7}
    assert all(judge(answers, batch.query_out))
    with torch.inference_mode():
        context = model.recall(memory, batch.query_in.symbols, batch.query_in.lengths)
        choices = model.decode(context, batch.query_out.symbols, batch.query_out.lengths).argmax(-1).tolist()
    assert [row[: len(symbols)] for row, symbols in zip(choices, answers, strict=True)] == answers
    for at_once, share in ((1, 0.85), (7, 0.85), (40, 0.0), (40, 1.1)):
        monkeypatch.setattr(evaluate, "COMPACT_BELOW", share)
        assert answer(model, memory, batch.query_in, 20, at_once) == answers
    assert answer(model, memory, batch.query_in, 3, 40) == [symbols[:3] for symbols in answers]  # cut off without EOS


def test_episodes_decoded_together_are_answered_as_each_alone(learned):
    """What an episode counts does not depend on the others, whatever the lengths of their queries."""
    model, _, batch = learned
    parts = [torch.arange(3), torch.arange(3, 20), torch.arange(20, 23)]  # the last are the support items, of one word
    batches = [
        dataclasses.replace(
            batch,
            query_in=batch.query_in.rows(part),
            query_out=batch.query_out.rows(part),
            is_support=batch.is_support[part],
        )
        for part in parts
    ]
    assert len({one.query_in.symbols.shape[1] for one in batches}) > 1
    for max_length in (4, 20):
        alone = [evaluate_episodes(model, [one], max_length) for one in batches]
        together = evaluate_episodes(model, batches, max_length)
        for kind in ("retrieval", "generalize"):
            counts = zip(*(getattr(one, kind) for one in alone), strict=True)
            assert getattr(together, kind) == tuple(map(sum, counts))
    assert evaluate_episodes(model, [batch], 50) == ((3, 3), (20, 20))
    assert 0 < evaluate_episodes(model, batches, 4).generalize.correct < 20  # some answers are longer than 4


def test_an_answer_counts_only_if_every_symbol_and_the_stopping_point_match(learned):
    """A missing EOS, a missing or further symbol, and a wrong symbol are all wrong."""
    targets = learned[2].query_out.rows(torch.tensor([0]))
    right = targets.symbols[0, : targets.lengths[0]].tolist()
    wrong = [right[:-1], right[1:], [*right[:-1], 0, right[-1]], [(right[0] + 1) % 4, *right[1:]], []]
    assert judge([right], targets) == [True]
    assert [judge([symbols], targets) for symbols in wrong] == [[False]] * 5


def test_attention_rows_sum_to_one_and_the_output_is_the_answer(trained):
    """Memory: query steps by support items; decoder: output steps by query steps, with one for all padded steps."""
    told = explain(trained, SHOWN, QUERY)
    assert [told["output"]] == ask(trained, SHOWN, [QUERY]) == ["YELLOW BLUE RED"]
    steps = [*QUERY.split(), "<EOS>"]
    assert told["memory"]["rows"] == steps
    assert told["memory"]["columns"] == ["dax → RED", "lug → BLUE", "wif → GREEN"]
    assert told["decoder"]["rows"] == [*told["output"].split(), "<EOS>"]
    assert told["decoder"]["columns"] == [*steps, "(padding)"]
    for table in (told["memory"], told["decoder"]):
        weights = np.array(table["weights"])
        assert weights.shape == (len(table["rows"]), len(table["columns"]))
        assert weights.sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert told["decoder"]["weights"][1][1] > 0.5  # BLUE is read at lug


@pytest.mark.parametrize("missing", ["memory", "attention"])
def test_attention_that_a_network_lacks_is_none(data_dir, missing):
    """There are no weights for what was switched off; support items without memory are refused."""
    network = untrained(data_dir, **{f"disable_{missing}": True})
    told = explain(network, [] if missing == "memory" else SHOWN, QUERY)
    assert (told["memory"] is None) == (missing == "memory")
    assert (told["decoder"] is None) == (missing == "attention")


JUMP = ("walk I_WALK", "look I_LOOK", "run I_RUN", "jump I_JUMP")
TESTS = {  # of the paper's episode types: the split, the number of support sets, the queries of each, what is shown
    "ME": ("the validation episodes", 5, 23, None),
    "scan_prim_permutation": ("addprim_jump", 1, 7706, JUMP),
    "scan_prim_augmentation": ("addprim_jump", 1, 7706, JUMP),
    "scan_around_right": ("template_around_right", 1, 4476, ("turn left I_TURN_LEFT", "turn right I_TURN_RIGHT")),
    "scan_length": ("length", 5, 3920, None),
    "standard_addprim_jump": ("addprim_jump", 1, 7706, ()),
    "standard_addprim_jump_augmentation": ("addprim_jump", 1, 7706, ()),
    "standard_around_right": ("template_around_right", 1, 4476, ()),
    "standard_length": ("length", 1, 3920, ()),
}


@pytest.mark.parametrize("episode_type", TESTS)
def test_every_experiment_is_tested_as_in_the_paper(data_dir, episode_type):
    """Memory shows the isolated items under the original mapping, and no query is one of them."""
    network = untrained(data_dir, episode_type)
    split, episodes = find_test(network, data_dir)
    *expected, shown = TESTS[episode_type]
    assert [split, len(episodes), len(episodes[0].query.inputs)] == expected
    assert episode_type == "ME" or not any(episode.is_support.any() for episode in episodes)
    supports = [items_of(episode.support, *network.vocabularies) for episode in episodes]
    assert shown in (None, tuple(" ".join(item.input + item.output) for item in supports[0]))
    assert len({tuple(support) for support in supports}) == len(episodes)


def made_up(query, target, is_right, is_support=False, has_unshown=False):
    return Answer(0, query, "", target, is_right, is_support, has_unshown, tuple(sorted(set(query.split()))))


def test_groups_of_the_breakdown_add_up():
    """Every answer is in exactly one group by length and one by what memory shows, and in one for each modifier."""
    answers = [
        made_up("a b", "x " * 3, True),
        made_up("a", "x " * 3, False, has_unshown=True),
        made_up("b c", "x", True),
    ]
    tables = {title: list(table.items()) for title, table in break_down(answers).items()}
    assert tables["output length"] == [("1", (1, 1)), ("3", (1, 2))]
    assert tables["with the word"] == [("a", (1, 2)), ("b", (2, 2)), ("c", (1, 1))]
    assert tables["word not in support"] == [("no", (2, 2)), ("yes", (0, 1))]
    long = [*answers, made_up("c", "x " * 12, False), made_up("c", "x " * 13, True)]
    assert list(break_down(long)["output length"].items()) == [("1-6", (2, 3)), ("7-12", (0, 1)), ("13-18", (1, 1))]
    assert break_down([]) == {}


def test_retrieval_and_generalization_are_counted_apart():
    """Queries that equal a support item never count as generalization; without any there is no percentage."""
    accuracy = count([made_up("a", "x", True, True), made_up("b", "x", False), made_up("c", "x", True)])
    assert accuracy == ((1, 1), (1, 2))
    assert accuracy.generalize.percent == 50
    assert count([made_up("b", "x", True)]).retrieval.percent is None


def test_words_that_no_support_item_shows_are_found(trained):
    """In ME every query with the withheld word is marked, and no other."""
    answers = answer_episodes(trained, trained.validation, 100)
    assert len(answers) == 5 * 23
    for one in answers:
        support = items_of(trained.validation[one.support_set].support, *trained.vocabularies)
        (withheld,) = set(trained.experiment.slots) - {item.input[0] for item in support}
        assert one.has_unshown == (withheld in one.query.split())
        assert one.is_support == (len(one.query.split()) == 1)


def test_asking_in_words_gives_the_answers_of_the_episode(trained):
    """`ask` is encoding, storing, answering and decoding in one."""
    episode = trained.validation[0]
    support, query = (in_words(items_of(pairs, *trained.vocabularies)) for pairs in (episode.support, episode.query))
    assert ask(trained, support, [given for given, _ in query]) == [target for _, target in query]
    assert ask(trained, support, []) == []
    for shown, queries in (([], ["dax"]), ([("dax", "RED")], [" "]), ([("", "RED")], ["dax"])):
        with pytest.raises(ValueError, match="found none"):
            ask(trained, shown, queries)
    with pytest.raises(ValueError, match=r"blicket.*dax, lug, wif, zup"):
        ask(trained, [("dax", "RED")], ["blicket"])
