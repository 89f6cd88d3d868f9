"""A training in progress: what a step is, what a line of the learning curve is, what a checkpoint holds."""

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.devices import restore_torch_states, torch_states
from common.errors import UserError
from common.run_loop import TrainingRun, same_command
from nonstationary.networks import TrainedNetwork, make_network, save_network
from nonstationary.options import EVAL_SEED, config_of, evaluation_source, lengths_of, training_source
from nonstationary.predictors import OWN_MIXTURE
from nonstationary.recurrent import State
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
from nonstationary.sources import Sequences, Source, sample
from nonstationary.training_step import GraphedStep, learning_rate, train_on_batch

PLACES = ("gpu", "cpu", "threads", "dir_model", "fn_out_model", "overwrite", "save_every")
"""Arguments that say where and how to run, not what to compute."""
BITS = NATS_IN["bits"]


@dataclass
class Row:
    """A line of the learning curve: losses in nats per symbol, regrets in bits per sequence."""

    step: int
    symbols: int  # predicted so far
    seconds: float
    lr: float
    loss: float  # mean since the last line
    optimal_loss: float
    gradient_norm: float
    regret: float
    exact_regret: float
    difference: float  # of the network's regret from the exact predictor's
    difference_error: float


class Yardstick:
    """What a network in training is compared with: exact predictors on fixed sequences, and the least loss to expect.

    The least loss is estimated from the mixture of the training source, on as many sequences of the training lengths.
    """

    def __init__(self, args: argparse.Namespace, source: Source, device: torch.device) -> None:
        self._args, self._device = args, device
        self._source, length = evaluation_source(args), args.eval_seq_length or args.seq_length
        self._sequences = fixed_sequences(self._source, args.n_eval, length, EVAL_SEED)
        self._exact = {name: self._exact_scores(name, self._source, self._sequences) for name in args.competitors}
        self.reference: str = args.competitors[-1]
        sets = [fixed_sequences(source, args.n_eval, length, EVAL_SEED) for length in lengths_of(args)]
        own = [self._exact_scores(OWN_MIXTURE[source.name], source, one) for one in sets]
        self.optimal_loss = expected_entropy(source) + sum(one.by_step.mean().item() for one in own) / len(own)

    def _exact_scores(self, name: str, source: Source, sequences: Sequences) -> Scores:
        return score({name: exact_predictor(name, source)}, sequences, self._args.batch_size, self._device)[name]

    def shown(self) -> str:
        """Write the exact predictors' regrets for people."""
        regrets = (f"{name} {scores.totals.mean().item() / BITS:.2f}" for name, scores in self._exact.items())
        n, length = self._sequences.symbols.shape
        on = f"{n} sequences of {length} symbols of {self._source.name}"
        return f"regret of the exact predictors on {on}, in bits: {', '.join(regrets)}"

    def measure(self, network: nn.Module) -> dict[str, float]:
        """Score a network: its regret, the reference predictor's, and their difference with its standard error."""
        predictor = network_predictor(network, self._args.eval_chunk_length)
        scores = score({"network": predictor}, self._sequences, self._args.batch_size, self._device)
        totals, exact = scores["network"].totals, self._exact[self.reference].totals
        difference, error = estimate((totals - exact) / BITS)
        regrets = {"regret": totals.mean().item() / BITS, "exact_regret": exact.mean().item() / BITS}
        return {**regrets, "difference": difference, "difference_error": error}


class Training(TrainingRun):
    """A run in progress: the network, its optimizer, its random streams, and how far it has come."""

    def __init__(
        self, args: argparse.Namespace, path: Path, device: torch.device, network: nn.Module | None = None
    ) -> None:
        """Start from the seeds, or with the network of the checkpoint to resume from."""
        super().__init__([path], Row, args.train_steps, device, same_command(args))
        self.args = args
        self.source, self.config = training_source(args), config_of(args)
        self.network = (make_network(self.config, args.model_init_seed) if network is None else network).to(device)
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        is_gpu = device.type == "cuda"  # a graph reads its learning rate, a tensor, anew at every replay
        rate = torch.tensor(args.lr, device=device) if is_gpu else args.lr
        self.optimizer = torch.optim.Adam(trained, rate, fused=True, capturable=is_gpu)
        settings = args.chunk_length, args.clip_grad_norm, args.carry_state
        self.graphed = GraphedStep(self.network, self.optimizer, *settings) if is_gpu else None
        torch.manual_seed(args.seed)  # dropout
        self.generator = torch.Generator().manual_seed(args.seed)
        self.state: State | None = None
        self.symbols = 0
        self.rate = args.lr  # of the last step

    @property
    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.network]

    def resume_from(self, trained: TrainedNetwork) -> None:
        """Take over all that a checkpoint holds beside its network."""
        saved = trained.saved
        here = {"param_groups": self.optimizer.state_dict()["param_groups"]}  # the run may have been on another device
        self.optimizer.load_state_dict(saved["optimizer_state"] | here)
        restore_torch_states(saved["random_states"], self.device)
        self.generator.set_state(saved["random_states"]["sequences"])
        carried = saved["carried_state"]
        self.state = None if carried is None else tuple(part.to(self.device) for part in carried)
        self.symbols = saved["symbols"]
        self.resume(trained.step, [saved])

    def save(self) -> None:
        """Write a checkpoint from which training can resume."""
        for_training: dict[str, Any] = {
            "optimizer_state": self.optimizer.state_dict(),
            "random_states": {**torch_states(self.device), "sequences": self.generator.get_state()},
            "carried_state": None if self.state is None else list(self.state),
            "symbols": self.symbols,
            **self.progress(),
        }
        arguments = {name: value for name, value in vars(self.args).items() if name not in PLACES}
        trained = TrainedNetwork(self.network, self.config, self.source, self.done, arguments, for_training)
        save_network(self.paths[0], trained)

    def draw(self) -> Tensor:
        """Draw a batch of training sequences; a GPU fetches it while the host continues."""
        lengths = lengths_of(self.args)
        which = int(torch.randint(len(lengths), (), generator=self.generator)) if len(lengths) > 1 else 0
        symbols = sample(self.source, self.args.batch_size, lengths[which], self.generator).symbols
        if self.device.type == "cpu":
            return symbols
        return symbols.pin_memory().to(self.device, non_blocking=True)

    def step(self) -> None:
        """Take a gradient step on fresh sequences."""
        args = self.args
        self.rate = learning_rate(self.done, args.lr, args.warmup_steps, args.train_steps, args.final_lr_fraction)
        symbols = self.draw()
        if self.graphed is not None:
            self.optimizer.param_groups[0]["lr"].fill_(self.rate)
            self.result = self.graphed(symbols, self.state)
        else:
            self.optimizer.param_groups[0]["lr"] = self.rate
            settings = args.chunk_length, args.clip_grad_norm
            self.result = train_on_batch(self.network, self.optimizer, symbols, self.state, *settings)
        if args.carry_state:
            self.state = self.result.state
        self.loss_sums += self.result.loss
        self.symbols += len(symbols) * (symbols.shape[1] - 1)

    def is_logged(self, step: int) -> bool:
        """Say whether a line is due."""
        return bool(step % self.args.log_every == 0)

    def is_saved(self, step: int) -> bool:
        """Say whether a checkpoint is due."""
        return bool(step % self.args.save_every == 0)

    def run(self, replaced: Iterable[Path] = ()) -> None:
        """Train to the last step, with the exact predictors to compare with."""
        self.yardstick = Yardstick(self.args, self.source, self.device)
        print(self.yardstick.shown(), flush=True)
        super().run(replaced)

    def rows(self) -> list[Row]:
        """Put a line of the learning curve together.

        Raises:
            UserError: if the run has diverged: loss, gradient or regret are infinite or NaN.
        """
        (loss,), norm = self.mean_losses(), self.result.gradient_norm.item()
        regrets = self.yardstick.measure(self.network)
        for name, value in {"gradient norm": norm, "regret": regrets["regret"]}.items():
            if not math.isfinite(value):
                raise UserError(f"the {name} is {value} at step {self.done}; try a smaller --lr")
        seconds = round(self.seconds, 2)
        return [Row(self.done, self.symbols, seconds, self.rate, loss, self.yardstick.optimal_loss, norm, **regrets)]

    def shown(self, run: int, row: Row) -> str:
        """Write a line for people."""
        exact, difference = self.yardstick.reference, Estimate(row.difference, row.difference_error)
        text = f"step {row.step}  symbols {row.symbols}  loss {row.loss:.4f} (optimum {row.optimal_loss:.4f})"
        text += f"  gradient {row.gradient_norm:.2f}  regret {row.regret:.2f} bits ({exact} {row.exact_regret:.2f},"
        return f"{text} difference {difference})  {row.seconds:.0f} s"
