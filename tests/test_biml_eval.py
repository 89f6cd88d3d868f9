"""Answers and scores are what they say, one after the other too, and the command line writes what it found or nothing.

The script runs inside this process, since each new one has to import torch first; one test starts a real process.
"""

import copy
import json
import math
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from unittest import mock

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_tasks import probes
from script_runs import assert_one_line, contents, run_file

import biml.answering
import biml.episode_types
import biml.eval
from biml.answering import (
    LAPSES,
    Answered,
    AnsweredEpisode,
    Likelihood,
    accuracy,
    answer_one_by_one,
    answer_views,
    fit_lapse,
    likelihood,
    symbol_log_p,
)
from biml.batch import assemble
from biml.benchmarks import GOLD_QUERIES, OPEN_ENDED, gold_episode, split
from biml.dashboard import draw_training, save_training
from biml.decode import decode
from biml.dice import Dice
from biml.episode import Episode, EpisodeSizes, Example, sample_episode
from biml.episode_files import format_episode
from biml.episode_types import evaluation_views
from biml.model import BIML, ModelConfig
from biml.network_file import TrainedNetwork, load_network, save_network
from biml.packed_episodes import pack, save_packed
from biml.pages import kinds_table, listing
from biml.sampled_files import read_answers
from biml.stream import fingerprint_of_views, views_of
from biml.training_step import total_loss
from biml.views import UNDEFINED, rename, view_of
from biml.vocabulary import MAIN, VANILLA

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
REPEATS = 2  # of the gold and the open-ended episode, not 100
N_VAL = 7
SIZES = EpisodeSizes(2, 1, 3, 3, 4, 3)
HISTORY = [
    {"step": step, "epoch": 1, "lr": 1e-3 / step, "avg_train_loss": 2.0 / step, "val_loss": 2.1}
    for step in (1, 25, 100)
]


@pytest.fixture(scope="module", autouse=True)
def few_repeats():
    """Fewer episodes in an evaluation on the gold or the open-ended one."""
    with mock.patch.object(biml.episode_types, "REPEATS", REPEATS):
        yield


def untrained(language=MAIN, seed=3):
    """A small network as it starts."""
    torch.manual_seed(seed)
    sizes = ModelConfig(len(language.source), len(language.target), 16, nlayers_encoder=1, nlayers_decoder=1, ff_mult=2)
    return BIML(sizes).eval()


def trained(model, language=MAIN, episode_type="algebraic", **arguments):
    return TrainedNetwork(model, language, episode_type, 3, {"episode_type": episode_type, **arguments}, {})


def talkative(language=MAIN, seed=3):
    """A network whose answers, of different lengths, differ with the query and with what there is to study."""
    model, gold = untrained(language, seed), gold_episode()
    asked = gold if language == VANILLA else rename(gold, dice())[0]
    batch = assemble([view_of(asked, language)], language).tensors(CPU)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 2.5
        model.out.bias -= model(batch.source, batch.target_in).mean((0, 1))
        model.out.bias[language.target.eos] += 0.5
    return trained(model, language)


def taught(made):
    """A network that has learned some of the answers to the queries of some views."""
    model, batch = untrained().train(), assemble(made, MAIN).tensors(CPU)
    weights = list(model.parameters())
    for _ in range(40):
        loss, _ = total_loss(model(batch.source, batch.target_in), batch.target_out, MAIN.target.pad)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.01 * gradient.sign()
    return trained(model.eval())


def uniform(language=MAIN):
    """A network to which all words and the end are equally likely, and nothing else is."""
    model = untrained(language)
    with torch.no_grad():
        model.out.weight.zero_()
        model.out.bias.zero_()
        model.out.bias[[language.target.sos, language.target.pad]] = -1e4
    return trained(model, language)


def dice(seed=0):
    return Dice(np.random.default_rng(seed))


def random_episode(number):
    return sample_episode(np.random.default_rng(number), (), SIZES)


@pytest.fixture(scope="module")
def network():
    return talkative()


# People's answers, made up

COUNTS = (22, 22, 25, 24, 24, 20, 20, 20, 20, 20)  # as many as were given to each query
N_UNDEFINED = 20


def people_asked(number):
    """Answers to a gold query: mostly right, some with a symbol in place of the last, undefined or missing ones."""
    gold = gold_episode()
    query, output = gold.query[number]
    answers = []
    for person in range(COUNTS[number]):
        answer = (UNDEFINED, *output[1:]) if person % 10 == 9 else output
        answer = (*answer[:-1], "1") if person % 3 == 1 else answer
        answers.append(answer[:-1] if person < 7 and number >= 8 else answer)
    return Episode(gold.support, tuple(Example(query, answer) for answer in answers), None)


def write_people(folder, answered):
    for number, episode in enumerate(answered):
        path = folder / "data_human" / "few_shot" / "val_behavior" / f"{number:02d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_episode(episode))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with a few random episodes and answers of people to the gold queries and to two probes."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "data_algebraic").mkdir()
    save_packed(folder / "data_algebraic" / "val.npz", pack(map(random_episode, range(N_VAL)), {}))
    write_people(folder, map(people_asked, range(len(COUNTS))))
    for name in ("ME_1ex_2pool", "ME_3ex_6pool"):
        support, query, pool = probes()[name]
        path = folder / "data_human" / "data_behavior_probes" / "val" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_episode(Episode(support, (Example(query, pool[1:2]),), None, pool)))
    return folder


def views(episode_type, data=Path("nowhere"), seed=0, repetition=0):
    return list(views_of(evaluation_views(episode_type, data), seed, repetition))


def test_a_fingerprint_is_of_views_whatever_their_batches(data):
    """The same for the same ones, another for others, fewer or another order."""
    whole = views("algebraic", data)
    found = [fingerprint_of_views(given) for given in (whole, views("retrieve", data), whole[1:], whole[::-1])]
    assert found[0] == fingerprint_of_views(views("algebraic", data)) and len({*found}) == len(found)


# Accuracy

KINDS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6)  # whether studied, whether right


def answered(kinds):
    """An episode with a query for each pair."""
    given = [Answered(("dax",), ("RED",), ("RED",) if right else ("BLUE",), studied) for studied, right in kinds]
    return AnsweredEpisode([], given)


@settings(max_examples=50)
@given(st.lists(KINDS, max_size=6))
def test_accuracies_are_means_over_episodes(episodes):
    """Each episode weighs alike, whatever the number of its queries; those of studied and novel ones stand apart."""
    found = accuracy([answered(kinds) for kinds in episodes])
    shares = {True: [], False: []}
    for kinds in episodes:
        for studied in shares:
            right = [100.0 * is_right for is_studied, is_right in kinds if is_studied == studied]
            shares[studied] += [np.mean(right)] if right else []
    assert found.n_episodes == len(episodes)
    for value, studied, reduced in ((0, True, np.mean), (1, False, np.mean), (2, False, np.std)):
        expected = pytest.approx(reduced(shares[studied])) if shares[studied] else None
        assert found[value] == expected


def test_an_answer_is_right_as_a_whole_or_not_at_all():
    """Every symbol in its place, none missing, and none too many."""
    assert Answered(("dax",), ("RED", "BLUE"), ("RED", "BLUE"), False).is_right
    for answer in ("", "RED", "RED BLUE RED", "BLUE RED", "RED BLUE <PAD>"):
        assert not Answered(("dax",), ("RED", "BLUE"), split(answer), False).is_right


# Likelihood

LOG_P = st.lists(st.floats(-20, 0), min_size=1, max_size=8)


@settings(max_examples=50)
@given(st.lists(LOG_P, min_size=1, max_size=4), st.sampled_from([0.0, 0.03, 0.5, 1.0]), st.sampled_from([5, 7]))
def test_likelihoods_are_summed_and_averaged_over_repetitions(repetitions, lapse, n_choices):
    """Totals and numbers of symbols are means over repetitions, the likelihood of a symbol is one over all of them."""
    found = likelihood([torch.tensor(one, dtype=torch.float64) for one in repetitions], lapse, n_choices)
    totals = [sum(math.log((1 - lapse) * math.exp(x) + lapse / n_choices) for x in one) for one in repetitions]
    assert found.total == pytest.approx(statistics.mean(totals))
    assert found.n_symbols == pytest.approx(statistics.mean(map(len, repetitions)))
    assert found.per_symbol == pytest.approx(sum(totals) / sum(map(len, repetitions)))
    if len(repetitions) == 1:
        assert found.total_sd is None
    else:
        assert found.total_sd == pytest.approx(np.std(totals))


def test_repetitions_have_names_and_orders_of_their_own(network):
    """The first is the same however many follow, the next differ; nothing depends on the size of batches."""
    gold = evaluation_views("few_shot_gold", Path("nowhere"))
    found = symbol_log_p(network, gold, 3, 0, 2)
    (alone,) = symbol_log_p(network, gold, 1, 0, 1)
    torch.testing.assert_close(found[0], alone, rtol=1e-4, atol=1e-4)
    assert len({round(one.sum().item(), 3) for one in found}) == 2
    (other,) = symbol_log_p(network, gold, 3, 1, 1)
    assert abs((other - found[0]).sum()) > 1e-3


# The best lapse

SCORES = st.lists(st.integers(-4, 0), min_size=len(LAPSES), max_size=len(LAPSES))


@given(SCORES, st.sampled_from([1, -1]))
def test_the_best_lapse_is_the_last_before_the_first_decrease(scores, sign):
    """Ties move on; what comes after the decrease is not looked at; the likelihood of a symbol decides, no total."""
    asked = []

    def likelihood_of(lapse):
        asked.append(lapse)
        score = scores[LAPSES.index(lapse)]
        return Likelihood(sign * score, None, 1, score)

    assert pytest.approx(LAPSES) == [*np.arange(0.01, 0.095, 0.01), *np.arange(0.1, 0.95, 0.1)]  # as published
    best = next((n for n, (one, after) in enumerate(pairwise(scores)) if after < one), len(LAPSES) - 1)
    assert fit_lapse(likelihood_of) == (LAPSES[best], Likelihood(sign * scores[best], None, 1, scores[best]))
    assert asked == list(LAPSES[: best + 2])


# Answers


def renamed_back(view, words, output):
    """An input and an output of a view in the symbols they had."""
    given = tuple(view.renaming.inputs[MAIN.source.words[n]] for n in words)
    names = (*MAIN.target.words, "<SOS>", "<EOS>", "<PAD>")
    return given, tuple(view.renaming.outputs.get(names[n], UNDEFINED) for n in output)


def test_answers_come_back_in_canonical_symbols(network):
    """Queries, targets and study examples are the gold ones, answers the network's; other colours are undefined."""
    made = views("few_shot_gold")
    episodes = answer_views(network, made, 3, 10)
    gold = gold_episode()
    outputs = {one.input: one.output for one in (*gold.support, *gold.query)}
    for view, episode in zip(made, episodes, strict=True):
        assert sorted(episode.support) == sorted(gold.support)
        assert [one.query for one in episode.answered[14:]] == [split(query) for query in GOLD_QUERIES]
        answers = decode(network.model, assemble([view], MAIN).tensors(CPU).source, 10)
        for one, (words, _), answer in zip(episode.answered, view.query, answers, strict=True):
            assert (one.query, one.answer) == renamed_back(view, words, answer)
            assert one.target == outputs[one.query]
            assert one.is_retrieve == (one.query in dict(gold.support))
    answers = [one.answer for episode in episodes for one in episode.answered]
    assert len(set(answers)) > 5 and any(UNDEFINED in answer for answer in answers)


def test_answers_are_made_of_the_pool_where_there_is_one(data):
    """Of a probe's two or six colours; an episode beside it may still use everything."""
    network = uniform()
    with torch.no_grad():
        network.model.out.bias[MAIN.target.pad] = 1.0
    two, six = views("probe_human", data)
    free = views("few_shot_gold")[0]
    found = answer_views(network, [two, free, six], 3, 10, torch.Generator().manual_seed(0))
    symbols = [{symbol for one in episode.answered for symbol in one.answer} for episode in found]
    assert symbols[0] == {"c1", "c2"}
    assert symbols[1] == {"1", "2", "3", "DAX", UNDEFINED}
    assert symbols[2] == {"c1", "c2", "c3", "c4", "c5", "c6"}


# One after the other


def plain_answer(model, view, words, study, max_length):
    """The likeliest of the words and the end at each step, everything read anew."""
    source = assemble([view._replace(query=[(words, b"")], support=study)], MAIN).tensors(CPU).source
    answer = []
    while len(answer) < max_length:
        with torch.no_grad():
            logits = model(source, torch.tensor([[MAIN.target.sos, *answer]]))[0, -1]
        logits[[MAIN.target.sos, MAIN.target.pad]] = -math.inf
        if (symbol := int(logits.argmax())) == MAIN.target.eos:
            break
        answer.append(symbol)
    return answer


def test_answering_one_by_one_is_asking_anew_each_time():
    """A network that is sure of its answers: each episode on its own, encoded anew for every query.

    The k-th answer has studied what was there before and all answers before it, none of other episodes. The views stay
    what they were.
    """
    network = talkative()
    with torch.no_grad():
        network.model.out.weight *= 1e4
        network.model.out.bias *= 1e4
    made = [view for seed in range(2) for view in views("open_end_freeform", seed=seed)]
    made[1:3] = [view._replace(support=[(bytes([3]), bytes([5, 1]))]) for view in made[1:3]]
    before = copy.deepcopy(made)
    found = answer_one_by_one(network, made, 6, torch.Generator().manual_seed(0))
    assert made == before
    n_changed = 0
    for view, episode in zip(made, found, strict=True):
        study = list(view.support)
        for one, (words, _) in zip(episode.answered, view.query, strict=True):
            answer = plain_answer(network.model, view, words, study, 6)
            assert (one.query, one.answer) == renamed_back(view, words, answer)
            n_changed += answer != plain_answer(network.model, view, words, view.support, 6)
            study.append((words, bytes(answer)))
        assert len(episode.support) == len(view.support)
    assert n_changed > 5  # it matters what was answered before
    assert len({one.answer for episode in found for one in episode.answered}) > 8


def test_each_round_has_seven_answers_of_colours_alone():
    """However much a network likes to answer with start and padding; nothing is right or studied beforehand."""
    network = uniform()
    with torch.no_grad():
        network.model.out.bias[[MAIN.target.sos, MAIN.target.pad]] = 5.0
    found = answer_one_by_one(network, views("open_end_freeform"), 10, torch.Generator().manual_seed(0))
    for episode in found:
        assert episode.support == []
        assert sorted(" ".join(one.query) for one in episode.answered) == sorted(OPEN_ENDED)
        assert all(len(one.answer) <= 10 and not one.is_retrieve for one in episode.answered)
    answers = [one.answer for episode in found for one in episode.answered]
    assert {symbol for answer in answers for symbol in answer} == {f"c{number}" for number in range(1, 7)}


# The script


def run_main(module, *arguments):
    """Run the script of a module in this process."""
    return run_file(module.__file__, *arguments)


@pytest.fixture(scope="module")
def models(tmp_path_factory, data):
    """A folder of networks: one that has learned a little, and its bare weights, others that have not."""
    folder = tmp_path_factory.mktemp("models")
    own = {"batch_size": 2, "nepochs": 5}
    trained_on = {
        "main": ("algebraic", taught(views("algebraic", data))),
        "vanilla": ("few_shot_vanilla", talkative(VANILLA)),
    }
    trained_on |= {"plain": ("algebraic", uniform()), "new": ("algebraic+biases", talkative(seed=2))}
    for name, (episode_type, made) in trained_on.items():
        history = {} if name == "new" else {"history": HISTORY}
        save_network(folder / f"{name}.tar", made.model, 3, {**own, "episode_type": episode_type}, history)
    torch.save(trained_on["main"][1].model.state_dict(), folder / "weights.pt")
    return folder


@pytest.fixture
def evaluate(tmp_path, data, models):
    """Run the script; gives what it printed and what it wrote with --fn_out_results."""

    def run(name, *arguments):
        result = tmp_path / "result.json"
        result.unlink(missing_ok=True)
        places = ("--cpu", "--data_dir", data, "--dir_model", models, "--results_dir", tmp_path / "html")
        outcome = run_main(biml.eval, "--fn_in_model", name, *places, "--fn_out_results", result, *arguments)
        assert (outcome.code, outcome.err) == (0, ""), outcome
        return outcome.out, json.loads(result.read_text()) if result.exists() else None

    return run


GREEDY = ("main.tar", "--max")
GOLD_TYPE = ("--episode_type", "few_shot_gold")


def test_the_accuracy_is_that_of_the_likeliest_answers(evaluate, models, data):
    """On what the network was trained on, as its validation set stores it; all answers are listed with --verbose."""
    network = load_network(models / "main.tar", CPU)
    answers = answer_views(network, views("algebraic", data), 7, 10)
    expected = accuracy(answers)
    out, report = evaluate(*GREEDY)
    assert report["max"] == json.loads(json.dumps(expected._asdict()))
    assert expected.n_episodes == N_VAL and 0 < expected.retrieve < 100
    line = f"max: retrieve {expected.retrieve:.2f} %, novel {expected.novel:.2f} % (SD {expected.novel_sd:.2f} %)"
    assert f"{line}, {N_VAL} episodes\n" in out and "Evaluation episode" not in out
    assert "main.tar: 3 of 5 epochs of algebraic, " in out and "on CPU" in out
    assert "on algebraic, 2 episodes at a time, answers of up to 10 symbols\n" in out
    alone = evaluate(*GREEDY, "--verbose", "--batch_size", 1)[0]
    assert listing(answers) in alone
    told = evaluate(*GREEDY, "--verbose", "--batch_size", 100)[0]  # no part of what is printed depends on it
    assert told.replace(", 100 episodes at a time", ", 1 episodes at a time") == alone


def test_by_default_batches_are_those_of_the_training(evaluate):
    """What is sampled depends on them."""
    sampled = ("main.tar", "--sample", "--verbose")
    assert evaluate(*sampled) == evaluate(*sampled, "--batch_size", 2) != evaluate(*sampled, "--batch_size", 5)


SEEDED = {  # random episodes are always as they are stored, so that only the samples depend on the seed
    "samples": ("--sample", "--verbose"),
    "pages": ("--sample_html", *GOLD_TYPE),
    "rounds": ("--sample_iterative", "--episode_type", "open_end_freeform"),
    "names and orders": ("--ll", *GOLD_TYPE),
}


@pytest.mark.parametrize("case", SEEDED)
def test_a_seed_determines_everything(evaluate, case, tmp_path):
    """Printed and written; another seed has other names, orders and samples. A result says what it is of."""
    seen = []
    for seed in (1, 1, 2):
        shutil.rmtree(tmp_path / "html", ignore_errors=True)
        out, report = evaluate("main.tar", *SEEDED[case], "--seed", seed)
        written = contents(tmp_path / "html")
        listings = [text for name, text in written.items() if name.endswith(".txt")]
        seen.append(((out, listings), report, written))
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]
    assert (report["file"], report["seed"], report["epoch"], report["max_length_eval"]) == ("main.tar", 2, 3, 10)
    assert report["arguments"]["nepochs"] == 5 and "CPU" in report["device"]
    assert {"commit", "torch"} < report["provenance"].keys()


def test_answers_are_cut_off(evaluate):
    """After --max_length_eval symbols."""
    out, _ = evaluate("plain.tar", "--sample", "--verbose", "--max_length_eval", 3)
    answers = [line.partition(" (**")[0].partition(" -> ")[2] for line in out.splitlines() if "(** target" in line]
    assert max(len(answer.split()) for answer in answers) == 3


def test_the_vanilla_network_answers_in_canonical_symbols(evaluate):
    """The gold queries, with nothing to study, so that there is nothing to retrieve.

    Lapses are among four symbols and the end: it scores its own targets as a mixture with a fifth.
    """
    out, report = evaluate("vanilla.tar", "--max", "--verbose", "--ll", "--ll_p_lapse", 0.4)
    assert report["max"]["retrieve"] is None and report["max"]["n_episodes"] == 1
    assert "retrieve n/a, novel" in out
    for query in GOLD_QUERIES:
        assert f"    {query} -> " in out
    log_p = symbol_log_p(talkative(VANILLA), evaluation_views("few_shot_vanilla", Path("nowhere")), 1, 0, 1)
    assert report["ll"]["total"] == pytest.approx((0.6 * log_p[0].exp() + 0.4 / 5).log().sum().item())


# The script: likelihood


def test_a_log_likelihood_is_that_of_the_targets(evaluate, models):
    """With the lapse asked for, averaged over the repetitions; a network that knows nothing is at chance."""
    network, gold = load_network(models / "main.tar", CPU), evaluation_views("few_shot_gold", Path("nowhere"))
    for lapse, repetitions in ((0.0, 1), (0.1, 2)):
        expected = likelihood(symbol_log_p(network, gold, 2, 4, repetitions), lapse, 7)
        options = ("--ll_p_lapse", lapse, "--ll_nrep", repetitions, "--seed", 4)
        _, report = evaluate("main.tar", "--ll", *GOLD_TYPE, *options)
        assert report["ll"] == {"lapse": lapse, "repetitions": repetitions, **expected._asdict()}
    n = REPEATS * sum(len(one.output) + 1 for one in (*gold_episode().support, *gold_episode().query))
    out, report = evaluate("plain.tar", "--ll", *GOLD_TYPE, "--ll_nrep", 2)
    assert report["ll"]["total_sd"] == pytest.approx(0, abs=1e-6)
    total = f"log-likelihood {-n * math.log(7):.2f} nats (SD 0.00 over 2 repetitions)"
    assert f"{total}, {n:.1f} symbols, -1.9459 a symbol\n" in out


def test_the_best_lapse_is_the_best_of_those_that_can_be_asked_for(evaluate):
    """Its likelihood is that which --ll finds with it, also beside other ways, each of which starts from the seed."""
    own = ("main.tar", "--ll_nrep", 2)
    out, report = evaluate(*own, "--fit_lapse", "--ll", "--max", "--sample")
    best = report["fit_lapse"]
    assert f"best lapse {best['lapse']}: log-likelihood {best['total']:.2f} nats" in out
    at = LAPSES.index(best["lapse"])
    found = [evaluate(*own, "--ll", "--ll_p_lapse", lapse)[1]["ll"] for lapse in LAPSES[max(at - 1, 0) : at + 2]]
    assert best in found and max(one["per_symbol"] for one in found) == best["per_symbol"]
    for way in ("max", "sample"):
        assert evaluate("main.tar", f"--{way}")[1][way] == report[way]


def test_left_out_answers_are_told(evaluate):
    """Those that the canonical symbols have no name for; the others are all scored."""
    out, report = evaluate("vanilla.tar", "--ll", "--episode_type", "human_vanilla")
    assert f"; {N_UNDEFINED} answers with {UNDEFINED} left out; a right answer is what a person has" in out
    kept = [one.output for number in range(10) for one in people_asked(number).query if UNDEFINED not in one.output]
    assert len(kept) == sum(COUNTS) - N_UNDEFINED
    assert report["ll"]["n_symbols"] == sum(map(len, kept)) + len(kept)


# The script: answers and pictures


@pytest.mark.parametrize(("kind", "counts"), [("few_shot_gold", [REPEATS] * 10), ("few_shot_human", COUNTS)])
def test_sampled_few_shot_answers_are_written(evaluate, tmp_path, kind, counts):
    """A page, a listing and JSON under type and network; novel queries alone, as often as they are asked."""
    out, _ = evaluate("main.tar", "--sample_html", "--episode_type", kind)
    written = contents(tmp_path / "html")
    assert written.keys() == {f"{kind}/algebraic_main.{ending}" for ending in ("html", "txt", "json")}
    saved = json.loads(written[f"{kind}/algebraic_main.json"])
    assert (saved["file"], saved["seed"], "commit" in saved["provenance"]) == ("main.tar", 0, True)
    answers = read_answers(tmp_path / "html" / kind / "algebraic_main.json")
    assert (answers.name, answers.episode_type) == ("algebraic_main", kind)
    assert kinds_table([answers]) in out
    given, text = answers.by_query(), written[f"{kind}/algebraic_main.txt"].decode()
    assert [(query, len(found)) for query, found in given.items()] == list(zip(GOLD_QUERIES, counts, strict=True))
    for query, found in given.items():
        assert text.count(f"    {query} -> ") == len(found)
        assert all(f"    {query} -> {' '.join(answer)}" in text for answer in found)


def test_what_is_of_something_else_is_not_replaced(evaluate, models, data, tmp_path):
    """Answers and results of another network, seed or question, or a file of another kind; the same may be repeated."""
    (tmp_path / "others").mkdir()
    shutil.copy(models / "plain.tar", tmp_path / "others" / "main.tar")
    pages = ("--sample_html", *GOLD_TYPE)
    results = ("--max", "--fn_out_results", tmp_path / "kept.json")
    for _ in range(2):
        evaluate("main.tar", *pages)
        evaluate("main.tar", *results)
    (tmp_path / "list.json").write_text("[1]")
    before = contents(tmp_path)
    others = ("--dir_model", tmp_path / "others")
    places = ("--cpu", "--data_dir", data, "--dir_model", models, "--results_dir", tmp_path / "html")
    for name, said, option, *arguments in (
        ("algebraic_main.json", "weights", "--results_dir", *pages, *others),
        ("algebraic_main.json", "seed", "--results_dir", *pages, "--seed", 5),
        ("kept.json", "weights", "--fn_out_results", *results, *others),
        ("kept.json", "asked", "--fn_out_results", *results, "--ll"),
        ("list.json", "something else", "--fn_out_results", "--max", "--fn_out_results", tmp_path / "list.json"),
    ):
        outcome = run_main(biml.eval, "--fn_in_model", "main.tar", *places, *arguments)
        assert_one_line(outcome, "eval.py", name, said, option)
        assert contents(tmp_path) == before
    assert "max" in evaluate("main.tar", "--max", "--fn_out_results", tmp_path / "list.json", "--overwrite")[0]


def test_answers_given_one_after_the_other_are_written(evaluate, models, tmp_path):
    """Those that the seed gives; the listing knows no right ones."""
    out, _ = evaluate("main.tar", "--sample_iterative", "--episode_type", "open_end_freeform")
    stem = tmp_path / "html" / "open_end_freeform" / "algebraic_main"
    answers = read_answers(stem.with_suffix(".json"))
    network, made = load_network(models / "main.tar", CPU), views("open_end_freeform")
    expected = answer_one_by_one(network, made, 10, torch.Generator().manual_seed(0))
    assert answers.episodes == [[(one.query, one.answer) for one in episode.answered] for episode in expected]
    text = stem.with_suffix(".txt").read_text()
    assert text.count("Evaluation episode") == REPEATS and "target" not in text and "right" not in text
    assert kinds_table([answers]) in out and stem.with_suffix(".html").exists()


def test_the_training_is_drawn(models):
    """Losses and rate by step, each axis and loss named; PNG beside the network, without data; no figure left open."""
    figure = plt.figure()
    draw_training(figure, HISTORY, "net.tar, algebraic")
    (training, validation), (rate,) = (axes.get_lines() for axes in figure.axes)
    for line, entry in ((training, "avg_train_loss"), (validation, "val_loss"), (rate, "lr")):
        assert line.get_xydata().tolist() == [[one["step"], one[entry]] for one in HISTORY]
    top, bottom = figure.axes
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["training", "validation"]
    assert (bottom.get_xlabel(), bool(top.get_ylabel()), bool(bottom.get_ylabel())) == ("step", True, True)
    assert figure.get_suptitle() == "net.tar, algebraic"
    plt.close(figure)
    path = models / "main_dashboard.png"
    where = ("--fn_in_model", "main.tar", "--dir_model", models, "--data_dir", "nowhere")
    outcome = run_main(biml.eval, *where, "--dashboard", "--cpu")
    pixels = matplotlib.image.imread(path)
    path.unlink()
    assert outcome.code == 0 and f"written to {path}\n" in outcome.out and pixels.std() > 0.01
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("backend", "is_shown"), [("TkAgg", True), ("agg", False)])
def test_the_picture_is_shown_where_there_is_a_display(tmp_path, backend, is_shown):
    """Once, of a single step too, and nothing is left open."""
    plt.switch_backend("agg")
    with mock.patch.object(plt, "get_backend", lambda: backend), mock.patch.object(plt, "show") as show:
        save_training(tmp_path / "new" / "net.png", HISTORY[:1], "title", overwrite=False)
    assert show.called == is_shown and plt.get_fignums() == []
    assert contents(tmp_path).keys() == {"new/net.png"}


def test_another_picture_costs_no_evaluation(models, data):
    """The network is scored first; then the picture that is there is kept, and the line says how to replace it."""
    path = models / "main_dashboard.png"
    path.write_bytes(b"of an earlier state of the network")
    where = ("--fn_in_model", "main.tar", "--dir_model", models, "--data_dir", data)
    outcome = run_main(biml.eval, *where, "--max", "--dashboard", "--cpu")
    assert outcome.code == 2 and "max: retrieve" in outcome.out and f"{path} is there already" in outcome.err
    assert path.read_bytes() == b"of an earlier state of the network"
    path.unlink()


def test_weights_alone_can_be_evaluated_on_what_is_named(evaluate):
    """They do not tell what they were trained on; everything else goes as with others."""
    out, report = evaluate("weights.pt", "--max", "--episode_type", "algebraic")
    expected = evaluate(*GREEDY)[1]
    assert report["max"] == expected["max"]
    assert "weights.pt: 0 of ? epochs of None" in out


# The script: mistakes


@pytest.fixture(scope="module")
def world(tmp_path_factory, data, models):
    """A folder to make mistakes in."""
    folder = tmp_path_factory.mktemp("world")
    for part in ("data_algebraic", "data_human"):
        (folder / part).symlink_to(data / part)
    (folder / "models").mkdir()
    for path in models.iterdir():
        (folder / "models" / path.name).write_bytes(path.read_bytes())
    half = (models / "main.tar").read_bytes()
    (folder / "models" / "half.tar").write_bytes(half[: len(half) // 2])
    (folder / "models" / "folder.tar").mkdir()
    torch.save({"weights": torch.zeros(3)}, folder / "models" / "other.tar")
    wrong, bent = untrained(), {"history": [{"step": 1}]}
    wrong.out.bias.data[2] = math.nan
    with mock.patch("biml.network_file.check_finite"):
        save_network(folder / "models" / "nan.tar", wrong, 3, {"episode_type": "algebraic"}, {})
    save_network(folder / "models" / "bent.tar", untrained(), 3, {"episode_type": "algebraic"}, bent)
    (folder / "file").write_text("no folder\n")
    (folder / "empty").mkdir()
    nothing_named = Example(split(GOLD_QUERIES[0]), (UNDEFINED, "3"))
    write_people(folder / "strangers", [Episode(gold_episode().support, (nothing_named,), None)])
    return folder


MISTAKES = [  # what follows --fn_in_model on the command line, and what the message must say
    ("--max", ["--fn_in_model"]),
    ("main.tar", ["nothing to do", "--max", "--dashboard"]),
    ("main.tar --max --speed 3", ["--speed"]),
    ("main.tar --max --episode_type mlc", ["--episode_type", "mlc"]),
    ("models/main.tar --max", ["--fn_in_model", "--dir_model"]),
    ("main.json --max", ["NAME.tar or NAME.pt"]),
    ("none.tar --max", ["no checkpoint at", "none.tar", "biml.train"]),
    ("half.tar --max", ["half.tar", "truncated"]),
    ("other.tar --max", ["other.tar holds no network of biml"]),
    ("folder.tar --max", ["folder.tar is a folder"]),
    ("weights.pt --max", ["weights.pt", "--episode_type"]),
    ("main.tar --max --batch_size 0", ["--batch_size", "at least 1"]),
    ("main.tar --max --max_length_eval 0", ["--max_length_eval", "at least 1"]),
    ("main.tar --sample --seed -1", ["--seed", "at least 0"]),
    ("main.tar --ll --ll_nrep 0", ["--ll_nrep", "at least 1"]),
    ("main.tar --fit_lapse", ["--fit_lapse", "--ll_nrep"]),
    ("main.tar --ll --ll_p_lapse 1", ["--ll_p_lapse", "below 1"]),
    ("main.tar --ll --ll_p_lapse -0.1", ["--ll_p_lapse", "at least 0"]),
    ("main.tar --ll --ll_p_lapse nan", ["--ll_p_lapse"]),
    ("main.tar --ll --ll_p_lapse few", ["--ll_p_lapse", "'few'"]),
    ("main.tar --max --gpu 0", ["--gpu", "--cpu"]),
    ("main.tar --max --threads 9999", ["9999 threads"]),
    ("main.tar --sample_html", ["--sample_html", "few_shot_gold", "algebraic"]),
    ("main.tar --sample_html --episode_type open_end_freeform", ["--sample_html", "open_end_freeform"]),
    ("main.tar --sample_iterative --episode_type few_shot_gold", ["--sample_iterative needs the type open_end_free"]),
    ("main.tar --max --episode_type open_end_freeform", ["open_end_freeform has no right answers; only --sample_it"]),
    ("main.tar --sample_iterative --ll --episode_type open_end_freeform", ["open_end_freeform has no right answers"]),
    ("vanilla.tar --max --max_length_eval 5", ["6 symbols", "--max_length_eval 6"]),
    ("main.tar --max --episode_type few_shot_vanilla", ["few_shot_vanilla", "another vocabulary"]),
    ("vanilla.tar --max --episode_type few_shot_gold", ["few_shot_gold", "another vocabulary"]),
    ("main.tar --max --data_dir {world}/empty", ["val.npz", "biml.generate"]),
    ("main.tar --ll --episode_type few_shot_human --data_dir {world}/empty", ["data_human", "--data_dir"]),
    ("vanilla.tar --ll --episode_type human_vanilla --data_dir {world}/strangers", [UNDEFINED, "nothing is left"]),
    ("main.tar --episode_type few_shot_gold --sample_html --max_length_eval 3", ["--max_length_eval"]),
    ("'' --max", ["--fn_in_model", "an empty one"]),
    ("main.tar --max --data_dir ''", ["--data_dir", "an empty one"]),
    ("main.tar --max --max_length_eval 501", ["--max_length_eval", "at most 500"]),
    ("main.tar --max --ll_p_lapse 0.1", ["--ll_p_lapse", "--ll"]),
    ("main.tar --max --ll_nrep 3", ["--ll_nrep", "--fit_lapse"]),
    ("main.tar --ll --verbose", ["--verbose", "--sample"]),
    ("main.tar --dashboard --fn_out_results r.json", ["--fn_out_results"]),
    ("nan.tar --sample", ["nan.tar", "weights are infinite"]),
    ("bent.tar --dashboard", ["bent.tar", "no history"]),
    ("main.tar --dashboard --sample_html", ["--sample_html", "algebraic"]),
    ("new.tar --dashboard", ["new.tar", "no history", "--dashboard"]),
    ("main.tar --max --fn_out_results r.csv", ["PATH.json", "r.csv"]),
    ("main.tar --max --fn_out_results {world}/file/r.json", ["file"]),
    ("main.tar --sample_html --episode_type few_shot_gold --results_dir {world}/file", ["is a file, not a folder"]),
]


@pytest.mark.parametrize(("line", "said"), MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, line, said):
    """Exit code 2, one line that says what is wrong, every file as it was and none added."""
    words = shlex.split(line.format(world=world))
    network = [] if words[0].startswith("--") else ["--fn_in_model"]
    places = ("--cpu", "--data_dir", world, "--dir_model", world / "models", "--results_dir", world / "html")
    before = contents(world)
    assert_one_line(run_main(biml.eval, *places, *network, *words), "eval.py", *said)
    assert contents(world) == before


def test_the_names_of_the_published_code_mean_the_same(models, data, evaluate):
    """There the network that is read is --fn_out_model; -h is no mistake and lists the modes."""
    where = ("--fn_out_model", "main.tar", "--cpu", "--data_dir", data, "--dir_model", models, "--max")
    outcome = run_main(biml.eval, *where)
    assert (outcome.code, outcome.err) == (0, "") and evaluate(*GREEDY)[0].startswith(outcome.out)
    outcome = run_main(biml.eval, "-h")
    assert (outcome.code, outcome.err) == (0, "")
    assert all(mode in outcome.out for mode in ("--max", "--sample_iterative", "--fit_lapse", "--dashboard"))


def test_evaluating_as_a_process(models, data, tmp_path, evaluate):
    """As typed, with `python -m`: the same results, nothing on stderr, a picture without a display."""
    result = tmp_path / "process.json"
    places = ["--cpu", "--dir_model", str(models), "--data_dir", str(data), "--fn_out_results", str(result)]
    command = [sys.executable, "-m", "biml.eval", "--fn_in_model", "main.tar", "--max", "--dashboard", *places]
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in displays}
    environment["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # left behind by a notebook, and not here
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert json.loads(result.read_text())["max"] == evaluate(*GREEDY)[1]["max"]
    picture = models / "main_dashboard.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.unlink()
