"""Greedy decoding, scoring and the test sets."""

import dataclasses

import numpy as np
import pytest
import torch

import evaluate
from checkpoint import Checkpoint
from episode_batch import encode, items_of, vocabularies_of
from evaluate import (
    Answer,
    answer,
    answer_episodes,
    ask,
    break_down,
    count,
    evaluate_episodes,
    find_test,
    judge,
    remember,
)
from generate_episode import EpisodeSampler, find_experiment
from model import MetaSeq2Seq, ModelConfig
from tools.plain_reference import plain_logits
from training_step import make_optimizer, train_on_episode


def make(data_dir, episode_type="scan_prim_permutation", **config):
    """A network with random weights, an episode for it, and its vocabularies."""
    torch.manual_seed(0)
    experiment = find_experiment(episode_type)
    vocabularies = vocabularies_of(experiment)
    sizes = len(vocabularies[0]), len(vocabularies[1]), experiment.padded_length
    model = MetaSeq2Seq(ModelConfig(*sizes, **{"emb_size": 24, "dropout": 0.0, **config}))
    sampler = EpisodeSampler(experiment, data_dir, True)
    return model.eval(), encode(sampler.training_episode(np.random.default_rng(0), ()), *vocabularies), vocabularies


@pytest.fixture(scope="module")
def learned(data_dir):
    """A small network that has learned a single ME episode by heart; its answers end at many different steps."""
    model, batch, _ = make(data_dir, "ME", emb_size=32)
    optimizer = make_optimizer(model, 0.01)
    for _ in range(150):
        train_on_episode(model, optimizer, batch)
    return model, remember(model, batch), batch


def test_a_small_network_learns_one_episode_by_heart(learned):
    """Trained on a single ME episode, a small network answers all of it, retrieval and generalization."""
    model, _, batch = learned
    assert evaluate_episodes(model, [batch], 50) == ((3, 3), (20, 20))


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
        assert together.retrieval == tuple(map(sum, zip(*(one.retrieval for one in alone), strict=True)))
        assert together.generalize == tuple(map(sum, zip(*(one.generalize for one in alone), strict=True)))
    assert 0 < evaluate_episodes(model, batches, 4).generalize.correct < 20  # some answers are longer than 4


def test_early_stop_and_dropping_finished_queries_change_no_answer(learned):
    """The answers are those of decoding every query for all steps and cutting at EOS, whatever is batched with it."""
    model, memory, batch = learned
    choices = plain_logits(model, batch, n_steps=20).argmax(-1).tolist()
    eos = model.config.output_size - 1
    expected = [row[: row.index(eos) + 1] for row in choices]
    assert {len(symbols) for symbols in expected} == {2, 3, 4, 5, 6, 7}
    for at_once in (1, 7, 100):
        assert answer(model, memory, batch.query_in, 20, at_once) == expected


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_when_finished_queries_leave_the_batch_does_not_matter(learned, monkeypatch, share):
    """Dropping them never or at once gives the same answers."""
    model, memory, batch = learned
    expected = answer(model, memory, batch.query_in, 20, 40)
    monkeypatch.setattr(evaluate, "COMPACT_BELOW", share)
    assert answer(model, memory, batch.query_in, 20, 40) == expected


def test_answers_are_cut_at_the_maximum_length(learned):
    """No answer is longer than asked for, and a cut-off answer has no EOS."""
    model, memory, batch = learned
    whole, cut = (answer(model, memory, batch.query_in, n, 40) for n in (20, 3))
    assert cut == [symbols[:3] for symbols in whole]


def test_an_answer_counts_only_if_every_symbol_and_the_stopping_point_match(data_dir):
    """A missing EOS, a missing or further symbol, and a wrong symbol are all wrong."""
    _, batch, _ = make(data_dir)
    targets = batch.query_out.rows(torch.tensor([0]))
    right = targets.symbols[0, : targets.lengths[0]].tolist()
    wrong = [right[:-1], right[1:], [*right[:-1], 0, right[-1]], [(right[0] + 1) % 6, *right[1:]], []]
    assert judge([right], targets) == [True]
    assert [judge([symbols], targets) for symbols in wrong] == [[False]] * 5


def test_attention_rows_sum_to_one_and_the_output_is_the_answer(learned):
    """The traced weights belong to the answer that decoding gives."""
    model, memory, batch = learned
    query = batch.query_in.rows(torch.tensor([2]))
    trace = evaluate.trace_attention(model, memory, query, 50)
    assert trace.output == answer(model, memory, query, 50, 1)[0]
    steps = int(query.lengths[0])
    assert trace.memory.shape == (steps, 3)
    assert trace.decoder.shape == (len(trace.output), steps + 1)
    torch.testing.assert_close(trace.memory.sum(1), torch.ones(steps))
    torch.testing.assert_close(trace.decoder.sum(1), torch.ones(len(trace.output)))


@pytest.mark.parametrize("missing", ["memory", "attention"])
def test_attention_that_a_network_lacks_is_none(data_dir, missing):
    """A trace has no weights for what was switched off."""
    model, batch, _ = make(data_dir, **{f"disable_{missing}": True})
    memory = remember(model, batch)
    trace = evaluate.trace_attention(model, memory, batch.query_in.rows(torch.tensor([0])), 50)
    assert (trace.memory is None) == (missing == "memory")
    assert (trace.decoder is None) == (missing == "attention")


TESTS = {  # of the paper's episode types
    "ME": ("the validation episodes", 5, 23),
    "scan_prim_permutation": ("addprim_jump", 1, 7706),
    "scan_prim_augmentation": ("addprim_jump", 1, 7706),
    "scan_around_right": ("template_around_right", 1, 4476),
    "scan_length": ("length", 5, 3920),
    "standard_addprim_jump": ("addprim_jump", 1, 7706),
    "standard_addprim_jump_augmentation": ("addprim_jump", 1, 7706),
    "standard_around_right": ("template_around_right", 1, 4476),
    "standard_length": ("length", 1, 3920),
}


@pytest.mark.parametrize("episode_type", TESTS)
def test_every_experiment_is_tested_as_in_the_paper(data_dir, episode_type):
    """Split, number of support sets and queries; memory shows the isolated items under the original mapping."""
    experiment = find_experiment(episode_type)
    vocabularies = vocabularies_of(experiment)
    validation = EpisodeSampler(experiment, data_dir, True).validation_episodes(np.random.default_rng(0))
    checkpoint = checkpoint_of(None, experiment, validation)
    split, episodes = find_test(checkpoint, data_dir)
    assert (split, len(episodes), len(episodes[0].query.inputs)) == TESTS[episode_type]
    if split != "the validation episodes":
        assert not any(episode.is_support.any() for episode in episodes)
    shown = [" ".join(item.input + item.output) for item in items_of(episodes[0].support, *vocabularies)]
    if episode_type.startswith("scan_prim"):
        assert shown == ["walk I_WALK", "look I_LOOK", "run I_RUN", "jump I_JUMP"]
    if episode_type == "scan_around_right":
        assert shown == ["turn left I_TURN_LEFT", "turn right I_TURN_RIGHT"]
    if episode_type == "scan_length":
        assert len({tuple(map(tuple, one.support.inputs.tolist())) for one in episodes}) == 5


def checkpoint_of(model, experiment, validation, max_length=50):
    """A checkpoint as loading gives it."""
    return Checkpoint(model, *vocabularies_of(experiment), experiment, validation, max_length, 1, 1, {}, {})


def made_up(query, target, is_right, is_support=False, has_unshown=False):
    return Answer(0, query, "", target, is_right, is_support, has_unshown, tuple(sorted(set(query.split()))))


def test_groups_of_the_breakdown_add_up():
    """Every answer is in exactly one group by length and one by what memory shows, and in one for each modifier."""
    answers = [
        made_up("a b", "x " * 3, True),
        made_up("a", "x " * 3, False, has_unshown=True),
        made_up("b c", "x", True),
    ]
    tables = break_down(answers)
    assert tables["output length"] == [("1", 1, 1), ("3", 1, 2)]
    assert tables["with the word"] == [("a", 1, 2), ("b", 2, 2), ("c", 1, 1)]
    assert tables["word not in support"] == [("no", 2, 2), ("yes", 0, 1)]
    assert break_down([]) == {}


def test_retrieval_and_generalization_are_counted_apart():
    """Queries that equal a support item never count as generalization; without any there is no percentage."""
    accuracy = count([made_up("a", "x", True, True), made_up("b", "x", False), made_up("c", "x", True)])
    assert accuracy == ((1, 1), (1, 2))
    assert accuracy.generalize.percent == 50
    assert count([made_up("b", "x", True)]).retrieval.percent is None


def test_words_that_no_support_item_shows_are_found(data_dir):
    """In ME every query with the withheld word is marked, and no other."""
    experiment = find_experiment("ME")
    vocabularies = vocabularies_of(experiment)
    validation = EpisodeSampler(experiment, data_dir, True).validation_episodes(np.random.default_rng(0))
    model, _, _ = make(data_dir, "ME")
    checkpoint = checkpoint_of(model, experiment, validation, 8)
    answers = answer_episodes(checkpoint, validation, 100)
    assert len(answers) == 5 * 23
    for one in answers:
        support = items_of(validation[one.support_set].support, *vocabularies)
        (withheld,) = set(experiment.slots) - {item.input[0] for item in support}
        assert one.has_unshown == (withheld in one.query.split())
        assert one.is_support == (len(one.query.split()) == 1)


def test_asking_in_words_gives_the_answer_of_the_episode(learned, data_dir):
    """`ask` is encoding, storing, answering and decoding in one."""
    model, _, _ = learned
    experiment = find_experiment("ME")
    vocabularies = vocabularies_of(experiment)
    checkpoint = checkpoint_of(model, experiment, [], 20)
    episode = EpisodeSampler(experiment, data_dir, True).training_episode(np.random.default_rng(0), ())
    support, query = (items_of(pairs, *vocabularies) for pairs in (episode.support, episode.query))
    outputs = ask(checkpoint, [(" ".join(i), " ".join(o)) for i, o in support], [" ".join(i.input) for i in query])
    assert outputs == [" ".join(item.output) for item in query]
    for support_words, queries in (([], ["dax"]), ([("dax", "RED")], [" "]), ([("", "RED")], ["dax"])):
        with pytest.raises(ValueError, match="found none"):
            ask(checkpoint, support_words, queries)
    with pytest.raises(ValueError, match=r"blicket.*dax, lug, wif, zup"):
        ask(checkpoint, [("dax", "RED")], ["blicket"])
