"""Rates and losses are what they say, a network learns, and an interrupted run equals an unbroken one."""

import argparse
import math
import os
import pickle
import shutil
import signal
import sys
import types
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from script_runs import assert_left_alone_while_claimed, assert_one_line, contents, rows, run_file, same_contents

import biml.training
from biml.answering import answer_views
from biml.batch import assemble
from biml.benchmarks import gold_episode
from biml.dice import Dice
from biml.episode import Episode, EpisodeSizes, Example, sample_episode
from biml.episode_types import ViewSet, training_views, validation_views
from biml.model import BIML, ModelConfig
from biml.network_file import load_network, save_network
from biml.packed_episodes import pack, save_packed
from biml.scoring import accuracy
from biml.stream import batches, evaluation_batches, views_of
from biml.training_step import learning_rate, make_optimizer, total_loss, train_on_batch
from biml.views import rename, view_of
from biml.vocabulary import MAIN, VANILLA
from common.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
PAD = 8
SIZES = EpisodeSizes(2, 1, 2, 3, 2, 2)
N_TRAIN, N_VAL = 7, 3
TINY_NETWORK = ModelConfig(emb_size=16, nlayers_encoder=1, nlayers_decoder=1, ff_mult=2, dropout=0.0)


# The rate


def rate(epoch, step=0, steps=4000, nepochs=50, peak=1e-3, end_factor=0.05, has_warmup=True):
    return learning_rate(epoch, step, steps, nepochs, peak, end_factor, has_warmup)


@pytest.mark.parametrize(("epoch", "expected"), [(2, 1e-3), (3, 9.80e-4), (25, 5.45e-4), (49, 6.98e-5), (50, 5e-5)])
def test_the_rate_falls_from_epoch_to_epoch(epoch, expected):
    """As published for 50 epochs; it is the same in all steps of an epoch."""
    assert rate(epoch) == pytest.approx(expected, rel=1e-3)
    assert {rate(epoch, step) for step in (0, 17, 3999)} == {rate(epoch)}


def test_the_rate_rises_within_the_first_epoch():
    """Evenly from a ten-thousandth of the peak, which the second epoch starts with."""
    assert rate(1, 0) == pytest.approx(1e-7)
    assert rate(1, 2000) == pytest.approx(1e-3 * (1e-4 + (1 - 1e-4) / 2))
    rises = np.diff([rate(1, step) for step in range(4001)])
    assert rises == pytest.approx([rises[0]] * 4000)
    assert rate(1, 4000) == pytest.approx(1e-3)  # a partial last batch
    assert rate(1, 4001) == pytest.approx(1e-3)


def test_without_warm_up_the_rate_falls_from_the_first_epoch():
    """Down to the same fraction in the last."""
    rates = [rate(epoch, nepochs=5, has_warmup=False, end_factor=0.2) for epoch in range(1, 6)]
    assert rates == pytest.approx([1e-3, 8e-4, 6e-4, 4e-4, 2e-4])


@pytest.mark.parametrize("nepochs", [1, 2])
@pytest.mark.parametrize("has_warmup", [True, False])
def test_short_runs_have_rates_too(nepochs, has_warmup):
    """Even if no batch is full."""
    found = [rate(epoch, nepochs=nepochs, has_warmup=has_warmup, steps=0) for epoch in range(1, nepochs + 1)]
    assert all(0 < one <= 1e-3 for one in found)


# Loss and step


def gold_batch(seed=0, n_query=10):
    gold = gold_episode()
    renamed, _ = rename(gold._replace(support=gold.support[:4], query=gold.query[:n_query]), Dice(rng(seed)))
    return assemble([view_of(renamed, MAIN)], MAIN).tensors(CPU)


def rng(seed):
    return np.random.default_rng(seed)


def tiny_network(seed=0, config=TINY_NETWORK):
    torch.manual_seed(seed)
    return BIML(config)


def test_the_loss_is_a_mean_over_symbols_that_leaves_out_padding_only():
    """Ends and everything else count alike, in long answers and short ones."""
    model, batch = tiny_network(), gold_batch()
    logits = model(batch.source, batch.target_in).detach()
    log_p = logits.log_softmax(2)
    picked = [
        -log_p[row, step, symbol].item()
        for row, target in enumerate(batch.target_out.tolist())
        for step, symbol in enumerate(target)
        if symbol != PAD
    ]
    loss, count = total_loss(logits, batch.target_out, PAD)
    assert int(count) == len(picked) == sum(len(one.output) + 1 for one in gold_episode().query)
    assert loss.item() == pytest.approx(sum(picked), rel=1e-5)
    junk = torch.where((batch.target_out == PAD)[..., None], torch.randn_like(logits), logits)
    assert torch.equal(total_loss(junk, batch.target_out, PAD)[0], loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    assert train_on_batch(model, optimizer, batch).item() == pytest.approx(sum(picked) / len(picked), rel=1e-5)


def test_a_step_follows_the_gradient_of_the_mean_loss():
    """What was left of earlier gradients is forgotten."""
    model, batch = tiny_network(), gold_batch()
    weights = list(model.parameters())
    loss, count = total_loss(model(batch.source, batch.target_in), batch.target_out, PAD)
    expected = torch.autograd.grad(loss / count, weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    before = [weight.detach().clone() for weight in weights]
    train_on_batch(model, torch.optim.SGD(weights, lr=1.0), batch)
    for old, new, gradient in zip(before, weights, expected, strict=True):
        torch.testing.assert_close(old - new.detach(), gradient, rtol=1e-3, atol=1e-5)


def test_a_step_has_dropout():
    """Also right after an evaluation."""
    model, batch = tiny_network(config=ModelConfig(emb_size=16, dropout=0.5)).eval(), gold_batch(n_query=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    one, other = (train_on_batch(model.eval(), optimizer, batch) for _ in range(2))
    assert one != other


def test_the_optimizer_is_the_published_one():
    """AdamW with its betas, and decay on every weight."""
    model = tiny_network()
    (group,) = make_optimizer(model, 0.002).param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.002, (0.9, 0.95), 1e-8, 0.01)
    assert len(group["params"]) == len(list(model.parameters()))


def test_a_tiny_network_learns_one_batch_by_heart():
    """Its loss comes down to nearly nothing."""
    model, batch = tiny_network(), gold_batch()
    optimizer = make_optimizer(model, 0.01)
    losses = [train_on_batch(model, optimizer, batch).item() for _ in range(80)]
    assert losses[0] > 1.5
    assert losses[-1] < 0.05


# Batches


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with a few small random episodes."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "data_algebraic").mkdir()
    for split, count, first in (("train", N_TRAIN, 0), ("val", N_VAL, 100)):
        drawn = [sample_episode(rng(first + seed), (), SIZES) for seed in range(count)]
        save_packed(folder / "data_algebraic" / f"{split}.npz", pack(drawn, {}))
    return folder


def equal(one, other):
    """Compare lists of batches."""
    return len(one) == len(other) and all(
        len(batch) == len(same) and all(np.array_equal(*parts) for parts in zip(batch, same, strict=True))
        for batch, same in zip(one, other, strict=True)
    )


def test_batches_depend_on_seed_and_epoch_alone(data):
    """Whatever was drawn before: the epochs backwards, an epoch twice, one left in the middle."""
    views = training_views("algebraic+biases", data)
    drawn = {epoch: list(batches(views, 2, 5, epoch)) for epoch in (1, 2, 3)}
    abandoned = batches(views, 2, 5, 3)
    next(abandoned)
    fresh = training_views("algebraic+biases", data)
    for epoch in (3, 2, 1, 1):
        assert equal(list(batches(fresh, 2, 5, epoch)), drawn[epoch])
    assert not equal(drawn[1], drawn[2])
    assert not equal(list(batches(views, 2, 6, 1)), drawn[1])


def asking(words):
    """A view with nothing to study that asks for these words."""
    query = (Example(tuple(words), ("RED",)),)
    return view_of(Episode((), query, None), MAIN)


def numbered(size):
    """Views that tell the number of their episode, and what their dice drew."""
    drawn = []

    def make(index, dice):
        drawn.append((index, dice.fraction()))
        words = [MAIN.source.words[3 + digit] for digit in divmod(index, 10)]
        return [asking(words)]

    return ViewSet(size, make), drawn


@pytest.mark.parametrize(("size", "batch_size", "lengths"), [(11, 4, [4, 4, 3]), (8, 4, [4, 4]), (3, 5, [3])])
def test_an_epoch_has_every_episode_once(size, batch_size, lengths):
    """In a new order each time; what is left makes a smaller batch."""
    orders = []
    for epoch in (1, 2, 3, 4):
        views, drawn = numbered(size)
        made = list(batches(views, batch_size, 1, epoch))
        assert [len(batch.source) for batch in made] == lengths
        assert sorted(index for index, _ in drawn) == list(range(size))
        rows = np.concatenate([batch.source[:, :2] for batch in made]).astype(int) - 3
        assert [10 * tens + units for tens, units in rows] == [index for index, _ in drawn]
        orders.append(tuple(index for index, _ in drawn))
    assert len(set(orders)) > 1


def test_every_episode_has_its_own_dice():
    """Those of an episode do not depend on the size of batches; another epoch or seed has others."""
    found = Counter()
    for seed, epoch in ((1, 1), (1, 2), (2, 1)):
        views, drawn = numbered(9)
        list(batches(views, 4, seed, epoch))
        again, redrawn = numbered(9)
        list(batches(again, 2, seed, epoch))
        assert dict(drawn) == dict(redrawn)
        found.update(fraction for _, fraction in drawn)
    assert len(found) == 27


def test_evaluation_has_every_episode_in_order():
    """Whatever the size of batches; a repetition has other dice."""
    views, drawn = numbered(7)
    assert [len(batch.source) for batch in evaluation_batches(views, 3, 1)] == [3, 3, 1]
    again, redrawn = numbered(7)
    list(evaluation_batches(again, 2, 1))
    assert drawn == redrawn and [index for index, _ in drawn] == list(range(7))
    other, repeated = numbered(7)
    list(evaluation_batches(other, 3, 1, repetition=1))
    assert not {fraction for _, fraction in repeated} & {fraction for _, fraction in drawn}


# The script


def run_train(*arguments):
    """Run the script in this process."""
    return run_file(ROOT / "biml" / "train.py", *arguments)


EPOCHS, BATCH = 7, 2  # 4 steps an epoch, so that lines are due after steps 1 and 25, in the first and last epoch
STEPS = -(-N_TRAIN // BATCH)
TINY = ("--cpu", "--emb_size", 8, "--nlayers_encoder", 1, "--nlayers_decoder", 1, "--ff_mult", 1, "--dropout", 0.2)
TINY += ("--batch_size", BATCH, "--nepochs", EPOCHS, "--episode_type", "algebraic+biases")


@pytest.fixture
def train(tmp_path, data):
    """Run the script at a tiny size; gives how it ended. Ctrl-C may arrive in some step."""

    def run(name, *arguments, stop_in=None, step=train_on_batch):
        steps = [step] * 1000
        if stop_in is not None:
            steps[stop_in - 1] = mock.Mock(side_effect=KeyboardInterrupt)
        coming = iter(steps)
        with mock.patch.object(biml.training, "train_on_batch", lambda *given: next(coming)(*given)):
            places = ("--data_dir", data, "--dir_model", tmp_path, "--fn_out_model", f"{name}.tar")
            return run_train(*TINY, *places, *arguments)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """The file of a finished run of one epoch."""
    folder = tmp_path_factory.mktemp("finished")
    places = ("--data_dir", data, "--dir_model", folder, "--fn_out_model", "net.tar")
    assert run_train(*TINY, *places, "--nepochs", 1).code == 0
    return (folder / "net.tar").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """The folder of a run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    places = ("--data_dir", data, "--dir_model", folder, "--fn_out_model", "net.tar")
    assert run_train(*TINY, *places).code == 0
    return folder


def assert_same_run(one, other, ending=""):
    """Compare networks and learning curves; the paths have no suffix."""
    saved = (torch.load(path.with_name(f"{path.name}{ending}.tar"), weights_only=True) for path in (one, other))
    assert same_contents(*saved)
    assert rows(one.with_suffix(".csv")) == rows(other.with_suffix(".csv"))


@pytest.mark.parametrize("stop_in", [3, 14, 26])
def test_interrupted_and_resumed_equals_uninterrupted(train, tmp_path, whole, stop_in):
    """Killed before anything was saved, within an epoch, or after a line that was not saved: bit for bit the same."""
    stopped = train("broken", stop_in=stop_in)
    assert (stopped.code, stopped.err.count("\n")) == (130, 1)
    saved = (stop_in - 1) // STEPS * STEPS
    assert f"the same command goes on from step {saved}\n" in stopped.err
    resumed = train("broken")
    assert (resumed.code, resumed.err) == (0, "")
    assert ("going on from step" in resumed.out) == (saved > 0)
    assert_same_run(whole / "net", tmp_path / "broken")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_in", [1, 3, STEPS, STEPS + 1, 25])
def test_no_step_is_taken_twice(train, tmp_path, whole, stop_in, number):
    """Ctrl-C and SIGTERM wait for the end of the step, and save it: what goes on takes the others alone."""
    taken = []

    def step(*given):
        taken.append(given)
        if len(taken) == stop_in:
            os.kill(os.getpid(), number)
        return train_on_batch(*given)

    stopped = train("broken", step=step)
    assert (stopped.code, stopped.err.count("\n")) == (130, 1)
    assert f"the same command goes on from step {stop_in}\n" in stopped.err
    resumed = train("broken", step=step)
    assert (resumed.code, resumed.err, f"going on from step {stop_in}\n" in resumed.out) == (0, "", True)
    assert len(taken) == STEPS * EPOCHS
    assert_same_run(whole / "net", tmp_path / "broken")


def test_other_types_and_schedules_can_be_resumed_too(train, tmp_path):
    """Copies only, without warm-up."""
    kind = ("--episode_type", "retrieve", "--no_lr_warmup", "--act", "relu", "--nepochs", 3)
    assert train("whole", *kind).code == 0
    assert train("broken", *kind, stop_in=7).code == 130
    assert train("broken", *kind).code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_run_may_be_interrupted_again_and_again_and_moved(train, tmp_path, whole):
    """Twice in the same epoch, and later on; folder and name are no part of what is computed."""
    for stop_in in (6, 3, 10):
        assert train("broken", stop_in=stop_in).code == 130
    (tmp_path / "moved").mkdir()
    for kind in ("tar", "csv"):
        (tmp_path / f"broken.{kind}").rename(tmp_path / "moved" / f"two.{kind}")
    resumed = train("two", "--dir_model", tmp_path / "moved")
    assert (resumed.code, f"going on from step {3 * STEPS}\n" in resumed.out) == (0, True)
    assert_same_run(whole / "net", tmp_path / "moved" / "two")


def test_the_best_network_survives_an_interruption(train, tmp_path):
    """With --save_best both runs keep the same network; what was best before the first epochs were over is skipped."""
    options = ("--save_best", "--save_best_skip", 0.1)
    assert train("whole", *options).code == 0
    assert train("broken", *options, stop_in=27).code == 130
    assert train("broken", *options).code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    best = load_network(tmp_path / "whole_best.tar", CPU)
    losses = [row["val_loss"] for row in best.saved["history"]]
    assert best.saved["best_val_loss"] == losses[-1] == min(losses)
    assert best.saved["step"] == 25
    assert_same_run(tmp_path / "whole", tmp_path / "broken", "_best")


@pytest.mark.parametrize(("skip", "is_kept"), [(0.0, True), (0.13, True), (0.15, False)])
def test_the_best_network_is_kept_after_some_epochs_only(train, tmp_path, skip, is_kept):
    """The loss of the first epoch's only line is the best so far; it is one epoch of seven (0.14)."""
    assert train("net", "--save_best", "--save_best_skip", skip, stop_in=2).code == 130
    assert (tmp_path / "net_best.tar").exists() == is_kept


def test_losses_of_the_skipped_epochs_are_not_the_lowest(train, tmp_path):
    """As published: a run that is never again as good as in its first epochs keeps the best of the others."""
    assert train("net", "--save_best", "--save_best_skip", 0.15, "--lr", 50).code == 0
    best = load_network(tmp_path / "net_best.tar", CPU)
    first, second = (row["val_loss"] for row in best.saved["history"])
    assert first < second == best.saved["best_val_loss"]


def test_the_same_command_goes_on_after_a_best_network_of_the_first_epoch(train, tmp_path):
    """The run's own file, of its beginning, is there before it; another command is refused."""
    options = ("--save_best", "--save_best_skip", 0)
    assert train("whole", *options).code == 0
    assert train("broken", *options, stop_in=3).code == 130
    assert load_network(tmp_path / "broken_best.tar", CPU).saved["step"] == 1
    assert_one_line(train("broken", *options, "--seed", 2), "train.py", "broken.tar was trained with", "--overwrite")
    assert train("broken", *options).code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    assert_same_run(tmp_path / "whole", tmp_path / "broken", "_best")


def test_there_is_a_best_network_in_a_short_run_too(train, tmp_path):
    """Without a line after the skipped epochs the last network is the best."""
    assert train("net", "--save_best", "--save_best_skip", 0.5, "--nepochs", 5).code == 0
    best, last = (load_network(tmp_path / f"{name}.tar", CPU) for name in ("net_best", "net"))
    assert [row["step"] for row in best.saved["history"]] == [1]
    assert best.saved["best_val_loss"] == last.saved["best_val_loss"] > 0
    assert same_contents(best.saved["model_state"], last.saved["model_state"])


def test_the_best_network_is_not_trained_further(train, tmp_path):
    """It is a network without its training."""
    assert train("net", "--save_best", "--save_best_skip", 0).code == 0
    before = contents(tmp_path)
    outcome = train("net_best", "--save_best", "--save_best_skip", 0)
    assert_one_line(outcome, "train.py", "net_best.tar")
    assert contents(tmp_path) == before


def test_without_save_best_there_is_no_best_network(whole):
    """One network and its curve are all."""
    assert set(contents(whole)) == {"net.tar", "net.csv"}


def test_equal_seeds_make_equal_runs(train, tmp_path):
    """Other seeds have other weights."""
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        assert train(name, "--seed", seed, "--nepochs", 1).code == 0
    assert_same_run(tmp_path / "one", tmp_path / "two")
    one, other = (load_network(tmp_path / f"{name}.tar", CPU).model.state_dict() for name in ("one", "other"))
    assert not torch.equal(one["out.weight"], other["out.weight"])


def test_the_curve_says_what_happened(train, tmp_path, data):
    """Lines after steps 1 and 25 with the step's rate, the mean loss since the last line, and the validation loss."""
    losses, rates = [], []

    def spy(model, optimizer, *rest):
        rates.append(optimizer.param_groups[0]["lr"])
        loss = train_on_batch(model, optimizer, *rest)
        losses.append(loss.item())
        return loss

    outcome = train("net", step=spy)
    assert outcome.code == 0
    assert len(losses) == EPOCHS * STEPS
    expected = [rate(1 + n // STEPS, n % STEPS, N_TRAIN // BATCH, EPOCHS) for n in range(EPOCHS * STEPS)]
    assert rates == pytest.approx(expected)
    first, second = rows(tmp_path / "net.csv")
    assert [(row["step"], row["epoch"]) for row in (first, second)] == [("1", "1"), ("25", "7")]
    assert float(first["avg_train_loss"]) == pytest.approx(losses[0])
    assert float(second["avg_train_loss"]) == pytest.approx(sum(losses[1:25]) / 24)
    assert [float(row["lr"]) for row in (first, second)] == [rates[0], rates[24]]
    assert outcome.out.count("ValLoss") == 2 and "step 25 (89%), epoch 7" in outcome.out
    trained = load_network(tmp_path / "net.tar", CPU)
    assert [str(row["val_loss"]) for row in trained.saved["history"]] == [first["val_loss"], second["val_loss"]]
    assert (trained.epoch, trained.episode_type, trained.saved["step"]) == (EPOCHS, "algebraic+biases", 28)


def test_the_validation_loss_is_that_of_all_symbols(train, tmp_path, data):
    """The first network, which has hardly moved: loss of all symbols of all validation queries over their number."""
    assert train("net", "--lr", 1e-30, "--nepochs", 1).code == 0
    (row,) = rows(tmp_path / "net.csv")
    model = load_network(tmp_path / "net.tar", CPU).model.eval()
    (whole,) = evaluation_batches(validation_views("algebraic+biases", data), N_VAL, 1)
    batch = whole.tensors(CPU)
    with torch.no_grad():
        loss, count = total_loss(model(batch.source, batch.target_in), batch.target_out, PAD)
    assert float(row["val_loss"]) == pytest.approx((loss / count).item(), rel=1e-4)


def test_a_finished_run_is_left_alone(train, tmp_path, finished):
    """The same command again says that there is nothing to do and changes nothing."""
    tmp_path.joinpath("net.tar").write_bytes(finished)
    tmp_path.joinpath("net.csv").write_text("step\n")
    before = contents(tmp_path)
    again = train("net", "--nepochs", 1)
    assert (again.code, again.err) == (0, "")
    assert f"net.tar is finished ({STEPS} steps)" in again.out
    assert contents(tmp_path) == before


def test_overwriting_starts_anew(train, tmp_path, whole, finished):
    """Whatever is there; stopped before its first epoch was saved it leaves the new run's beginning alone."""
    for name in ("net.tar", "net_best.tar", "net_weights.tar"):
        tmp_path.joinpath(name).write_bytes(finished)
    beside = ("--save_best", "--save_weights")
    stopped = train("net", "--overwrite", *beside, stop_in=2)
    assert stopped.code == 130 and "the same command without --overwrite goes on from step 0\n" in stopped.err
    (path,) = tmp_path.glob("*.tar")
    assert (path.name, load_network(path, CPU).epoch) == ("net.tar", 0)
    tmp_path.joinpath("net.tar").write_bytes(finished)
    assert train("net", "--overwrite").code == 0
    assert_same_run(whole / "net", tmp_path / "net")
    again = train("net", "--overwrite", stop_in=STEPS + 1)
    assert again.code == 130 and "going on" not in again.out


def test_what_another_process_trains_is_left_alone(train, tmp_path, finished):
    """A second run is refused before it looks at what is there, which may be another run's by the time it begins."""
    assert_left_alone_while_claimed(train, tmp_path / "net.tar", finished)


def test_overwriting_loses_nothing_if_the_new_run_cannot_be_saved(train, tmp_path, finished):
    """The old networks stay until the first file of the new run is there."""
    for name in ("net.tar", "net_best.tar"):
        tmp_path.joinpath(name).write_bytes(finished)
    before = contents(tmp_path)
    full = OSError(28, "No space left on device", str(tmp_path / "net.tar"))
    with mock.patch("biml.network_file.save_plain", side_effect=full):
        assert_one_line(train("net", "--overwrite", "--save_best"), "train.py", "net.tar: No space left")
    assert contents(tmp_path) == before


def test_resume_asks_for_what_happens_anyway(train, tmp_path, whole):
    """The spelling of earlier code is taken; it contradicts --overwrite."""
    assert train("net", "--resume", stop_in=14).code == 130
    assert "going on from step" in train("net", "--resume").out
    assert_same_run(whole / "net", tmp_path / "net")
    assert_one_line(train("net", "--resume", "--overwrite"), "train.py", "--overwrite", "--resume")


@pytest.mark.parametrize(
    "argument",
    [
        *("--seed 2", "--episode_type algebraic", "--batch_size 3", "--lr 0.5", "--lr_end_factor 0.5"),
        *("--no_lr_warmup", "--nlayers_encoder 2", "--nlayers_decoder 2", "--emb_size 16", "--ff_mult 2"),
        *("--dropout 0.1", "--act relu", "--save_best", "--save_best_skip 0.3", "--bf16", "--compile"),
    ],
)
def test_other_arguments_do_not_go_on_from_a_network(train, tmp_path, finished, argument):
    """Whatever changes the result must be as it was; the message names the flag."""
    tmp_path.joinpath("net.tar").write_bytes(finished)
    before = contents(tmp_path)
    flag = argument.split()[0]
    outcome = train("net", "--nepochs", 1, *argument.split())
    assert_one_line(outcome, "train.py", "net.tar was trained with", f"{flag} ", "--overwrite")
    assert contents(tmp_path) == before


def test_the_best_network_of_another_run_is_not_replaced(train, tmp_path, finished):
    """Not even where the run's own file is missing, nor left beside a run that keeps none."""
    tmp_path.joinpath("net_best.tar").write_bytes(finished)
    before = contents(tmp_path)
    for flags in (("--save_best",), ()):
        outcome = train("net", "--nepochs", 1, *flags)
        assert_one_line(outcome, "train.py", "net_best.tar exists", "--fn_out_model", "--overwrite")
        assert contents(tmp_path) == before
    tmp_path.joinpath("net_weights.tar").write_bytes(finished)
    assert train("net", "--nepochs", 1, "--overwrite").code == 0
    assert {path.name for path in tmp_path.glob("net*.tar")} == {"net.tar"}


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_does_not_go_on_with_other_episodes(train, tmp_path, data, finished, split):
    """Of either split: the run would be neither the one that began nor a new one."""
    folder = tmp_path / "other" / "data_algebraic"
    shutil.copytree(data / "data_algebraic", folder)
    save_packed(folder / f"{split}.npz", pack([sample_episode(rng(200 + seed), (), SIZES) for seed in range(8)], {}))
    tmp_path.joinpath("net.tar").write_bytes(finished)
    before = contents(tmp_path)
    outcome = train("net", "--nepochs", 1, "--data_dir", tmp_path / "other")
    assert_one_line(outcome, "train.py", "net.tar was trained on other episodes", "--data_dir")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "entry", ["data", "optimizer_state", "random_states", "step", "history", "loss_sum", "best_val_loss"]
)
def test_a_network_without_what_going_on_takes_is_refused(train, tmp_path, finished, entry):
    """A file that holds weights only, say, can be used; going on from it is an error of one line."""
    path = tmp_path / "net.tar"
    path.write_bytes(finished)
    saved = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in saved.items() if name != entry}, path)
    before = contents(tmp_path)
    outcome = train("net", "--nepochs", 1)
    told = "without its training" if entry == "optimizer_state" else entry
    assert_one_line(outcome, "train.py", "net.tar ", "cannot be trained further", told)
    assert contents(tmp_path) == before


def test_a_diverged_run_ends_with_advice(train):
    """A loss that is no number any more is an error that names --lr."""
    assert_one_line(train("net", "--lr", 1e38, "--no_lr_warmup"), "train.py", " is nan at step", "--lr")


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_weights_that_are_no_numbers_are_not_kept(train, tmp_path, n_steps):
    """Neither as last nor as best network, whether a log line comes after the bad step or not; nor is there a NaN."""
    batch_size = {1: 8, 2: 4, 3: 3}[n_steps]
    sizes = "--lr", 1e38, "--no_lr_warmup", "--batch_size", batch_size, "--nepochs", 2
    assert_one_line(train("net", *sizes, "--save_best", "--save_best_skip", 0), "train.py", " at step", "--lr")
    for path in tmp_path.glob("*.tar"):
        load_network(path, CPU)
    assert not any(b"nan" in curve for name, curve in contents(tmp_path).items() if name.endswith(".csv"))


@pytest.mark.slow
def test_a_small_network_learns_from_study_examples(tmp_path):
    """What a word means, and to put it together: answers of 54 grammars, 9 held out, that no weight can know.

    An episode shows two of `dax`, `dax dax` and `dax dax dax` with their answers and asks for the third.
    """
    drawn = [sample_episode(rng(seed), (), EpisodeSizes(1, 0, 3, 3, 2, 1)) for seed in range(1500)]
    held_out = {one.grammar.identifier for one in drawn[:9]}
    for split, is_held_out in (("train", False), ("val", True)):
        kept = [one for one in drawn if (one.grammar.identifier in held_out) == is_held_out]
        save_packed(tmp_path / "data_algebraic" / f"{split}.npz", pack(kept, {}))
    network = ("--emb_size", 32, "--nlayers_encoder", 1, "--nlayers_decoder", 1, "--ff_mult", 2, "--dropout", 0)
    trained = run_train(
        *("--episode_type", "algebraic", "--batch_size", 32, "--nepochs", 6, "--lr", 0.002, *network, "--cpu"),
        *("--data_dir", tmp_path, "--dir_model", tmp_path, "--fn_out_model", "net.tar"),
    )
    assert (trained.code, trained.err) == (0, "")
    losses = [float(row["avg_train_loss"]) for row in rows(tmp_path / "net.csv")]
    assert losses[0] > 1.5 and losses[-1] < 0.3
    views = validation_views("algebraic", tmp_path)
    found = accuracy(answer_views(load_network(tmp_path / "net.tar", CPU), list(views_of(views, 0)), 50, 5))
    assert found.retrieve > 90 and found.novel > 90


def test_bf16_is_nearly_the_same(train, tmp_path):
    """Products are rounded, weights are not: losses differ by less than a hundredth of their size, but differ."""
    assert [train("net").code, train("half", "--bf16").code] == [0, 0]
    exact, rounded = (
        [float(row[kind]) for row in rows(tmp_path / f"{name}.csv") for kind in ("avg_train_loss", "val_loss")]
        for name in ("net", "half")
    )
    assert rounded == pytest.approx(exact, rel=0.01) and rounded != exact
    state = load_network(tmp_path / "half.tar", CPU).model.state_dict()
    assert {weights.dtype for weights in state.values()} == {torch.float32}


def test_the_vanilla_network_needs_no_data(train, tmp_path):
    """It has the canonical vocabularies."""
    outcome = train(
        *("net", "--episode_type", "few_shot_vanilla", "--data_dir", tmp_path / "nowhere"),
        *("--nepochs", 1, "--batch_size", 50),
    )
    assert (outcome.code, outcome.err) == (0, "")
    trained = load_network(tmp_path / "net.tar", CPU)
    assert trained.language == VANILLA
    assert (trained.model.config.input_size, trained.model.config.output_size) == (11, 7)


@pytest.fixture
def world(tmp_path, data, finished):
    """A folder to make mistakes in."""
    (tmp_path / "data_algebraic").symlink_to(data / "data_algebraic")
    (tmp_path / "file").write_text("no folder\n")
    (tmp_path / "damaged" / "data_algebraic").mkdir(parents=True)
    (tmp_path / "damaged" / "data_algebraic" / "train.npz").write_bytes(b"PK\3\4")
    for name, episodes in ODD.items():
        save_packed(tmp_path / name / "data_algebraic" / "train.npz", pack(episodes, {}))
        save_packed(tmp_path / name / "data_algebraic" / "val.npz", pack(episodes, {}))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "text.tar").write_text("no network\n")
    (tmp_path / "models" / "half.tar").write_bytes(finished[: len(finished) // 2])
    torch.save({"weights": torch.zeros(3)}, tmp_path / "models" / "other.tar")
    (tmp_path / "models" / "folder.tar").mkdir()
    return tmp_path


RED = Example(("dax",), ("RED",))
ODD = {  # episodes that cannot be trained on
    "nothing": [],
    "strange": [Episode((Example(("jump",), ("RED",)),), (RED,), None)],
    "unstudied": [Episode((), (RED,), None)],
    "endless": [Episode((RED,) * 1300, (RED,), None)],
}
MISTAKES = {  # the command line and what the message must say
    "no episodes": ("--fn_out_model net.tar --data_dir {world}/nothing", ["train.npz holds no episodes"]),
    "other words": ("--fn_out_model net.tar --data_dir {world}/strange", ["train.npz", "unknown word 'jump'"]),
    "nothing to study": (
        "--fn_out_model net.tar --episode_type retrieve --data_dir {world}/unstudied",
        ["no study examples", "retrieve"],
    ),
    "endless episodes": (
        "--fn_out_model net.tar --data_dir {world}/endless",
        ["up to 5000 symbols in all, found 5203"],
    ),
    "no name": ("", ["--fn_out_model"]),
    "unknown option": ("--fn_out_model net.tar --speed 3", ["--speed"]),
    "unknown type": ("--fn_out_model net.tar --episode_type mlc", ["--episode_type", "mlc"]),
    "type for evaluation": ("--fn_out_model net.tar --episode_type few_shot_gold", ["few_shot_gold"]),
    "name with a folder": ("--fn_out_model models/net.tar", ["--fn_out_model", "--dir_model"]),
    "name without .tar": ("--fn_out_model net.pt", ["NAME.tar", "net.pt"]),
    "no batch": ("--fn_out_model net.tar --batch_size 0", ["--batch_size", "at least 1"]),
    "no epochs": ("--fn_out_model net.tar --nepochs 0", ["--nepochs", "at least 1"]),
    "rate of zero": ("--fn_out_model net.tar --lr 0", ["--lr", "above 0"]),
    "rate that is no number": ("--fn_out_model net.tar --lr nan", ["--lr", "above 0"]),
    "negative seed": ("--fn_out_model net.tar --seed -1", ["--seed", "at least 0"]),
    "everything dropped out": ("--fn_out_model net.tar --dropout 1", ["--dropout", "below 1"]),
    "width for seven heads": ("--fn_out_model net.tar --emb_size 12", ["--emb_size 12", "8 attention heads"]),
    "unknown activation": ("--fn_out_model net.tar --act tanh", ["--act"]),
    "two devices": ("--fn_out_model net.tar --gpu 0", ["--gpu", "--cpu"]),
    "too many threads": ("--fn_out_model net.tar --threads 9999", ["9999 threads"]),
    "no data": ("--fn_out_model net.tar --data_dir {world}/models", ["train.npz", "biml.generate"]),
    "damaged data": ("--fn_out_model net.tar --data_dir {world}/damaged", ["train.npz", "damaged"]),
    "no answers": ("--fn_out_model net.tar --episode_type open_end_human_all", ["data_human", "--data_dir"]),
    "no answers for joint": ("--fn_out_model net.tar --episode_type joint_cross1", ["data_human", "--data_dir"]),
    "no network": ("--fn_out_model text.tar", ["text.tar", "nothing in it was run"]),
    "half a network": ("--fn_out_model half.tar", ["half.tar", "truncated"]),
    "something else": ("--fn_out_model other.tar", ["other.tar holds no network of biml"]),
    "a folder": ("--fn_out_model folder.tar", ["folder.tar is a folder"]),
    "folder of models is a file": ("--fn_out_model net.tar --dir_model {world}/file", ["file"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, case):
    """Exit code 2, one line that says what is wrong, every file as it was and none added."""
    line, said = MISTAKES[case]
    arguments = line.format(world=world).split()
    places = ("--data_dir", world, "--dir_model", world / "models")
    before = contents(world)
    assert_one_line(run_train(*TINY, *places, *arguments), "train.py", *said)
    assert contents(world) == before


# Published files


class Lang:
    """As published files have it: a class of a module `datasets` that is not there when they are loaded."""

    def __init__(self, symbols):
        self.symbols = symbols
        self.index2symbol = dict(enumerate(symbols))
        self.symbol2index = {symbol: index for index, symbol in enumerate(symbols)}
        self.PAD_idx = len(symbols) - 1


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Save a network in the layout of the published files; gives the path."""

    def save(model, language=MAIN, **changes):
        path = tmp_path / "net-published.pt"
        langs = {
            f"lang{side}": Lang([*vocabulary.words, "SOS", "EOS", "PAD"])
            for side, vocabulary in (("in", language.source), ("out", language.target))
        }
        arguments = argparse.Namespace(episode_type="algebraic+biases", nepochs=50, act="gelu", fn_out_model="net.pt")
        contents = {
            "epoch": 50,
            "step": 200_000,
            "nets_state": model.state_dict(),
            "best_val_loss": 0.1,
            **langs,
            "args": arguments,
        }
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
            sys.modules["datasets"].Lang = Lang
            patched.setattr(Lang, "__module__", "datasets")
            torch.save(contents | changes, path)
        return path

    return save


@pytest.mark.parametrize("language", [MAIN, VANILLA], ids=["main", "vanilla"])
def test_a_published_file_loads_without_running_anything_in_it(published, language):
    """Its weights, under whatever entry, give the same logits; its classes are read as inert data."""
    config = ModelConfig(len(language.source), len(language.target), emb_size=16, nlayers_decoder=2, ff_mult=3)
    model = tiny_network(config=config).eval()
    path = published(model, language)
    with mock.patch.object(Lang, "__init__", side_effect=AssertionError("run")):
        trained = load_network(path, CPU)
    assert "datasets" not in sys.modules
    assert (trained.language, trained.episode_type, trained.epoch) == (language, "algebraic+biases", 50)
    sizes = ("emb_size", "nheads", "nlayers_encoder", "nlayers_decoder", "ff_mult", "act", "input_size", "output_size")
    assert [getattr(trained.model.config, size) for size in sizes] == [getattr(config, size) for size in sizes]
    gold = gold_episode()
    shown = gold if language == VANILLA else rename(gold, Dice(rng(0)))[0]
    batch = assemble([view_of(shown, language)], language).tensors(CPU)
    with torch.no_grad():
        expected = model(batch.source, batch.target_in)
        assert torch.equal(trained.model.eval()(batch.source, batch.target_in), expected)


RECORD = [{"epoch": 1, "step": step, "lr": 0.1, "avg_train_loss": 2.0, "val_loss": 2.1} for step in (1, 25)]


@pytest.mark.parametrize("is_nested", [True, False])
def test_a_published_file_tells_of_itself(tmp_path, is_nested):
    """Activation, type, sizes and record stand beside the weights, which older files have one level down."""
    model = tiny_network(config=ModelConfig(emb_size=16, nlayers_encoder=1, nlayers_decoder=1, ff_mult=2, act="relu"))
    state = {"net": model.state_dict()} if is_nested else model.state_dict()
    told = {"activation": "relu", "episode_type": "algebraic", "batch_size": 7, "nepochs": 9, "dropout": 0.2}
    torch.save({"nets_state_dict": state, "epoch": 3, "step": 12, "train_tracker": RECORD, **told}, tmp_path / "net.pt")
    trained = load_network(tmp_path / "net.pt", CPU)
    assert (trained.model.config.act, trained.episode_type, trained.epoch) == ("relu", "algebraic", 3)
    assert (trained.arguments["batch_size"], trained.arguments["nepochs"]) == (7, 9)
    assert trained.saved["history"] == RECORD
    assert all(map(torch.equal, trained.model.state_dict().values(), model.state_dict().values()))


def test_what_a_published_file_says_goes_before_its_command(published):
    """The command is asked where the file is silent."""
    trained = load_network(published(tiny_network(), activation="relu", nepochs=60), CPU)
    assert (trained.model.config.act, trained.arguments["nepochs"]) == ("relu", 60)
    assert load_network(published(tiny_network()), CPU).arguments["nepochs"] == 50


def test_a_bare_state_dict_loads_too(tmp_path):
    """The weights alone tell everything but what they were trained on."""
    model = tiny_network().eval()
    torch.save(model.state_dict(), tmp_path / "net.pt")
    trained = load_network(tmp_path / "net.pt", CPU)
    assert (trained.language, trained.episode_type) == (MAIN, None)
    assert all(map(torch.equal, trained.model.state_dict().values(), model.state_dict().values()))


def test_a_saved_network_comes_back(tmp_path):
    """Weights, sizes, and how it came about."""
    model = tiny_network(config=ModelConfig(11, 7, 8, act="relu", ff_mult=1))
    save_network(tmp_path / "net.tar", model, 3, {"episode_type": "few_shot_vanilla", "lr": 0.1}, {"step": 24})
    trained = load_network(tmp_path / "net.tar", CPU)
    assert (trained.model.config, trained.language, trained.epoch) == (model.config, VANILLA, 3)
    assert (trained.episode_type, trained.arguments["lr"], trained.saved["step"]) == ("few_shot_vanilla", 0.1, 24)
    assert all(map(torch.equal, trained.model.state_dict().values(), model.state_dict().values()))


class Bomb:
    """Creates a file when unpickled by whoever runs what it says."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda contents, path: path.write_bytes(pickle.dumps(contents))])
@pytest.mark.parametrize("entry", ["args", "langin", "nets_state"])
def test_a_malicious_file_is_refused(tmp_path, published, save, entry):
    """An object that would run something, wherever it stands, is an error of one line, and nothing is run."""
    trap, path = tmp_path / "trap", published(tiny_network())
    save({"nets_state": tiny_network().state_dict(), entry: Bomb(trap)}, path)
    with pytest.raises(ValueError, match=r"cannot be loaded: .* nothing in it was run"):
        load_network(path, CPU)
    assert not trap.exists()


def state_of(**sizes):
    return BIML(ModelConfig(nlayers_encoder=1, nlayers_decoder=1, ff_mult=1, **sizes)).state_dict()


STRANGE = {  # what is wrong with a published file
    "no weights": {"nets_state": None},
    "weights missing": {"nets_state": {"input_embedding.weight": torch.zeros(19, 16)}},
    "arguments of another kind": {"args": 3},
    "a vector for a table": {"nets_state": {"input_embedding.weight": torch.zeros(19)}},
    "a number for a table": {"nets_state": {"input_embedding.weight": 3}},
    "a width that eight heads cannot share": {"nets_state": state_of(emb_size=12, nheads=4)},
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_file_is_one_message_with_its_name(published, case):
    """Whatever is missing or of another kind."""
    path = published(tiny_network(), **STRANGE[case])
    with pytest.raises(ValueError, match=r"net-published\.pt") as error:
        load_network(path, CPU)
    assert "\n" not in str(error.value)


DAMAGED = {  # what is wrong with a file of ours
    "no weights": {"model_state": None},
    "weights of another size": {"model_state": state_of(emb_size=8)},
    "more than its weights": {"model_config": {"emb_size": 2**17, "ff_mult": 2**17}},
    "more layers than its weights": {"model_config": {"nlayers_decoder": 2**17}},
    "more than any network": {"model_config": {"emb_size": 8**30}},
    "a size in words": {"model_config": {"emb_size": "eight"}},
    "an activation of later code": {"model_config": {"act": "tanh"}},
    "no head": {"model_config": {"nheads": 0}},
    "all dropped": {"model_config": {"dropout": 1.0}},
    "part of an epoch": {"epoch": -1},
    "no arguments": {"arguments": None},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_message_with_its_name(tmp_path, case):
    """Whatever it says of its network, nothing larger than its weights is made."""
    path = tmp_path / "net.tar"
    save_network(path, tiny_network(), 3, {"episode_type": "algebraic"}, {})
    saved, changes = torch.load(path, weights_only=True), dict(DAMAGED[case])
    changes["model_config"] = {**saved["model_config"], **changes.get("model_config", {})}
    torch.save(saved | changes, path)
    with pytest.raises(UserError, match=r"net\.tar: not a usable checkpoint") as error:
        load_network(path, CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["__init__", "load_state_dict"])
def test_a_bug_in_the_network_is_not_taken_for_a_bad_file(tmp_path, finished, monkeypatch, method):
    """It keeps its traceback, whatever file is loaded."""
    (tmp_path / "net.tar").write_bytes(finished)
    monkeypatch.setattr(BIML, method, lambda self, given: len(*given))
    with pytest.raises(TypeError):
        load_network(tmp_path / "net.tar", CPU)


def test_a_file_with_other_numbers_for_its_symbols_is_refused(published):
    """Its weights would be of use with its own vocabularies only; the message has the first such symbol."""
    for side, vocabulary in (("in", MAIN.source), ("out", MAIN.target)):
        path = published(tiny_network(), **{f"lang{side}": Lang([*reversed(vocabulary.words), "SOS", "EOS", "PAD"])})
        with pytest.raises(ValueError, match=f"net-published.*its number of {vocabulary.words[0]} is") as error:
            load_network(path, CPU)
        assert "\n" not in str(error.value)


def test_arguments_of_any_kind_can_be_written_as_json(published):
    """What JSON has no kind for becomes text."""
    path = published(tiny_network(), args=argparse.Namespace(act="relu", nepochs=5, device=torch.Size([3])))
    assert load_network(path, CPU).arguments == {"act": "relu", "nepochs": 5, "device": "torch.Size([3])"}


@pytest.mark.parametrize("sizes", [(20, 9), (19, 7), (11, 9)])
def test_a_network_of_another_size_is_refused(published, sizes):
    """Its vocabulary is none that is known here."""
    path = published(tiny_network(config=ModelConfig(*sizes, 16, ff_mult=1)))
    with pytest.raises(ValueError, match="19 and 9 or 11 and 7 symbols .*, found {} and {}".format(*sizes)):
        load_network(path, CPU)


@pytest.mark.parametrize("version", [0, 2, None])
def test_another_version_of_the_format_is_refused(tmp_path, finished, version):
    """The message has both."""
    path = tmp_path / "net.tar"
    path.write_bytes(finished)
    saved = torch.load(path, weights_only=True)
    torch.save(saved | {"format_version": version}, path)
    with pytest.raises(ValueError, match=f"format version {version}; this code reads 1"):
        load_network(path, CPU)


def test_losses_in_the_checkpoint_are_finite_numbers(finished, tmp_path):
    """History, best loss and sums are plain numbers, so that any tool can read them."""
    path = tmp_path / "net.tar"
    path.write_bytes(finished)
    saved = torch.load(path, weights_only=True)
    assert [row["step"] for row in saved["history"]] == [1]
    assert all(math.isfinite(value) for row in saved["history"] for value in row.values())
    assert saved["best_val_loss"] == saved["history"][0]["val_loss"]
    assert saved["arguments"]["episode_type"] == "algebraic+biases"
