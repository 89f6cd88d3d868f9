"""Checkpoints: saved whole, loaded without running anything, the original release's included."""

import argparse
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import same_contents

import checkpoint
from checkpoint import checkpoint_contents, load_checkpoint
from common.devices import restore_torch_states, torch_states
from common.errors import UserError
from common.plain_files import load_plain, save_plain
from episode_batch import Vocabulary, encode, items_of
from evaluate import answer, remember
from generate_episode import EpisodeSampler, find_experiment
from model import MetaSeq2Seq, ModelConfig
from train import random_streams

CPU = torch.device("cpu")


def make(tmp_path, **config):
    """A small ME network with its checkpoint's contents."""
    torch.manual_seed(3)
    experiment = find_experiment("ME")
    model = MetaSeq2Seq(ModelConfig(6, 6, 7, **{"emb_size": 6, **config})).eval()
    validation = EpisodeSampler(experiment, tmp_path, True).validation_episodes(np.random.default_rng(0))
    arguments = {"episode_type": "ME", "extra_directions": None, "max_length_eval": 9, "num_episodes": 5}
    return model, validation, checkpoint_contents(model, experiment, validation, 5, arguments)


def answers(model, episode, vocabularies):
    batch = encode(episode, *vocabularies)
    return answer(model, remember(model, batch), batch.query_in, 9, 100)


@pytest.mark.parametrize("config", [{}, {"disable_memory": True}, {"disable_attention": True, "mask_padding": True}])
def test_a_loaded_network_answers_as_the_saved_one(tmp_path, config):
    """Weights, configuration, vocabularies and validation episodes all come back."""
    model, validation, contents = make(tmp_path, **config)
    save_plain(tmp_path / "net.tar", contents)
    loaded = load_checkpoint(tmp_path / "net.tar", CPU)
    assert loaded.model.config == model.config
    assert not loaded.model.training
    assert (loaded.episode, loaded.num_episodes, loaded.max_length_eval) == (5, 5, 9)
    vocabularies = loaded.input_vocabulary, loaded.output_vocabulary
    for before, after in zip(validation, loaded.validation, strict=True):
        assert after.mapping == before.mapping
        assert after.is_support.tolist() == before.is_support.tolist()
        assert answers(loaded.model, after, vocabularies) == answers(model, before, vocabularies)


def test_the_vocabulary_comes_from_the_file(tmp_path):
    """A file whose words stand in another order keeps its own numbering."""
    _, _, contents = make(tmp_path)
    contents["input_words"] = contents["input_words"][::-1]
    save_plain(tmp_path / "net.tar", contents)
    assert load_checkpoint(tmp_path / "net.tar", CPU).input_vocabulary.words == ("zup", "wif", "lug", "dax")


def test_mask_padding_can_be_overridden(tmp_path):
    """The file says how a network was trained; the caller may ask for the other."""
    _, _, contents = make(tmp_path, mask_padding=True)
    save_plain(tmp_path / "net.tar", contents)
    found = [
        load_checkpoint(tmp_path / "net.tar", CPU, override).model.config.mask_padding for override in (None, False)
    ]
    assert found == [True, False]


def test_files_hold_tensors_and_plain_data_only(tmp_path):
    """torch's restricted loader reads a checkpoint with no class allowed, so nothing in it needs our code."""
    _, _, contents = make(tmp_path)
    contents["random_states"] = {**torch_states(CPU), "episodes": np.random.default_rng(1).bit_generator.state}
    save_plain(tmp_path / "net.tar", contents)
    assert torch.load(tmp_path / "net.tar", weights_only=True).keys() == contents.keys()


def test_random_states_come_back(tmp_path):
    """After restoring, episodes and dropout are drawn as they would have been."""
    rng, _ = random_streams(4)
    save_plain(tmp_path / "states.tar", {**torch_states(CPU), "episodes": rng.bit_generator.state})
    expected = rng.integers(1000, size=5).tolist(), torch.rand(5).tolist()
    other, _ = random_streams(99)
    saved = load_plain(tmp_path / "states.tar", "")
    restore_torch_states(saved, CPU)
    other.bit_generator.state = saved["episodes"]
    assert (other.integers(1000, size=5).tolist(), torch.rand(5).tolist()) == expected


def test_training_and_validation_have_streams_of_their_own():
    """What is drawn for validation does not change what is drawn for training."""
    training, validation = random_streams(1)
    validation.integers(10**9, size=7)
    untouched, _ = random_streams(1)
    assert training.integers(10**9, size=5).tolist() == untouched.integers(10**9, size=5).tolist()


class Malicious:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def spoilt_files(folder):
    """Files that are no checkpoints, by the name of what is wrong with them."""
    folder.mkdir()
    _, _, contents = make(folder)
    save_plain(folder / "whole.tar", contents)
    whole = (folder / "whole.tar").read_bytes()
    damaged = dict(contents, model_state={"input_encoder.embedding.weight": torch.zeros(1)})
    lacking = {key: value for key, value in contents.items() if key != "input_words"}
    made = {
        "empty": b"",
        "text": b"not a checkpoint\n",
        "truncated": whole[: len(whole) // 2],
        "short": whole[:-200],
        "pickle": pickle.dumps({"format": "meta_seq2seq"}),
        "plain malicious": pickle.dumps(Malicious(folder / "ran")),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    saved = {
        "malicious": {"format": "meta_seq2seq", "model_state": Malicious(folder / "ran")},
        "a tensor": torch.zeros(3),
        "foreign": {"weight": torch.zeros(3)},
        "newer": dict(contents, format_version=2),
        "other weights": damaged,
        "without words": lacking,
        "odd types": dict(contents, arguments=None),
        "half original": {"encoder_state_dict": {}},
    }
    for name, data in saved.items():
        torch.save(data, folder / name)
    return [folder / name for name in (*made, *saved)]


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path):
    """Wherever it is: torch itself would take other weights than those that were saved."""
    _, _, contents = make(tmp_path)
    save_plain(tmp_path / "whole.tar", contents)
    whole = (tmp_path / "whole.tar").read_bytes()
    n_refused = 0
    for position in range(0, len(whole), len(whole) // 60):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        (tmp_path / "flipped.tar").write_bytes(flipped)
        try:
            assert same_contents(load_plain(tmp_path / "flipped.tar", ""), load_plain(tmp_path / "whole.tar", ""))
        except UserError as error:
            assert "flipped.tar" in str(error)
            n_refused += 1
    assert n_refused > 30


def test_whatever_is_no_checkpoint_is_refused_with_one_line_and_not_run(tmp_path):
    """Truncated, foreign and malicious files all end in a ValueError that names the file; none is executed."""
    for path in [*spoilt_files(tmp_path / "files"), tmp_path / "missing.tar"]:
        with pytest.raises(ValueError, match=str(path).replace("\\", ".")) as caught:
            load_checkpoint(path, CPU)
        assert "\n" not in str(caught.value), path
    assert not (tmp_path / "files" / "ran").exists()


@pytest.mark.slow
def test_killed_while_saving_leaves_a_loadable_checkpoint(tmp_path):
    """A process that saves all the time is killed at any moment: the name always holds a whole checkpoint."""
    _, _, contents = make(tmp_path)
    path = tmp_path / "net.tar"
    save_plain(path, contents)
    script = """
        import sys, torch
        from pathlib import Path
        from common.plain_files import load_plain, save_plain
        path = Path(sys.argv[1])
        contents = load_plain(path, "")
        contents["filling"] = torch.zeros(2_000_000)
        print("saving", flush=True)
        while True:
            save_plain(path, contents)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    for delay in (0.0, 0.011, 0.027):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.05 + delay)
            process.kill()
        load_checkpoint(path, CPU)


class Lang:
    """As the original release pickles it: __main__.Lang."""

    def __init__(self, symbols):
        self.symbols, self.n_symbols = symbols, len(symbols) + 2
        self.index2symbol = dict(enumerate([*symbols, "SOS", "EOS"]))
        self.symbol2index = {symbol: index for index, symbol in self.index2symbol.items()}


def words_of(pairs, vocabularies, *names):
    """The inputs and outputs of items as the original release keeps them: lists of words under two names."""
    items = items_of(pairs, *vocabularies)
    return {name: [list(item[side]) for item in items] for side, name in enumerate(names)}


def original_contents(model, validation, vocabularies, **flags):
    """The contents of a file of the original release that holds the network `model`."""
    ours = model.state_dict()
    encoder, decoder = {}, {}
    prefixes = {"input_encoder.": ["suppport_embedding.", "query_embedding."]}
    if flags["disable_memory"]:
        prefixes = {"input_encoder.": [""]}
    prefixes |= {"output_encoder.": ["output_embedding."], "context_layer.": ["hidden."]}
    for name, weight in ours.items():
        for prefix, originals in prefixes.items():
            if name.startswith(prefix):
                encoder |= {original + name.removeprefix(prefix): weight for original in originals}
        if name.startswith("decoder."):
            layer, rest = name.removeprefix("decoder.").split(".", 1)
            layers = {"lstm": "rnn", "attention_layer": "concat", "output_layer": "out"}
            decoder[f"{layers.get(layer, layer)}.{rest}"] = weight
    return {
        "encoder_state_dict": encoder,
        "decoder_state_dict": decoder,
        "input_lang": Lang(list(vocabularies[0].words)),
        "output_lang": Lang(list(vocabularies[1].words)),
        "episodes_validation": [
            {
                "identifier": one.mapping.replace(", ", "\n"),
                **words_of(one.support, vocabularies, "xs", "ys"),
                **words_of(one.query, vocabularies, "xq", "yq"),
                "xs_padded": torch.zeros(3, 2),
                "grammar": "",
            }
            for one in validation
        ],
        "episode_type": "ME",
        "emb_size": model.config.emb_size,
        "dropout": 0.5,
        "nlayers": 2,
        "episode": 7,
        "disable_memory": flags["disable_memory"],
        "disable_recon_loss": False,
        "use_attention": not flags["disable_attention"],
        "max_length_eval": 9,
        "num_episodes": 7,
        "args": argparse.Namespace(num_episodes=7, max_length_eval=9, episode_type="ME", gpu=0),
    }


@pytest.mark.parametrize("disable_memory", [False, True])
@pytest.mark.parametrize("disable_attention", [False, True])
def test_files_of_the_original_release_load(tmp_path, monkeypatch, disable_memory, disable_attention):
    """Its pickled `__main__.Lang` is read as data, its weights land in the right layers."""
    flags = {"disable_memory": disable_memory, "disable_attention": disable_attention}
    model, validation, _ = make(tmp_path, **flags)
    vocabularies = Vocabulary(("dax", "lug", "wif", "zup")), Vocabulary(("RED", "YELLOW", "GREEN", "BLUE"))
    monkeypatch.setattr(Lang, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Lang", Lang, raising=False)
    torch.save(original_contents(model, validation, vocabularies, **flags), tmp_path / "net_ME.tar")
    loaded = load_checkpoint(tmp_path / "net_ME.tar", CPU)
    assert loaded.is_original
    assert (loaded.episode, loaded.input_vocabulary.words) == (7, vocabularies[0].words)
    assert [one.mapping for one in loaded.validation] == [one.mapping for one in validation]
    for before, after in zip(validation, loaded.validation, strict=True):
        assert answers(loaded.model, after, vocabularies) == answers(model, before, vocabularies)


def test_a_bug_in_the_network_is_not_taken_for_a_bad_file(tmp_path, monkeypatch):
    """A typo there keeps its traceback, whatever file is loaded."""
    path = Path(__file__).parent.parent / "out_models" / "trained" / "net_ME.tar"

    def mistyped(config):
        return len(*config.emb_size)

    monkeypatch.setattr(checkpoint, "make_network", mistyped)
    with pytest.raises(TypeError):
        load_checkpoint(path, torch.device("cpu"))
