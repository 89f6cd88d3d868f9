"""A training step stays on its device and never makes the host wait, and a GPU computes what the CPU does.

Without a GPU, torch's `meta` device, whose tensors have shapes but no values, stands for one: whatever needs a value on
the host fails there by itself. The lengths of an episode stay on the CPU by design.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import training_step
from common.devices import choose_device
from episode_batch import encode, vocabularies_of
from evaluate import answer, store
from generate_episode import EpisodeSampler, find_experiment
from lockstep import lock_step
from lockstep.lock_step import LockStep, Validation, shapes_of
from model import MetaSeq2Seq, ModelConfig
from training_step import Learner, episode_loss

aten = torch.ops.aten
COPIES = aten._to_copy.default, aten.copy_.default
STAND_INS = {  # operations without a form for meta tensors
    aten._thnn_fused_lstm_cell.default: lambda given, recurrent, c: (c + 0, c + 0, given + recurrent),
    aten._fused_adam_.tensor_lr: lambda *args, **kwargs: None,
}
VARIANTS = {
    "memory": ("ME", {}),
    "masked": ("ME", {"mask_padding": True}),
    "one layer": ("ME", {"nlayers": 1}),
    "no attention": ("ME", {"disable_attention": True}),
    "standard": ("standard_addprim_jump", {"disable_memory": True}),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


class OneDevice(TorchDispatchMode):
    """Forbids operations that mix devices, and copies from the CPU that the host waits for.

    A number, a tensor without dimensions, may come from the CPU: it travels with the operation.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        result = STAND_INS.get(func, func)(*args, **kwargs)
        devices = {one.device.type for one in tensors if one.dim() > 0}
        if func in COPIES:
            goes_up = tensors[-1].device.type == "cpu" and result.device.type == "meta"
            is_free = kwargs.get("non_blocking") or args[2:] == (True,)
            assert is_free or not goes_up, f"{func}: the host waits for a copy of {tuple(tensors[-1].shape)}"
        else:
            assert len(devices) <= 1, f"{func}: mixes {sorted(devices)}"
        return result


@pytest.fixture
def device(monkeypatch):
    """The meta device in the role of a GPU: tensors there say `is_cuda`, and fused Adam takes them."""
    adam = sys.modules[torch.optim.Adam.__module__]
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *args, **kwargs: None)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: tensor.device.type == "meta"))
    return torch.device("meta")


def make(data_dir, variant="memory", dropout=0.5):
    """A small network, a batch for it, and the shapes of such batches."""
    episode_type, config = VARIANTS[variant]
    experiment = find_experiment(episode_type)
    vocabularies = vocabularies_of(experiment)
    sampler = EpisodeSampler(experiment, data_dir, support_loss=True)
    torch.manual_seed(0)
    sizes = *map(len, vocabularies), experiment.padded_length
    model = MetaSeq2Seq(ModelConfig(*sizes, emb_size=8, dropout=dropout, **config))
    return model, encode(sampler.training_episode(np.random.default_rng(0), ()), *vocabularies), shapes_of(sampler)


def take_eager_step(data_dir, device, variant="memory"):
    model, batch, _ = make(data_dir, variant)
    learner = Learner(model.to(device), 1e-3)
    with OneDevice():
        learner.step([batch], 1e-3)
    assert learner.loss_sums.device == device


def take_lock_step(data_dir, device, variant="memory"):
    model, batch, shapes = make(data_dir, variant)
    lock = LockStep([model.to(device)] * 2, shapes, 1e-3)
    with OneDevice():
        lock.step([batch, batch], 1e-3)
        lock.restart_adam()
        lock.step([batch, batch], 1e-4)
    assert lock.losses.device == device


@every_variant
def test_a_step_stays_on_its_device_and_never_waits(data_dir, device, variant):
    """Loss, gradient, clipping and Adam mix no devices, ask for no value and copy nothing that the host waits for."""
    take_eager_step(data_dir, device, variant)


@every_variant
def test_a_lock_step_stays_on_its_device_and_never_waits(data_dir, device, variant):
    """The same of the step that a graph records, with sending the episodes and the drop of the rate."""
    take_lock_step(data_dir, device, variant)


@every_variant
def test_a_validation_in_lock_step_stays_on_its_device_and_never_waits(data_dir, device, variant):
    """The same of answering two episodes a run."""
    model, batch, shapes = make(data_dir, variant)
    lock = LockStep([model.to(device)] * 2, shapes, 1e-3)
    validation = Validation([[batch, batch]] * 2, model.config, lock.by_name(lock.weights.detach()), max_length=3)
    with OneDevice():
        validation.decode()


MISTAKES = {
    "an operand on the CPU": lambda logits: logits + torch.arange(logits.shape[-1]),
    "an index on the CPU": lambda logits: logits[torch.arange(len(logits))],
    "a copy that blocks": lambda logits: logits + torch.arange(logits.shape[-1]).to(logits.device),
    "a value on the host": lambda logits: logits * logits.sum().item(),
    "a comparison on the host": lambda logits: logits if logits.sum() > 0 else -logits,
    "a shape that depends on values": lambda logits: logits[logits > 0].sum() + logits,
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.parametrize(
    ("take_step", "module", "name"),
    [(take_eager_step, training_step, "masked_cross_entropy"), (take_lock_step, lock_step, "masked_cross_entropy")],
    ids=["eager", "lock step"],
)
def test_mistakes_are_noticed(data_dir, device, monkeypatch, take_step, module, name, mistake):
    """The two tests above fail if a step mixes devices or waits: each of these mistakes is caught."""
    proper, caught = getattr(module, name), []

    def mistaken(logits, *args):
        with pytest.raises((AssertionError, RuntimeError)) as error:
            mistake(logits)
        caught.append(error)
        return proper(logits, *args)

    monkeypatch.setattr(module, name, mistaken)
    take_step(data_dir, device)
    assert caught


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float, 1e-4), (torch.double, 1e-9)])
@every_variant
def test_a_gpu_computes_what_the_cpu_does(data_dir, variant, dtype, rtol):
    """Loss, gradients and greedy answers on a GPU are those of float64 on the CPU."""
    model, batch, _ = make(data_dir, variant, dropout=0.0)
    found = []
    for device, precision in ((torch.device("cpu"), torch.double), (choose_device(0, False, 1), dtype)):
        model, episode = model.to(device, precision).train(), batch.to(device)
        model.zero_grad()
        loss = episode_loss(model, episode)
        loss.backward()
        gradients = [parameter.grad.double().cpu().clone() for parameter in model.parameters()]  # .to moves them
        answers = answer(model, store(model.eval(), episode), episode.query_in, max_length=10, at_once=40)
        found.append((loss.item(), gradients, answers))
    (expected_loss, expected, expected_answers), (loss, gradients, answers) = found
    assert loss == pytest.approx(expected_loss, rel=rtol)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=rtol * theirs.abs().max().item())
    assert answers == expected_answers


FAULTS = """
import resource, torch
from common.devices import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(2**22).mul(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
usual = faults()
keep_freed_memory()
print(usual, min(faults() for _ in range(5)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_freed_memory_is_kept():
    """What is freed is used again without the system's help: once warm, hardly a page is fetched anew.

    The least of five rounds counts, since the heap may still grow in any of the first ones.
    """
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    if usual < 1000:
        pytest.skip("pages are so large here that there are few")
    assert kept < usual / 10
