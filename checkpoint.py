"""A trained network's file: what a checkpoint holds, and a network from it, of the original release's files too."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import UserError
from common.plain_files import (
    DIVERGED,
    check_finite,
    check_format,
    check_sizes,
    load_plain,
    network_of,
    read_from,
    save_plain,
)
from episode_batch import Vocabulary, episode_from_items, items_of, vocabularies_of
from generate_episode import EXPERIMENTS, Episode, Experiment, experiment_on_files, find_experiment
from model import MetaSeq2Seq, ModelConfig, make_network
from scan_util import DataFile, Item

FORMAT = "meta_seq2seq"
FORMAT_VERSION = 1
PLACES = ("gpu", "cpu", "threads", "data_dir", "train_file", "test_file", "dir_model", "fn_out_model", "overwrite")
"""Arguments of the training command that say where and how to run, not what to compute."""


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


def network_config(experiment: Experiment, **choices: Any) -> ModelConfig:
    """Say what a network for an experiment is made of: its sizes, and the choices that are not the defaults."""
    inputs, outputs = vocabularies_of(experiment)
    return ModelConfig(len(inputs), len(outputs), experiment.padded_length, **choices)


def without_places(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the arguments that determine a run."""
    return {name: value for name, value in arguments.items() if name not in PLACES}


def checkpoint_contents(
    model: MetaSeq2Seq,
    experiment: Experiment,
    validation: Sequence[Episode],
    episode: int,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a network and its surroundings as tensors and plain data."""
    vocabularies = vocabularies_of(experiment)
    files = {} if experiment.files is None else {"data_files": [file._asdict() for file in experiment.files]}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_config": asdict(model.config),
        "model_state": model.state_dict(),
        "input_words": list(experiment.input_words),
        "output_words": list(experiment.output_words),
        "validation_episodes": [
            {
                "mapping": drawn.mapping,
                **{
                    part: [[" ".join(side) for side in item] for item in items_of(pairs, *vocabularies)]
                    for part, pairs in (("support", drawn.support), ("query", drawn.query))
                },
            }
            for drawn in validation
        ],
        "episode": episode,
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()},
        **files,
    }


def save_checkpoint(path: Path, contents: Mapping[str, Any]) -> None:
    """Save what `checkpoint_contents` gives and whatever was added to it, whole or not at all.

    Raises:
        UserError: if some weights are no numbers.
    """
    check_finite(path, contents["model_state"], DIVERGED)
    save_plain(path, contents)


def load_checkpoint(path: Path, device: torch.device, mask_padding: bool | None = None) -> Checkpoint:
    """Load a checkpoint of this project or of the original release.

    Args:
        path: the file.
        device: where the network goes.
        mask_padding: overrides how the checkpoint treats padded steps, if given.
    Raises:
        UserError: if the file is no such checkpoint; the message says what it is instead.
    """
    saved = load_plain(path, "train one with train.py, or name another file")
    is_original = "encoder_state_dict" in saved
    if not is_original:
        check_format(path, saved, FORMAT, FORMAT_VERSION)
    with read_from(path):
        plain = _from_original(saved) if is_original else saved
        config, state = ModelConfig(**plain["model_config"]), plain["model_state"]
        check_sizes(config)
        vocabularies = Vocabulary(tuple(plain["input_words"])), Vocabulary(tuple(plain["output_words"]))
        experiment, validation = _experiment_of(plain, vocabularies)
        num_episodes, max_length_eval = _counts_of(plain)
        arguments, episode = plain["arguments"], plain["episode"]
    if mask_padding is not None:
        config = replace(config, mask_padding=mask_padding)
    model = network_of(path, lambda: make_network(config), state, config.nlayers)
    return Checkpoint(
        model.eval().to(device),
        *vocabularies,
        experiment,
        validation,
        max_length_eval,
        episode,
        num_episodes,
        arguments,
        plain,
        is_original,
    )


def _experiment_of(
    plain: dict[str, Any], vocabularies: tuple[Vocabulary, Vocabulary]
) -> tuple[Experiment, list[Episode]]:
    """Find a checkpoint's experiment, and put its validation episodes together."""
    arguments = plain["arguments"]
    if "data_files" in plain:
        train, test = (DataFile(**file) for file in plain["data_files"])
        experiment = experiment_on_files(train, test, plain["input_words"], plain["output_words"])
    else:
        experiment = find_experiment(arguments["episode_type"], arguments["extra_directions"])
    validation = [
        episode_from_items(_items(episode["support"]), _items(episode["query"]), *vocabularies, episode["mapping"])
        for episode in plain["validation_episodes"]
    ]
    if not validation:
        raise UserError("it has no validation episodes")
    if experiment.is_standard:  # a test line of one's own may also stand in training: what was asked for again counts
        validation = [
            episode._replace(is_support=np.arange(-len(episode.query.inputs), 0) >= -len(episode.support.inputs))
            for episode in validation
        ]
    return experiment, validation


def _counts_of(plain: dict[str, Any]) -> tuple[int, int]:
    """Give how many episodes were wanted and how long answers may be, and check how many episodes there were."""
    arguments = plain["arguments"]
    counts = {"episode": plain["episode"], **{name: arguments[name] for name in ("num_episodes", "max_length_eval")}}
    for name, value in counts.items():
        least = 0 if name == "episode" else 1  # a run is saved before its first episode
        if not isinstance(value, int) or value < least:
            raise UserError(f"its {name} is {value!r}")
    return counts["num_episodes"], counts["max_length_eval"]


def short_name(path: Path) -> str:
    """Name what is written about a network: net_x.tar is x; a file of another form keeps its whole name."""
    return path.stem.removeprefix("net_") if path.name.startswith("net_") else path.name


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
    config = {
        "input_size": len(input_words) + 2,
        "output_size": len(output_words) + 2,
        "padded_length": EXPERIMENTS[saved["episode_type"]].padded_length,
        "disable_attention": not saved["use_attention"],
        **{name: saved[name] for name in ("emb_size", "nlayers", "dropout", "disable_memory")},
    }
    episodes = [
        {
            "mapping": ", ".join(episode["identifier"].splitlines()),
            "support": _joined(episode["xs"], episode["ys"]),
            "query": _joined(episode["xq"], episode["yq"]),
        }
        for episode in saved["episodes_validation"]
    ]
    return {
        "model_config": config,
        "model_state": state,
        "input_words": input_words,
        "output_words": output_words,
        "validation_episodes": episodes,
        "episode": saved["episode"],
        "arguments": {**vars(saved["args"]), "extra_directions": None},
    }


def _joined(inputs: Sequence[Sequence[str]], outputs: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[" ".join(i), " ".join(o)] for i, o in zip(inputs, outputs, strict=True)]
