"""A training in progress: steps, learning curve, checkpoints."""

import argparse
import math
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.devices import describe_device, restore_torch_states, torch_states
from common.errors import UserError
from common.learning_curve import Curve
from common.provenance import provenance
from common.run_loop import interrupts_noticed
from nonstationary.graphed_step import GraphedStep
from nonstationary.network_file import TrainedNetwork, save_network
from nonstationary.networks import make_network
from nonstationary.recurrent import State
from nonstationary.regret import Estimate
from nonstationary.sources import sample
from nonstationary.training_options import config_of, lengths_of, training_source
from nonstationary.training_step import StepResult, learning_rate, train_on_batch
from nonstationary.yardstick import BITS, Yardstick

PLACES = ("gpu", "cpu", "threads", "dir_model", "fn_out_model", "overwrite", "resume", "save_every")
"""Arguments that say where and how to run, not what to compute."""


@dataclass
class Row:
    """A line of the learning curve: losses in nats per symbol, regrets in bits per sequence; None if not measured."""

    step: int
    symbols: int  # predicted so far
    seconds: float
    lr: float
    loss: float  # mean since the last line
    optimal_loss: float
    gradient_norm: float
    regret: float | None = None
    exact_regret: float | None = None
    difference: float | None = None  # of the network's regret from the exact predictor's
    difference_error: float | None = None

    def printed(self, exact: str) -> str:
        """Write the row for people."""
        text = f"step {self.step}  symbols {self.symbols}  loss {self.loss:.4f} (optimum {self.optimal_loss:.4f})"
        text += f"  gradient {self.gradient_norm:.2f}"
        if self.regret is not None and self.difference is not None and self.difference_error is not None:
            text += f"  regret {self.regret:.2f} bits ({exact} {self.exact_regret:.2f},"
            text += f" difference {Estimate(self.difference, self.difference_error)})"
        return f"{text}  {self.seconds:.0f} s"


class Training:
    """A run in progress: the network, its optimizer, its random streams, and how far it has come."""

    def __init__(self, args: argparse.Namespace, device: torch.device, network: nn.Module | None = None) -> None:
        """Start from the seeds, or with the network of a checkpoint from which to go on."""
        self.args, self.device = args, device
        self.provenance = provenance()  # of the code that runs, whatever is checked out later
        self.source, self.config = training_source(args), config_of(args)
        self.network = (make_network(self.config, args.model_init_seed) if network is None else network).to(device)
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, fused=True, **self.adam_settings())
        self.graphed: GraphedStep | None = None
        if device.type == "cuda":
            settings = args.chunk_length, args.clip_grad_norm, args.carry_state
            self.graphed = GraphedStep(self.network, self.optimizer, *settings)
        torch.manual_seed(args.seed)  # dropout
        self.generator = torch.Generator().manual_seed(args.seed)
        self.state: State | None = None
        self.step = self.symbols = self.saved_step = 0
        self.rate = args.lr  # of the last step
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # since the last log line
        self.loss_count = 0
        self.seconds_before = 0.0
        self.started = time.monotonic()

    def adam_settings(self) -> dict[str, Any]:
        """Choose what a graph needs on a GPU: it reads a learning rate that is a tensor anew at every replay."""
        if self.device.type == "cuda":
            return {"lr": torch.tensor(self.args.lr, device=self.device), "capturable": True}
        return {"lr": self.args.lr, "capturable": False}

    def go_on_from(self, trained: TrainedNetwork) -> None:
        """Take over all that a checkpoint holds beside its network."""
        saved = trained.saved
        self.optimizer.load_state_dict(saved["optimizer_state"])
        self.optimizer.param_groups[0].update(self.adam_settings())  # the run may have been on another device
        restore_torch_states(saved["random_states"], self.device)
        self.generator.set_state(saved["random_states"]["sequences"])
        carried = saved["carried_state"]
        self.state = None if carried is None else tuple(part.to(self.device) for part in carried)
        self.step = self.saved_step = trained.step
        self.symbols, self.loss_count = saved["symbols"], saved["loss_count"]
        self.loss_sum.fill_(saved["loss_sum"])
        self.seconds_before = saved["seconds"]

    def save(self, path: Path) -> None:
        """Write a checkpoint from which training can go on."""
        for_training: dict[str, Any] = {
            "optimizer_state": self.optimizer.state_dict(),
            "random_states": {**torch_states(self.device), "sequences": self.generator.get_state()},
            "carried_state": None if self.state is None else list(self.state),
            "symbols": self.symbols,
            "loss_sum": self.loss_sum.item(),
            "loss_count": self.loss_count,
            "seconds": self.seconds,
            "device": describe_device(self.device),
            "provenance": self.provenance,
        }
        arguments = {name: value for name, value in vars(self.args).items() if name not in PLACES}
        save_network(path, self.network, self.config, self.source, self.step, arguments, for_training)
        self.saved_step = self.step

    @property
    def seconds(self) -> float:
        """Wall time spent training, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.started

    def draw(self) -> Tensor:
        """Draw a batch of training sequences; a GPU fetches it while the host goes on."""
        lengths = lengths_of(self.args)
        which = int(torch.randint(len(lengths), (), generator=self.generator)) if len(lengths) > 1 else 0
        symbols = sample(self.source, self.args.batch_size, lengths[which], self.generator).symbols
        if self.device.type == "cpu":
            return symbols
        return symbols.pin_memory().to(self.device, non_blocking=True)

    def train_one(self) -> StepResult:
        """Take a gradient step on fresh sequences."""
        args = self.args
        self.rate = learning_rate(self.step, args.lr, args.warmup_steps, args.train_steps, args.final_lr_fraction)
        symbols = self.draw()
        if self.graphed is not None:
            self.optimizer.param_groups[0]["lr"].fill_(self.rate)
            result = self.graphed(symbols, self.state)
        else:
            self.optimizer.param_groups[0]["lr"] = self.rate
            settings = args.chunk_length, args.clip_grad_norm
            result = train_on_batch(self.network, self.optimizer, symbols, self.state, *settings)
        if args.carry_state:
            self.state = result.state
        self.loss_sum += result.loss
        self.loss_count += 1
        self.step += 1
        self.symbols += len(symbols) * (symbols.shape[1] - 1)
        return result

    def is_logged(self, step: int) -> bool:
        """Say whether a log line is due after a step that is not the last."""
        return any(step % every == 0 for every in (self.args.log_every, self.args.eval_every))

    def run(self, path: Path) -> None:
        """Train to the last step, logging and saving on the way; Ctrl-C and SIGTERM wait for a step's end, and save."""
        args = self.args
        yardstick = Yardstick(args, self.source, self.device)
        print(yardstick.shown(), flush=True)
        curve = Curve(path.with_suffix(".csv"), [field.name for field in fields(Row)], self.step, self.is_logged)
        with interrupts_noticed() as is_over:
            while self.step < args.train_steps and not is_over():
                result = self.train_one()
                is_last = self.step == args.train_steps
                if self.is_logged(self.step) or is_last:
                    row = self.measured(result, yardstick, self.step % args.eval_every == 0 or is_last)
                    print(row.printed(yardstick.reference), flush=True)
                    curve.add(astuple(row))
                    if self.is_logged(self.step):
                        self.loss_sum.zero_()
                        self.loss_count = 0
                if self.step % args.save_every == 0 or is_last:
                    self.check_finite(result)
                    self.save(path)
            if self.saved_step < self.step:
                self.check_finite(result)
                self.save(path)

    def check_finite(self, result: StepResult) -> None:
        """Stop a run that has diverged, before anything of it is written.

        Raises:
            UserError: if loss, gradient or weights are no numbers any more.
        """
        for name, value in (("loss", self.loss_sum), ("loss", result.loss), ("gradient norm", result.gradient_norm)):
            if not math.isfinite(value):
                raise UserError(f"the {name} is {value.item()} at step {self.step}; try a smaller --lr")
        if not all(weight.isfinite().all() for weight in self.network.parameters()):
            raise UserError(f"some weights are no numbers at step {self.step}; try a smaller --lr")

    def measured(self, result: StepResult, yardstick: Yardstick, with_regret: bool) -> Row:
        """Fill a line of the learning curve.

        Raises:
            UserError: if loss, gradient or regret are no numbers any more.
        """
        self.check_finite(result)
        loss = self.loss_sum.item() / self.loss_count
        seconds, norm = round(self.seconds, 2), result.gradient_norm.item()
        row = Row(self.step, self.symbols, seconds, self.rate, loss, yardstick.optimal_loss, norm)
        if with_regret:
            scores, (row.difference, row.difference_error) = yardstick.measure(self.network)
            row.regret = scores.totals.mean().item() / BITS
            if not math.isfinite(row.regret):
                raise UserError(f"the network's predictions are no numbers at step {self.step}; try a smaller --lr")
            row.exact_regret = yardstick.exact[yardstick.reference].totals.mean().item() / BITS
        return row
