"""The networks' common face: configuration, checks, construction, and what they predict.

A network maps symbols (B, T) int64 and an optional state to logits (B, T, K), whose row t predicts symbol t+1, and a
state with which it reads on. It sees no start symbol, so the first symbol is never predicted.

Source: Genewein et al. 2023, Section 5.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nonstationary.network_config import NetworkConfig, check_network
from nonstationary.recurrent import RecurrentNetwork, State
from nonstationary.transformer import TransformerNetwork


def make_network(config: NetworkConfig, seed: int) -> nn.Module:
    """Build a network with weights drawn from a seed of their own.

    Raises:
        UserError: if the sizes do not fit one another; the message names the flags.
    """
    check_network(config)
    generator = torch.Generator().manual_seed(seed)
    if config.model == "transformer":
        return TransformerNetwork(config, generator)
    return RecurrentNetwork(config, generator)


def log_probs(network: nn.Module, symbols: Tensor, chunk_length: int | None = None) -> Tensor:
    """Predict symbols 1..T-1 (from 0) from those before: (B, T) -> (B, T-1, K) float64, without dropout.

    Args:
        network: from make_network.
        symbols: (B, T) int64.
        chunk_length: read so many symbols at a time, a recurrent network with its state passed on; all at once if None.
    """
    network.eval()
    state: State | None = None
    logits = []
    with torch.inference_mode():
        for part in symbols.split(chunk_length or symbols.shape[1], dim=1):
            output, state = network(part, state)
            logits.append(output)
    return functional.log_softmax(torch.cat(logits, dim=1)[:, :-1].double(), dim=2)
