"""Runs in lock step are the runs that they would have been, each trained alone."""

import copy
import dataclasses

import numpy as np
import pytest
import stacked_model
import torch

import lockstep
import training_step
from episode_batch import encode, vocabularies_of
from evaluate import answer, evaluate_episodes, remember
from generate_episode import EXPERIMENTS, EpisodeSampler, find_experiment
from lockstep import LockStep, shapes_of
from model import MetaSeq2Seq, ModelConfig
from packed_lstm import dropped
from training_step import MAX_GRADIENT_NORM, make_optimizer, train_on_episode

LR = 1e-3
CASES = {  # episode type, support loss, configuration
    "ME": ("ME", True, {}),
    "masked": ("ME", True, {"mask_padding": True}),
    "one layer": ("ME", True, {"nlayers": 1}),
    "three layers": ("ME", True, {"nlayers": 3}),
    "without support loss": ("ME", False, {}),
    "without attention": ("ME", True, {"disable_attention": True}),
    "without memory": ("ME", True, {"disable_memory": True}),
    "permutation": ("scan_prim_permutation", True, {}),
    "around right": ("scan_around_right", True, {}),
    "length": ("scan_length", True, {}),
    "standard": ("standard_addprim_jump", True, {"disable_memory": True}),
    "standard, augmented": ("standard_addprim_jump_augmentation", True, {"disable_memory": True}),
}
has_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=(pytest.mark.gpu, has_gpu))])


class Runs:
    """Runs of one experiment, one a seed: small networks, streams of episodes, and an Adam for each."""

    def __init__(self, data_dir, case="ME", seeds=(0, 1, 2), dtype=torch.double, **config):
        episode_type, support_loss, own = CASES[case]
        experiment = find_experiment(episode_type)
        self.sampler = EpisodeSampler(experiment, data_dir, support_loss)
        self.vocabularies = vocabularies_of(experiment)
        sizes = *map(len, self.vocabularies), experiment.padded_length
        self.config = ModelConfig(*sizes, **{"emb_size": 6, "dropout": 0.0, **own, **config})
        self.rngs = [np.random.default_rng(seed) for seed in seeds]
        self.models = []
        for seed in seeds:
            torch.manual_seed(seed)
            self.models.append(MetaSeq2Seq(self.config).to(dtype))
        self.optimizers = [make_optimizer(model, LR) for model in self.models]

    def in_lock_step(self, device="cpu"):
        models = [copy.deepcopy(model).to(device) for model in self.models]
        return LockStep(models, shapes_of(self.sampler), LR), models

    def draw(self):
        return [encode(self.sampler.training_episode(rng, ()), *self.vocabularies) for rng in self.rngs]

    def train_alone(self, batches):
        steps = zip(self.models, self.optimizers, batches, strict=True)
        return torch.stack([train_on_episode(*step) for step in steps])

    def drop(self, keep_moments):
        for optimizer in self.optimizers:
            training_step.drop_learning_rate(optimizer, keep_moments)


def parameters_of(lock, matrix, run):
    return {name: tensor[run].cpu() for name, tensor in lock.by_name(matrix.detach()).items()}


def assert_same_step(lock, losses, runs, rtol=1e-9, atol=1e-12):
    """Losses, clipped gradients and weights of the last step agree."""
    torch.testing.assert_close(lock.losses.cpu(), losses, rtol=rtol, atol=atol)
    for run, model in enumerate(runs.models):
        named = dict(model.named_parameters())
        gradients = {name: parameter.grad for name, parameter in named.items()}
        weights = {name: parameter.detach() for name, parameter in named.items()}
        torch.testing.assert_close(parameters_of(lock, lock.weights.grad, run), gradients, rtol=rtol, atol=atol)
        torch.testing.assert_close(parameters_of(lock, lock.weights, run), weights, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("case", "keep_moments"), [*((case, False) for case in CASES), ("ME", True)])
def test_every_run_is_what_it_would_be_alone(data_dir, case, keep_moments):
    """Losses, gradients and weights equal those of train_on_episode at every step, across a drop of the rate."""
    runs = Runs(data_dir, case)
    lock, _ = runs.in_lock_step()
    total = 0
    for number in range(1, 4):
        batches = runs.draw()
        lock.step(batches)
        losses = runs.train_alone(batches)
        assert_same_step(lock, losses, runs)
        total += losses
        if number == 2:
            lock.drop_learning_rate(keep_moments)
            runs.drop(keep_moments)
    assert lock.lr == runs.optimizers[0].param_groups[0]["lr"]
    torch.testing.assert_close(lock.loss_sums, total)


def test_single_precision_agrees_too(data_dir):
    """In float32, in which runs are trained, losses and gradients agree up to rounding."""
    runs = Runs(data_dir, "permutation", dtype=torch.float)
    lock, _ = runs.in_lock_step()
    batches = runs.draw()
    lock.step(batches)
    torch.testing.assert_close(lock.losses, runs.train_alone(batches), rtol=1e-6, atol=0)
    for run, model in enumerate(runs.models):
        for name, gradient in parameters_of(lock, lock.weights.grad, run).items():
            expected = model.get_parameter(name).grad
            torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_each_run_is_clipped_on_its_own(data_dir):
    """The gradients of a run are scaled to norm 50 in each part, those of its neighbours are not touched."""
    runs = Runs(data_dir)
    with torch.no_grad():
        runs.models[1].decoder.output_layer.weight *= 3000
    lock, _ = runs.in_lock_step()
    for _ in range(3):
        batches = runs.draw()
        lock.step(batches)
        assert_same_step(lock, runs.train_alone(batches), runs, rtol=1e-6)
        for run in range(3):
            gradients = parameters_of(lock, lock.weights.grad, run)
            for in_decoder in (False, True):
                chosen = [one.flatten() for name, one in gradients.items() if name.startswith("decoder.") == in_decoder]
                norm = torch.cat(chosen).norm().item()
                assert (abs(norm - MAX_GRADIENT_NORM) < 1e-5) if run == 1 else (norm < 10)


def test_a_run_does_not_depend_on_its_neighbours(data_dir):
    """A run in lock step with itself alone has the losses and weights that it has among others."""
    together, alone = Runs(data_dir), Runs(data_dir, seeds=(1,))
    many, one = together.in_lock_step()[0], alone.in_lock_step()[0]
    for _ in range(3):
        many.step(together.draw())
        one.step(alone.draw())
        torch.testing.assert_close(one.losses[0], many.losses[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(one.weights[0], many.weights[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", ["ME", "masked", "without memory"])
def test_queries_are_padded_to_the_longest_of_their_own_episode(data_dir, case):
    """Padded steps are counted run by run: an episode of short queries only does not take part in others' lengths."""
    runs = Runs(data_dir, case)
    lock, _ = runs.in_lock_step()
    batches = runs.draw()
    for run, n_kept in ((0, 4), (1, 9)):  # their shortest queries, repeated
        shortest = batches[run].query_in.lengths.argsort()[:n_kept].repeat(23)[:23]
        query_in, query_out = (one.rows(shortest) for one in (batches[run].query_in, batches[run].query_out))
        batches[run] = dataclasses.replace(batches[run], query_in=query_in, query_out=query_out)
    longest = [batch.query_in.lengths.max().item() for batch in batches]
    assert len(set(longest)) == 3
    lock.step(batches)
    assert_same_step(lock, runs.train_alone(batches), runs)


def test_leftovers_behind_a_sequence_do_not_matter(data_dir):
    """Symbols of earlier episodes, still in the buffers behind the ends of shorter sequences, change nothing."""
    runs = Runs(data_dir)
    used, _ = runs.in_lock_step()
    fresh, _ = runs.in_lock_step()
    for host, _ in [next(used._episodes._hosts) for _ in range(lockstep.N_HOST_BUFFERS)]:
        host.random_(4)
    batches = runs.draw()
    for lock in (used, fresh):
        lock.step(batches)
    assert torch.equal(used.weights, fresh.weights)


@pytest.mark.parametrize("dropout", [0.5, 0.2])
def test_dropout_is_on_every_embedding_and_between_layers(data_dir, monkeypatch, dropout):
    """Units are dropped at the given rate in every run, the kept ones scaled, and no two runs drop the same."""
    runs = Runs(data_dir, "permutation", dropout=dropout)
    lock, _ = runs.in_lock_step()
    seen = []

    def spy(values, *args, **kwargs):
        result = dropped(values, *args, **kwargs)
        seen.append((values.detach(), result.detach()))
        return result

    monkeypatch.setattr(stacked_model, "dropped", spy)
    lock.step(runs.draw())
    shapes = [tuple(values.shape) for values, _ in seen]
    encoders = [(3, 60, 10, 6), (3, 60, 10, 12), (3, 20, 49, 6), (3, 20, 49, 12)]  # queries with support items; outputs
    assert shapes == [*encoders, (3, 40, 49, 6), (3, 40, 49, 6)]
    for values, result in seen:
        is_kept = result != 0
        assert is_kept.flatten(1).double().mean(1).tolist() == pytest.approx([1 - dropout] * 3, abs=0.03)
        torch.testing.assert_close(result[is_kept], values[is_kept] / (1 - dropout), rtol=1e-4, atol=0)
        for run, other in ((0, 1), (0, 2), (1, 2)):
            agreement = (is_kept[run] == is_kept[other]).double().mean().item()
            assert agreement == pytest.approx(dropout**2 + (1 - dropout) ** 2, abs=0.03)


def test_weights_are_taken_over_and_given_back(data_dir):
    """The networks keep their weights until they are given those of their runs."""
    runs = Runs(data_dir)
    lock, models = runs.in_lock_step()
    lock.step(runs.draw())
    for model, untrained in zip(models, runs.models, strict=True):
        assert all(map(torch.equal, model.parameters(), untrained.parameters()))
    lock.give_weights()
    for run, model in enumerate(models):
        torch.testing.assert_close(dict(model.state_dict()), parameters_of(lock, lock.weights, run), rtol=0, atol=0)


@pytest.mark.parametrize("n_steps", [0, 2])
def test_optimizer_state_is_that_of_an_adam_of_the_run_alone(data_dir, n_steps):
    """Its state_dict has the same entries and the same values, in the same order."""
    runs = Runs(data_dir)
    lock, _ = runs.in_lock_step()
    for _ in range(n_steps):
        batches = runs.draw()
        lock.step(batches)
        runs.train_alone(batches)
    for run, optimizer in enumerate(runs.optimizers):
        found, expected = lock.optimizer_state(run), optimizer.state_dict()
        assert found["param_groups"] == expected["param_groups"]
        assert list(found["state"]) == list(expected["state"])
        for ours, theirs in zip(found["state"].values(), expected["state"].values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-15)
            assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in ours.values())


@pytest.mark.parametrize("drops", [False, True])
def test_training_goes_on_from_lock_step_alone_and_back(data_dir, drops):
    """Weights and optimizer states carry a run from lock step to training alone and back without a trace."""
    runs, reference = Runs(data_dir), Runs(data_dir)
    lock, models = runs.in_lock_step()

    def step(train):
        batches = runs.draw()
        train(batches)
        reference.train_alone(batches)

    for _ in range(2):
        step(lock.step)
    if drops:  # then the states are empty
        lock.drop_learning_rate(keep_moments=False)
        reference.drop(keep_moments=False)
    lock.give_weights()
    for run, (model, optimizer) in enumerate(zip(runs.models, runs.optimizers, strict=True)):
        model.load_state_dict(models[run].state_dict())
        optimizer.load_state_dict(lock.optimizer_state(run))
        assert bool(optimizer.state_dict()["state"]) != drops
    step(runs.train_alone)
    if drops:
        runs.drop(keep_moments=False)
        reference.drop(keep_moments=False)
    lock, models = runs.in_lock_step()
    lock.load_optimizer_states([optimizer.state_dict() for optimizer in runs.optimizers])
    assert lock.lr == pytest.approx(LR * 0.01 if drops else LR)
    step(lock.step)
    lock.give_weights()
    for model, expected in zip(models, reference.models, strict=True):
        torch.testing.assert_close(dict(model.state_dict()), dict(expected.state_dict()), rtol=1e-9, atol=1e-12)


def test_runs_that_are_not_equally_far_are_refused(data_dir):
    """Learning rate and step count are common to all runs; states that differ in them are refused in one line."""
    runs = Runs(data_dir)
    lock, _ = runs.in_lock_step()
    for _ in range(2):
        runs.train_alone(runs.draw())
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in runs.optimizers]
    train_on_episode(runs.models[1], runs.optimizers[1], runs.draw()[1])
    later = copy.deepcopy(runs.optimizers[1].state_dict())
    training_step.drop_learning_rate(runs.optimizers[1], keep_moments=True)
    slower = runs.optimizers[1].state_dict()
    empty = make_optimizer(runs.models[1], LR).state_dict()
    before = lock.lr, lock.optimizer_state(0)
    for other, told in ((later, r"\[2.0, 3.0\]"), (slower, r"\[0.0001, 0.001\]"), (empty, r"\[0.0, 2.0\]")):
        with pytest.raises(ValueError, match=told) as error:
            lock.load_optimizer_states([states[0], other, states[2]])
        assert "\n" not in str(error.value)
    assert (lock.lr, lock.optimizer_state(0)) == before
    lock.load_optimizer_states(states)


@every_device
def test_an_interrupted_lock_step_goes_on_as_if_it_had_not_been(data_dir, device):
    """Weights, Adam's states and torch's random state are all it needs; recording a graph leaves them as they were."""
    runs = Runs(data_dir, dropout=0.5)
    batches = [runs.draw() for _ in range(3)]
    lock, models = runs.in_lock_step(device)
    lock.step(batches[0])
    random_state = torch.get_rng_state() if device == "cpu" else torch.cuda.get_rng_state()
    lock.give_weights()
    resumed = LockStep(copy.deepcopy(models), shapes_of(runs.sampler), LR)
    resumed.load_optimizer_states([lock.optimizer_state(run) for run in range(3)])
    for one in (lock, resumed):
        (torch.set_rng_state if device == "cpu" else torch.cuda.set_rng_state)(random_state)
        one.loss_sums.zero_()
        for episodes in batches[1:]:
            one.step(episodes)
    assert torch.equal(resumed.weights, lock.weights)
    assert torch.equal(resumed.loss_sums, lock.loss_sums)


def validation_of(runs):
    """Every run's validation episodes, and weights at which the answers differ."""
    with torch.no_grad():
        for model in runs.models:
            for parameter in model.parameters():
                parameter *= 6
    return [[encode(one, *runs.vocabularies) for one in runs.sampler.validation_episodes(rng)] for rng in runs.rngs]


def answers_of(model, episodes, max_length, device="cpu"):
    """What the network by itself answers, an episode after the other."""
    model, answers = model.to(device), []
    for batch in (one.to(torch.device(device)) for one in episodes):
        answers += answer(model, remember(model, batch), batch.query_in, max_length, at_once=100)
    return answers


@pytest.mark.parametrize("case", CASES)
def test_validation_in_one_decoding_is_that_of_every_run_alone(data_dir, case):
    """All runs answer all their episodes at once as each network answers them one by one, after a step as before."""
    runs = Runs(data_dir, case)
    episodes = validation_of(runs)
    lock, models = runs.in_lock_step()
    for _ in range(2):
        lock.give_weights()
        expected = [answers_of(model, own, 12) for model, own in zip(models, episodes, strict=True)]
        scores = [evaluate_episodes(model, own, 12) for model, own in zip(models, episodes, strict=True)]
        assert lock.validate(episodes, 12) == scores
        assert lock.validation.answers() == expected
        assert len({tuple(one) for own in expected for one in own}) > 3, "answers too alike to tell anything"
        lock.step(runs.draw())


@pytest.mark.gpu
@has_gpu
@pytest.mark.parametrize("case", ["ME", "permutation", "without attention", "standard"])
def test_a_replayed_validation_follows_the_weights(data_dir, case):
    """The recorded decoding answers as the CPU does, also after the weights have changed."""
    runs = Runs(data_dir, case)
    episodes = validation_of(runs)
    lock, models = runs.in_lock_step("cuda")
    for _ in range(2):
        lock.validate(episodes, 12)
        answers = lock.validation.answers()
        lock.give_weights()
        assert answers == [
            answers_of(copy.deepcopy(model), own, 12) for model, own in zip(models, episodes, strict=True)
        ]
        lock.step(runs.draw())


@pytest.mark.parametrize("support_loss", [True, False])
@pytest.mark.parametrize("episode_type", EXPERIMENTS)
def test_shapes_hold_every_episode_and_are_tight(data_dir, episode_type, support_loss):
    """No drawn episode is longer, and for each longest length the pools have an item that reaches it."""
    experiment = find_experiment(episode_type)
    sampler = EpisodeSampler(experiment, data_dir, support_loss)
    shapes, rng = shapes_of(sampler), np.random.default_rng(0)
    for _ in range(200):
        support, query = sampler.training_episode(rng, ())[:2]
        lengths = support.input_lengths, support.output_lengths, query.input_lengths, query.output_lengths
        for found, (n, longest) in zip(lengths, shapes, strict=True):
            assert len(found) == n
            assert found.max(initial=0) < longest  # EOS is one more
    if experiment.interpreter is not None:
        return  # then the longest output is the language's
    draw = experiment.training
    support, query = (experiment.items(name, data_dir) for name in (draw.support_pool, draw.query_pool))
    for items, (inputs, outputs) in (
        (support, shapes[:2]),
        ([*query, *support] if support_loss else query, shapes[2:]),
    ):
        assert inputs[1] == max(len(item.input) for item in items) + 1
        assert outputs[1] == max(len(item.output) for item in items) + 1


@pytest.mark.gpu
@has_gpu
@pytest.mark.parametrize("case", ["ME", "permutation", "without attention", "standard"])
@pytest.mark.parametrize("keep_moments", [False, True], ids=["anew", "kept"])
def test_a_replayed_graph_does_what_training_on_the_cpu_does(data_dir, case, keep_moments):
    """Losses and weights of replayed steps, across a drop of the rate, equal train_on_episode's on the CPU."""
    runs = Runs(data_dir, case)
    lock, _ = runs.in_lock_step("cuda")
    random_state = torch.cuda.get_rng_state()
    for number in range(1, 4):
        batches = runs.draw()
        lock.step(batches)
        assert_same_step(lock, runs.train_alone(batches), runs, rtol=1e-6, atol=1e-9)
        if number == 2:
            lock.drop_learning_rate(keep_moments)
            runs.drop(keep_moments)
    assert torch.equal(torch.cuda.get_rng_state(), random_state)  # without dropout nothing is drawn
    assert lock.loss_sums.count_nonzero() == 3
