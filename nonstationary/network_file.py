"""A trained network's file: tensors and plain data, as the project's other checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
from nonstationary.network_config import NetworkConfig, check_network, n_layers_of
from nonstationary.networks import make_network
from nonstationary.sources import Source, check_source

FORMAT = "nonstationary"
FORMAT_VERSION = 1


@dataclass
class TrainedNetwork:
    """A network, what it was trained on, and for how long."""

    network: nn.Module
    config: NetworkConfig
    source: Source
    step: int
    arguments: dict[str, Any]  # of the training command
    saved: dict[str, Any]  # the file's contents, for what only training needs


def save_network(
    path: Path,
    network: nn.Module,
    config: NetworkConfig,
    source: Source,
    step: int,
    arguments: Mapping[str, Any],
    for_training: Mapping[str, Any],
) -> None:
    """Save a network, whole or not at all, with whatever else training needs to go on.

    Raises:
        UserError: if some weights are no numbers.
    """
    check_finite(path, network.state_dict(), DIVERGED)
    own = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "network_config": asdict(config),
        "network_state": network.state_dict(),
        "source": asdict(source),
        "step": step,
        "arguments": dict(arguments),
    }
    save_plain(path, {**for_training, **own})


def load_network(path: Path, device: torch.device) -> TrainedNetwork:
    """Load a network; nothing in its file is run.

    Raises:
        UserError: if the file is missing, damaged, or not of this kind.
    """
    saved = load_plain(path, "train one with `python -m nonstationary.train` or look at --dir_model")
    check_format(path, saved, FORMAT, FORMAT_VERSION)
    with read_from(path):
        config, source = NetworkConfig(**saved["network_config"]), Source(**saved["source"])
        state, step, arguments = saved["network_state"], saved["step"], saved["arguments"]
        for name, value in {"step": step, "--seq_length": arguments["seq_length"]}.items():
            if not isinstance(value, int) or value < 0:
                raise UserError(f"its {name} is {value!r}")
        check_source(source)
        check_sizes(config)
        check_network(config)
    network = network_of(path, lambda: make_network(config, seed=0), state, n_layers_of(config))
    return TrainedNetwork(network.to(device), config, source, step, arguments, saved)
