"""Meta-train a network on one type of episode; stop and go on at any time.

    python train.py --episode_type scan_prim_permutation

writes <dir_model>/net_<episode_type>.tar and beside it the learning curve as .csv. Every run is determined by its
arguments: interrupted and started again it ends with the very weights of an uninterrupted run (same machine, CPU).
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from checkpoint import (
    PLACES,
    Checkpoint,
    add_device_options,
    checkpoint_contents,
    choose_device,
    describe_device,
    differing_arguments,
    load_checkpoint,
    provenance,
    random_streams,
    restore_torch_states,
    save_plain,
    torch_states,
)
from episode_batch import EpisodeBatch, encode, vocabularies_of
from evaluate import Accuracy, evaluate_episodes
from generate_episode import EXPERIMENTS, EXTRA_DIRECTIONS, Episode, EpisodeSampler, Experiment, find_experiment
from learning_curve import Curve
from model import MetaSeq2Seq, ModelConfig
from script_util import (
    OneLineParser,
    add_data_folder,
    add_model_folder,
    checkpoint_name,
    dropout_probability,
    natural_int,
    positive_float,
    positive_int,
    run_script,
    with_what_was_done,
)
from training_step import drop_learning_rate, make_optimizer, train_on_episode

LOG_EVERY = 100  # episodes; also after the first and the last
SAVE_EVERY = 1000  # episodes


def make_parser() -> OneLineParser:
    """Declare the command line; the flags of the original release keep their names and defaults."""
    parser = OneLineParser(__doc__)
    add_training_options(parser)
    add_model_options(parser)
    group = parser.add_argument_group("files")
    add_model_folder(group)
    told = "the checkpoint (default: net_<episode_type>.tar)"
    group.add_argument("--fn_out_model", type=checkpoint_name, metavar="NAME.tar", help=told)
    add_data_folder(group)
    group.add_argument("--overwrite", action="store_true", help="start anew even if there is a checkpoint")
    add_device_options(parser)
    return parser


def parse_arguments(parser: OneLineParser) -> argparse.Namespace:
    """Read the command line, and fill in what follows from other arguments."""
    args = parser.parse_args()
    args.fn_out_model = args.fn_out_model or f"net_{args.episode_type}.tar"
    if args.episode_type == "scan_around_right" and args.extra_directions is None:
        args.extra_directions = EXTRA_DIRECTIONS
    if EXPERIMENTS[args.episode_type].is_standard:
        if args.disable_recon_loss:
            parser.error(f"--disable_recon_loss: {args.episode_type} has no support items to ask for")
        args.disable_memory = True
    return args


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what an episode is and how to learn from it."""
    add = parser.add_argument_group("training").add_argument
    told = f"what the episodes are: {', '.join(EXPERIMENTS)}"
    add("--episode_type", choices=list(EXPERIMENTS), default="ME", metavar="TYPE", help=told)
    add("--num_episodes", type=positive_int, default=10000, metavar="N", help="episodes, one gradient step each")
    add("--lr", type=positive_float, default=0.001, help="Adam's learning rate")
    told = "every N episodes multiply the learning rate by 0.1 and start Adam anew"
    add("--lr_decay_schedule", type=positive_int, default=5000, metavar="N", help=told)
    told = "keep Adam's moments when the learning rate drops (the original release does not)"
    add("--keep_moments", action="store_true", help=told)
    add("--disable_recon_loss", action="store_true", help="do not also ask for the support items (no support loss)")
    told = f"scan_around_right only: further directions (default: {EXTRA_DIRECTIONS})"
    add("--extra_directions", type=natural_int, metavar="N", help=told)
    told = "symbols after which an answer is cut off"
    add("--max_length_eval", type=positive_int, default=50, metavar="N", help=told)
    add("--seed", type=natural_int, default=1, help="of weights, dropout and episodes")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what the network is made of."""
    add = parser.add_argument_group("model", "Defaults follow Lake 2019, Section 4.1.").add_argument
    told = "units of each embedding and LSTM layer"
    add("--emb_size", type=positive_int, default=ModelConfig.emb_size, metavar="M", help=told)
    add("--nlayers", type=positive_int, default=ModelConfig.nlayers, metavar="N", help="layers of each LSTM")
    told = "on embeddings and between LSTM layers"
    add("--dropout", type=dropout_probability, default=ModelConfig.dropout, metavar="P", help=told)
    add("--disable_memory", action="store_true", help="ignore the support set: a plain seq2seq network")
    add("--disable_attention", action="store_true", help="decode from the last context step alone")
    told = "keep padded steps out of the decoder's attention, as the equations have it"
    add("--mask_padding", action="store_true", help=told)


@dataclass
class Row:
    """A line of the learning curve; losses in nats per symbol, accuracies in percent or None."""

    episode: int
    seconds: float
    lr: float
    train_loss: float
    retrieval: float | None
    generalize: float | None

    def printed(self, num_episodes: int) -> str:
        """Write the row for people, in the original release's form."""
        left = self.seconds * (num_episodes - self.episode) / self.episode
        done = f"({self.episode} {100 * self.episode // num_episodes}% finished)"
        scores = show_accuracy(self.retrieval, self.generalize)
        return f"{minutes(self.seconds)} (- {minutes(left)}) {done} TrainLoss: {self.train_loss:.4f}, {scores}"


def show_accuracy(retrieval: float | None, generalize: float | None) -> str:
    """Write the validation accuracies as the log lines have them."""
    shown = ["n/a" if percent is None else f"{percent:.1f}" for percent in (retrieval, generalize)]
    return f"ValAccRetrieval: {shown[0]}, ValAccGeneralize: {shown[1]}"


def minutes(seconds: float) -> str:
    """Write a duration as minutes and seconds."""
    return f"{int(seconds) // 60}m {int(seconds) % 60}s"


def is_logged(episode: int) -> bool:
    """Say whether a log line is due after an episode that is not the last."""
    return episode == 1 or episode % LOG_EVERY == 0


class Training:
    """A run in progress: the network, its optimizer, its random streams, and how far it has come."""

    def __init__(self, args: argparse.Namespace, experiment: Experiment, device: torch.device) -> None:
        """Start from the seed, with validation episodes still to come: new ones or a checkpoint's."""
        self.args, self.experiment, self.device = args, experiment, device
        self.provenance = provenance()  # of the code that runs, whatever is checked out later
        self.rng, self.validation_rng = random_streams(args.seed)
        self.sampler = EpisodeSampler(experiment, args.data_dir, support_loss=not args.disable_recon_loss)
        self.validation: list[Episode] = []
        self.vocabularies = vocabularies_of(experiment)
        self.model = MetaSeq2Seq(model_config(args, experiment)).to(device)
        self.optimizer = make_optimizer(self.model, args.lr)
        self.episode = self.saved_episode = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # since the last log line
        self.loss_count = 0
        self.seconds_before = 0.0
        self.started = time.monotonic()

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take over everything that a checkpoint holds."""
        saved = checkpoint.saved
        self.model.load_state_dict(saved["model_state"])
        self.optimizer.load_state_dict(saved["optimizer_state"])
        restore_torch_states(saved["random_states"], self.device)
        self.rng.bit_generator.state = saved["random_states"]["episodes"]
        self.validation = checkpoint.validation
        self.episode = self.saved_episode = checkpoint.episode
        self.loss_sum.fill_(saved["loss_sum"])
        self.loss_count, self.seconds_before = saved["loss_count"], saved["seconds"]

    def save(self, path: Path) -> None:
        """Write a checkpoint from which training can go on."""
        contents = checkpoint_contents(self.model, self.experiment, self.validation, self.episode, vars(self.args))
        contents["optimizer_state"] = self.optimizer.state_dict()
        contents["random_states"] = {**torch_states(self.device), "episodes": self.rng.bit_generator.state}
        contents["provenance"] = self.provenance
        contents["loss_sum"], contents["loss_count"] = self.loss_sum.item(), self.loss_count
        contents["seconds"], contents["device"] = self.seconds, describe_device(self.device)
        save_plain(path, contents)
        self.saved_episode = self.episode

    @property
    def seconds(self) -> float:
        """Wall time spent training, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.started

    def train_one(self, excluded: frozenset[str]) -> None:
        """Draw an episode and take a gradient step on it."""
        batch = self.encode(self.sampler.training_episode(self.rng, excluded))
        self.loss_sum += train_on_episode(self.model, self.optimizer, batch)
        self.loss_count += 1
        self.episode += 1
        if self.episode % self.args.lr_decay_schedule == 0:
            drop_learning_rate(self.optimizer, self.args.keep_moments)

    def encode(self, episode: Episode) -> EpisodeBatch:
        """Turn an episode into tensors on the device."""
        return encode(episode, *self.vocabularies).to(self.device)

    def validate(self) -> Accuracy:
        """Score the validation episodes."""
        return evaluate_episodes(self.model, map(self.encode, self.validation), self.args.max_length_eval)

    def run(self, path: Path) -> None:
        """Train to the last episode, logging and saving on the way."""
        num_episodes = self.args.num_episodes
        curve = Curve(path.with_suffix(".csv"), [field.name for field in fields(Row)], self.episode, is_logged)
        if self.episode == 0:
            path.unlink(missing_ok=True)  # --overwrite: the old network must not be taken for a state of this run
        excluded = frozenset(one.mapping for one in self.validation)
        while self.episode < num_episodes:
            lr = self.optimizer.param_groups[0]["lr"]
            self.train_one(excluded)
            is_last = self.episode == num_episodes
            if is_logged(self.episode) or is_last:
                loss = self.loss_sum.item() / self.loss_count
                if not math.isfinite(loss):
                    raise ValueError(f"the loss is {loss} at episode {self.episode}; try a smaller --lr")
                accuracy = self.validate()
                row = Row(
                    self.episode,
                    round(self.seconds, 2),
                    lr,
                    loss,
                    accuracy.retrieval.percent,
                    accuracy.generalize.percent,
                )
                print(row.printed(num_episodes), flush=True)
                curve.add(astuple(row))
                if is_logged(self.episode):  # a last line out of turn leaves the next one as if the run had been longer
                    self.loss_sum.zero_()
                    self.loss_count = 0
            if self.episode % SAVE_EVERY == 0 or is_last:
                self.save(path)


def model_config(args: argparse.Namespace, experiment: Experiment) -> ModelConfig:
    """Put the network together from the command line and the experiment's vocabulary."""
    input_vocabulary, output_vocabulary = vocabularies_of(experiment)
    return ModelConfig(
        input_size=len(input_vocabulary),
        output_size=len(output_vocabulary),
        padded_length=experiment.padded_length,
        emb_size=args.emb_size,
        nlayers=args.nlayers,
        dropout=args.dropout,
        disable_memory=args.disable_memory,
        disable_attention=args.disable_attention,
        mask_padding=args.mask_padding,
    )


def find_earlier_run(
    path: Path,
    args: argparse.Namespace,
    experiment: Experiment,
    device: torch.device,
    default_of: Callable[[str], Any],
) -> Checkpoint | None:
    """Load the checkpoint that this command goes on from, if there is one; `default_of` gives a flag's default.

    Raises:
        ValueError: if the file is something else, or if it was trained with other arguments.
    """
    if args.overwrite or not path.exists():
        return None
    checkpoint = load_checkpoint(path, device)
    anew = "pass --overwrite to start anew or another --fn_out_model"
    if checkpoint.is_original:
        raise ValueError(f"{path} is a file of the original release, which cannot be resumed; {anew}")
    arguments = with_what_was_done(checkpoint.arguments)
    if arguments["keep_moments"] and not args.keep_moments:
        kept = f"{path} was trained with Adam's moments kept when the learning rate drops"
        raise ValueError(f"{kept}; pass --keep_moments to go on so, {anew.removeprefix('pass ')}")
    differing = differing_arguments(arguments, vars(args), {*PLACES, "num_episodes"}, default_of)
    if differing:
        raise ValueError(f"{path} was trained with {differing}; {anew}")
    if checkpoint.vocabularies != vocabularies_of(experiment):
        raise ValueError(f"{path} has another vocabulary than {args.episode_type}; {anew}")
    if checkpoint.episode > args.num_episodes:
        raise ValueError(
            f"{path} has {checkpoint.episode} episodes, more than --num_episodes {args.num_episodes}; {anew}"
        )
    return checkpoint


def main() -> None:
    """Train, go on, or report that there is nothing left to do."""
    parser = make_parser()
    args = parse_arguments(parser)
    device = choose_device(args.gpu, args.cpu, args.threads)
    experiment = find_experiment(args.episode_type, args.extra_directions)
    path = args.dir_model / args.fn_out_model
    earlier = find_earlier_run(path, args, experiment, device, parser.get_default)
    print(f"{args.episode_type} on {describe_device(device)}, seed {args.seed}, to {path}", flush=True)
    training = Training(args, experiment, device)
    if earlier is None:
        training.validation = training.sampler.validation_episodes(training.validation_rng)
    else:
        try:
            training.go_on_from(earlier)
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            reason = f"{path} cannot be trained further ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            raise ValueError(f"{reason}; pass --overwrite to start anew or another --fn_out_model") from None
        if earlier.episode == args.num_episodes:
            accuracy = training.validate()
            print(f"{path} is finished ({earlier.episode} episodes); --overwrite trains it anew")
            print(show_accuracy(accuracy.retrieval.percent, accuracy.generalize.percent))
            return
        print(f"going on from episode {earlier.episode}", flush=True)
    try:
        training.run(path)
    except KeyboardInterrupt:
        command = "the same command without --overwrite" if args.overwrite else "the same command"
        goes_on = f"interrupted; {command} goes on from episode {training.saved_episode}"
        raise KeyboardInterrupt(goes_on) from None


if __name__ == "__main__":
    run_script(main)
