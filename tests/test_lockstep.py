"""Runs in lock step are the runs that they would have been, each trained alone."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from episode_batch import encode, vocabularies_of
from evaluate import answer, evaluate_episodes, remember
from generate_episode import EXPERIMENTS, EpisodeSampler, find_experiment
from lockstep import lock_step
from lockstep.lock_step import LockStep, shapes_of
from model import MetaSeq2Seq, ModelConfig
from training_step import MAX_GRADIENT_NORM, Learner

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
        self.learners = [Learner(model, LR) for model in self.models]

    def in_lock_step(self, device="cpu"):
        models = [copy.deepcopy(model).to(device) for model in self.models]
        return LockStep(models, shapes_of(self.sampler), LR), models

    def draw(self):
        return [encode(self.sampler.training_episode(rng, ()), *self.vocabularies) for rng in self.rngs]

    def train_alone(self, batches, lr=LR):
        """Take a step of each run by itself; gives their losses."""
        before = torch.cat([learner.loss_sums for learner in self.learners])
        for learner, batch in zip(self.learners, batches, strict=True):
            learner.step([batch], lr)
        return torch.cat([learner.loss_sums for learner in self.learners]) - before


def parameters_of(lock, matrix, run):
    return {name: tensor[run].cpu() for name, tensor in lock.by_name(matrix.detach()).items()}


def assert_same_step(lock, losses, runs, rtol=1e-9, atol=1e-12):
    """Losses, clipped gradients and weights of the last step agree."""
    torch.testing.assert_close(lock.losses.cpu().double(), losses, rtol=rtol, atol=atol)
    for run, model in enumerate(runs.models):
        named = dict(model.named_parameters())
        gradients = {name: parameter.grad for name, parameter in named.items()}
        weights = {name: parameter.detach() for name, parameter in named.items()}
        torch.testing.assert_close(parameters_of(lock, lock.weights.grad, run), gradients, rtol=rtol, atol=atol)
        torch.testing.assert_close(parameters_of(lock, lock.weights, run), weights, rtol=rtol, atol=atol)


def rates(n_steps):
    """The learning rate of each step, with a drop after the second."""
    return [LR, LR, LR / 10][:n_steps]


def assert_trains_alike(runs, lock, keep_moments, **tolerance):
    """Three steps, across a drop of the rate, are those of every run alone."""
    for number, lr in enumerate(rates(3)):
        batches = runs.draw()
        lock.step(batches, lr)
        assert_same_step(lock, runs.train_alone(batches, lr), runs, **tolerance)
        if number == 1 and not keep_moments:
            for learner in (lock, *runs.learners):
                learner.restart_adam()
    torch.testing.assert_close(lock.loss_sums.cpu(), torch.cat([learner.loss_sums for learner in runs.learners]))


@pytest.mark.parametrize(("case", "keep_moments"), [*((case, False) for case in CASES), ("ME", True)])
def test_every_run_is_what_it_would_be_alone(data_dir, case, keep_moments):
    """Losses, gradients and weights equal those of a run by itself at every step, across a drop of the rate."""
    runs = Runs(data_dir, case)
    assert_trains_alike(runs, runs.in_lock_step()[0], keep_moments)


@pytest.mark.gpu
@has_gpu
@pytest.mark.parametrize("case", ["ME", "permutation", "without attention", "standard"])
@pytest.mark.parametrize("keep_moments", [False, True], ids=["anew", "kept"])
def test_a_replayed_graph_does_what_training_on_the_cpu_does(data_dir, case, keep_moments):
    """Losses and weights of replayed steps equal those on the CPU; without dropout no random number is drawn."""
    runs = Runs(data_dir, case)
    lock, _ = runs.in_lock_step("cuda")
    random_state = torch.cuda.get_rng_state()
    assert_trains_alike(runs, lock, keep_moments, rtol=1e-6, atol=1e-9)
    assert torch.equal(torch.cuda.get_rng_state(), random_state)


def test_single_precision_agrees_too(data_dir):
    """In float32, in which runs are trained, losses and gradients agree up to rounding."""
    runs = Runs(data_dir, "permutation", dtype=torch.float)
    lock, _ = runs.in_lock_step()
    batches = runs.draw()
    lock.step(batches, LR)
    torch.testing.assert_close(lock.losses.double(), runs.train_alone(batches), rtol=1e-6, atol=0)
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
        lock.step(batches, LR)
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
        many.step(together.draw(), LR)
        one.step(alone.draw(), LR)
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
    lock.step(batches, LR)
    assert_same_step(lock, runs.train_alone(batches), runs)


def test_leftovers_behind_a_sequence_do_not_matter(data_dir):
    """Symbols of earlier episodes, still in the buffers behind the ends of shorter sequences, change nothing."""
    runs = Runs(data_dir)
    used, _ = runs.in_lock_step()
    fresh, _ = runs.in_lock_step()
    for host, _ in [next(used._episodes._hosts) for _ in range(lock_step.N_HOST_BUFFERS)]:
        host.random_(4)
    batches = runs.draw()
    for lock in (used, fresh):
        lock.step(batches, LR)
    assert torch.equal(used.weights, fresh.weights)


@pytest.mark.parametrize("dropout", [0.5, 0.2])
def test_dropout_is_on_every_embedding_and_between_layers(data_dir, monkeypatch, dropout):
    """Units are dropped at the given rate in every run, the kept ones scaled, and no two runs drop the same."""
    runs = Runs(data_dir, "permutation", dropout=dropout)
    lock, _ = runs.in_lock_step()
    drop, seen = torch.nn.functional.dropout, []

    def spy(values, *args, **kwargs):
        result = drop(values, *args, **kwargs)
        seen.append((values.detach(), result.detach()))
        return result

    monkeypatch.setattr(torch.nn.functional, "dropout", spy)
    lock.step(runs.draw(), LR)
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


def test_the_networks_hold_what_is_trained(data_dir):
    """Their weights are those of their runs at any time, so that they can be scored and saved."""
    runs = Runs(data_dir)
    lock, models = runs.in_lock_step()
    for _ in range(2):
        for run, model in enumerate(models):
            torch.testing.assert_close(dict(model.state_dict()), parameters_of(lock, lock.weights, run), rtol=0, atol=0)
        lock.step(runs.draw(), LR)


@pytest.mark.parametrize("drops", [False, True])
def test_training_resumes_from_lock_step_alone_and_back(data_dir, drops):
    """Weights and states of Adam carry a run from lock step to training alone and back without a trace."""
    runs, reference = Runs(data_dir), Runs(data_dir)
    lock, models = runs.in_lock_step()

    def step(train):
        batches = runs.draw()
        train(batches, LR)
        reference.train_alone(batches)

    for _ in range(2):
        step(lock.step)
    if drops:
        for learner in (lock, *reference.learners):
            learner.restart_adam()
    for run, model in enumerate(runs.models):
        model.load_state_dict(models[run].state_dict())
        state = lock.adam_states()[run]
        runs.learners[run].load_adam_states([state])
        assert all(
            tensor.untyped_storage().nbytes() == tensor.nbytes for one in state.values() for tensor in one.values()
        )
    step(runs.train_alone)
    lock, models = runs.in_lock_step()
    lock.load_adam_states([learner.adam_states()[0] for learner in runs.learners])
    step(lock.step)
    for run, (model, expected) in enumerate(zip(models, reference.models, strict=True)):
        torch.testing.assert_close(dict(model.state_dict()), dict(expected.state_dict()), rtol=1e-9, atol=1e-12)
        ours, theirs = lock.adam_states()[run], reference.learners[run].adam_states()[0]
        assert list(ours) == list(theirs)
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-15)


def test_runs_that_are_not_equally_far_are_refused(data_dir):
    """Adam's count of steps is common to all runs."""
    runs = Runs(data_dir)
    lock, _ = runs.in_lock_step()
    runs.train_alone(runs.draw())
    runs.learners[1].step([runs.draw()[1]], LR)
    with pytest.raises(ValueError, match="values to unpack"):
        lock.load_adam_states([learner.adam_states()[0] for learner in runs.learners])


@every_device
def test_an_interrupted_lock_step_goes_on_as_if_it_had_not_been(data_dir, device):
    """Weights, Adam's states and torch's random state are all it needs; recording a graph leaves them as they were."""
    runs = Runs(data_dir, dropout=0.5)
    batches = [runs.draw() for _ in range(3)]
    lock, models = runs.in_lock_step(device)
    lock.step(batches[0], LR)
    random_state = torch.get_rng_state() if device == "cpu" else torch.cuda.get_rng_state()
    resumed = LockStep(copy.deepcopy(models), shapes_of(runs.sampler), LR)
    resumed.load_adam_states(lock.adam_states())
    for one in (lock, resumed):
        (torch.set_rng_state if device == "cpu" else torch.cuda.set_rng_state)(random_state)
        one.loss_sums.zero_()
        for episodes in batches[1:]:
            one.step(episodes, LR)
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
        expected = [answers_of(model, own, 12) for model, own in zip(models, episodes, strict=True)]
        scores = [evaluate_episodes(model, own, 12) for model, own in zip(models, episodes, strict=True)]
        assert lock.validate(episodes, 12) == scores
        assert lock.validation.answers() == expected
        assert len({tuple(one) for own in expected for one in own}) > 3, "answers too alike to tell anything"
        lock.step(runs.draw(), LR)


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
        assert answers == [
            answers_of(copy.deepcopy(model), own, 12) for model, own in zip(models, episodes, strict=True)
        ]
        lock.step(runs.draw(), LR)


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
