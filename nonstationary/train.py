"""Train a network to predict a piecewise-stationary source; stop and go on at any time.

    python -m nonstationary.train --data_distribution ptw --model lstm --fn_out_model net_lstm_ptw.tar

writes <dir_model>/<fn_out_model> and beside it the learning curve as .csv. A run is determined by its arguments:
interrupted and started again with --resume it ends with the very weights of an uninterrupted run (same machine, CPU).
"""

import argparse
import math
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.command_line import (
    OneLineParser,
    add_model_folder,
    checkpoint_name,
    dropout_probability,
    natural_int,
    nonnegative_float,
    positive_float,
    positive_int,
    run_script,
)
from common.devices import describe_device, restore_torch_states, torch_states
from common.learning_curve import Curve
from common.provenance import provenance
from common.run_loop import cannot_go_on, differing_arguments, interruption_explained
from nonstationary.network_config import (
    MODELS,
    POSITIONS,
    NetworkConfig,
    check_chunks,
    check_length,
    check_network,
    check_unused,
)
from nonstationary.network_file import TrainedNetwork, load_network, save_network
from nonstationary.networks import make_network
from nonstationary.options import (
    add_device_options,
    add_evaluation_set,
    add_source_options,
    competitors,
    find_device,
    two_or_more,
    widths,
)
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
from nonstationary.sources import Sequences, Source, check_source, sample
from nonstationary.training_step import StepResult, learning_rate, train_on_batch

BITS = NATS_IN["bits"]
PLACES = ("device", "num_threads", "dir_model", "fn_out_model", "resume", "save_every")
"""Arguments that say where and how to run, not what to compute."""


def make_parser() -> OneLineParser:
    """Declare the command line."""
    parser = OneLineParser(__doc__)
    add_source_options(parser, Source())
    add_network_options(parser)
    add_training_options(parser)
    add_evaluation_set(parser, n_eval=512)
    add = parser.add_argument_group("log and files").add_argument
    told = "exact predictors to compare with, comma between; differences are taken from the last"
    add("--competitors", type=competitors, default="ptw", metavar="NAMES", help=told)
    add("--eval_every", type=positive_int, default=250, metavar="N", help="steps from one evaluation to the next")
    add("--log_every", type=positive_int, default=250, metavar="N", help="steps from one log line to the next")
    add("--save_every", type=positive_int, default=1000, metavar="N", help="steps from one checkpoint to the next")
    add("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    add("--fn_out_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(parser)
    add_device_options(parser)
    return parser


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what the network is made of."""
    default = NetworkConfig()
    add = parser.add_argument_group("network").add_argument
    add("--model", choices=MODELS, default=default.model, help="kind of network")
    add = parser.add_argument_group("recurrent networks").add_argument
    add("--hidden_size", type=positive_int, default=default.hidden_size, metavar="H", help="units of the core")
    told = "widths of layers before the core, comma between (default: none)"
    add("--before_mlp", type=widths, default=default.before_mlp, metavar="WIDTHS", help=told)
    told = "widths of layers after the core, comma between (default: none)"
    add("--after_mlp", type=widths, default=default.after_mlp, metavar="WIDTHS", help=told)
    add("--n_stacks", type=positive_int, default=default.n_stacks, metavar="N", help="stack_*: number of stacks")
    add("--stack_size", type=positive_int, default=default.stack_size, metavar="S", help="stack_*: cells of a stack")
    told = "stack_*: width of a cell"
    add("--stack_cell_size", type=positive_int, default=default.stack_cell_size, metavar="C", help=told)
    add = parser.add_argument_group("transformer").add_argument
    add("--emb_size", type=positive_int, default=default.emb_size, metavar="E", help="width")
    add("--nlayers", type=positive_int, default=default.nlayers, metavar="N", help="blocks")
    add("--nheads", type=positive_int, default=default.nheads, metavar="N", help="attention heads")
    add("--ff_mult", type=positive_int, default=default.ff_mult, metavar="N", help="width of feed-forward layers, in E")
    add("--dropout", type=dropout_probability, default=default.dropout, metavar="P", help="in training")
    add("--pos_enc", choices=POSITIONS, default=default.pos_enc, help="how it knows positions")
    told = "cut the input into blocks of N steps that know nothing of one another (default: one block)"
    add("--context_length", type=positive_int, metavar="N", help=told)
    told = "attend to the N/2 steps before a step and to itself (default: to all steps so far)"
    add("--attention_window", type=positive_int, metavar="N", help=told)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add how to learn."""
    add = parser.add_argument_group("training").add_argument
    add("--seq_length", type=two_or_more, default=256, metavar="T", help="symbols of a sequence")
    told = "draw the length of each batch from the powers of two up to T"
    add("--random_length", action="store_true", help=told)
    add("--batch_size", type=positive_int, default=128, metavar="B", help="sequences of a step")
    add("--train_steps", type=positive_int, default=100000, metavar="N", help="gradient steps")
    add("--lr", type=positive_float, default=1e-4, help="Adam's (highest) learning rate")
    add("--warmup_steps", type=natural_int, default=0, metavar="N", help="steps of a linear rise to --lr")
    told = "fall linearly, in --train_steps steps, to this fraction of --lr"
    add("--final_lr_fraction", type=nonnegative_float, default=1.0, metavar="F", help=told)
    told = "norm to which longer gradients are cut, 0 for never"
    add("--clip_grad_norm", type=nonnegative_float, default=1.0, metavar="NORM", help=told)
    told = "stop gradients every N steps: truncated backpropagation through time (default: never)"
    add("--chunk_length", type=positive_int, metavar="N", help=told)
    add("--carry_state", action="store_true", help="start each batch from the state in which the last one ended")
    add("--seed", type=natural_int, default=1, help="of the training sequences and dropout")
    add("--model_init_seed", type=natural_int, default=1, metavar="SEED", help="of the first weights")


def source_of(args: argparse.Namespace) -> Source:
    """Put the source together from the command line."""
    return Source(args.data_distribution, args.alpha, args.num_symbols, args.shift_period, args.max_segment)


def config_of(args: argparse.Namespace) -> NetworkConfig:
    """Put the network's configuration together from the command line; its fields are options of the same names."""
    return NetworkConfig(**{field.name: getattr(args, field.name) for field in fields(NetworkConfig)})


def check(args: argparse.Namespace, config: NetworkConfig) -> None:
    """Raise ValueError, naming the flags, if they contradict one another."""
    check_network(config)
    check_unused(config)
    check_length(config, args.seq_length)
    check_source(source_of(args))
    if args.seed == args.eval_seed:
        raise ValueError(f"--seed {args.seed} is also --eval_seed: training would see the evaluation set")
    if config.model == "transformer" and config.context_length is not None and args.random_length:
        raise ValueError("--random_length draws lengths that --context_length does not divide; leave one of them out")
    if args.carry_state:
        check_chunks(config, "--carry_state")
    if args.chunk_length is not None:
        check_chunks(config, "--chunk_length")
    if args.warmup_steps >= args.train_steps:
        raise ValueError(f"--warmup_steps {args.warmup_steps} leaves nothing of --train_steps {args.train_steps}")
    if args.final_lr_fraction > 1:
        raise ValueError(f"--final_lr_fraction {args.final_lr_fraction}: expected at most 1")


@dataclass
class Row:
    """A line of the learning curve: losses in nats per symbol, regrets in bits per sequence; None if not measured."""

    step: int
    symbols: int  # predicted so far
    seconds: float
    lr: float
    loss: float  # mean since the last line
    optimal_loss: float | None
    gradient_norm: float
    regret: float | None = None
    exact_regret: float | None = None
    difference: float | None = None  # of the network's regret from the exact predictor's
    difference_error: float | None = None

    def printed(self, exact: str) -> str:
        """Write the row for people."""
        optimum = "n/a" if self.optimal_loss is None else f"{self.optimal_loss:.4f}"
        text = f"step {self.step}  symbols {self.symbols}  loss {self.loss:.4f} (optimum {optimum})"
        text += f"  gradient {self.gradient_norm:.2f}"
        if self.regret is not None and self.difference is not None and self.difference_error is not None:
            text += f"  regret {self.regret:.2f} bits ({exact} {self.exact_regret:.2f},"
            text += f" difference {Estimate(self.difference, self.difference_error)})"
        return f"{text}  {self.seconds:.0f} s"


class Yardstick:
    """The evaluation set, what the exact predictors make of it, and the lowest loss that can be expected."""

    def __init__(self, args: argparse.Namespace, source: Source, device: torch.device) -> None:
        self.reference: str = args.competitors[-1]
        self._batch_size, self._device = args.batch_size, device
        self._sequences = fixed_sequences(source, args.n_eval, args.seq_length, args.eval_seed)
        exact = {name: exact_predictor(name, source) for name in args.competitors}
        self.exact = score(exact, self._sequences, args.batch_size, device)
        self.optimal_loss: float | None = None
        own = OWN_MIXTURE.get(source.name)
        if own is not None:
            sets = [fixed_sequences(source, args.n_eval, length, args.eval_seed) for length in lengths_of(args)]
            per_symbol = [self._regret_per_symbol(own, source, sequences) for sequences in sets]
            self.optimal_loss = expected_entropy(source) + sum(per_symbol) / len(per_symbol)

    def shown(self) -> str:
        """Write the exact predictors' regrets for people."""
        regrets = (f"{name} {scores.totals.mean().item() / BITS:.2f}" for name, scores in self.exact.items())
        return (
            f"regret of the exact predictors on {len(self._sequences.symbols)} sequences, in bits: {', '.join(regrets)}"
        )

    def _regret_per_symbol(self, own: str, source: Source, sequences: Sequences) -> float:
        scores = score({own: exact_predictor(own, source)}, sequences, self._batch_size, self._device)
        return scores[own].by_step.mean().item()

    def measure(self, network: torch.nn.Module) -> tuple[Scores, Estimate]:
        """Score a network; returns also its difference from the exact predictor named last, in bits."""
        scores = score({"network": network_predictor(network)}, self._sequences, self._batch_size, self._device)
        difference = scores["network"].totals - self.exact[self.reference].totals
        return scores["network"], estimate(difference / BITS)


def lengths_of(args: argparse.Namespace) -> list[int]:
    """List the lengths that training sequences may have."""
    if not args.random_length:
        return [args.seq_length]
    return [2**exponent for exponent in range(1, args.seq_length.bit_length())]


class Training:
    """A run in progress: the network, its optimizer, its random streams, and how far it has come."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        """Start from the seeds."""
        self.args, self.device = args, device
        self.provenance = provenance()  # of the code that runs, whatever is checked out later
        self.source, self.config = source_of(args), config_of(args)
        self.network = make_network(self.config, args.model_init_seed).to(device)
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=args.lr, fused=True)
        torch.manual_seed(args.seed)  # dropout
        self.generator = torch.Generator().manual_seed(args.seed)
        self.state: State | None = None
        self.step = self.symbols = self.saved_step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # since the last log line
        self.loss_count = 0
        self.seconds_before = 0.0
        self.started = time.monotonic()

    def go_on_from(self, trained: TrainedNetwork) -> None:
        """Take over everything that a checkpoint holds."""
        saved = trained.saved
        self.network.load_state_dict(saved["network_state"])
        self.optimizer.load_state_dict(saved["optimizer_state"])
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
        """Draw a batch of training sequences."""
        lengths = lengths_of(self.args)
        which = int(torch.randint(len(lengths), (), generator=self.generator)) if len(lengths) > 1 else 0
        sequences = sample(self.source, self.args.batch_size, lengths[which], self.generator)
        return sequences.symbols.to(self.device)

    def train_one(self) -> StepResult:
        """Take a gradient step on fresh sequences."""
        args = self.args
        rate = learning_rate(self.step, args.lr, args.warmup_steps, args.train_steps, args.final_lr_fraction)
        self.optimizer.param_groups[0]["lr"] = rate
        symbols = self.draw()
        result = train_on_batch(
            self.network, self.optimizer, symbols, self.state, args.chunk_length, args.clip_grad_norm
        )
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
        """Train to the last step, logging and saving on the way."""
        args = self.args
        yardstick = Yardstick(args, self.source, self.device)
        print(yardstick.shown(), flush=True)
        curve = Curve(path.with_suffix(".csv"), [field.name for field in fields(Row)], self.step, self.is_logged)
        while self.step < args.train_steps:
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

    def check_finite(self, result: StepResult) -> None:
        """Stop a run that has diverged, before anything of it is written.

        Raises:
            ValueError: if loss, gradient or weights are no numbers any more.
        """
        for name, value in (("loss", self.loss_sum), ("loss", result.loss), ("gradient norm", result.gradient_norm)):
            if not math.isfinite(value):
                raise ValueError(f"the {name} is {value.item()} at step {self.step}; try a smaller --lr")
        if not all(weight.isfinite().all() for weight in self.network.parameters()):
            raise ValueError(f"some weights are no numbers at step {self.step}; try a smaller --lr")

    def measured(self, result: StepResult, yardstick: Yardstick, with_regret: bool) -> Row:
        """Fill a line of the learning curve.

        Raises:
            ValueError: if loss, gradient or regret are no numbers any more.
        """
        self.check_finite(result)
        loss = self.loss_sum.item() / self.loss_count
        rate = self.optimizer.param_groups[0]["lr"]
        seconds, norm = round(self.seconds, 2), result.gradient_norm.item()
        row = Row(self.step, self.symbols, seconds, rate, loss, yardstick.optimal_loss, norm)
        if with_regret:
            scores, (row.difference, row.difference_error) = yardstick.measure(self.network)
            row.regret = scores.totals.mean().item() / BITS
            if not math.isfinite(row.regret):
                raise ValueError(f"the network's predictions are no numbers at step {self.step}; try a smaller --lr")
            row.exact_regret = yardstick.exact[yardstick.reference].totals.mean().item() / BITS
        return row


def find_earlier_run(path: Path, args: argparse.Namespace, device: torch.device) -> TrainedNetwork | None:
    """Load the checkpoint that this command goes on from, if there is one.

    Raises:
        ValueError: if the file may not be overwritten, is something else, or was trained with other arguments.
    """
    if not path.exists():
        return None
    if not args.resume:
        raise ValueError(f"{path} exists; pass --resume to go on with it, another --fn_out_model, or delete it")
    trained = load_network(path, device)
    may_change = {*PLACES, "train_steps"} if args.final_lr_fraction == 1 else {*PLACES}
    differing = differing_arguments(trained.arguments, vars(args), may_change, make_parser().get_default)
    if differing:
        raise ValueError(f"{path} was trained with {differing}; pass the same or another --fn_out_model")
    if trained.step > args.train_steps:
        raise ValueError(f"{path} has {trained.step} steps, more than --train_steps {args.train_steps}")
    return trained


def main() -> None:
    """Train, go on, or report that there is nothing left to do."""
    args = make_parser().parse_args()
    check(args, config_of(args))
    device = find_device(args.device, args.num_threads)
    path = args.dir_model / args.fn_out_model
    earlier = find_earlier_run(path, args, device)
    training = Training(args, device)
    trained = sum(parameter.numel() for parameter in training.network.parameters() if parameter.requires_grad)
    print(f"{args.model} ({trained} weights) on {args.data_distribution}, {describe_device(device)}, to {path}")
    if earlier is not None:
        try:
            training.go_on_from(earlier)
        except Exception as error:  # whatever an ill-formed file leads to
            raise cannot_go_on(error, "choose another --fn_out_model", path) from None
        if earlier.step == args.train_steps:
            print(f"{path} is finished ({earlier.step} steps)")
            return
        print(f"going on from step {earlier.step}", flush=True)
    with interruption_explained("the same command with --resume", "step", lambda: training.saved_step):
        training.run(path)


if __name__ == "__main__":
    run_script(main)
