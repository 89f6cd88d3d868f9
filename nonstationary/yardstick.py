"""What a network in training is held against: fixed sequences, exact predictors, the lowest loss to expect."""

import argparse

import torch

from nonstationary.predictors import OWN_MIXTURE
from nonstationary.regret import (
    NATS_IN,
    Estimate,
    Scores,
    estimate,
    exact_predictor,
    expected_entropy,
    fixed_sequences,
    network_predictor,
    score,
)
from nonstationary.sources import Sequences, Source
from nonstationary.training_options import evaluation_source, lengths_of

BITS = NATS_IN["bits"]


class Yardstick:
    """The evaluation set, what the exact predictors make of it, and the lowest loss that can be expected."""

    def __init__(self, args: argparse.Namespace, source: Source, device: torch.device) -> None:
        self.reference: str = args.competitors[-1]
        self._batch_size, self._device = args.batch_size, device
        self._chunk_length: int | None = args.eval_chunk_length
        self._source, length = evaluation_source(args), args.eval_seq_length or args.seq_length
        self._sequences = fixed_sequences(self._source, args.n_eval, length, args.eval_seed)
        exact = {name: exact_predictor(name, self._source) for name in args.competitors}
        self.exact = score(exact, self._sequences, args.batch_size, device)
        own = OWN_MIXTURE[source.name]
        sets = [fixed_sequences(source, args.n_eval, length, args.eval_seed) for length in lengths_of(args)]
        per_symbol = [self._regret_per_symbol(own, source, sequences) for sequences in sets]
        self.optimal_loss = expected_entropy(source) + sum(per_symbol) / len(per_symbol)

    def shown(self) -> str:
        """Write the exact predictors' regrets for people."""
        regrets = (f"{name} {scores.totals.mean().item() / BITS:.2f}" for name, scores in self.exact.items())
        n, length = self._sequences.symbols.shape
        on = f"{n} sequences of {length} symbols of {self._source.name}"
        return f"regret of the exact predictors on {on}, in bits: {', '.join(regrets)}"

    def _regret_per_symbol(self, own: str, source: Source, sequences: Sequences) -> float:
        scores = score({own: exact_predictor(own, source)}, sequences, self._batch_size, self._device)
        return scores[own].by_step.mean().item()

    def measure(self, network: torch.nn.Module) -> tuple[Scores, Estimate]:
        """Score a network; returns also its difference from the exact predictor named last, in bits."""
        scores = score(
            {"network": network_predictor(network, self._chunk_length)}, self._sequences, self._batch_size, self._device
        )
        difference = scores["network"].totals - self.exact[self.reference].totals
        return scores["network"], estimate(difference / BITS)
