"""Files of trained networks: this project's, and the published weights, which load without running anything in them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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

FORMAT, FORMAT_VERSION = "biml", 1
PUBLISHED = {
    **{name: name for name in ("episode_type", "batch_size", "nepochs", "emb_size", "ff_mult", "dropout")},
    **{name: name for name in ("nlayers_encoder", "nlayers_decoder")},
    "act": "activation",
}
"""Names of arguments here, and the entries of a published file that tell them."""
LANGUAGES = {(len(language.source), len(language.target)): language for language in (MAIN, VANILLA)}

State = Mapping[str, torch.Tensor]


@dataclass
class TrainedNetwork:
    """A network and how it came about."""

    model: BIML
    language: Language
    episode_type: str | None  # None if the file does not say
    epoch: int  # epochs trained to their end
    arguments: dict[str, Any]  # of the training command
    saved: dict[str, Any]  # the contents of the file, for what only training needs


def save_network(
    path: Path, model: BIML, epoch: int, arguments: Mapping[str, Any], for_training: Mapping[str, Any]
) -> None:
    """Save a network whole, with what else training needs to resume; UserError if weights are infinite or NaN."""
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
    """Load a network, of this project or published, and run nothing in it; UserError if it is missing or damaged."""
    saved = load_plain(path, "train one with `python -m biml.train` or look at --dir_model")
    with read_from(path):
        is_own = saved.get("format") == FORMAT
        config, state, arguments = _from_own(path, saved) if is_own else _from_published(path, saved)
        check_sizes(config)
        check_config(config)
        epoch = saved.get("epoch", 0)
        if not isinstance(epoch, int) or epoch < 0:
            raise UserError(f"its epoch is {epoch!r}")
        sizes = config.input_size, config.output_size
        if sizes not in LANGUAGES:
            known = " or ".join(f"{source} and {target}" for source, target in LANGUAGES)
            raise UserError(f"{path}: expected {known} symbols of source and target, found {sizes[0]} and {sizes[1]}")
        language = LANGUAGES[sizes]
        if not is_own:
            _check_numbers(path, saved, language)
            saved = {**saved, "history": saved.get("train_tracker", saved.get("history"))}
    model = network_of(path, lambda: BIML(config), state, config.nlayers_encoder + config.nlayers_decoder)
    return TrainedNetwork(model.to(device), language, arguments.get("episode_type"), epoch, arguments, saved)


def _from_own(path: Path, saved: Mapping[str, Any]) -> tuple[ModelConfig, State, dict[str, Any]]:
    """Read the sizes, weights and arguments of a file of this project; UserError if it has another version."""
    check_format(path, saved, FORMAT, FORMAT_VERSION)
    return ModelConfig(**saved["model_config"]), saved["model_state"], dict(saved["arguments"])


def _from_published(path: Path, saved: Mapping[str, Any]) -> tuple[ModelConfig, State, dict[str, Any]]:
    """Read the sizes, weights and arguments of a published file, wherever in it they are.

    What the file says of itself counts; what it does not say follows from its training command, and sizes from shapes.
    """
    held = [value for value in saved.values() if isinstance(value, dict)]
    nested = [inner for value in held for inner in value.values() if isinstance(inner, dict)]
    states = [value for value in (saved, *held, *nested) if "input_embedding.weight" in value]
    if not states:
        raise UserError(f"{path} holds no network of {FORMAT}; other checkpoints have scripts of their own")
    state = states[0]
    input_size, emb_size = state["input_embedding.weight"].shape
    n_layers = {
        side: len({name.split(".")[3] for name in state if name.startswith(f"transformer.{side}.layers.")})
        for side in ("encoder", "decoder")
    }
    arguments = dict(vars(saved["args"])) if "args" in saved else {}
    arguments |= {name: saved[entry] for name, entry in PUBLISHED.items() if entry in saved}
    for name, value in arguments.items():
        if not isinstance(value, str | int | float | bool | None):
            arguments[name] = str(value)  # JSON has no kind for it
    config = ModelConfig(
        input_size,
        state["output_embedding.weight"].shape[0],
        emb_size,
        nlayers_encoder=n_layers["encoder"],
        nlayers_decoder=n_layers["decoder"],
        ff_mult=state["transformer.encoder.layers.0.linear1.weight"].shape[0] // emb_size,
        act=arguments.get("act", "gelu"),
    )
    return config, state, arguments


def _check_numbers(path: Path, saved: Mapping[str, Any], language: Language) -> None:
    """Compare the vocabularies of a published file with those here; UserError if a symbol has another number."""
    nested = [inner for value in saved.values() if isinstance(value, dict) for inner in value.values()]
    objects = [getattr(value, "__dict__", {}) for value in (*saved.values(), *nested)]
    for table in (table for held in objects for table in held.values() if isinstance(table, dict)):
        vocabulary = language.source if "IO" in table else language.target
        for word, number in vocabulary.numbers.items():
            if table.get(word, number) != number:
                raise UserError(f"{path}: other vocabularies: its number of {word} is {table[word]}, not {number}")
