"""Rates and losses are what they say, a network learns, and a run ends the same however it was interrupted."""

import functools
import itertools
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
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
from biml.network_file import load_network
from biml.packed_episodes import pack, save_packed
from biml.stream import Batches, evaluation_batches, views_of
from biml.training import Training
from biml.training_step import learning_rate, make_optimizer, same_rates, total_loss, train_on_batch
from biml.views import rename, view_of
from biml.vocabulary import MAIN, VANILLA

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


def test_the_rate_rises_within_the_first_epoch_unless_there_is_no_warm_up():
    """Evenly from a ten-thousandth of the peak, which the second epoch starts with."""
    assert rate(1, 0) == pytest.approx(1e-7)
    rises = np.diff([rate(1, step) for step in range(4001)])
    assert rises == pytest.approx([rises[0]] * 4000)
    assert rate(1, 4000) == rate(1, 4001) == pytest.approx(1e-3)  # a partial last batch
    without = [rate(epoch, nepochs=5, has_warmup=False, end_factor=0.2) for epoch in range(1, 6)]
    assert without == pytest.approx([1e-3, 8e-4, 6e-4, 4e-4, 2e-4])


@pytest.mark.parametrize("has_warmup", [True, False])
@pytest.mark.parametrize("end_factor", [0.05, 1.0])
def test_rates_are_the_same_where_every_step_has_the_same(end_factor, has_warmup):
    """For each pair of runs, never beyond the end of the shorter; short runs without whole batches have rates too."""
    for epochs, *runs in itertools.product(range(5), range(1, 6), range(1, 6)):
        one, other = (
            [rate(1 + epoch, step, 3, n, 0.1, end_factor, has_warmup) for epoch in range(epochs) for step in range(4)]
            for n in runs
        )
        expected = epochs <= min(runs) and one == other
        assert same_rates(epochs, tuple(runs), end_factor, has_warmup) == expected
    for epoch, nepochs in ((1, 1), (1, 2), (2, 2)):
        assert 0 < rate(epoch, 0, 0, nepochs, 0.1, end_factor, has_warmup) <= 0.1


# Loss and step


def gold_batch():
    gold = gold_episode()
    renamed, _ = rename(gold._replace(support=gold.support[:4]), Dice(np.random.default_rng(0)))
    return assemble([view_of(renamed, MAIN)], MAIN).tensors(CPU)


def tiny_network(config=TINY_NETWORK):
    torch.manual_seed(0)
    return BIML(config)


def test_the_loss_is_a_mean_over_symbols_that_leaves_out_padding_only():
    """Ends and everything else count alike, in long answers and short ones."""
    model, batch = tiny_network(), gold_batch()
    logits = model(batch.source, batch.target_in).detach()
    is_real = batch.target_out != PAD
    picked = -logits.log_softmax(2).gather(2, batch.target_out[..., None])[..., 0][is_real]
    loss, count = total_loss(logits, batch.target_out, PAD)
    assert int(count) == len(picked) == sum(len(one.output) + 1 for one in gold_episode().query)
    assert loss.item() == pytest.approx(picked.sum().item(), rel=1e-5)


def test_a_step_follows_the_gradient_of_the_mean_loss():
    """Earlier gradients are forgotten; there is dropout, also after an evaluation."""
    model, batch = tiny_network(), gold_batch()
    weights = list(model.parameters())
    loss, count = total_loss(model(batch.source, batch.target_in), batch.target_out, PAD)
    expected = torch.autograd.grad(loss / count, weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    before = [weight.detach().clone() for weight in weights]
    assert train_on_batch(model, torch.optim.SGD(weights, lr=1.0), batch).item() == pytest.approx(float(loss / count))
    for old, new, gradient in zip(before, weights, expected, strict=True):
        torch.testing.assert_close(old - new.detach(), gradient, rtol=1e-3, atol=1e-5)
    model = tiny_network(ModelConfig(emb_size=16, dropout=0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    one, other = (train_on_batch(model.eval(), optimizer, batch) for _ in range(2))
    assert one != other


def test_the_published_optimizer_learns_one_batch_by_heart():
    """AdamW with its betas, and decay on every weight; the loss comes down to nearly nothing."""
    model, batch = tiny_network(), gold_batch()
    optimizer = make_optimizer(model, 0.01)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.01, (0.9, 0.95), 1e-8, 0.01)
    assert len(group["params"]) == len(list(model.parameters()))
    losses = [train_on_batch(model, optimizer, batch).item() for _ in range(80)]
    assert losses[0] > 1.5 and losses[-1] < 0.05


# Batches


def small_episode(seed):
    return sample_episode(np.random.default_rng(seed), (), SIZES)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with a few small random episodes."""
    folder = tmp_path_factory.mktemp("data")
    for split, count, first in (("train", N_TRAIN, 0), ("val", N_VAL, 100)):
        drawn = [small_episode(first + seed) for seed in range(count)]
        save_packed(folder / "data_algebraic" / f"{split}.npz", pack(drawn, {}))
    return folder


def find_views(folder):
    return functools.partial(training_views, "algebraic+biases", folder)


def equal(one, other):
    """Compare batches."""
    return all(np.array_equal(*parts) for parts in zip(one, other, strict=True))


def test_a_batch_depends_on_seed_and_step_alone(data):
    """Whatever was made before; each step and seed has another one."""
    steps, batches = range(3, 11), Batches(find_views(data), 2, 5)  # 4 steps an epoch
    found = [batches[step] for step in steps]
    fresh = Batches(find_views(data), 2, 5)
    assert all(equal(fresh[step], batch) for step, batch in reversed(list(zip(steps, found, strict=True))))
    assert not any(equal(*pair) for pair in itertools.combinations(found, 2))
    assert not equal(Batches(find_views(data), 2, 6)[4], found[1])


def numbered(size):
    """Views that tell the number of their episode, and what their dice drew."""
    drawn = []

    def make(index, dice):
        drawn.append((index, dice.fraction()))
        words = [MAIN.source.words[3 + digit] for digit in divmod(index, 10)]
        return [view_of(Episode((), (Example(tuple(words), ("RED",)),), None), MAIN)]

    return ViewSet(size, make), drawn


@pytest.mark.parametrize(("size", "batch_size", "lengths"), [(11, 4, [4, 4, 3]), (8, 4, [4, 4]), (3, 5, [3])])
def test_an_epoch_has_every_episode_once(size, batch_size, lengths):
    """In a new order each time, with dice of its own; what is left makes a smaller batch; evaluation goes in order."""
    orders, fractions = set(), set()
    for epoch in range(4):
        views, drawn = numbered(size)
        batches = Batches(lambda views=views: views, batch_size, 1)
        made = [batches[step] for step in range(epoch * len(lengths), (epoch + 1) * len(lengths))]
        assert [len(batch.source) for batch in made] == lengths
        order = [index for index, _ in drawn]
        shown = np.concatenate([batch.source[:, :2] for batch in made]).astype(int) - 3
        assert [10 * tens + units for tens, units in shown] == order and sorted(order) == list(range(size))
        orders.add(tuple(order))
        fractions |= {fraction for _, fraction in drawn}
    assert len(orders) > 1 and len(fractions) == 4 * size
    views, drawn = numbered(size)
    for repetition in (0, 1):
        assert [len(batch.source) for batch in evaluation_batches(views, batch_size, 1, repetition)] == lengths
    assert [index for index, _ in drawn] == [*range(size)] * 2
    assert len({fraction for _, fraction in drawn}) == 2 * size


# The script


EPOCHS, BATCH = 7, 2  # 4 steps an epoch, so that lines are due after steps 1 and 25, in the first and last epoch
STEPS = -(-N_TRAIN // BATCH)
TINY = ("--cpu", "--emb_size", 8, "--nlayers_encoder", 1, "--nlayers_decoder", 1, "--ff_mult", 1, "--dropout", 0.2)
TINY += ("--batch_size", BATCH, "--nepochs", EPOCHS, "--episode_type", "algebraic+biases")


def run_train(data, folder, name, *arguments):
    """Run the script in this process."""
    places = ("--data_dir", data, "--dir_model", folder, "--fn_out_model", f"{name}.tar")
    return run_file(ROOT / "biml" / "train.py", *TINY, *places, *arguments)


@pytest.fixture
def train(tmp_path, data):
    """Run the script at a tiny size; gives how it ended. Ctrl-C may come in place of some step, or within it."""

    def run(name, *arguments, stop_in=None, number=None, step=train_on_batch):
        taken = []

        def counted(*given):
            taken.append(given)
            if len(taken) == stop_in and number is None:
                raise KeyboardInterrupt
            if len(taken) == stop_in:
                os.kill(os.getpid(), number)
            return step(*given)

        with mock.patch.object(biml.training, "train_on_batch", counted):
            return run_train(data, tmp_path, name, *arguments)

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """The folder of a run without interruption, net.tar, and of one of a single epoch, short.tar."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_train(data, folder, "net").code == 0
    assert set(contents(folder)) == {"net.tar", "net.csv"}  # without --save_best and --save_weights
    assert run_train(data, folder, "short", "--nepochs", 1).code == 0
    return folder


@pytest.fixture
def finished(tmp_path, whole):
    """A finished run of one epoch, net.tar; gives its path."""
    return Path(shutil.copy(whole / "short.tar", tmp_path / "net.tar"))


def assert_same_run(one, other, ending=""):
    """Compare networks and learning curves; the paths have no suffix."""
    saved = (torch.load(path.with_name(f"{path.name}{ending}.tar"), weights_only=True) for path in (one, other))
    assert same_contents(*saved)
    assert rows(one.with_suffix(".csv")) == rows(other.with_suffix(".csv"))


@pytest.mark.parametrize("stop_in", [3, 26])
def test_killed_and_resumed_equals_uninterrupted(train, tmp_path, whole, stop_in):
    """Before anything was saved, or within an epoch, after a line that was not saved: bit for bit the same.

    The command once more says that there is nothing to do and changes nothing.
    """
    stopped = train("broken", "--resume", stop_in=stop_in)
    saved = max(1, (stop_in - 1) // STEPS * STEPS)
    assert (stopped.code, stopped.err.count("\n")) == (130, 1)
    assert f"the same command resumes from step {saved}\n" in stopped.err
    resumed = train("broken", "--resume")  # asks for what happens anyway
    assert (resumed.code, resumed.err) == (0, "")
    assert f"resuming from step {saved}\n" in resumed.out
    assert_same_run(whole / "net", tmp_path / "broken")
    before = contents(tmp_path)
    again = train("broken")
    assert (again.code, again.err, f"broken.tar is finished ({EPOCHS * STEPS} steps)" in again.out) == (0, "", True)
    assert contents(tmp_path) == before


def test_a_run_is_resumed_within_an_epoch_under_another_name(train, tmp_path):
    """Ctrl-C and SIGTERM wait for the end of the step and save it, before the first line too; the seed counts.

    Copies only, without warm-up; batches made by this process and then by another.
    """
    kind = ("--episode_type", "retrieve", "--no_lr_warmup", "--act", "relu", "--nepochs", 3)
    assert train("whole", *kind).code == train("other", *kind, "--seed", 2).code == 0
    for stop, number, done in ((1, signal.SIGINT, 1), (6, signal.SIGTERM, 7)):
        stopped = train("broken", *kind, stop_in=stop, number=number)
        assert stopped.code == 130 and f"the same command resumes from step {done}\n" in stopped.err
    (tmp_path / "moved").mkdir()
    for ending in ("tar", "csv"):
        (tmp_path / f"broken.{ending}").rename(tmp_path / "moved" / f"two.{ending}")
    resumed = train("two", *kind, "--workers", 1, "--dir_model", tmp_path / "moved")
    assert (resumed.code, resumed.err, "resuming from step 7\n" in resumed.out) == (0, "", True)
    assert_same_run(tmp_path / "whole", tmp_path / "moved" / "two")
    one, other = (load_network(tmp_path / f"{name}.tar", CPU).model.out.weight for name in ("whole", "other"))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "stop_in", "best_step"),
    [
        (("--save_best_skip", 0), 3, None),  # the best network is there before the first epoch is saved
        (("--save_best_skip", 0.15, "--lr", 50), 5, 25),  # never again as good as in the first epoch
        (("--save_best_skip", 0.5, "--nepochs", 5), 18, 20),  # no line after the skipped epochs: the last network
    ],
)
def test_the_best_network_has_the_lowest_loss_of_the_epochs_that_count(train, tmp_path, options, stop_in, best_step):
    """It survives an interruption. With --save_weights the last one's weights are kept, too, without their training."""
    assert train("whole", "--save_best", "--save_weights", *options).code == 0
    assert train("broken", "--save_best", *options, stop_in=stop_in).code == 130
    assert (tmp_path / "broken_best.tar").exists() == (options[1] < 0.14)
    assert train("broken", "--save_best", *options).code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    assert_same_run(tmp_path / "whole", tmp_path / "broken", "_best")
    best, last = (load_network(tmp_path / f"{name}.tar", CPU).saved for name in ("whole_best", "whole"))
    losses = {row["step"]: row["val_loss"] for row in last["history"]}
    expected = best_step or min(losses, key=losses.get)
    assert best["step"] == expected and best["best_val_loss"] == last["best_val_loss"]
    assert best["best_val_loss"] == losses.get(expected, last["best_val_loss"]) > 0
    slim = load_network(tmp_path / "whole_weights.tar", CPU).saved
    assert last.keys() - slim.keys() >= {"optimizer_state", "random_states"} <= last.keys() - best.keys()
    assert same_contents(slim, {entry: last[entry] for entry in slim})
    before = contents(tmp_path)
    for name in ("whole_best", "whole_weights"):
        assert_one_line(train(name, "--save_best", *options), "train.py", f"{name}.tar", "without its training")
    assert contents(tmp_path) == before


def test_the_curve_says_what_happened(train, tmp_path):
    """Lines after steps 1 and 25 with the step's rate, the mean loss since the last line, and the validation loss."""
    losses, rates = [], []

    def spy(model, optimizer, *rest):
        rates.append(optimizer.param_groups[0]["lr"])
        losses.append(train_on_batch(model, optimizer, *rest))
        return losses[-1]

    outcome = train("net", step=spy)
    assert outcome.code == 0
    expected = [rate(1 + n // STEPS, n % STEPS, N_TRAIN // BATCH, EPOCHS) for n in range(EPOCHS * STEPS)]
    assert rates == pytest.approx(expected)
    first, second = rows(tmp_path / "net.csv")
    assert [(row["step"], row["epoch"]) for row in (first, second)] == [("1", "1"), ("25", "7")]
    assert float(first["avg_train_loss"]) == pytest.approx(losses[0].item())
    assert float(second["avg_train_loss"]) == pytest.approx(sum(losses[1:25]).item() / 24)
    assert [float(row["lr"]) for row in (first, second)] == [rates[0], rates[24]]
    assert outcome.out.count("ValLoss") == 2 and "step 25 (89%), epoch 7" in outcome.out
    trained = load_network(tmp_path / "net.tar", CPU)
    assert [str(row["val_loss"]) for row in trained.saved["history"]] == [first["val_loss"], second["val_loss"]]
    assert all(math.isfinite(value) for row in trained.saved["history"] for value in row.values())
    assert (trained.epoch, trained.episode_type, trained.saved["step"]) == (EPOCHS, "algebraic+biases", 28)


def test_the_validation_loss_is_that_of_all_symbols(train, tmp_path, data):
    """The first network, which has hardly moved: loss of all symbols of all validation queries over their number."""
    assert train("net", "--lr", 1e-30, "--nepochs", 1).code == 0
    model = load_network(tmp_path / "net.tar", CPU).model.eval()
    (whole,) = evaluation_batches(validation_views("algebraic+biases", data), N_VAL, 1)
    batch = whole.tensors(CPU)
    with torch.no_grad():
        loss, count = total_loss(model(batch.source, batch.target_in), batch.target_out, PAD)
    assert float(rows(tmp_path / "net.csv")[0]["val_loss"]) == pytest.approx((loss / count).item(), rel=1e-4)


def test_overwriting_starts_anew(train, tmp_path, whole, finished):
    """Whatever there is; the old networks stay until the new run's beginning is saved, and no longer."""
    for kind in ("best", "weights"):
        shutil.copy(finished, tmp_path / f"net_{kind}.tar")
    before = contents(tmp_path)
    full = OSError(28, "No space left on device", str(finished))
    with mock.patch("biml.network_file.save_plain", side_effect=full):
        assert_one_line(train("net", "--overwrite", "--save_best"), "train.py", "net.tar: No space left")
    assert contents(tmp_path) == before
    stopped = train("net", "--overwrite", "--save_best", "--save_weights", stop_in=2)
    assert stopped.code == 130 and "the same command without --overwrite resumes from step 1\n" in stopped.err
    assert [path.name for path in tmp_path.glob("*.tar")] == ["net.tar"] and load_network(finished, CPU).epoch == 0
    outcome = train("net", "--overwrite")
    assert outcome.code == 0 and "resuming" not in outcome.out
    assert_same_run(whole / "net", tmp_path / "net")


def test_what_another_process_trains_is_left_alone(train, tmp_path, whole):
    """A second run is refused before it looks at what is there, which may be another run's by the time it begins."""
    assert_left_alone_while_claimed(train, tmp_path / "net.tar", (whole / "short.tar").read_bytes())


OTHER = "--seed 2 --episode_type algebraic --batch_size 3 --lr 0.5 --lr_end_factor 0.5 --no_lr_warmup --dropout 0.1 "
OTHER += "--nlayers_encoder 2 --nlayers_decoder 2 --emb_size 16 --ff_mult 2 --act relu --bf16 --compile "
OTHER += "--save_best --save_best_skip 0.3 --nepochs 9"


def test_other_arguments_do_not_resume_a_run(train, tmp_path, finished):
    """Whatever changes the result must be as it was; the message names each flag."""
    before = contents(tmp_path)
    flags = [f"{word} " for word in OTHER.split() if word.startswith("--")]
    assert_one_line(train("net", *OTHER.split()), "train.py", "net.tar was trained with", *flags, "--overwrite")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["best", "weights"])
def test_a_network_of_another_run_is_not_replaced(train, tmp_path, finished, kind):
    """Not even where the run's own file is missing, nor left beside a run that keeps none."""
    finished.rename(tmp_path / f"net_{kind}.tar")
    before = contents(tmp_path)
    for flags in ((f"--save_{kind}",), ()):
        refused = train("net", "--nepochs", 1, *flags)
        assert_one_line(refused, "train.py", f"net_{kind}.tar exists", "--fn_out_model", "--overwrite")
        assert contents(tmp_path) == before


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_does_not_go_on_with_other_episodes(train, tmp_path, data, finished, split):
    """Of either split: the run would be neither the one that began nor a new one."""
    folder = tmp_path / "other" / "data_algebraic"
    shutil.copytree(data / "data_algebraic", folder)
    save_packed(folder / f"{split}.npz", pack([small_episode(200 + seed) for seed in range(8)], {}))
    before = contents(tmp_path)
    outcome = train("net", "--nepochs", 1, "--data_dir", tmp_path / "other")
    assert_one_line(outcome, "train.py", "net.tar was trained on other episodes", "--data_dir")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("entry", ["data", "optimizer_state", "random_states", "history", "loss_sum"])
def test_a_network_without_what_training_takes_is_refused(train, tmp_path, finished, entry):
    """A file that holds weights only, say, can be used; training it further is an error of one line."""
    saved = torch.load(finished, weights_only=True)
    torch.save({name: value for name, value in saved.items() if name != entry}, finished)
    before = contents(tmp_path)
    told = "without its training" if entry == "optimizer_state" else entry
    assert_one_line(train("net", "--nepochs", 1), "train.py", "net.tar ", "cannot be trained further", told)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("batch_size", [8, 3])
def test_a_diverged_network_is_not_kept(train, tmp_path, batch_size):
    """Neither as last nor as best network, however many steps an epoch has; nor is there a NaN in the curve."""
    sizes = "--lr", 1e38, "--no_lr_warmup", "--batch_size", batch_size, "--nepochs", 2
    assert_one_line(train("net", *sizes, "--save_best", "--save_best_skip", 0), "train.py", "--lr")
    for path in tmp_path.glob("*.tar"):
        load_network(path, CPU)
    assert not any(b"nan" in curve for name, curve in contents(tmp_path).items() if name.endswith(".csv"))


@pytest.mark.slow
def test_a_small_network_learns_from_study_examples(tmp_path):
    """What a word means, and to put it together: answers of 54 grammars, 9 held out, that no weight can know.

    An episode shows two of `dax`, `dax dax` and `dax dax dax` with their answers and asks for the third.
    """
    drawn = [sample_episode(np.random.default_rng(seed), (), EpisodeSizes(1, 0, 3, 3, 2, 1)) for seed in range(1500)]
    held_out = {one.grammar.identifier for one in drawn[:9]}
    for split, is_held_out in (("train", False), ("val", True)):
        kept = [one for one in drawn if (one.grammar.identifier in held_out) == is_held_out]
        save_packed(tmp_path / "data_algebraic" / f"{split}.npz", pack(kept, {}))
    options = "--episode_type algebraic --batch_size 32 --nepochs 6 --lr 0.002 --emb_size 32 --ff_mult 2 --dropout 0"
    trained = run_train(tmp_path, tmp_path, "net", *options.split())
    assert (trained.code, trained.err) == (0, "")
    losses = [float(row["avg_train_loss"]) for row in rows(tmp_path / "net.csv")]
    assert losses[0] > 1.5 and losses[-1] < 0.3
    views = validation_views("algebraic", tmp_path)
    episodes = answer_views(load_network(tmp_path / "net.tar", CPU), list(views_of(views, 0)), 50, 5)
    answered = [one for episode in episodes for one in episode.answered]
    for is_retrieve in (True, False):
        assert np.mean([one.is_right for one in answered if one.is_retrieve == is_retrieve]) > 0.9


def test_bf16_is_nearly_the_same(train, tmp_path, whole):
    """Products are rounded, weights are not: losses differ by less than a hundredth of their size, but differ."""
    assert train("half", "--bf16").code == 0
    exact, rounded = (
        [float(row[kind]) for row in rows(path) for kind in ("avg_train_loss", "val_loss")]
        for path in (whole / "net.csv", tmp_path / "half.csv")
    )
    assert rounded == pytest.approx(exact, rel=0.01) and rounded != exact
    state = load_network(tmp_path / "half.tar", CPU).model.state_dict()
    assert {weights.dtype for weights in state.values()} == {torch.float32}


def test_the_vanilla_network_needs_no_data(train, tmp_path):
    """It has the canonical vocabularies."""
    places = ("--data_dir", tmp_path / "nowhere", "--nepochs", 1, "--batch_size", 50)
    assert train("net", "--episode_type", "few_shot_vanilla", *places)[::2] == (0, "")
    trained = load_network(tmp_path / "net.tar", CPU)
    assert trained.language == VANILLA
    assert (trained.model.config.input_size, trained.model.config.output_size) == (11, 7)


# Time and schedule


@pytest.mark.parametrize(
    ("before", "options"),
    [(2, ("--minutes", 1e-6)), (3, ("--lr_end_factor", 1)), (1, ("--no_lr_warmup", "--save_weights"))],
)
def test_a_run_may_be_made_longer_while_its_rates_are_the_same(train, tmp_path, before, options):
    """It then equals one that was to be so long from the start: lowest loss, curve and all.

    With --minutes no epoch is begun that would not end in time; the same command resumes.
    """
    others = [option for option in options if option not in ("--minutes", 1e-6)]
    assert train("whole", "--nepochs", 6, *others).code == 0
    first = train("grown", "--nepochs", before, *options)
    assert (first.code, first.err) == (0, "")
    if "--minutes" in options:
        assert "stopped after epoch 1 of 2; the same command resumes\n" in first.out
        assert "stopped" not in train("grown", "--nepochs", before, "--minutes", 60).out
    assert train("grown", "--nepochs", 6, *others).code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "grown")


@pytest.mark.parametrize(
    ("before", "now", "options"),
    [(3, 6, ()), (2, 1, ()), (3, 2, ("--lr_end_factor", 1)), (1, 3, ("--save_best",)), (2, 4, ("--no_lr_warmup",))],
)
def test_a_run_with_another_schedule_is_refused(train, tmp_path, before, now, options):
    """Where rates would have been others, or epochs are done already, or another network might be the best."""
    assert train("net", "--nepochs", before, *options).code == 0
    kept = contents(tmp_path)
    assert_one_line(train("net", "--nepochs", now, *options), "train.py", "net.tar", f"--nepochs {before} (now {now})")
    assert contents(tmp_path) == kept


# Speed


def test_one_shape_is_compiled(train, tmp_path, monkeypatch):
    """All whole batches have it, an epoch's smaller last one is not compiled; weights are those without --compile."""
    shapes = []

    def compile_it(function, *, dynamic):
        assert not dynamic
        return lambda *given: shapes.append((*given[0].shape, given[1].shape[1])) or function(*given)

    monkeypatch.setattr(torch, "compile", compile_it)
    for name, options in (("plain", ()), ("fast", ("--compile",))):
        assert train(name, "--nepochs", 3, "--dropout", 0, *options).code == 0
    assert len(set(shapes)) == 1 and shapes[0][1] % 16 == 0
    assert len(shapes) == 3 * (N_TRAIN // BATCH)
    plain, fast = (load_network(tmp_path / f"{name}.tar", CPU).model.state_dict() for name in ("plain", "fast"))
    torch.testing.assert_close(plain, fast, rtol=1e-3, atol=1e-3)  # the rate moves them by 1e-2


def test_a_step_waits_for_nothing(data, tmp_path, monkeypatch):
    """No number is read from the device in a step; a validation reads all of its losses at once."""
    parser = runpy.run_path(str(ROOT / "biml" / "train.py"))["make_parser"]()
    args = parser.parse_args([*map(str, TINY), "--fn_out_model", "net.tar"])
    batches = Batches(find_views(data), BATCH, 1)
    training, read = Training(args, batches, validation_views(args.episode_type, data), tmp_path / "net.tar", CPU), []
    for name in ("item", "tolist", "__float__", "__int__", "__bool__"):
        kept = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, name=name, kept=kept: read.append(name) or kept(self))
    for step in range(STEPS):
        training.train_one(batches[step])
        training.done += 1
    assert read == [] and len(training.validation) > 1 and training.validate() > 0
    assert read == ["tolist"]


# Processes


def group(process):
    """The processes that are left of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(number) == process.pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def running(tmp_path, data):
    """Start a training with a helping process that would take long; it is under way once it prints a line."""
    command = [sys.executable, "-m", "biml.train", *TINY, "--nepochs", 10**6, "--workers", 1, "--data_dir", data]
    command += ["--dir_model", tmp_path, "--fn_out_model", "net.tar"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*map(str, command)], cwd=ROOT, start_new_session=True, **pipes)
    while (line := process.stdout.readline()) and "TrainLoss" not in line:
        pass
    return process


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize(
    ("is_killed", "code", "said"), [(False, 130, "the same command resumes from step"), (True, 2, "--workers")]
)
def test_ctrl_c_and_a_killed_helper_end_all_processes(tmp_path, data, is_killed, code, said):
    """All processes get Ctrl-C; a helper may be killed for want of memory. One line, and nobody is left."""
    process = running(tmp_path, data)
    helpers = [n for n in group(process) if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]
    try:
        if is_killed:
            os.kill(helpers[0], signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err.count("\n"), said in err) == (code, 1, True), err
        until = time.monotonic() + 20
        while group(process) and time.monotonic() < until:
            time.sleep(0.1)
        assert helpers and not group(process)
    finally:
        for number in group(process):
            os.kill(number, signal.SIGKILL)


# Mistakes


RED = Example(("dax",), ("RED",))
ODD = {  # episodes that cannot be trained on
    "nothing": [],
    "strange": [Episode((Example(("jump",), ("RED",)),), (RED,), None)],
    "unstudied": [Episode((), (RED,), None)],
    "endless": [Episode((RED,) * 1300, (RED,), None)],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, data, whole):
    """A folder to make mistakes in, which leave it as it is."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "data_algebraic").symlink_to(data / "data_algebraic")
    (folder / "file").write_text("no folder\n")
    (folder / "damaged" / "data_algebraic").mkdir(parents=True)
    (folder / "damaged" / "data_algebraic" / "train.npz").write_bytes(b"PK\3\4")
    for name, episodes in ODD.items():
        for split in ("train", "val"):
            save_packed(folder / name / "data_algebraic" / f"{split}.npz", pack(episodes, {}))
    (folder / "models" / "folder.tar").mkdir(parents=True)
    (folder / "models" / "text.tar").write_text("no network\n")
    half = (whole / "short.tar").read_bytes()
    (folder / "models" / "half.tar").write_bytes(half[: len(half) // 2])
    torch.save({"weights": torch.zeros(3)}, folder / "models" / "other.tar")
    return folder


MISTAKES = {  # the command line and what the message must say
    "--data_dir {world}/nothing": ["train.npz holds no episodes"],
    "--data_dir {world}/strange": ["train.npz", "unknown word 'jump'"],
    "--episode_type retrieve --data_dir {world}/unstudied": ["no study examples", "retrieve"],
    "--data_dir {world}/endless": ["up to 5000 symbols in all, found 5203"],
    "--data_dir {world}/models": ["train.npz", "biml.generate"],
    "--data_dir {world}/damaged": ["train.npz", "damaged"],
    "--speed 3": ["--speed"],
    "--episode_type mlc": ["--episode_type", "mlc"],
    "--episode_type few_shot_gold": ["few_shot_gold"],  # for evaluation only
    "--episode_type open_end_human_all": ["data_human", "--data_dir"],
    "--episode_type joint_cross1": ["data_human", "--data_dir"],
    "--fn_out_model models/net.tar": ["--fn_out_model", "--dir_model"],
    "--fn_out_model net.pt": ["NAME.tar", "net.pt"],
    "--fn_out_model text.tar": ["text.tar", "nothing in it was run"],
    "--fn_out_model half.tar": ["half.tar", "truncated"],
    "--fn_out_model other.tar": ["other.tar holds no network of biml"],
    "--fn_out_model folder.tar": ["folder.tar is a folder"],
    "--dir_model {world}/file": ["file"],
    "--batch_size 0": ["--batch_size", "at least 1"],
    "--nepochs 0": ["--nepochs", "at least 1"],
    "--lr 0": ["--lr", "above 0"],
    "--lr nan": ["--lr", "above 0"],
    "--minutes 0": ["--minutes", "above 0"],
    "--seed -1": ["--seed", "at least 0"],
    "--dropout 1": ["--dropout", "below 1"],
    "--emb_size 12": ["--emb_size 12", "8 attention heads"],
    "--act tanh": ["--act"],
    "--gpu 0": ["--gpu", "--cpu"],
    "--threads 9999": ["9999 threads"],
    "--workers 9999": ["9999 workers", "cores"],
    "--resume --overwrite": ["--overwrite", "--resume"],
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, line):
    """Exit code 2, one line that says what is wrong, every file as it was and none added."""
    before = contents(world)
    outcome = run_train(world, world / "models", "net", *line.format(world=world).split())
    assert_one_line(outcome, "train.py", *MISTAKES[line])
    assert contents(world) == before


def test_a_checkpoint_has_to_be_named(world):
    assert_one_line(run_file(ROOT / "biml" / "train.py", *TINY, "--data_dir", world), "train.py", "--fn_out_model")
