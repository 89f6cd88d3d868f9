"""Seeds, devices, and checkpoints: saved whole, loaded without running anything in them, the original release's too.

A checkpoint holds tensors, numbers, strings, lists and dicts only, so it loads with `weights_only=True`. Published
files name two classes, which stand for inert containers here; any other class is refused.
"""

import argparse
import os
import platform
import subprocess
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from episode_batch import Vocabulary, episode_from_items, items_of, vocabularies_of
from generate_episode import EXPERIMENTS, Episode, Experiment, find_experiment
from model import MetaSeq2Seq, ModelConfig
from scan_util import Item
from script_util import natural_int, positive_int, written_whole

FORMAT = "meta_seq2seq"
FORMAT_VERSION = 1
PLACES = ("gpu", "cpu", "threads", "data_dir", "dir_model", "fn_out_model", "overwrite")
"""Arguments of the training command that say where and how to run, not what to compute."""


def random_streams(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Seed torch (weights and dropout) and make the generators of the training and the validation episodes."""
    torch.manual_seed(seed)
    training, validation = np.random.SeedSequence(seed).spawn(2)
    return np.random.default_rng(training), np.random.default_rng(validation)


def torch_states(device: torch.device) -> dict[str, Any]:
    """Take down the states of torch's own generators, as plain data."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def restore_torch_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Put torch's generators back into states taken down before."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add --gpu, --cpu and --threads."""
    group = parser.add_argument_group("device", "The first GPU if there is one, else the CPU.")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--gpu", type=natural_int, metavar="N", help="use GPU N")
    which.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    group.add_argument("--threads", type=positive_int, default=1, metavar="N", help="CPU threads")


def choose_device(gpu: int | None, cpu: bool, threads: int) -> torch.device:
    """Pick the device, set the number of CPU threads, and have a GPU compute in float32 as the CPU does, not in TF32.

    Raises:
        ValueError: if GPU number `gpu` is not there, or if there are fewer cores than threads.
    """
    n_cores = os.cpu_count() or 1
    if threads > n_cores:
        raise ValueError(f"{threads} threads: this machine has {n_cores} cores; ask for fewer")
    torch.set_num_threads(threads)
    n_gpus = torch.cuda.device_count()
    if gpu is not None and gpu >= n_gpus:
        raise ValueError(f"GPU {gpu}: this machine has {n_gpus or 'no'} usable GPU(s); ask for another or for the CPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device("cpu") if cpu or n_gpus == 0 else torch.device("cuda", gpu or 0)


def describe_device(device: torch.device) -> str:
    """Name the device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({torch.get_num_threads()} thread(s))"


def provenance() -> dict[str, str | None]:
    """Tell which code and versions are running: the commit, Python, packages.

    The commit is marked `+` if files differ from it, `results/` left aside, which runs themselves replace.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    commit = None
    try:
        differing = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)results")
        commit = git("rev-parse", "HEAD") + ("+" if differing else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    packages = {name: version(name) for name in ("torch", "numpy")}
    return {"commit": commit, "python": platform.python_version(), **packages}


def save_plain(path: Path, contents: Mapping[str, Any]) -> None:
    """Save tensors and plain data, whole or not at all."""
    with written_whole(path) as file:
        torch.save(dict(contents), file)


class _InertLang:
    """Stands for the `Lang` of published files: a container without code."""


def _lang_names(path: Path) -> set[str]:
    """Find under which names a file asks for a class `Lang`; old files, which are no archives, know one."""
    asked = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
    return {"__main__.Lang", *(name for name in asked if name.rpartition(".")[2] == "Lang")}


def load_plain(path: Path, missing: str) -> dict[str, Any]:
    """Load a file of tensors and plain data; nothing in it is run.

    Args:
        path: the file.
        missing: what to do if it is not there, for the message.
    Raises:
        ValueError: if it is not there, is truncated, foreign, or names any class but the two that published files hold.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a checkpoint")
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}; {missing}")
    path.open("rb").close()  # a file that may not be read is no damaged one
    try:
        allowed: list[Any] = [*((_InertLang, name) for name in _lang_names(path)), argparse.Namespace]
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings(action="ignore"):
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, some without a text
        reason = "it is truncated, no checkpoint, or holds more than tensors and plain data"
        raise ValueError(
            f"{path}: cannot be loaded: {reason} ({type(error).__name__}); nothing in it was run"
        ) from None
    if not isinstance(contents, dict):
        raise ValueError(f"{path}: expected a checkpoint, found a saved {type(contents).__name__}")
    return contents


@dataclass
class Checkpoint:
    """A trained network and what is needed to use it."""

    model: MetaSeq2Seq
    input_vocabulary: Vocabulary
    output_vocabulary: Vocabulary
    experiment: Experiment
    validation: list[Episode]
    max_length_eval: int
    episode: int  # episodes trained so far
    num_episodes: int  # episodes wanted
    arguments: dict[str, Any]  # of the training command
    saved: dict[str, Any]  # the file's contents, for what only the training script needs
    is_original: bool = False  # a file of the original release

    @property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """The input and the output vocabulary."""
        return self.input_vocabulary, self.output_vocabulary

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device


def without_places(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the arguments that determine a run."""
    return {name: value for name, value in arguments.items() if name not in PLACES}


def differing_arguments(
    saved: Mapping[str, Any], now: Mapping[str, Any], may_differ: Collection[str], default_of: Callable[[str], Any]
) -> str:
    """Write down the arguments in which a checkpoint's command and this one differ, for a message; empty if none.

    An argument that the checkpoint does not have, because the code that wrote it did not know it, counts as
    `default_of` it: what the code did then.
    """
    before = {name: saved[name] if name in saved else default_of(name) for name in now}
    return ", ".join(
        f"--{name} {before[name]} (now {value})"
        for name, value in now.items()
        if name not in may_differ and before[name] != value
    )


def checkpoint_contents(
    model: MetaSeq2Seq,
    experiment: Experiment,
    validation: Sequence[Episode],
    episode: int,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a network and its surroundings as tensors and plain data."""
    vocabularies = vocabularies_of(experiment)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_config": asdict(model.config),
        "model_state": model.state_dict(),
        "input_words": list(experiment.input_words),
        "output_words": list(experiment.output_words),
        "validation_episodes": [
            {
                "mapping": one.mapping,
                **{
                    part: [[" ".join(side) for side in item] for item in items_of(pairs, *vocabularies)]
                    for part, pairs in (("support", one.support), ("query", one.query))
                },
            }
            for one in validation
        ],
        "episode": episode,
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()},
    }


def load_checkpoint(path: Path, device: torch.device, mask_padding: bool | None = None) -> Checkpoint:
    """Load a checkpoint of this project or of the original release.

    Args:
        path: the file.
        device: where the network goes.
        mask_padding: overrides how the checkpoint treats padded steps, if given.
    Raises:
        ValueError: if the file is no such checkpoint; the message says what it is instead.
    """
    saved = load_plain(path, "train one with train.py, or name another file with --fn_in_model and --dir_model")
    try:
        is_original = "encoder_state_dict" in saved
        if not is_original and saved.get("format") != FORMAT:
            raise ValueError("it is a checkpoint of something else")
        if not is_original and saved["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format is version {saved['format_version']}, this code reads {FORMAT_VERSION}")
        plain = _from_original(saved) if is_original else saved
        return _rebuild(plain, device, mask_padding, is_original)
    except Exception as error:  # whatever an ill-formed file leads to
        reason = f"no entry {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: not a usable checkpoint of this project or the original release: {reason}") from None


def _rebuild(plain: dict[str, Any], device: torch.device, mask_padding: bool | None, is_original: bool) -> Checkpoint:
    config = dict(plain["model_config"])
    if mask_padding is not None:
        config["mask_padding"] = mask_padding
    model = MetaSeq2Seq(ModelConfig(**config))
    model.load_state_dict(plain["model_state"])
    model.eval()
    vocabularies = Vocabulary(tuple(plain["input_words"])), Vocabulary(tuple(plain["output_words"]))
    arguments = plain["arguments"]
    validation = [
        episode_from_items(_items(one["support"]), _items(one["query"]), *vocabularies, one["mapping"])
        for one in plain["validation_episodes"]
    ]
    experiment = find_experiment(arguments["episode_type"], arguments["extra_directions"])
    counts = {"episode": plain["episode"], **{name: arguments[name] for name in ("num_episodes", "max_length_eval")}}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"its {name} is {value!r}")
    if not validation:
        raise ValueError("it has no validation episodes")
    return Checkpoint(
        model.to(device),
        *vocabularies,
        experiment,
        validation,
        arguments["max_length_eval"],
        plain["episode"],
        arguments["num_episodes"],
        arguments,
        plain,
        is_original,
    )


def _items(lines: Sequence[Sequence[str]]) -> list[Item]:
    return [Item(tuple(given.split()), tuple(produced.split())) for given, produced in lines]


_ORIGINAL_PREFIXES = {  # of the encoder's weights; "query_embedding" is the first of them once more
    "suppport_embedding.": "input_encoder.",
    "output_embedding.": "output_encoder.",
    "hidden.": "context_layer.",
}
_ORIGINAL_DECODER = {"embedding": "embedding", "rnn": "lstm", "concat": "attention_layer", "out": "output_layer"}


def _from_original(saved: dict[str, Any]) -> dict[str, Any]:
    """Rewrite the contents of an original release's file as this project's."""
    state = {}
    for name, weight in saved["encoder_state_dict"].items():
        if saved["disable_memory"]:
            state[f"input_encoder.{name}"] = weight
        for prefix, own in _ORIGINAL_PREFIXES.items():
            if name.startswith(prefix):
                state[own + name.removeprefix(prefix)] = weight
    for name, weight in saved["decoder_state_dict"].items():
        layer, rest = name.split(".", 1)
        state[f"decoder.{_ORIGINAL_DECODER[layer]}.{rest}"] = weight
    input_words, output_words = (list(saved[side].symbols) for side in ("input_lang", "output_lang"))
    config = ModelConfig(
        input_size=len(input_words) + 2,
        output_size=len(output_words) + 2,
        padded_length=EXPERIMENTS[saved["episode_type"]].padded_length,
        disable_attention=not saved["use_attention"],
        **{name: saved[name] for name in ("emb_size", "nlayers", "dropout", "disable_memory")},
    )
    episodes = [
        {
            "mapping": ", ".join(one["identifier"].splitlines()),
            "support": _joined(one["xs"], one["ys"]),
            "query": _joined(one["xq"], one["yq"]),
        }
        for one in saved["episodes_validation"]
    ]
    return {
        "model_config": asdict(config),
        "model_state": state,
        "input_words": input_words,
        "output_words": output_words,
        "validation_episodes": episodes,
        "episode": saved["episode"],
        "arguments": {**vars(saved["args"]), "extra_directions": None},
    }


def _joined(inputs: Sequence[Sequence[str]], outputs: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[" ".join(i), " ".join(o)] for i, o in zip(inputs, outputs, strict=True)]
