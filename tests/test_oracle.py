"""The networks give the numbers that tests/oracle/derive.py derives from the paper's equations, sharing no code."""

import ast
import dataclasses
import json
import sys
import zlib

import pytest
import torch
from oracle import derive
from words import encode_words

import model as model_module
from episode_batch import EpisodeBatch, Vocabulary
from evaluate import store
from model import MetaSeq2Seq, ModelConfig
from training_step import episode_loss

EXPECTED = json.loads(derive.EXPECTED.read_text(encoding="utf-8"))
VOCABULARIES = Vocabulary(tuple(EXPECTED["input_words"])), Vocabulary(tuple(EXPECTED["output_words"]))
TOLERANCE = {torch.double: 1e-8, torch.float: 1e-5}
SWITCHES = {"memory": "no memory", "attention": "no attention", "mask_padding": "padding takes part"}


def name_of(case):
    return ", ".join([f"{case['layers']}-layer", *(off for switch, off in SWITCHES.items() if not case[switch])])


every_case = pytest.mark.parametrize("case", EXPECTED["cases"], ids=name_of)


def run_nn_lstm(lstm, rows, packing, start=None):
    """What `model.run_lstm` does, by torch's own LSTM."""
    steps, _ = lstm(packing.sequence(rows), start)
    return steps.data


@pytest.fixture(params=["packed_lstm", "nn.LSTM"])
def either_lstm(request, monkeypatch):
    if request.param == "nn.LSTM":
        monkeypatch.setattr(model_module, "run_lstm", run_nn_lstm)


def make(case):
    """A network with the weights of `derive.weight_of`: entry k is 0.8 sin(crc32(name) mod 1000 + 1.7 k + 0.3 k^2)."""
    config = ModelConfig(
        input_size=len(VOCABULARIES[0]),
        output_size=len(VOCABULARIES[1]),
        padded_length=EXPECTED["padded_length"],
        emb_size=EXPECTED["emb_size"],
        nlayers=case["layers"],
        dropout=0.0,
        disable_memory=not case["memory"],
        disable_attention=not case["attention"],
        mask_padding=case["mask_padding"],
    )
    model = MetaSeq2Seq(config).double()
    for name, parameter in model.named_parameters():
        k = torch.arange(parameter.numel(), dtype=torch.double)
        values = 0.8 * torch.sin(zlib.crc32(name.encode()) % 1000 + 1.7 * k + 0.3 * k**2)
        parameter.data = values.view_as(parameter)
    return model


def make_batch():
    sides = []
    for items in (EXPECTED["support"], EXPECTED["queries"]):
        for texts, vocabulary in zip(zip(*items, strict=True), VOCABULARIES, strict=True):
            sides.append(encode_words([text.split() for text in texts], vocabulary))
    return EpisodeBatch(*sides, is_support=torch.zeros(len(EXPECTED["queries"]), dtype=torch.bool))


@every_case
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["double", "float"])
def test_logits_loss_and_gradient_norms_are_those_of_the_equations(case, training, dtype, either_lstm):
    """Whichever LSTM runs, in training without dropout and in evaluation, in double and in single precision."""
    model, batch = make(case).to(dtype).train(training), make_batch()
    targets = batch.query_out
    context = model.recall(store(model, batch), batch.query_in.symbols, batch.query_in.lengths)
    logits = model.decode(context, targets.symbols, targets.lengths)
    loss = episode_loss(model, batch)
    loss.backward()
    squares = {"encoders": 0.0, "decoder": 0.0}
    for name, parameter in model.named_parameters():
        part = "decoder" if name.startswith("decoder.") else "encoders"
        squares[part] += parameter.grad.double().square().sum().item()
    close = {"rtol": 0, "atol": TOLERANCE[dtype]}
    real = [answer[:length].tolist() for answer, length in zip(logits, targets.lengths, strict=True)]
    torch.testing.assert_close(real, case["logits"], **close)
    torch.testing.assert_close(loss.item(), case["loss"], **close)
    norms = {part: square**0.5 for part, square in squares.items()}
    torch.testing.assert_close(norms, case["gradient_norms"], **close)


@every_case
def test_the_network_has_the_parameters_of_the_equations(case):
    """No bias, layer or direction more or less, under the names by which both sides fill them."""
    variant = derive.Case(**{field.name: case[field.name] for field in dataclasses.fields(derive.Case)})
    found = {name: tuple(parameter.shape) for name, parameter in make(case).named_parameters()}
    assert found == derive.shapes_of(variant)


def test_the_file_is_what_the_derivation_writes():
    """Episode, logits and losses are derived again for every case, gradients for the one with all parts and one layer.

    The script itself holds those gradients equal to central differences.
    """
    assert derive.described_episode().items() <= EXPECTED.items()
    for case, written in zip(derive.CASES, EXPECTED["cases"], strict=True):
        derived = dataclasses.asdict(case) | derive.values_of(case)
        torch.testing.assert_close(derived, {key: written[key] for key in derived}, rtol=1e-8, atol=1e-9)
    norms = derive.gradient_norms(derive.CASES[0])
    torch.testing.assert_close(norms, EXPECTED["cases"][0]["gradient_norms"], rtol=1e-8, atol=1e-9)


def test_the_derivation_imports_nothing_but_numpy_and_the_standard_library():
    """An error of the project cannot reach the numbers that it is held against."""
    names = []
    for node in ast.walk(ast.parse((derive.EXPECTED.parent / "derive.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    assert names
    assert {name.split(".")[0] for name in names} <= {"numpy", *sys.stdlib_module_names}
