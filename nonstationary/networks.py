"""A network from its configuration or its file, what it predicts, and saving it.

A network maps symbols (B, T) int64 and an optional state to logits (B, T, K), whose row t predicts symbol t+1, and the
state after the last symbol. There is no start symbol, so the first symbol is never predicted.

Source: Genewein et al. 2023, Section 5.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
from nonstationary.network_config import NetworkConfig, check_network
from nonstationary.recurrent import RecurrentNetwork, State
from nonstationary.sources import Source, check_source
from nonstationary.transformer import TransformerNetwork

FORMAT = "nonstationary"
FORMAT_VERSION = 1


def make_network(config: NetworkConfig, seed: int) -> nn.Module:
    """Build a network with weights drawn from a seed of their own.

    Raises:
        UserError: if kind and sizes do not fit together; the message names the flags.
    """
    check_network(config)
    generator = torch.Generator().manual_seed(seed)
    if config.model == "transformer":
        return TransformerNetwork(config, generator)
    return RecurrentNetwork(config, generator)


def log_probs(network: nn.Module, symbols: Tensor, chunk_length: int | None = None) -> Tensor:
    """Predict symbols 1..T-1 (from 0) from those before: (B, T) -> (B, T-1, K) float64, without dropout.

    With `chunk_length` the network reads so many symbols at a time; only a recurrent one remembers those before.
    """
    network.eval()
    state: State | None = None
    logits = []
    with torch.inference_mode():
        for part in symbols.split(chunk_length or symbols.shape[1], dim=1):
            output, state = network(part, state)
            logits.append(output)
    return functional.log_softmax(torch.cat(logits, dim=1)[:, :-1].double(), dim=2)


@dataclass
class TrainedNetwork:
    """A network, what it was trained on, and for how long."""

    network: nn.Module
    config: NetworkConfig
    source: Source
    step: int
    arguments: dict[str, Any]  # of the training command
    saved: dict[str, Any]  # what only training needs; once loaded, all of the file


def save_network(path: Path, trained: TrainedNetwork) -> None:
    """Save a network, whole or not at all, with what training needs to resume (`trained.saved`).

    Raises:
        UserError: if some weights are infinite or NaN.
    """
    state = trained.network.state_dict()
    check_finite(path, state, DIVERGED)
    own = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "network_config": asdict(trained.config),
        "network_state": state,
        "source": asdict(trained.source),
        "step": trained.step,
        "arguments": trained.arguments,
    }
    save_plain(path, {**trained.saved, **own})


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
    network = network_of(path, lambda: make_network(config, seed=0), state, config.n_layers)
    return TrainedNetwork(network.to(device), config, source, step, arguments, saved)
