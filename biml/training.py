"""A training in progress: what a step is, what is saved, and what a line of the learning curve says.

With --compile one shape is compiled: batches are padded to it, and one that is longer or has another number of queries,
as the last one of an epoch may, is not compiled.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biml.batch import QueryArrays
from biml.episode_types import ViewSet
from biml.model import BIML, LONGEST, ModelConfig, check_config
from biml.network_file import TrainedNetwork, save_network
from biml.stream import Batches, evaluation_batches, fingerprint, made_ahead
from biml.training_step import learning_rate, make_optimizer, total_loss, train_on_batch
from common.devices import describe_device, restore_torch_states, torch_states
from common.errors import UserError
from common.learning_curve import Curve
from common.plain_files import check_sizes
from common.provenance import provenance
from common.run_loop import interrupts_noticed, same_command

PLACES = (
    *("gpu", "cpu", "threads", "workers", "minutes"),
    *("dir_model", "fn_out_model", "data_dir", "overwrite", "resume", "save_weights"),
)
"""Arguments that say where and how to run, not what to compute."""
LOG_EVERY = 100  # steps; also after steps 1 and 25
LOOKED_AT = 40  # batches whose lengths decide the shape for --compile
MULTIPLE = 16  # of source symbols, which kernels like


def is_logged(step: int) -> bool:
    """Say whether a line of the curve is due after a step."""
    return step in (1, 25) or step % LOG_EVERY == 0


def beside(path: Path, kind: str) -> Path:
    """Name a network beside a checkpoint: the "best" one, or its "weights" without what only training needs."""
    return path.with_name(f"{path.stem}_{kind}{path.suffix}")


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
        """Write the row for people; a run has `steps`."""
        left = self.seconds * (steps - self.step) / self.step
        times = f"{self.seconds:.0f} s (- {left:.0f} s)"
        losses = f"TrainLoss: {self.avg_train_loss:.4f}, ValLoss: {self.val_loss:.4f}"
        return f"{times} step {self.step} ({100 * self.step // steps}%), epoch {self.epoch}, lr {self.lr:.2e}, {losses}"


def model_config(args: argparse.Namespace, views: ViewSet) -> ModelConfig:
    """Take the sizes of the network from the command line and the vocabulary.

    Raises:
        UserError: if the heads cannot share the width.
    """
    given = {field.name: getattr(args, field.name) for field in fields(ModelConfig) if hasattr(args, field.name)}
    config = ModelConfig(len(views.language.source), len(views.language.target), **given)
    check_sizes(config)
    check_config(config)
    return config


class Training:
    """A run in progress; `step` says how far it has come."""

    def __init__(
        self, args: argparse.Namespace, batches: Batches, validation: ViewSet, path: Path, device: torch.device
    ) -> None:
        """Start from the seed.

        Raises:
            UserError: if the episodes are too long for a network.
        """
        self.args, self.batches, self.path, self.device = args, batches, path, device
        self.provenance, self.started = provenance(), time.monotonic()
        self.steps_an_epoch, self.language = batches.steps_an_epoch, batches.views.language
        asked = list(evaluation_batches(validation, args.batch_size, args.seed))
        met = [*asked, batches[0]]
        longest = max(arrays.source.shape[1] for arrays in met)
        if longest > LONGEST:
            raise UserError(f"expected episodes of up to {LONGEST} symbols in all, found {longest}")
        self.data = fingerprint(met)
        self.validation = [arrays.tensors(device) for arrays in asked]
        torch.manual_seed(args.seed)
        self.model = BIML(model_config(args, batches.views)).to(device)
        self.optimizer = make_optimizer(self.model, args.lr)
        self.step = self.saved_step = 0
        self.history: list[dict[str, Any]] = []
        self.best_val_loss: float | None = None
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # since the last line
        self.loss_count = 0
        self.seconds_before = 0.0
        if device.type == "cuda":
            torch.backends.cuda.enable_cudnn_sdp(False)  # it prepares every shape anew, which takes longer than a step
        self.compiled: Callable[[Tensor, Tensor], Tensor] | None = None
        if args.compile:
            self.compiled = torch.compile(self.model.forward, dynamic=False)
            self.usual_shape = self.shape_to_compile(met)

    def shape_to_compile(self, met: Sequence[QueryArrays]) -> tuple[int, int, int]:
        """Find how many queries a batch has, and lengths of source and target that hardly one exceeds."""
        some = [self.batches[step] for step in range(min(LOOKED_AT, self.steps_an_epoch))]
        source, target = (max(lengths) for lengths in zip(*(arrays.shape[1:] for arrays in (*met, *some)), strict=True))
        return statistics.mode(len(arrays.source) for arrays in some), MULTIPLE * math.ceil(source / MULTIPLE), target

    # What a step is

    def train_one(self, arrays: QueryArrays) -> None:
        """Take a gradient step."""
        args = self.args
        done, number = divmod(self.step, self.steps_an_epoch)
        whole = self.batches.views.size // args.batch_size
        rate = learning_rate(done + 1, number, whole, args.nepochs, args.lr, args.lr_end_factor, not args.no_lr_warmup)
        self.optimizer.param_groups[0]["lr"] = rate
        forward = None
        if self.compiled is not None:
            arrays = arrays.lengthened(*self.usual_shape[1:], self.language)
            forward = self.compiled if arrays.shape == self.usual_shape else None
        elif self.device.type == "cuda":  # fewer shapes, and such as its kernels like
            _, source, target = arrays.shape
            arrays = arrays.lengthened(MULTIPLE * math.ceil(source / MULTIPLE), target, self.language)
        batch = arrays.tensors(self.device)
        self.loss_sum += train_on_batch(self.model, self.optimizer, batch, args.bf16, forward)
        self.loss_count += 1
        self.step += 1

    def run(self) -> None:
        """Train to the last epoch, or as far as the time goes, logging and saving on the way.

        Raises:
            UserError: if the network diverges; what was saved before stays.
            KeyboardInterrupt: if Ctrl-C or SIGTERM came; the step is taken to its end, and saved.
        """
        args, first, steps = self.args, self.step, self.args.nepochs * self.steps_an_epoch
        curve = Curve(self.path.with_suffix(".csv"), [field.name for field in fields(Row)], first, is_logged)
        ahead = made_ahead(self.batches, range(first, steps), args.workers)
        with interrupts_noticed() as is_over, ahead as all_batches:
            for arrays in all_batches:
                self.train_one(arrays)
                if is_logged(self.step):
                    self.log(curve)
                epoch, number = divmod(self.step, self.steps_an_epoch)
                is_stopped = is_over()
                if number == 0:
                    self.end_epoch()
                elif is_stopped:
                    self.save()
                if is_stopped:
                    return
                if number == 0 and epoch < args.nepochs and not self.has_time(self.step - first):
                    stopped = f"stopped after epoch {epoch} of {args.nepochs}; {same_command(args)} goes on"
                    print(f"--minutes {args.minutes:g}: {stopped}")
                    return

    def end_epoch(self) -> None:
        """Save the network."""
        is_last = self.step == self.args.nepochs * self.steps_an_epoch
        if self.args.save_best and is_last and self.best_val_loss is None:
            self.keep_if_best(self.validate())  # no line was due after the skipped epochs
        self.save()
        if self.args.save_weights:
            self.write(beside(self.path, "weights"))

    def has_time(self, taken: int) -> bool:
        """Say whether one more epoch would end in time, at the rate of the steps taken since the start."""
        minutes: float | None = self.args.minutes
        used = time.monotonic() - self.started
        return minutes is None or used * (1 + self.steps_an_epoch / taken) < 60 * minutes

    # What a line of the curve says

    def log(self, curve: Curve) -> None:
        """Validate, print and write a line, and keep the network if it is the best.

        Raises:
            UserError: if the loss is infinite or NaN.
        """
        loss, rate = self.loss_sum.item() / self.loss_count, self.optimizer.param_groups[0]["lr"]
        self.check_finite("loss", loss)
        epoch = math.ceil(self.step / self.steps_an_epoch)
        row = Row(self.step, epoch, round(self.seconds, 2), rate, loss, self.validate())
        print(row.printed(self.args.nepochs * self.steps_an_epoch), flush=True)
        curve.add(list(asdict(row).values()))
        self.history.append(asdict(row))
        self.loss_sum.zero_()
        self.loss_count = 0
        self.keep_if_best(row.val_loss)

    def validate(self) -> float:
        """Compute the mean loss per symbol of all validation queries, in nats; a GPU is waited for once.

        Raises:
            UserError: if it is infinite or NaN.
        """
        self.model.eval()
        found = []
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16):
            for source, target_in, target_out in self.validation:
                loss, count = total_loss(self.model(source, target_in), target_out, self.model.target_pad)
                found.append(torch.stack([loss, count]))
        losses, counts = zip(*torch.stack(found).tolist(), strict=True)
        self.check_finite("validation loss", math.fsum(losses))
        return math.fsum(losses) / math.fsum(counts)

    def check_finite(self, name: str, value: float) -> None:
        """Make sure that the training has not diverged, before anything of it is written.

        Raises:
            UserError: if the value is infinite or NaN.
        """
        if not math.isfinite(value):
            raise UserError(f"the {name} is {value} at step {self.step}; try a smaller --lr")

    def is_counted(self, epoch: int) -> bool:
        """Say whether an epoch's losses count as the lowest: those of the first epochs do not."""
        return bool(epoch > self.args.save_best_skip * self.args.nepochs)

    def keep_if_best(self, val_loss: float) -> None:
        """Note the lowest validation loss and, if asked, keep its network."""
        is_counted = self.is_counted(math.ceil(self.step / self.steps_an_epoch))
        if is_counted and (self.best_val_loss is None or val_loss < self.best_val_loss):
            self.best_val_loss = val_loss
            if self.args.save_best:
                self.write(beside(self.path, "best"))

    # What is saved

    @property
    def seconds(self) -> float:
        """Wall time spent training, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.started

    def save(self) -> None:
        """Write a checkpoint from which training can be resumed, also within an epoch."""
        self.write(
            self.path,
            optimizer_state=self.optimizer.state_dict(),
            data=self.data,
            random_states=torch_states(self.device),
            loss_sum=self.loss_sum.item(),
            loss_count=self.loss_count,
            done_in_epoch=self.step % self.steps_an_epoch,
        )
        self.saved_step = self.step

    def write(self, path: Path, **for_training: Any) -> None:
        """Write what using the network takes, a third of a checkpoint, and what else is given."""
        arguments = {name: value for name, value in vars(self.args).items() if name not in PLACES}
        about = {
            "step": self.step,
            "history": self.history,
            "best_val_loss": self.best_val_loss,
            "seconds": self.seconds,
            "device": describe_device(self.device),
            "provenance": self.provenance,
        }
        epoch = self.step // self.steps_an_epoch
        save_network(path, self.model, epoch, arguments, {**for_training, **about})

    def resume(self, trained: TrainedNetwork) -> None:
        """Take over everything that a checkpoint holds."""
        saved = trained.saved
        self.data = saved["data"]
        self.model.load_state_dict(saved["model_state"])
        self.optimizer.load_state_dict(saved["optimizer_state"])
        restore_torch_states(saved["random_states"], self.device)
        self.step = self.saved_step = saved["step"]
        self.history, self.seconds_before = list(saved["history"]), saved["seconds"]
        counted = [row["val_loss"] for row in self.history if self.is_counted(row["epoch"])]
        self.best_val_loss = min(counted, default=None)  # another --nepochs counts more epochs or fewer
        self.loss_sum.fill_(saved["loss_sum"])
        self.loss_count = saved["loss_count"]
