"""Checkpoints: saved whole, loaded without running anything, the original release's included."""

import argparse
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from script_runs import same_contents, save_untrained

import checkpoint
from checkpoint import FORMAT, checkpoint_contents, load_checkpoint
from common.errors import UserError
from common.plain_files import load_plain, save_plain
from episode_batch import encode, vocabularies_of
from evaluate import answer, remember
from generate_episode import find_experiment
from model import ModelConfig

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent


def answers(model, episode, vocabularies):
    batch = encode(episode, *vocabularies)
    return answer(model, remember(model, batch), batch.query_in, 9, 100)


@pytest.mark.parametrize("config", [{}, {"disable_memory": True}, {"disable_attention": True, "mask_padding": True}])
def test_a_loaded_network_is_the_saved_one(tmp_path, config):
    """Weights, configuration, vocabularies and validation episodes all come back; torch alone reads the file."""
    contents = save_untrained(tmp_path / "net.tar", **config)
    loaded = load_checkpoint(tmp_path / "net.tar", CPU)
    assert loaded.model.config == ModelConfig(6, 6, 7, emb_size=6, **config)
    assert same_contents(loaded.model.state_dict(), contents["model_state"])
    assert not loaded.model.training
    assert (loaded.episode, loaded.num_episodes, loaded.max_length_eval) == (5, 5, 50)
    assert loaded.vocabularies == vocabularies_of(find_experiment("ME"))
    assert all(one.is_support.tolist() == [False] * 20 + [True] * 3 for one in loaded.validation)
    again = checkpoint_contents(loaded.model, loaded.experiment, loaded.validation, 5, loaded.arguments)
    assert same_contents(again, contents)
    assert torch.load(tmp_path / "net.tar", weights_only=True).keys() == contents.keys()


def test_the_vocabulary_comes_from_the_file_and_the_mask_from_the_caller(tmp_path):
    """Words in another order keep their numbers; padded steps are treated as in training, or as asked."""
    contents = save_untrained(tmp_path / "net.tar", mask_padding=True)
    save_plain(tmp_path / "net.tar", contents | {"input_words": contents["input_words"][::-1]})
    assert load_checkpoint(tmp_path / "net.tar", CPU).input_vocabulary.words == ("zup", "wif", "lug", "dax")
    found = [load_checkpoint(tmp_path / "net.tar", CPU, mask).model.config.mask_padding for mask in (None, False)]
    assert found == [True, False]


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def zip_of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", "no pickle")


def plain_tar(path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "net.py")


def filled(content):
    return lambda path: path.write_bytes(content)


def cut(n):
    return lambda path: path.write_bytes(path.read_bytes()[:n])


def bare(thing, **how):
    """Save something in the place of a checkpoint; a class is made for the file's folder."""
    return lambda path: torch.save(thing(path.parent / "ran") if thing is Malicious else thing, path, **how)


def changed(**entries):
    """Save a checkpoint with other entries; None takes one away."""

    def change(path):
        saved = {**torch.load(path, weights_only=True), **entries}
        saved = {name: Malicious(path.parent / "ran") if value is Malicious else value for name, value in saved.items()}
        torch.save({name: value for name, value in saved.items() if value is not None}, path)

    return change


def infinite_weights(path):
    saved = torch.load(path, weights_only=True)
    saved["model_state"]["context_layer.bias"][1] = torch.inf
    torch.save(saved, path)


WRONG_FILES = {  # each turns a checkpoint into something else
    "missing": Path.unlink,
    "text": filled(b"this is no checkpoint\n"),
    "empty": filled(b""),
    "zeros": filled(bytes(5000)),
    "first half": cut(5000),
    "all but the last byte": cut(-1),
    "all but the last 200 bytes": cut(-200),
    "tar archive": plain_tar,
    "zip archive": zip_of_text,
    "picture": filled(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "another project's": bare({"state_dict": {"w": torch.zeros(2)}, "epoch": 3}),
    "list": bare([1, 2, 3]),
    "tensor": bare(torch.zeros(3)),
    "pickled network": bare(torch.nn.Linear(2, 2)),
    "pickle": filled(pickle.dumps({"format": FORMAT})),
    "later version": changed(format_version=2),
    "bare format": bare({"format": FORMAT, "format_version": 1}),
    "almost an original": bare({"encoder_state_dict": {}}),
    "without weights": changed(model_state=None),
    "without words": changed(input_words=None),
    "odd types": changed(arguments=[]),
    "no episodes": changed(episode=-1),
    "no validation": changed(validation_episodes=[]),
    "weights of another size": changed(model_state={"input_encoder.embedding.weight": torch.zeros(1)}),
    "another size": changed(model_config={"input_size": 6, "output_size": 6, "padded_length": 7, "emb_size": 5}),
    "infinite weights": infinite_weights,
    "malicious": bare(Malicious),
    "malicious legacy": bare(Malicious, _use_new_zipfile_serialization=False),
    "malicious entry": changed(arguments=Malicious),
    "malicious pickle": lambda path: path.write_bytes(pickle.dumps(Malicious(path.parent / "ran"), protocol=2)),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_what_is_no_checkpoint_is_refused_in_one_line_and_not_run(tmp_path, kind):
    """Whatever torch makes of a file, the message names it, nothing in it is run, and it stays."""
    path, trace = tmp_path / "net.tar", tmp_path / "ran"
    save_untrained(path)
    WRONG_FILES[kind](path)
    if kind.startswith("malicious"):
        with path.open("rb") as file:
            pickle.load(file) if kind == "malicious pickle" else torch.load(file, weights_only=False)
        trace.rmdir()  # it was there: the file does what it is made for
    before = path.exists() and path.read_bytes()
    with pytest.raises(UserError, match=str(path)) as caught:
        load_checkpoint(path, CPU)
    assert "\n" not in str(caught.value)
    assert ("nothing in it was run" in str(caught.value)) >= kind.startswith("malicious")
    assert (path.exists() and path.read_bytes()) == before
    assert not trace.exists()


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path):
    """Wherever it is: torch itself would take other weights than those that were saved."""
    path = tmp_path / "net.tar"
    save_untrained(path)
    whole, contents = path.read_bytes(), load_plain(path, "")
    n_refused = 0
    for position in range(0, len(whole), len(whole) // 30):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        try:
            assert same_contents(load_plain(path, ""), contents)
        except UserError as error:
            assert "net.tar" in str(error)
            n_refused += 1
    assert n_refused > 15


@pytest.mark.slow
def test_killed_while_saving_leaves_a_whole_file(tmp_path):
    """A process that saves all the time is killed at any moment: the name always holds all of one content."""
    script = """if True:
        import sys
        from pathlib import Path
        from common.files import save_bytes
        for number in range(10**9):
            save_bytes(Path(sys.argv[1]), bytes([number % 256]) * 8_000_000)
            print("saved", flush=True)
    """
    path = tmp_path / "net.tar"
    for delay in (0.01, 0.021, 0.037):
        command = [sys.executable, "-c", script, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=delay)
            process.kill()
        content = path.read_bytes()
        assert content == content[:1] * 8_000_000


class Lang:
    """As the original release pickles it: __main__.Lang."""

    def __init__(self, symbols):
        self.symbols, self.n_symbols = symbols, len(symbols) + 2
        self.index2symbol = dict(enumerate([*symbols, "SOS", "EOS"]))
        self.symbol2index = {symbol: index for index, symbol in self.index2symbol.items()}


def save_original(path, monkeypatch, disable_memory=False, disable_attention=False):
    """Save a network as the original release does; returns the network and its validation episodes."""
    monkeypatch.setattr(Lang, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Lang", Lang, raising=False)
    flags = {"disable_memory": disable_memory, "disable_attention": disable_attention}
    contents = save_untrained(path, seed=3, **flags)
    model, validation = load_checkpoint(path, CPU).model, load_checkpoint(path, CPU).validation
    prefixes = {"input_encoder.": [""] if disable_memory else ["suppport_embedding.", "query_embedding."]}
    prefixes |= {"output_encoder.": ["output_embedding."], "context_layer.": ["hidden."]}
    layers = {"lstm": "rnn", "attention_layer": "concat", "output_layer": "out"}
    encoder, decoder, episodes = {}, {}, []
    for name, weight in model.state_dict().items():
        part, rest = name.split(".", 1)
        if part == "decoder":
            layer, rest = rest.split(".", 1)
            decoder[f"{layers.get(layer, layer)}.{rest}"] = weight
        else:
            encoder |= {original + rest: weight for original in prefixes[f"{part}."]}
    for one in contents["validation_episodes"]:
        episodes.append({"identifier": one["mapping"].replace(", ", "\n"), "xs_padded": torch.zeros(3, 2)})
        for part, names in (("support", ("xs", "ys")), ("query", ("xq", "yq"))):
            sides = zip(*one[part], strict=True)
            episodes[-1] |= {name: [words.split() for words in side] for name, side in zip(names, sides, strict=True)}
    contents = {
        "encoder_state_dict": encoder,
        "decoder_state_dict": decoder,
        "input_lang": Lang(contents["input_words"]),
        "output_lang": Lang(contents["output_words"]),
        "episodes_validation": episodes,
        "use_attention": not disable_attention,
        "args": argparse.Namespace(num_episodes=7, max_length_eval=9, episode_type="ME", gpu=0),
        **{"episode_type": "ME", "emb_size": 6, "dropout": 0.5, "nlayers": 2, "episode": 7, "num_episodes": 7},
        **{"disable_memory": disable_memory, "disable_recon_loss": False, "max_length_eval": 9},
    }
    torch.save(contents, path)
    return model, validation


@pytest.mark.parametrize("disable_memory", [False, True])
@pytest.mark.parametrize("disable_attention", [False, True])
def test_files_of_the_original_release_load(tmp_path, monkeypatch, disable_memory, disable_attention):
    """Its pickled `__main__.Lang` is read as data, its weights land in the right layers."""
    model, validation = save_original(tmp_path / "net_ME.tar", monkeypatch, disable_memory, disable_attention)
    loaded = load_checkpoint(tmp_path / "net_ME.tar", CPU)
    assert loaded.is_original
    assert loaded.vocabularies == vocabularies_of(find_experiment("ME"))
    assert (loaded.episode, loaded.num_episodes, loaded.max_length_eval) == (7, 7, 9)
    for before, after in zip(validation, loaded.validation, strict=True):
        assert before.mapping == after.mapping
        assert answers(loaded.model, after, loaded.vocabularies) == answers(model, before, loaded.vocabularies)


def test_a_bug_in_the_network_is_not_taken_for_a_bad_file(monkeypatch):
    """A typo there keeps its traceback, whatever file is loaded."""
    monkeypatch.setattr(checkpoint, "make_network", lambda config: len(*config.emb_size))
    with pytest.raises(TypeError):
        load_checkpoint(ROOT / "out_models" / "trained" / "net_ME.tar", CPU)
