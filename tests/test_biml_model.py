"""The network has the published size, decoding is what it says, and files of networks load without running anything."""

import argparse
import json
import math
import os
import pickle
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from script_runs import assert_one_line, run_file
from torch.nn import functional

from biml.batch import QueryTensors, assemble
from biml.benchmarks import gold_episode
from biml.decode import decode, target_log_p, with_lapse
from biml.dice import Dice
from biml.episode import sample_episode
from biml.episode_types import FEWER_STUDY, FULL, random_views
from biml.model import BIML, ModelConfig
from biml.network_file import load_network, save_network
from biml.packed_episodes import pack
from biml.stream import dice_of
from biml.views import rename, view_of
from biml.vocabulary import IO, MAIN, VANILLA
from common.errors import UserError

SMALL = ModelConfig(emb_size=16, nlayers_encoder=2, nlayers_decoder=2, ff_mult=2)
SOS, EOS, PAD = 6, 7, 8  # of the target
SOURCE_PAD = 18
CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent


def log_likelihood(model, batch, lapse=0.0):
    """Sum the symbols' log-probabilities of each target: (N,), and count them."""
    is_real = batch.target_out != model.target_pad
    log_p = torch.zeros(is_real.shape, dtype=torch.float64)
    log_p[is_real] = with_lapse(target_log_p(model, batch), lapse, model.config.output_size - 2)
    return log_p.sum(1), is_real.sum(1)


def shaken(config=SMALL, scale=0.7):
    """A network in evaluation mode whose biases and norms are not what they start as, and whose answers differ."""
    torch.manual_seed(0)
    model = BIML(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * scale * (0.3 if parameter.dim() > 1 else 1))
    return model


def gold_view(seed, n_support=14, n_query=10):
    renamed, _ = rename(gold_episode(), Dice(np.random.default_rng(seed)))
    return view_of(renamed._replace(support=renamed.support[:n_support], query=renamed.query[:n_query]), MAIN)


@pytest.fixture(scope="module")
def batch():
    """Queries of different lengths, some with few study examples."""
    return assemble([gold_view(0, 4, 8), gold_view(1, 1, 8)], MAIN).tensors(CPU)


@pytest.fixture(scope="module")
def fluent(batch):
    """A network that has learned some of the answers: they differ from query to query and end at different steps."""
    torch.manual_seed(0)
    model = BIML(ModelConfig(emb_size=16, nlayers_encoder=1, nlayers_decoder=2, ff_mult=2, dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    is_real = batch.target_out != PAD
    for _ in range(40):
        optimizer.zero_grad()
        logits = model(batch.source, batch.target_in)
        functional.cross_entropy(logits[is_real], batch.target_out[is_real]).backward()
        optimizer.step()
    return model.eval()


# The network


@pytest.mark.parametrize(("language", "expected"), [(MAIN, 1_393_801), (VANILLA, 1_392_263)], ids=["main", "vanilla"])
def test_the_network_has_the_published_weights(language, expected):
    """Their number with either vocabulary, by default; names of torch's transformer, embeddings, output, positions."""
    model = BIML(ModelConfig(len(language.source), len(language.target)))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    assert {name: shape for name, shape in shapes.items() if not name.startswith("transformer.")} == {
        "input_embedding.weight": (len(language.source), 128),
        "output_embedding.weight": (len(language.target), 128),
        "out.weight": (len(language.target), 128),
        "out.bias": (len(language.target),),
        "positional_encoding.pos_embedding": (5000, 1, 128),
    }
    assert shapes["transformer.encoder.layers.2.linear1.weight"] == (512, 128)
    assert shapes["transformer.decoder.layers.2.multihead_attn.in_proj_weight"] == (384, 128)
    assert {"transformer.encoder.norm.weight", "transformer.decoder.norm.weight"} < shapes.keys()


def test_positions_are_sinusoids():
    """Sines and cosines alternating, of wavelengths from 2 pi to 10000 * 2 pi."""
    table = BIML(SMALL).positional_encoding.pos_embedding[:, 0]
    angles = torch.tensor([0, 1, 7, 170])[:, None] / 10000 ** (torch.arange(0, 16, 2) / 16)
    expected = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    torch.testing.assert_close(table[[0, 1, 7, 170]], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_logits_are_those_of_torchs_transformer(batch, act):
    """Embeddings without scaling plus positions; post-norm layers; masks for padding and for what comes later."""
    model = shaken(ModelConfig(emb_size=16, nlayers_encoder=1, nlayers_decoder=2, ff_mult=3, act=act))
    activation = {"gelu": functional.gelu, "relu": functional.relu}[act]
    plain = torch.nn.Transformer(16, 8, 1, 2, 48, 0.0, activation, batch_first=True).train()  # no fast path
    plain.load_state_dict(model.transformer.state_dict())
    table = model.positional_encoding.pos_embedding[:, 0]
    source, target = batch.source, batch.target_in
    length = target.shape[1]
    with torch.no_grad():
        expected = model.out(
            plain(
                model.input_embedding.weight[source] + table[: source.shape[1]],
                model.output_embedding.weight[target] + table[:length],
                tgt_mask=torch.full((length, length), True).triu(1),
                src_key_padding_mask=source == SOURCE_PAD,
                tgt_key_padding_mask=target == PAD,
                memory_key_padding_mask=source == SOURCE_PAD,
            )
        )
        torch.testing.assert_close(model(source, target), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_no_logits(batch, training):
    """A query answers alike alone, without padding, and among longer ones."""
    model = shaken(ModelConfig(emb_size=16, nlayers_encoder=2, nlayers_decoder=2, ff_mult=2, dropout=0.0))
    model.train(training)
    wider = QueryTensors(
        *(functional.pad(part, (0, 3), value=pad) for part, pad in zip(batch, (SOURCE_PAD, PAD, PAD), strict=True))
    )
    with torch.no_grad():
        together, more = model(batch.source, batch.target_in), model(wider.source, wider.target_in)
        for row in range(len(batch.source)):
            source = batch.source[row][batch.source[row] != SOURCE_PAD]
            target = batch.target_in[row][batch.target_in[row] != PAD]
            alone = model(source[None], target[None])[0]
            for logits in (together, more):
                torch.testing.assert_close(logits[row, : len(target)], alone, rtol=1e-3, atol=1e-4)
    assert (batch.source == SOURCE_PAD).any() and (batch.target_in == PAD).any()


def test_dropout_is_for_training_only(batch):
    """Two passes agree in evaluation mode and differ in training mode, in the network and after the positions."""
    model, source = shaken(), batch.source[:2]
    for work in (lambda: model(source, batch.target_in[:2]), lambda: model.positional_encoding(torch.ones(1, 9, 16))):
        with torch.no_grad():
            assert torch.equal(model.eval() and work(), work())
            assert not torch.allclose(model.train() and work(), work(), atol=1e-2)


# Batches


def plain_batch(views, language):
    """Write every source and target in words and look them up one by one."""
    rows = []
    for view in views:
        for given, target in view.query:
            source = [*language.source.decode(given), "SOS"]
            for study_given, study_target in view.support:
                source += [*language.source.decode(study_given), IO, *language.target.decode(study_target), "SOS"]
            answer = language.target.decode(target)
            rows.append(([*source, "EOS"], ["SOS", *answer], [*answer, "EOS"]))
    for column, vocabulary in zip(zip(*rows, strict=True), (language.source, *[language.target] * 2), strict=True):
        numbers = {**vocabulary.numbers, "SOS": vocabulary.sos, "EOS": vocabulary.eos}
        numbered = [torch.tensor([numbers[word] for word in row]) for row in column]
        yield torch.nn.utils.rnn.pad_sequence(numbered, batch_first=True, padding_value=vocabulary.pad)


@pytest.mark.parametrize("recipe", [FULL, FEWER_STUDY, None], ids=["all study", "fewer study", "vanilla"])
def test_batches_are_those_made_the_plain_way(recipe):
    """Source, decoder's input and target, padding included; canonical symbols have other numbers as targets."""
    language, made = VANILLA, [view_of(gold_episode(), VANILLA, copies=True)]
    if recipe is not None:
        packed = pack([sample_episode(np.random.default_rng(seed)) for seed in range(4)], {}).renumbered(MAIN)
        views = random_views(packed, recipe, bent=True)
        language, made = MAIN, [view for n in range(4) for view in views.make(n, dice_of(1, 1, 1, n))]
    assert all(map(torch.equal, assemble(made, language).tensors(CPU), plain_batch(made, language)))


# Decoding


def plain_greedy(model, source, max_length, allowed=None):
    """Read the whole answer so far anew for every symbol, one query at a time, all steps."""
    answers = []
    for row in range(len(source)):
        target = torch.tensor([[SOS]])
        for _ in range(max_length):
            with torch.no_grad():
                logits = model(source[row : row + 1], target)[0, -1].clone()
            if allowed is not None:
                logits[~allowed[row]] = -math.inf
            target = torch.cat([target, logits.argmax()[None, None]], dim=1)
        answer = target[0, 1:].tolist()
        answers.append(answer[: answer.index(EOS)] if EOS in answer else answer)
    return answers


def test_keeping_earlier_steps_changes_no_answer(fluent, batch):
    """Greedy decoding is that which reads everything anew; answers end at different steps."""
    answers = decode(fluent, batch.source, 7)
    assert answers == plain_greedy(fluent, batch.source, 7)
    assert len({tuple(answer) for answer in answers}) > 5
    assert len({len(answer) for answer in answers}) > 2


@pytest.mark.parametrize("symbols", [(PAD, 0, PAD, PAD, 3, 1), (SOS, SOS, 2, PAD, SOS, 4), (2, PAD, 5, SOS, 0, 0)])
def test_steps_agree_with_the_whole_after_any_symbols(batch, symbols):
    """PAD is left out by later steps, SOS is read like any other; cached steps treat them as reading anew does."""
    model = shaken()
    source = batch.source[:5]
    target = torch.tensor([[SOS, *symbols]]).expand(5, -1)
    with torch.no_grad():
        encoded = model.encode(source)
        decoding = model.start_decoding(encoded)
        for step in range(target.shape[1]):
            logits, decoding = model.decode_step(encoded, decoding, target[:, step])
            expected = model(source, target[:, : step + 1])[:, -1]
            torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(model(source, target)[:, step], expected, rtol=1e-3, atol=1e-4)


def test_decoding_ends_with_the_last_answer(fluent, batch, monkeypatch):
    """Alone, each query has the answer that it has in company; a network that never ends is cut."""
    taken, decode_step = [], BIML.decode_step
    monkeypatch.setattr(BIML, "decode_step", lambda *given: taken.append(given) or decode_step(*given))
    answers = decode(fluent, batch.source, 30)
    assert len(taken) == max(map(len, answers)) + 1 < 30
    for row, answer in enumerate(answers):
        taken.clear()
        assert decode(fluent, batch.source[row : row + 1], 30) == [answer] and len(taken) == len(answer) + 1
    model = shaken()
    with torch.no_grad():
        model.out.bias[EOS] -= 100.0
    assert [{len(answer) for answer in decode(model, batch.source, longest)} for longest in (1, 3)] == [{1}, {3}]


def test_sampled_answers_come_up_as_often_as_likely():
    """Whole answers: the share of each is the exponential of its log-likelihood; equal seeds draw equally."""
    model = shaken(scale=0.2)
    with torch.no_grad():
        model.out.weight *= 0.3
        model.out.bias.zero_()
        model.out.bias[EOS] += 1.0
    n = 2000
    source = torch.tensor([[3, 16, 17]]).expand(n, -1)
    answers, again, other = (decode(model, source, 3, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert answers == again != other
    for answer in ([], [0], [1], [2, 1], [SOS], [SOS, 3]):
        given = QueryTensors(source[:1], torch.tensor([[SOS, *answer]]), torch.tensor([[*answer, EOS]]))
        p = log_likelihood(model, given)[0].exp().item()
        assert 0.001 < p < 0.9
        assert answers.count(answer) / n == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)


def test_answers_are_made_of_what_is_allowed(fluent, batch):
    """Each query has its own symbols, the end among them; greedy answers are the likeliest; all is no limit."""
    n = len(batch.source)
    everything, allowed = torch.ones(n, 9, dtype=torch.bool), torch.zeros(n, 9, dtype=torch.bool)
    for row in range(n):
        allowed[row, [row % 6, (row + 2) % 6, EOS]] = True
    for seed in (None, 1):
        free, open_, limited = (
            decode(fluent, batch.source, 4, seed and torch.Generator().manual_seed(seed), mask)
            for mask in (None, everything, allowed)
        )
        assert free == open_ != limited and any(limited)
        assert all(set(answer) <= {row % 6, (row + 2) % 6} for row, answer in enumerate(limited))
        assert seed is not None or limited == plain_greedy(fluent, batch.source, 4, allowed)


# Log-likelihood


@pytest.mark.parametrize("lapse", [0.0, 0.03, 1.0])
def test_a_log_likelihood_is_the_sum_over_single_steps(batch, lapse):
    """Of the target's symbols and the end, each alone mixed with the uniform one; all lapsed nothing is known."""
    model = shaken()
    totals, lengths = log_likelihood(model, batch, lapse)
    assert totals.dtype == torch.float64
    for row in range(len(batch.source)):
        target = batch.target_out[row][batch.target_out[row] != PAD].tolist()
        assert lengths[row] == len(target)
        with torch.no_grad():
            encoded = model.encode(batch.source[row : row + 1])
            decoding, last, total = model.start_decoding(encoded), SOS, 0.0
            for symbol in target:
                logits, decoding = model.decode_step(encoded, decoding, torch.tensor([last]))
                p = logits.double().softmax(1)[0, symbol].item()
                total += math.log((1 - lapse) * p + lapse / 7)
                last = symbol
        assert totals[row].item() == pytest.approx(total, abs=1e-3)


# Files


class Lang:
    """As published files have it: a class of a module `datasets` that is not there when they are loaded."""

    def __init__(self, symbols):
        self.symbols = symbols
        self.index2symbol = dict(enumerate(symbols))
        self.symbol2index = {symbol: index for index, symbol in enumerate(symbols)}
        self.PAD_idx = len(symbols) - 1


def tiny_network(*sizes, **others):
    torch.manual_seed(0)
    return BIML(ModelConfig(*sizes, **{"emb_size": 16, "nlayers_encoder": 1, "ff_mult": 2, **others})).eval()


def lang_of(words):
    return Lang([*words, "SOS", "EOS", "PAD"])


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Save a network in the layout of the published files; gives the path."""

    def save(model, language=MAIN, **changes):
        path = tmp_path / "net-published.pt"
        arguments = argparse.Namespace(episode_type="algebraic+biases", nepochs=50, device=torch.Size([3]))
        contents = {"nets_state": model.state_dict(), "epoch": 50, "step": 200_000, "best_val_loss": 0.1}
        contents |= {"args": arguments, "langin": lang_of(language.source.words)}
        contents |= {"langout": lang_of(language.target.words), **changes}
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
            sys.modules["datasets"].Lang = Lang
            patched.setattr(Lang, "__module__", "datasets")
            torch.save(contents, path)
        return path

    return save


def assert_same_weights(one, other):
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("language", [MAIN, VANILLA], ids=["main", "vanilla"])
def test_a_published_file_loads_without_running_anything_in_it(published, language):
    """Its classes are read as inert data; sizes follow from shapes, and what JSON has no kind for becomes text."""
    model = tiny_network(len(language.source), len(language.target), nlayers_decoder=2, ff_mult=3)
    path = published(model, language)
    with mock.patch.object(Lang, "__init__", side_effect=AssertionError("run")):
        trained = load_network(path, CPU)
    assert "datasets" not in sys.modules
    assert (trained.language, trained.episode_type, trained.epoch) == (language, "algebraic+biases", 50)
    assert trained.model.config == model.config
    assert trained.arguments == {"episode_type": "algebraic+biases", "nepochs": 50, "device": "torch.Size([3])"}
    assert_same_weights(trained.model, model)


RECORD = [{"epoch": 1, "step": step, "lr": 0.1, "avg_train_loss": 2.0, "val_loss": 2.1} for step in (1, 25)]


@pytest.mark.parametrize("is_nested", [True, False])
def test_a_published_file_tells_of_itself(tmp_path, published, is_nested):
    """Activation, type, sizes and record are beside the weights, which may be one level down; they go before args."""
    model = tiny_network(act="relu")
    state = {"net": model.state_dict()} if is_nested else model.state_dict()
    told = {"activation": "relu", "episode_type": "algebraic", "batch_size": 7, "nepochs": 9, "dropout": 0.2}
    path = published(model, nets_state=state, epoch=3, train_tracker=RECORD, **told)
    trained = load_network(path, CPU)
    assert (trained.model.config.act, trained.episode_type, trained.epoch) == ("relu", "algebraic", 3)
    assert (trained.arguments["batch_size"], trained.arguments["nepochs"]) == (7, 9)
    assert trained.saved["history"] == RECORD
    assert_same_weights(trained.model, model)


def test_a_bare_state_dict_loads_too(tmp_path):
    """The weights alone tell everything but what they were trained on."""
    model = tiny_network()
    torch.save(model.state_dict(), tmp_path / "net.pt")
    trained = load_network(tmp_path / "net.pt", CPU)
    assert (trained.language, trained.episode_type) == (MAIN, None)
    assert_same_weights(trained.model, model)


class Bomb:
    """Creates a file when unpickled by whoever runs what it says."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda contents, path: path.write_bytes(pickle.dumps(contents))])
@pytest.mark.parametrize("entry", ["args", "langin", "nets_state"])
def test_a_malicious_file_is_refused(tmp_path, save, entry):
    """An object that would run something, wherever it stands, is an error of one line, and nothing is run."""
    trap, path = tmp_path / "trap", tmp_path / "net.pt"
    save({"nets_state": tiny_network().state_dict(), entry: Bomb(trap)}, path)
    with pytest.raises(ValueError, match=r"cannot be loaded: .* nothing in it was run"):
        load_network(path, CPU)
    assert not trap.exists()


def state_of(*sizes, **others):
    return tiny_network(*sizes, **others).state_dict()


OTHER_WORDS = "its number of {} is"
STRANGE = {  # what is wrong with a published file, and what the message says beside its name
    "no weights": ({"nets_state": None}, "holds no network of biml"),
    "weights missing": ({"nets_state": {"input_embedding.weight": torch.zeros(19, 16)}}, "not a usable"),
    "arguments of another kind": ({"args": 3}, "not a usable"),
    "a vector for a table": ({"nets_state": {"input_embedding.weight": torch.zeros(19)}}, "not a usable"),
    "a number for a table": ({"nets_state": {"input_embedding.weight": 3}}, "not a usable"),
    "a width for four heads": ({"nets_state": state_of(emb_size=12, nheads=4)}, "8 attention heads"),
    "other inputs": ({"langin": lang_of(MAIN.source.words[::-1])}, OTHER_WORDS.format(MAIN.source.words[0])),
    "other outputs": ({"langout": lang_of(MAIN.target.words[::-1])}, OTHER_WORDS.format(MAIN.target.words[0])),
    **{
        f"sizes {sizes}": (
            {"nets_state": state_of(*sizes)},
            "19 and 9 or 11 and 7 symbols .*found {} and {}".format(*sizes),
        )
        for sizes in ((20, 9), (19, 7), (11, 9))
    },
}
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
    **{f"format version {version}": {"format_version": version} for version in (0, 2, None)},
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_file_is_one_message_with_its_name(published, case):
    """Whatever is missing or of another kind."""
    changes, said = STRANGE[case]
    with pytest.raises(UserError, match=rf"net-published\.pt.*{said}") as error:
        load_network(published(tiny_network(), **changes), CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_message_with_its_name(tmp_path, case):
    """Whatever it says of its network, nothing larger than its weights is made."""
    path = tmp_path / "net.tar"
    save_network(path, tiny_network(), 3, {"episode_type": "algebraic"}, {})
    saved, changes = torch.load(path, weights_only=True), dict(DAMAGED[case])
    changes["model_config"] = {**saved["model_config"], **changes.get("model_config", {})}
    torch.save(saved | changes, path)
    said = f" has {case}; this code reads 1" if "format_version" in changes else ": not a usable checkpoint"
    with pytest.raises(UserError, match=rf"net\.tar{said}") as error:
        load_network(path, CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["__init__", "load_state_dict"])
def test_a_bug_in_the_network_is_not_taken_for_a_bad_file(tmp_path, monkeypatch, method):
    """It keeps its traceback, whatever file is loaded."""
    save_network(tmp_path / "net.tar", tiny_network(), 3, {"episode_type": "algebraic"}, {})
    monkeypatch.setattr(BIML, method, lambda self, given: len(*given))
    with pytest.raises(TypeError):
        load_network(tmp_path / "net.tar", CPU)


# The bench


def test_the_bench_measures_prints_and_writes(tmp_path):
    """Both figures are times above 0."""
    path = tmp_path / "bench.json"
    small = ("--cpu", "--batch_size", 1, "--repeats", 1)
    outcome = run_file(ROOT / "biml" / "bench.py", *small, "--fn_out_results", path)
    assert (outcome.code, outcome.err) == (0, "") and f"written to {path}\n" in outcome.out
    found = json.loads(path.read_text())
    assert found["step_seconds"] > 0 < found["answers_seconds"] and found["shape"][0] == 24


@pytest.mark.parametrize(("options", "said"), [("--repeats 0", "--repeats"), ("--fn_out_results x.csv", "PATH.json")])
def test_a_mistake_is_one_line(options, said):
    """Exit code 2, before anything is measured."""
    assert_one_line(run_file(ROOT / "biml" / "bench.py", *options.split()), "bench.py", said)
