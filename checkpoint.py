"""A trained network's file: what a checkpoint holds; loads networks, including those of the original release."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.command_line import add_model_folder, checkpoint_name
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


def add_network_options(group: argparse._ActionsContainer) -> None:
    """Add --fn_in_model and --dir_model, which say where a network's file is."""
    group.add_argument("--fn_in_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(group)


def network_path(args: argparse.Namespace) -> Path:
    """Find the file that the options name."""
    return Path(args.dir_model, args.fn_in_model)


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
    """Configure a network for an experiment; `choices` are the fields that are not sizes."""
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
    """Write a network and what is needed to use it as tensors and plain data."""
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
                "support": _joined(items_of(drawn.support, *vocabularies)),
                "query": _joined(items_of(drawn.query, *vocabularies)),
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
        UserError: if some weights are infinite or NaN.
    """
    check_finite(path, contents["model_state"], DIVERGED)
    save_plain(path, contents)


def load_checkpoint(path: Path, device: torch.device, mask_padding: bool | None = None) -> Checkpoint:
    """Load a checkpoint of this project or of the original release; `mask_padding` None means as in training.

    Raises:
        UserError: if the file is no such checkpoint; the message says what is wrong with it.
    """
    saved = load_plain(path, "train one with train.py, or name another file")
    is_original = "encoder_state_dict" in saved
    if not is_original:
        check_format(path, saved, FORMAT, FORMAT_VERSION)
    with read_from(path):
        plain = _from_original(saved) if is_original else saved
        config, state, arguments = ModelConfig(**plain["model_config"]), plain["model_state"], plain["arguments"]
        check_sizes(config)
        vocabularies = Vocabulary(tuple(plain["input_words"])), Vocabulary(tuple(plain["output_words"]))
        experiment = _experiment_of(plain)
        validation = _validation_of(plain, experiment, vocabularies)
        counts = [plain["episode"], arguments["num_episodes"], arguments["max_length_eval"]]
        if not all(isinstance(one, int) for one in counts) or counts[0] < 0 or min(counts[1:]) < 1:
            raise UserError(f"its episode, num_episodes and max_length_eval are {counts}")
    if mask_padding is not None:
        config = replace(config, mask_padding=mask_padding)
    model = network_of(path, lambda: make_network(config), state, config.nlayers)
    return Checkpoint(
        model.eval().to(device),
        *vocabularies,
        experiment,
        validation,
        episode=plain["episode"],
        num_episodes=arguments["num_episodes"],
        max_length_eval=arguments["max_length_eval"],
        arguments=arguments,
        saved=plain,
        is_original=is_original,
    )


def _experiment_of(plain: dict[str, Any]) -> Experiment:
    """Find the experiment that a checkpoint was trained on."""
    if "data_files" in plain:
        train, test = (DataFile(**file) for file in plain["data_files"])
        return experiment_on_files(train, test, plain["input_words"], plain["output_words"])
    return find_experiment(plain["arguments"]["episode_type"], plain["arguments"]["extra_directions"])


def _validation_of(
    plain: dict[str, Any], experiment: Experiment, vocabularies: tuple[Vocabulary, Vocabulary]
) -> list[Episode]:
    """Put a checkpoint's validation episodes together."""
    validation = [
        episode_from_items(_items(episode["support"]), _items(episode["query"]), *vocabularies, episode["mapping"])
        for episode in plain["validation_episodes"]
    ]
    if not validation:
        raise UserError("it has no validation episodes")
    if experiment.is_standard:  # the last queries ask for training commands; a test line equal to one is none of them
        validation = [
            episode._replace(is_support=np.arange(-len(episode.query.inputs), 0) >= -len(episode.support.inputs))
            for episode in validation
        ]
    return validation


def short_name(path: Path) -> str:
    """Name a network in the files written about it: net_x.tar is x, any other name is kept whole."""
    return path.stem.removeprefix("net_") if path.name.startswith("net_") else path.name


def _joined(items: Iterable[Sequence[Sequence[str]]]) -> list[list[str]]:
    return [[" ".join(side) for side in item] for item in items]


def _items(lines: Iterable[Sequence[str]]) -> list[Item]:
    return [Item(tuple(given.split()), tuple(produced.split())) for given, produced in lines]


_ORIGINAL_PREFIXES = {  # of the encoder's weights; "query_embedding" names the first module again
    "suppport_embedding.": "input_encoder.",
    "output_embedding.": "output_encoder.",
    "hidden.": "context_layer.",
}
_ORIGINAL_DECODER = {"embedding": "embedding", "rnn": "lstm", "concat": "attention_layer", "out": "output_layer"}


def _from_original(saved: dict[str, Any]) -> dict[str, Any]:
    """Rewrite the contents of a file of the original release as those of a checkpoint."""
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
            "support": _joined(zip(episode["xs"], episode["ys"], strict=True)),
            "query": _joined(zip(episode["xq"], episode["yq"], strict=True)),
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
