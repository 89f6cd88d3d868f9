"""A training in progress: its options, its steps, validation, learning curve and checkpoints.

What `biml.train` runs and `biml.steps` times. With --compile one shape is compiled: batches are padded to it, and one
that is longer or has another number of queries, as an epoch's last one may, goes uncompiled.
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biml.batch import QueryArrays
from biml.episode_types import TRAINED, ViewSet
from biml.model import ACTIVATIONS, BIML, LONGEST, ModelConfig, check_config
from biml.network_file import TrainedNetwork, save_network
from biml.stream import batches, evaluation_batches, fingerprint
from biml.training_step import learning_rate, make_optimizer, total_loss, train_on_batch
from biml.workers import Batches, all_batches
from common.command_line import (
    OneLineParser,
    add_model_folder,
    checkpoint_name,
    dropout_probability,
    folder_path,
    natural_int,
    positive_float,
    positive_int,
)
from common.devices import add_device_options, describe_device, restore_torch_states, torch_states
from common.errors import UserError
from common.learning_curve import Curve
from common.plain_files import check_sizes
from common.provenance import provenance
from common.run_loop import ANEW, add_overwrite, interrupts_noticed, same_command

PLACES = (
    *("gpu", "cpu", "threads", "workers", "minutes"),
    *("dir_model", "fn_out_model", "data_dir", "overwrite", "resume", "save_weights"),
)
"""Arguments that say where and how to run, not what to compute."""
LOG_EVERY = 100  # steps; also after steps 1 and 25
LOOKED_AT = 40  # batches whose lengths tell to which all are padded for --compile
MULTIPLE = 16  # of source symbols, which kernels like


def make_parser(description: str | None = None) -> OneLineParser:
    """Declare the command line; the names and defaults are those of the published code."""
    parser = OneLineParser(description)
    add = parser.add_argument_group("training").add_argument
    help_text = f"what to train on: {', '.join(TRAINED)}"
    add("--episode_type", choices=TRAINED, default="retrieve", metavar="TYPE", help=help_text)
    add("--batch_size", type=positive_int, default=25, metavar="B", help="episodes of a step")
    add("--nepochs", type=positive_int, default=50, metavar="N", help="passes over the episodes")
    add("--lr", type=positive_float, default=0.001, help="AdamW's highest learning rate")
    add("--lr_end_factor", type=positive_float, default=0.05, metavar="F", help="fraction of --lr in the last epoch")
    add("--no_lr_warmup", action="store_true", help="let the rate fall from the first epoch on, without a rise before")
    add("--seed", type=natural_int, default=1, help="of weights, dropout, and what the episodes look like")
    add = parser.add_argument_group("network").add_argument
    default = ModelConfig()
    add("--nlayers_encoder", type=positive_int, default=default.nlayers_encoder, metavar="N", help="encoder layers")
    add("--nlayers_decoder", type=positive_int, default=default.nlayers_decoder, metavar="N", help="decoder layers")
    add("--emb_size", type=positive_int, default=default.emb_size, metavar="E", help="width, a multiple of 8")
    add("--ff_mult", type=positive_int, default=default.ff_mult, metavar="N", help="width of feed-forward layers, in E")
    add("--dropout", type=dropout_probability, default=default.dropout, metavar="P", help="in training")
    add("--act", choices=ACTIVATIONS, default=default.act, help="activation of the feed-forward layers")
    group = parser.add_argument_group("files")
    add = group.add_argument
    add("--fn_out_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(group)
    help_text = "folder with data_algebraic/ (of biml.generate) and data_human/ (your own download)"
    add("--data_dir", type=folder_path, default=Path("data"), metavar="DIR", help=help_text)
    add("--save_weights", action="store_true", help="also keep what using the network takes, NAME_weights.tar")
    add("--save_best", action="store_true", help="also keep the network with the lowest validation loss, NAME_best.tar")
    help_text = "fraction of the epochs, the first ones, whose losses do not count as the lowest"
    add("--save_best_skip", type=dropout_probability, default=0.2, metavar="F", help=help_text)
    add_overwrite(group, has_resume=True)
    add_device_options(parser)
    add = parser.add_argument_group("speed and time, off by default").add_argument
    add("--workers", type=natural_int, default=0, metavar="N", help="processes that make batches ahead; 0: none")
    add("--compile", action="store_true", help="compile the network (torch.compile)")
    add("--bf16", action="store_true", help="compute products in bfloat16")
    help_text = "begin no epoch that would not end within M minutes; the same command goes on"
    add("--minutes", type=positive_float, metavar="M", help=help_text)
    return parser


def model_config(args: argparse.Namespace, views: ViewSet) -> ModelConfig:
    """Put the network together from the command line and the vocabulary.

    Raises:
        UserError: if the width cannot be shared by the heads.
    """
    given = {field.name: getattr(args, field.name) for field in fields(ModelConfig) if hasattr(args, field.name)}
    config = ModelConfig(len(views.language.source), len(views.language.target), **given)
    check_sizes(config)
    check_config(config)
    return config


@dataclass
class Row:
    """A line of the learning curve; losses in nats per symbol."""

    step: int
    epoch: int
    seconds: float
    lr: float
    avg_train_loss: float  # since the last line
    val_loss: float

    def printed(self, steps: int) -> str:
        """Write the row for people."""
        left = self.seconds * (steps - self.step) / self.step
        times = f"{self.seconds:.0f} s (- {left:.0f} s)"
        losses = f"TrainLoss: {self.avg_train_loss:.4f}, ValLoss: {self.val_loss:.4f}"
        return f"{times} step {self.step} ({100 * self.step // steps}%), epoch {self.epoch}, lr {self.lr:.2e}, {losses}"


def is_logged(step: int) -> bool:
    """Say whether a log line is due after a step."""
    return step in (1, 25) or step % LOG_EVERY == 0


class Training:
    """A run in progress."""

    def __init__(self, args: argparse.Namespace, views: ViewSet, validation: ViewSet, device: torch.device) -> None:
        """Start from the seed.

        Raises:
            UserError: if the episodes are too long for a network.
        """
        self.args, self.views, self.device = args, views, device
        self.provenance = provenance()
        self.started = time.monotonic()
        asked = list(evaluation_batches(validation, args.batch_size, args.seed))
        met = [*asked, next(batches(views, args.batch_size, args.seed, epoch=1))]
        longest = max(arrays.source.shape[1] for arrays in met)
        if longest > LONGEST:
            raise UserError(f"expected episodes of up to {LONGEST} symbols in all, found {longest}")
        self.data = fingerprint(met)
        self.validation = [arrays.tensors(device) for arrays in asked]
        self.validated_symbols = sum(int((arrays.target_out != views.language.target.pad).sum()) for arrays in asked)
        torch.manual_seed(args.seed)
        self.model = BIML(model_config(args, views)).to(device)
        self.optimizer = make_optimizer(self.model, args.lr)
        self.epoch = self.step = self.saved_step = 0
        self.done_in_epoch = 0  # batches of the epoch under way
        self.steps_an_epoch = math.ceil(views.size / args.batch_size)
        self.best_val_loss: float | None = None
        self.history: list[dict[str, Any]] = []
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # since the last log line
        self.loss_count = 0
        self.seconds_before = 0.0
        if device.type == "cuda":
            torch.backends.cuda.enable_cudnn_sdp(False)  # it prepares every shape anew, which takes longer than a step
        self.compiled: Callable[[Tensor, Tensor], Tensor] | None = None
        if args.compile:
            self.compiled = torch.compile(self.model.forward, dynamic=False)
            self.usual_shape = self.shape_to_compile(met)

    def shape_to_compile(self, met: list[QueryArrays]) -> tuple[int, int, int]:
        """Find how many queries a batch has, and lengths of source and target that hardly one exceeds."""
        args = self.args
        some = list(itertools.islice(batches(self.views, args.batch_size, args.seed, epoch=1), LOOKED_AT))
        source, target = (max(lengths) for lengths in zip(*(arrays.shape[1:] for arrays in (*met, *some)), strict=True))
        return statistics.mode(len(arrays.source) for arrays in some), MULTIPLE * math.ceil(source / MULTIPLE), target

    def check_data(self, path: Path, trained: TrainedNetwork) -> None:
        """Make sure that the episodes are those that a checkpoint was trained on.

        Raises:
            UserError: if they are not.
        """
        if trained.saved.get("data", self.data) != self.data:
            raise UserError(
                f"{path} was trained on other episodes than those in {self.args.data_dir}; point --data_dir at those, "
                f"or {ANEW}"
            )

    def go_on_from(self, trained: TrainedNetwork) -> None:
        """Take over everything that a checkpoint holds.

        Raises:
            UserError: if it says that more of an epoch was done than there is.
        """
        saved = trained.saved
        if trained.done_in_epoch >= self.steps_an_epoch:
            raise UserError(f"done_in_epoch is {trained.done_in_epoch} of {self.steps_an_epoch}")
        self.data = saved["data"]
        self.model.load_state_dict(saved["model_state"])
        self.optimizer.load_state_dict(saved["optimizer_state"])
        restore_torch_states(saved["random_states"], self.device)
        self.epoch, self.done_in_epoch = trained.epoch, trained.done_in_epoch
        self.step = self.saved_step = saved["step"]
        self.history = list(saved["history"])
        self.best_val_loss, self.seconds_before = saved["best_val_loss"], saved["seconds"]
        if trained.arguments["nepochs"] != self.args.nepochs:  # more of the first epochs do not count, or fewer
            counted = [row["val_loss"] for row in self.history if self.is_counted(row["epoch"])]
            self.best_val_loss = min(counted, default=None)
        self.loss_sum.fill_(saved["loss_sum"])
        self.loss_count = saved["loss_count"]

    def save(self, path: Path) -> None:
        """Write a checkpoint from which training can go on, also within an epoch."""
        for_training = {
            "optimizer_state": self.optimizer.state_dict(),
            "data": self.data,
            "random_states": torch_states(self.device),
            "loss_sum": self.loss_sum.item(),
            "loss_count": self.loss_count,
            "done_in_epoch": self.done_in_epoch,
        }
        save_network(path, self.model, self.epoch, self.arguments, {**for_training, **self.about})
        self.saved_step = self.step

    def save_weights(self, path: Path) -> None:
        """Write what using the network takes, a third of a checkpoint."""
        save_network(path, self.model, self.epoch, self.arguments, self.about)

    @property
    def about(self) -> dict[str, Any]:
        """What is told of a network beside its arguments."""
        return {
            "step": self.step,
            "history": self.history,
            "best_val_loss": self.best_val_loss,
            "seconds": self.seconds,
            "device": describe_device(self.device),
            "provenance": self.provenance,
        }

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that say what to compute."""
        return {name: value for name, value in vars(self.args).items() if name not in PLACES}

    @property
    def seconds(self) -> float:
        """Wall time spent training, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.started

    def validate(self) -> float:
        """Compute the mean loss per symbol of all validation queries, in nats; a GPU is waited for once.

        Raises:
            UserError: if it is no number any more.
        """
        self.model.eval()
        losses = []
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16):
            for source, target_in, target_out in self.validation:
                losses.append(total_loss(self.model(source, target_in), target_out, self.model.target_pad)[0])
        loss = math.fsum(torch.stack(losses).tolist())
        self.check("validation loss", loss)
        return loss / self.validated_symbols

    def check(self, name: str, value: float) -> None:
        """Make sure that a training goes well, before anything of it is written.

        Raises:
            UserError: if the value is no number.
        """
        if not math.isfinite(value):
            raise UserError(f"the {name} is {value} at step {self.step}; try a smaller --lr")

    def run(self, path: Path) -> None:
        """Train to the last epoch, or as far as the time goes, logging and saving on the way.

        Raises:
            UserError: if the network diverges; what was saved before stays.
            KeyboardInterrupt: if Ctrl-C or SIGTERM came; the step is taken to its end, and saved.
        """
        args = self.args
        curve = Curve(path.with_suffix(".csv"), [field.name for field in fields(Row)], self.step, is_logged)
        source = Batches(args.episode_type, args.data_dir, args.batch_size, args.seed)
        epochs, done = range(self.epoch + 1, args.nepochs + 1), self.done_in_epoch
        with interrupts_noticed() as is_over, all_batches(source, self.views, epochs, done, args.workers) as batches:
            for epoch in epochs:
                began, left = time.monotonic(), self.steps_an_epoch - self.done_in_epoch
                for arrays in itertools.islice(batches, left):
                    rate = self.train_one(arrays, epoch, self.done_in_epoch)
                    self.done_in_epoch += 1
                    if is_logged(self.step):
                        self.log(epoch, rate, curve, path)
                    if is_over():
                        break
                if self.done_in_epoch < self.steps_an_epoch:
                    self.save(path)
                    return
                self.end_epoch(epoch, path)
                if is_over():
                    return
                epoch_seconds = (time.monotonic() - began) * self.steps_an_epoch / left
                if epoch < args.nepochs and not self.has_time_for(epoch_seconds):
                    print(
                        f"--minutes {args.minutes:g}: stopped after epoch {epoch} of {args.nepochs}; "
                        f"{same_command(args)} goes on"
                    )
                    return

    def end_epoch(self, epoch: int, path: Path) -> None:
        """Save the network.

        Raises:
            UserError: if its weights are no numbers any more.
        """
        args = self.args
        self.epoch, self.done_in_epoch = epoch, 0
        self.check("sum of all weights", sum(float(weight.detach().sum()) for weight in self.model.parameters()))
        if args.save_best and epoch == args.nepochs and self.best_val_loss is None:
            self.keep_if_best(self.validate(), epoch, path)  # no line was due after the skipped epochs
        self.save(path)
        if args.save_weights:
            self.save_weights(weights_path(path))

    def has_time_for(self, seconds: float) -> bool:
        """Say whether so much time is left."""
        minutes: float | None = self.args.minutes
        return minutes is None or time.monotonic() + seconds < self.started + 60 * minutes

    def train_one(self, arrays: QueryArrays, epoch: int, number: int) -> float:
        """Take a gradient step; returns its learning rate."""
        args = self.args
        steps = self.views.size // args.batch_size
        rate = learning_rate(epoch, number, steps, args.nepochs, args.lr, args.lr_end_factor, not args.no_lr_warmup)
        self.optimizer.param_groups[0]["lr"] = rate
        forward = None
        if self.compiled is not None:
            arrays = arrays.lengthened(*self.usual_shape[1:], self.views.language)
            forward = self.compiled if arrays.shape == self.usual_shape else None
        elif self.device.type == "cuda":  # fewer shapes, and such as its kernels like
            _, source, target = arrays.shape
            arrays = arrays.lengthened(MULTIPLE * math.ceil(source / MULTIPLE), target, self.views.language)
        batch = arrays.tensors(self.device)
        self.loss_sum += train_on_batch(self.model, self.optimizer, batch, args.bf16, forward)
        self.loss_count += 1
        self.step += 1
        return rate

    def log(self, epoch: int, rate: float, curve: Curve, path: Path) -> None:
        """Validate, print and write a line, and keep the network if it is the best.

        Raises:
            UserError: if the loss is no number any more.
        """
        args = self.args
        loss = self.loss_sum.item() / self.loss_count
        self.check("loss", loss)
        row = Row(self.step, epoch, round(self.seconds, 2), rate, loss, self.validate())
        print(row.printed(args.nepochs * self.steps_an_epoch), flush=True)
        curve.add(list(asdict(row).values()))
        self.history.append(asdict(row))
        self.loss_sum.zero_()
        self.loss_count = 0
        self.keep_if_best(row.val_loss, epoch, path)

    def is_counted(self, epoch: int) -> bool:
        """Say whether an epoch's losses count as the lowest: the first ones' do not."""
        return bool(epoch > self.args.save_best_skip * self.args.nepochs)

    def keep_if_best(self, val_loss: float, epoch: int, path: Path) -> None:
        """Take down the lowest validation loss and, if asked, keep its network; the first epochs do not count."""
        if self.is_counted(epoch) and (self.best_val_loss is None or val_loss < self.best_val_loss):
            self.best_val_loss = val_loss
            if self.args.save_best:
                self.save_weights(best_path(path))


def best_path(path: Path) -> Path:
    """Name the file of the network with the lowest validation loss."""
    return path.with_name(f"{path.stem}_best{path.suffix}")


def weights_path(path: Path) -> Path:
    """Name the file of the weights without what only training needs."""
    return path.with_name(f"{path.stem}_weights{path.suffix}")
