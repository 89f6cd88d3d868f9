"""Files of trained networks: this project's, and the published weights, which load without running anything in them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from biml.model import BIML, ModelConfig, check_config
from biml.vocabulary import MAIN, VANILLA, Language
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

FORMAT = "biml"
PUBLISHED = {
    **{name: name for name in ("episode_type", "batch_size", "nepochs", "emb_size", "ff_mult", "dropout")},
    **{name: name for name in ("nlayers_encoder", "nlayers_decoder")},
    "act": "activation",
}
"""Names of arguments here, and the entries of a published file that tell them."""
FORMAT_VERSION = 1
LANGUAGES = {(len(language.source), len(language.target)): language for language in (MAIN, VANILLA)}


@dataclass
class TrainedNetwork:
    """A network and how it came about."""

    model: BIML
    language: Language
    episode_type: str | None  # None if the file does not tell
    epoch: int  # epochs trained to their end
    arguments: dict[str, Any]  # of the training command
    saved: dict[str, Any]  # the file's contents, for what only training needs

    @property
    def done_in_epoch(self) -> int:
        """Batches trained on of the epoch under way."""
        return int(self.saved.get("done_in_epoch", 0))


def save_network(
    path: Path, model: BIML, epoch: int, arguments: Mapping[str, Any], for_training: Mapping[str, Any]
) -> None:
    """Save a network, whole or not at all, with whatever else training needs to go on.

    Raises:
        UserError: if some weights are no numbers.
    """
    check_finite(path, model.state_dict(), DIVERGED)
    own = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_config": asdict(model.config),
        "model_state": model.state_dict(),
        "epoch": epoch,
        "arguments": dict(arguments),
    }
    save_plain(path, {**for_training, **own})


def load_network(path: Path, device: torch.device) -> TrainedNetwork:
    """Load a network, of this project or a published one.

    Raises:
        UserError: if the file is missing, damaged, or something else; nothing in it is run.
    """
    saved = load_plain(path, "train one with `python -m biml.train` or look at --dir_model")
    with read_from(path):
        is_own = saved.get("format") == FORMAT
        read = _from_own(path, saved) if is_own else _from_published(path, saved)
        check_sizes(read.config)
        check_config(read.config)
        for name, number in (("epoch", read.epoch), ("done_in_epoch", read.saved.get("done_in_epoch", 0))):
            if not isinstance(number, int) or number < 0:
                raise UserError(f"its {name} is {number!r}")
        language = _language_of(path, read.config)
        if not is_own:
            _check_numbers(path, saved, language)
    n_layers = read.config.nlayers_encoder + read.config.nlayers_decoder
    model = network_of(path, lambda: BIML(read.config), read.state, n_layers)
    episode_type = read.arguments.get("episode_type")
    return TrainedNetwork(model.to(device), language, episode_type, read.epoch, read.arguments, read.saved)


class _Read(NamedTuple):
    """What a file says."""

    config: ModelConfig
    state: Mapping[str, torch.Tensor]
    epoch: int
    arguments: dict[str, Any]
    saved: dict[str, Any]


def _from_own(path: Path, saved: Mapping[str, Any]) -> _Read:
    """Read a file of this project.

    Raises:
        UserError: if it is of another version.
    """
    check_format(path, saved, FORMAT, FORMAT_VERSION)
    config, arguments = ModelConfig(**saved["model_config"]), saved["arguments"]
    if not isinstance(arguments["episode_type"], str):
        raise UserError(f"its episode_type is {arguments['episode_type']!r}")
    return _Read(config, saved["model_state"], saved["epoch"], arguments, dict(saved))


def _from_published(path: Path, saved: Mapping[str, Any]) -> _Read:
    """Read the published weights, wherever in the file they stand.

    What the file says of itself counts; what it does not say follows from its training command, and sizes from shapes.

    Raises:
        UserError: if there are none.
    """
    held = [value for value in saved.values() if isinstance(value, dict)]
    nested = [inner for value in held for inner in value.values() if isinstance(inner, dict)]
    states = [value for value in (saved, *held, *nested) if "input_embedding.weight" in value]
    if not states:
        raise UserError(f"{path} holds no network of {FORMAT}; other checkpoints have scripts of their own")
    state = states[0]
    input_size, emb_size = state["input_embedding.weight"].shape
    layers = {
        side: len({name.split(".")[3] for name in state if name.startswith(f"transformer.{side}.layers.")})
        for side in ("encoder", "decoder")
    }
    wide = state["transformer.encoder.layers.0.linear1.weight"].shape[0]
    arguments = _plain(vars(saved["args"])) if "args" in saved else {}
    arguments |= _plain({name: saved[entry] for name, entry in PUBLISHED.items() if entry in saved})
    config = ModelConfig(
        input_size,
        state["output_embedding.weight"].shape[0],
        emb_size,
        nlayers_encoder=layers["encoder"],
        nlayers_decoder=layers["decoder"],
        ff_mult=wide // emb_size,
        act=arguments.get("act", "gelu"),
    )
    contents = {**saved, "history": saved.get("train_tracker", saved.get("history"))}
    return _Read(config, state, saved.get("epoch", 0), arguments, contents)


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write what JSON has no kind for as text."""
    kinds = (str, int, float, bool, type(None))
    return {name: value if isinstance(value, kinds) else str(value) for name, value in arguments.items()}


def _language_of(path: Path, config: ModelConfig) -> Language:
    """Tell the vocabularies from their sizes.

    Raises:
        UserError: if there are none of these sizes.
    """
    sizes = config.input_size, config.output_size
    if sizes not in LANGUAGES:
        known = " or ".join(f"{source} and {target}" for source, target in LANGUAGES)
        raise UserError(f"{path}: expected {known} symbols of source and target, found {sizes[0]} and {sizes[1]}")
    return LANGUAGES[sizes]


def _check_numbers(path: Path, saved: Mapping[str, Any], language: Language) -> None:
    """Compare the vocabularies that the file brings along with those here.

    Raises:
        UserError: if one of them has another number for a symbol.
    """
    nested = [inner for value in saved.values() if isinstance(value, dict) for inner in value.values()]
    objects = [getattr(value, "__dict__", {}) for value in (*saved.values(), *nested)]
    for table in (table for held in objects for table in held.values() if isinstance(table, dict)):
        vocabulary = language.source if "IO" in table else language.target
        for word, number in vocabulary.numbers.items():
            if table.get(word, number) != number:
                raise UserError(f"{path}: other vocabularies: its number of {word} is {table[word]}, not {number}")
