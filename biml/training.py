"""A training in progress: what a step is, what is saved, and what a line of the learning curve says.

With --compile one shape is compiled: batches are padded to it, and one that is longer or has another number of queries,
as the last one of an epoch may, is not compiled.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
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
from common.devices import restore_torch_states, torch_states
from common.errors import UserError
from common.plain_files import check_sizes
from common.run_loop import TrainingRun, same_command

PLACES = (
    *("gpu", "cpu", "threads", "workers", "minutes"),
    *("dir_model", "fn_out_model", "data_dir", "overwrite", "resume", "save_weights"),
)
"""Arguments that say where and how to run, not what to compute."""
LOG_EVERY = 100  # steps; also after steps 1 and 25
LOOKED_AT = 40  # batches whose lengths decide the shape for --compile
MULTIPLE = 16  # of source symbols, which kernels like


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


def model_config(args: argparse.Namespace, views: ViewSet) -> ModelConfig:
    """Take the network's sizes from command line and vocabulary; UserError if the heads cannot share the width."""
    given = {field.name: getattr(args, field.name) for field in fields(ModelConfig) if hasattr(args, field.name)}
    config = ModelConfig(len(views.language.source), len(views.language.target), **given)
    check_sizes(config)
    check_config(config)
    return config


class Training(TrainingRun):
    """A run in progress."""

    logs_last_step = False

    def __init__(
        self, args: argparse.Namespace, batches: Batches, validation: ViewSet, path: Path, device: torch.device
    ) -> None:
        """Start from the seed; UserError if the episodes are too long for a network."""
        super().__init__([path], Row, args.nepochs * batches.steps_an_epoch, device, same_command(args))
        self.args, self.batches, self.path = args, batches, path
        self.began, self.first = time.monotonic(), 0  # of this sitting: time and steps before
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
        self.history: list[dict[str, Any]] = []
        self.best_val_loss: float | None = None
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

    @property
    def networks(self) -> list[BIML]:
        """The one network."""
        return [self.model]

    # What a step is

    def run(self, replaced: Iterable[Path] = ()) -> None:
        """Train to the last epoch, or as far as the time goes, on batches that other processes may make ahead."""
        self.first = self.done
        with made_ahead(self.batches, range(self.done, self.total), self.args.workers) as self.ahead:
            super().run(replaced)

    def step(self) -> None:
        """Take a gradient step on the next batch."""
        self.train_one(next(self.ahead))

    def train_one(self, arrays: QueryArrays) -> None:
        """Take a gradient step on a batch."""
        args = self.args
        done, number = divmod(self.done, self.steps_an_epoch)
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
        self.loss_sums += train_on_batch(self.model, self.optimizer, batch, args.bf16, forward)

    def is_out_of_time(self) -> bool:
        """Say whether one more epoch would not end in time, at the rate of the steps taken since the start."""
        epoch, number = divmod(self.done, self.steps_an_epoch)
        minutes: float | None = self.args.minutes
        if minutes is None or number > 0 or self.done == self.total:
            return False
        used, taken = time.monotonic() - self.began, self.done - self.first
        is_over = used * (1 + self.steps_an_epoch / taken) >= 60 * minutes
        if is_over:
            stopped = f"stopped after epoch {epoch} of {self.args.nepochs}; {same_command(self.args)} resumes"
            print(f"--minutes {minutes:g}: {stopped}")
        return is_over

    # What a line of the curve says

    def is_logged(self, step: int) -> bool:
        """Say whether a line is due."""
        return step in (1, 25) or step % LOG_EVERY == 0

    def rows(self) -> list[Row]:
        """Validate, put a line together, and keep the network if it is the best."""
        (loss,), rate = self.mean_losses(), self.optimizer.param_groups[0]["lr"]
        epoch = math.ceil(self.done / self.steps_an_epoch)
        row = Row(self.done, epoch, round(self.seconds, 2), rate, loss, self.validate())
        self.history.append(asdict(row))
        self.keep_if_best(row.val_loss)
        return [row]

    def shown(self, run: int, row: Row) -> str:
        """Write a line for people."""
        left = "?" if self.seconds_left is None else f"{self.seconds_left:.0f} s"
        place = f"step {row.step} ({100 * row.step // self.total}%), epoch {row.epoch}, lr {row.lr:.2e}"
        losses = f"TrainLoss: {row.avg_train_loss:.4f}, ValLoss: {row.val_loss:.4f}"
        return f"{row.seconds:.0f} s (- {left}) {place}, {losses}"

    def validate(self) -> float:
        """Compute the mean loss per symbol of all validation queries, in nats; a GPU is waited for once."""
        self.model.eval()
        found = []
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16):
            for source, target_in, target_out in self.validation:
                loss, count = total_loss(self.model(source, target_in), target_out, self.model.target_pad)
                found.append(torch.stack([loss, count]))
        losses, counts = zip(*torch.stack(found).tolist(), strict=True)
        mean = math.fsum(losses) / math.fsum(counts)
        if not math.isfinite(mean):
            raise UserError(f"the validation loss is {mean} at step {self.done}; try a smaller --lr")
        return mean

    def is_counted(self, epoch: int) -> bool:
        """Say whether an epoch's losses count as the lowest: those of the first epochs do not."""
        return bool(epoch > self.args.save_best_skip * self.args.nepochs)

    def keep_if_best(self, val_loss: float) -> None:
        """Note the lowest validation loss and, if asked, keep its network."""
        is_counted = self.is_counted(math.ceil(self.done / self.steps_an_epoch))
        if is_counted and (self.best_val_loss is None or val_loss < self.best_val_loss):
            self.best_val_loss = val_loss
            if self.args.save_best:
                self.write(beside(self.path, "best"))

    # What is saved

    def is_saved(self, step: int) -> bool:
        """Say whether a checkpoint is due: after every epoch."""
        return step % self.steps_an_epoch == 0

    def save(self) -> None:
        """Write a checkpoint from which training can be resumed, also within an epoch."""
        if self.args.save_best and self.done == self.total and self.best_val_loss is None:
            self.keep_if_best(self.validate())  # no line was due after the skipped epochs
        self.write(
            self.path,
            optimizer_state=self.optimizer.state_dict(),
            data=self.data,
            random_states=torch_states(self.device),
            done_in_epoch=self.done % self.steps_an_epoch,
        )
        if self.args.save_weights and self.is_saved(self.done):
            self.write(beside(self.path, "weights"))

    def write(self, path: Path, **for_training: Any) -> None:
        """Write what using the network takes, a third of a checkpoint, and what else is given."""
        arguments = {name: value for name, value in vars(self.args).items() if name not in PLACES}
        about = {"step": self.done, "history": self.history, "best_val_loss": self.best_val_loss, **self.progress()}
        save_network(path, self.model, self.done // self.steps_an_epoch, arguments, {**for_training, **about})

    def resume_from(self, trained: TrainedNetwork) -> None:
        """Take over everything that a checkpoint holds."""
        saved = trained.saved
        self.data = saved["data"]
        self.model.load_state_dict(saved["model_state"])
        self.optimizer.load_state_dict(saved["optimizer_state"])
        restore_torch_states(saved["random_states"], self.device)
        self.history = list(saved["history"])
        counted = [row["val_loss"] for row in self.history if self.is_counted(row["epoch"])]
        self.best_val_loss = min(counted, default=None)  # another --nepochs counts more epochs or fewer
        self.resume(saved["step"], [saved])
