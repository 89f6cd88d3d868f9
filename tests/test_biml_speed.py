"""What makes training fast changes nothing: batches made ahead, padding, one compiled shape; and it ends in time."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import assert_one_line, contents, rows, run_file, same_contents

import biml.training
from biml.episode import EpisodeSizes, sample_episode
from biml.episode_types import training_views, validation_views
from biml.model import BIML, ModelConfig
from biml.network_file import load_network
from biml.packed_episodes import pack, save_packed
from biml.stream import batches
from biml.training_step import learning_rate, same_rates, total_loss
from biml.vocabulary import MAIN
from biml.workers import Batches, all_batches

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
N_TRAIN, BATCH = 9, 2  # 5 steps an epoch, the last of them smaller
TINY = ("--cpu", "--emb_size", 8, "--nlayers_encoder", 1, "--nlayers_decoder", 1, "--ff_mult", 1, "--dropout", 0.2)
TINY += ("--batch_size", BATCH, "--episode_type", "algebraic+biases")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with a few small random episodes."""
    folder = tmp_path_factory.mktemp("data")
    for split, count, first in (("train", N_TRAIN, 0), ("val", 5, 100)):
        drawn = [
            sample_episode(np.random.default_rng(first + seed), (), EpisodeSizes(2, 1, 2, 3, 2, 2))
            for seed in range(count)
        ]
        save_packed(folder / "data_algebraic" / f"{split}.npz", pack(drawn, {}))
    return folder


@pytest.fixture
def train(tmp_path, data):
    """Run the script at a tiny size; gives how it ended."""

    def run(name, *arguments):
        places = ("--data_dir", data, "--dir_model", tmp_path, "--fn_out_model", f"{name}.tar")
        return run_file(ROOT / "biml" / "train.py", *TINY, *places, *arguments)

    return run


def assert_same_run(one, other):
    """Compare networks and learning curves; the paths have no suffix."""
    assert same_contents(*(torch.load(path.with_suffix(".tar"), weights_only=True) for path in (one, other)))
    assert rows(one.with_suffix(".csv")) == rows(other.with_suffix(".csv"))


# Batches made ahead


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_whoever_makes_them(data, workers):
    """Those of the epochs asked for, one after the other, in one process's order; the first ones can be left out."""
    views = training_views("algebraic+biases", data)
    source = Batches("algebraic+biases", data, BATCH, 7)
    with all_batches(source, views, range(2, 4), 0, workers) as made:
        found = list(made)
    with all_batches(source, views, range(2, 4), 3, workers) as made:
        without_three = list(made)
    expected = [one for epoch in (2, 3) for one in batches(views, BATCH, 7, epoch)]
    assert len(expected) == 10
    for one, other in zip([*found, *without_three], [*expected, *expected[3:]], strict=True):
        assert all(np.array_equal(*parts) for parts in zip(one, other, strict=True))


def test_a_run_is_the_same_whoever_makes_its_batches(train, tmp_path):
    """Bit for bit, dropout included; a run may begin without further processes and go on with them."""
    assert train("alone", "--nepochs", 2).code == 0
    assert train("helped", "--nepochs", 1).code == 0
    outcome = train("helped", "--nepochs", 2, "--workers", 1)
    assert (outcome.code, outcome.err) == (0, "")
    assert_same_run(tmp_path / "alone", tmp_path / "helped")


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


def all_have_ended(process):
    """Whether nobody of a group is left, soon."""
    until = time.monotonic() + 20
    while group(process) and time.monotonic() < until:
        time.sleep(0.1)
    return not group(process)


@pytest.fixture
def running(tmp_path, data):
    """A training with two helping processes that would take long, once it is under way."""
    command = [sys.executable, "-m", "biml.train", *TINY, "--nepochs", 10**6, "--workers", 2, "--data_dir", data]
    command += ["--dir_model", tmp_path, "--fn_out_model", "net.tar"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, start_new_session=True, **pipes)
    until = time.monotonic() + 120
    while not (tmp_path / "net.csv").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
    yield process
    for number in group(process):
        os.kill(number, signal.SIGKILL)
    process.communicate()


in_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")


@in_linux
@pytest.mark.parametrize(("number", "is_for_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupt_ends_all_processes(running, number, is_for_all):
    """Ctrl-C, which all get, and SIGTERM: one line, and nobody is left."""
    assert len(group(running)) >= 3
    (os.killpg if is_for_all else os.kill)(running.pid, number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err.count("\n") == 1 and "the same command goes on from step" in err
    assert all_have_ended(running)


@in_linux
def test_a_process_that_is_ended_ends_the_run(running):
    """It is not waited for; the message says what may have been the reason."""
    helpers = [
        n for n in group(running) if n != running.pid and b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()
    ]
    os.kill(helpers[0], signal.SIGKILL)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err.count("\n")) == (2, 1), err
    assert "--workers" in err
    assert all_have_ended(running)


def test_more_processes_than_cores_are_refused(train, tmp_path):
    """One line, and nothing is written."""
    assert_one_line(train("net", "--workers", 9999), "train.py", "9999 workers", "cores")
    assert contents(tmp_path) == {}


# Padding and compilation


def test_further_padding_changes_no_loss(data):
    """Nor the number of symbols; what is longer than that stays as it is."""
    (arrays, *_) = batches(training_views("algebraic+biases", data), BATCH, 1, 1)
    rows, source, target = arrays.shape
    longer = arrays.lengthened(source + 7, target + 3, MAIN)
    assert longer.shape == (rows, source + 7, target + 3)
    assert arrays.lengthened(source - 1, target - 1, MAIN).shape == arrays.shape
    torch.manual_seed(0)
    model = BIML(ModelConfig(emb_size=16, nlayers_encoder=1, nlayers_decoder=1, ff_mult=2, dropout=0.0))
    found = []
    for batch in (arrays.tensors(CPU), longer.tensors(CPU)):
        loss, count = total_loss(model(batch.source, batch.target_in), batch.target_out, model.target_pad)
        found.append((loss, count, *torch.autograd.grad(loss, list(model.parameters()))))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


@pytest.fixture
def compiled(monkeypatch):
    """Stand in for the compiler; gives the shapes that what it made was called with, and what it was told."""
    shapes, told = [], []

    def compile_it(function, **options):
        def call(source, target_in):
            shapes.append((*source.shape, target_in.shape[1]))
            return function(source, target_in)

        told.append(options)
        return call

    monkeypatch.setattr(torch, "compile", compile_it)
    return shapes, told


def test_one_shape_is_compiled(train, tmp_path, compiled):
    """All whole batches have it, an epoch's smaller last one goes uncompiled; weights are those without --compile."""
    assert train("plain", "--nepochs", 3, "--dropout", 0).code == 0
    assert train("fast", "--nepochs", 3, "--dropout", 0, "--compile").code == 0
    shapes, told = compiled
    assert told == [{"dynamic": False}]
    assert len(set(shapes)) == 1 and shapes[0][1] % 16 == 0
    assert len(shapes) == 3 * (N_TRAIN // BATCH)
    plain, fast = (load_network(tmp_path / f"{name}.tar", CPU) for name in ("plain", "fast"))
    for one, other in zip(plain.model.parameters(), fast.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)  # the rate moves them by 1e-2


def test_a_step_waits_for_nothing(data, monkeypatch):
    """No number is read from the device in a step; a validation reads all of its losses at once."""
    args = biml.training.make_parser().parse_args([*map(str, TINY), "--fn_out_model", "net.tar"])
    views, asked = (find(args.episode_type, data) for find in (training_views, validation_views))
    training = biml.training.Training(args, views, asked, CPU)
    read = []
    for name in ("item", "tolist", "__float__", "__int__", "__bool__"):
        kept = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, name=name, kept=kept: read.append(name) or kept(self))
    for number, arrays in enumerate(batches(views, BATCH, 1, 1)):
        training.train_one(arrays, 1, number)
    assert read == []
    assert len(training.validation) > 1 and training.validate() > 0
    assert read == ["tolist"]


# Time and schedule


@pytest.mark.parametrize("has_warmup", [True, False])
@pytest.mark.parametrize("end_factor", [0.05, 1.0])
def test_rates_are_the_same_where_every_step_has_the_same(end_factor, has_warmup):
    """Of each pair of runs; never beyond the end of the shorter."""
    for epochs, one, other in itertools.product(range(5), range(1, 6), range(1, 6)):
        if epochs <= min(one, other):
            rates = (
                [
                    learning_rate(epoch, step, 3, n, 0.1, end_factor, has_warmup)
                    for epoch in range(1, epochs + 1)
                    for step in range(4)
                ]
                for n in (one, other)
            )
            assert same_rates(epochs, (one, other), end_factor, has_warmup) == (next(rates) == next(rates))
        else:
            assert not same_rates(epochs, (one, other), end_factor, has_warmup)


@pytest.mark.parametrize(("before", "options"), [(2, ()), (3, ("--lr_end_factor", 1)), (1, ("--no_lr_warmup",))])
def test_a_run_may_be_made_longer_while_its_rates_are_the_same(train, tmp_path, before, options):
    """It then equals one that was to be so long from the start: lowest loss, curve and all."""
    assert train("whole", "--nepochs", 6, *options).code == 0
    assert train("grown", "--nepochs", before, *options).code == 0
    assert train("grown", "--nepochs", 6, *options).code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "grown")


@pytest.mark.parametrize(
    ("before", "now", "options"),
    [(3, 6, ()), (2, 1, ()), (3, 2, ("--lr_end_factor", 1)), (1, 3, ("--save_best",)), (2, 4, ("--no_lr_warmup",))],
)
def test_a_run_with_another_schedule_is_refused(train, tmp_path, before, now, options):
    """Where rates would have been others, or epochs are done already, or another network might be the best."""
    assert train("net", "--nepochs", before, *options).code == 0
    kept = contents(tmp_path)
    said = f"--nepochs {before} (now {now})"
    assert_one_line(train("net", "--nepochs", now, *options), "train.py", "net.tar", said)
    assert contents(tmp_path) == kept


def test_a_run_stops_in_time_and_goes_on(train, tmp_path):
    """No epoch is begun that would not end in time; what is there is saved, and the same command completes the run."""
    assert train("whole", "--nepochs", 3).code == 0
    outcome = train("timed", "--nepochs", 3, "--minutes", 1e-6)
    assert (outcome.code, outcome.err) == (0, "")
    assert "stopped after epoch 1 of 3; the same command goes on\n" in outcome.out
    assert "stopped after epoch 2 of 3" in train("timed", "--nepochs", 3, "--minutes", 1e-6).out
    last = train("timed", "--nepochs", 3, "--minutes", 60)
    assert (last.code, "stopped" in last.out) == (0, False)
    assert_same_run(tmp_path / "whole", tmp_path / "timed")


def test_weights_without_their_training_are_a_network(train, tmp_path):
    """The same weights, and history, in less than half the bytes; they cannot be trained further."""
    assert train("net", "--nepochs", 2, "--save_weights").code == 0
    whole, slim = (load_network(tmp_path / f"{name}.tar", CPU) for name in ("net", "net_weights"))
    assert same_contents(whole.model.state_dict(), slim.model.state_dict())
    assert whole.saved["history"] == slim.saved["history"] and whole.arguments == slim.arguments
    assert "optimizer_state" not in slim.saved and "random_states" not in slim.saved
    kept = contents(tmp_path)
    outcome = train("net_weights", "--nepochs", 2)
    assert_one_line(outcome, "train.py", "net_weights.tar", "cannot be trained further")
    assert contents(tmp_path) == kept


def test_the_weights_of_another_run_are_not_replaced(train, tmp_path):
    """Not even where the run's own file is missing."""
    (tmp_path / "net_weights.tar").write_bytes(b"mine")
    assert_one_line(train("net", "--save_weights"), "train.py", "net_weights.tar exists", "--fn_out_model")
    assert contents(tmp_path) == {"net_weights.tar": b"mine"}
