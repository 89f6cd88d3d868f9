"""Meta-train a network on one type of episode; stop and go on at any time.

    python train.py --episode_type scan_prim_permutation

writes <dir_model>/net_<episode_type>.tar, with the arguments that are not the defaults in its name, and beside it the
learning curve as .csv. Every run is determined by its arguments: interrupted and started again it ends with the very
weights of an uninterrupted run (same machine, CPU). With --seeds a GPU trains several networks in lock step; dropout
then depends on all of the seeds.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from checkpoint import PLACES, Checkpoint, checkpoint_contents, load_checkpoint, network_config, save_checkpoint
from common.command_line import (
    OneLineParser,
    add_model_folder,
    checkpoint_name,
    dropout_probability,
    natural_int,
    positive_float,
    positive_int,
    run_script,
    seed_list,
)
from common.devices import add_device_options, choose_device, describe_device, restore_torch_states, torch_states
from common.errors import UserError
from common.learning_curve import Curve
from common.plain_files import DIVERGED, check_finite
from common.provenance import provenance
from common.run_loop import (
    ANEW,
    add_overwrite,
    begin_anew,
    cannot_go_on,
    claimed,
    differing_arguments,
    interruption_explained,
    interrupts_noticed,
    same_command,
    with_what_was_done,
)
from episode_batch import EpisodeBatch, encode, vocabularies_of
from evaluate import Accuracy
from generate_episode import (
    EXPERIMENTS,
    EXTRA_DIRECTIONS,
    OWN_FILES,
    Episode,
    EpisodeSampler,
    Experiment,
    find_experiment,
    find_own_experiment,
    scan_files,
)
from lockstep import LockStep, shapes_of
from model import ModelConfig, make_network
from scan_util import SplitFile, add_data_folder
from training_step import Learner

LOG_EVERY = 100  # episodes; also after the first and the last
SAVE_EVERY = 1000  # episodes
DEFAULT_SEED = 1
DEFAULT_TYPE = "ME"


def make_parser() -> OneLineParser:
    """Declare the command line; the flags of the original release keep their names and defaults."""
    parser = OneLineParser(__doc__)
    add_training_options(parser)
    add_model_options(parser)
    group = parser.add_argument_group("files")
    add_model_folder(group)
    help_text = "the checkpoint, {seed} standing for the seed (default: net_<episode_type> and the arguments given)"
    group.add_argument("--fn_out_model", type=checkpoint_name, metavar="NAME.tar", help=help_text)
    add_data_folder(group)
    add_overwrite(group)
    add_device_options(parser)
    return parser


def complete(args: argparse.Namespace, seed: int, parser: OneLineParser) -> argparse.Namespace:
    """Give the arguments of one seed's run, with all that follows from them filled in."""
    own = argparse.Namespace(**{**vars(args), "seed": seed})
    del own.seeds
    implied: dict[str, Any] = {"seed": DEFAULT_SEED, "episode_type": kind_of_episode(args, parser)}
    own.episode_type = implied["episode_type"]
    if own.episode_type == "scan_around_right":
        implied["extra_directions"] = EXTRA_DIRECTIONS
    if own.train_file is not None or EXPERIMENTS[own.episode_type].is_standard:
        implied["disable_memory"] = True
        if own.disable_recon_loss:
            parser.error(f"--disable_recon_loss: {own.episode_type} has no support items to ask for")
    for name, value in implied.items():
        if getattr(own, name) is None or getattr(own, name) is False:  # 0 is a value
            setattr(own, name, value)
    if own.fn_out_model is None:
        given = given_arguments(own, lambda name: implied.get(name, parser.get_default(name)))
        of_file = [] if own.train_file is None else [own.train_file.stem]
        own.fn_out_model = "_".join(["net", own.episode_type, *of_file, *given]) + ".tar"
    elif args.seeds and "{seed}" not in own.fn_out_model:
        parser.error("--fn_out_model: with --seeds each network needs a name of its own, such as net_seed{seed}.tar")
    own.fn_out_model = own.fn_out_model.replace("{seed}", str(seed))
    return own


def kind_of_episode(args: argparse.Namespace, parser: OneLineParser) -> str:
    """Say what the episodes are: of the type that is asked for, or of files of the user's own."""
    if args.train_file is None and args.test_file is None:
        return str(args.episode_type or DEFAULT_TYPE)
    if args.train_file is None or args.test_file is None:
        parser.error("--train_file and --test_file go together")
    for name in ("episode_type", "extra_directions"):
        if getattr(args, name) is not None:
            parser.error(f"--{name} does not go with --train_file: files are trained on as standard seq2seq")
    return OWN_FILES


def given_arguments(args: argparse.Namespace, default_of: Callable[[str], Any]) -> list[str]:
    """Write the arguments that tell this run from the default one of its episode type, for the checkpoint's name."""
    left_out = {"episode_type", "num_episodes", *PLACES}  # more episodes extend a run
    different = {
        name: value for name, value in vars(args).items() if name not in left_out and value != default_of(name)
    }
    return [name if value is True else f"{name}{value}" for name, value in different.items()]


def path_of(args: argparse.Namespace) -> Path:
    """Say where a run's checkpoint is."""
    return Path(args.dir_model, args.fn_out_model)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what an episode is and how to learn from it."""
    group = parser.add_argument_group("training")
    add = group.add_argument
    help_text = f"what the episodes are: {', '.join(EXPERIMENTS)}"
    add("--episode_type", choices=list(EXPERIMENTS), metavar="TYPE", help=f"{help_text} (default: {DEFAULT_TYPE})")
    help_text = "instead of a type: a file of your own to train on, with lines 'IN: <words> OUT: <words>'"
    help_text += ", as standard seq2seq: meanings stay, no support set"
    add("--train_file", type=Path, metavar="FILE", help=help_text)
    add("--test_file", type=Path, metavar="FILE", help="goes with --train_file: what test.py scores the network on")
    add("--num_episodes", type=positive_int, default=10000, metavar="N", help="episodes, one gradient step each")
    add("--lr", type=positive_float, default=0.001, help="Adam's learning rate")
    help_text = "every N episodes multiply the learning rate by 0.1 and start Adam anew"
    add("--lr_decay_schedule", type=positive_int, default=5000, metavar="N", help=help_text)
    help_text = "keep Adam's moments when the learning rate drops (the original release does not)"
    add("--keep_moments", action="store_true", help=help_text)
    add("--disable_recon_loss", action="store_true", help="do not also ask for the support items (no support loss)")
    help_text = f"scan_around_right only: further directions (default: {EXTRA_DIRECTIONS})"
    add("--extra_directions", type=natural_int, metavar="N", help=help_text)
    help_text = "symbols after which an answer is cut off"
    add("--max_length_eval", type=positive_int, default=50, metavar="N", help=help_text)
    which = group.add_mutually_exclusive_group()
    help_text = f"of weights, dropout and episodes (default: {DEFAULT_SEED})"
    which.add_argument("--seed", type=natural_int, help=help_text)
    help_text = "train a network for each of these seeds: on a GPU in lock step, on a CPU one after the other"
    which.add_argument("--seeds", type=seed_list, metavar="K,...", help=help_text)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what the network is made of."""
    add = parser.add_argument_group("model", "Defaults follow Lake 2019, Section 4.1.").add_argument
    help_text = "units of each embedding and LSTM layer"
    add("--emb_size", type=positive_int, default=ModelConfig.emb_size, metavar="M", help=help_text)
    add("--nlayers", type=positive_int, default=ModelConfig.nlayers, metavar="N", help="layers of each LSTM")
    help_text = "on embeddings and between LSTM layers"
    add("--dropout", type=dropout_probability, default=ModelConfig.dropout, metavar="P", help=help_text)
    add("--disable_memory", action="store_true", help="ignore the support set: a plain seq2seq network")
    add("--disable_attention", action="store_true", help="decode from the last context step alone")
    help_text = "keep padded steps out of the decoder's attention, as the equations have it"
    add("--mask_padding", action="store_true", help=help_text)


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


def random_streams(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Seed torch (weights and dropout) and make the generators of the training and the validation episodes."""
    torch.manual_seed(seed)
    training, validation = np.random.SeedSequence(seed).spawn(2)
    return np.random.default_rng(training), np.random.default_rng(validation)


class Training:
    """A run in progress: its network, its random streams, its files, and how far it has come."""

    def __init__(self, args: argparse.Namespace, experiment: Experiment, device: torch.device) -> None:
        """Start from the seed, with validation episodes still to come: new ones or a checkpoint's."""
        self.args, self.experiment, self.device = args, experiment, device
        self.path = path_of(args)
        self.provenance = provenance()  # of the code that runs, whatever is checked out later
        self.rng, self.validation_rng = random_streams(args.seed)
        self.sampler = EpisodeSampler(experiment, args.data_dir, support_loss=not args.disable_recon_loss)
        self.validation: list[Episode] = []
        self.vocabularies = vocabularies_of(experiment)
        self.model = make_network(model_config(args, experiment)).to(device)
        self.episode = self.saved_episode = 0
        self.loss_sum, self.loss_count = 0.0, 0  # since the last log line; the sum lags behind while a learner has it
        self.files: Sequence[SplitFile] = ()  # the data, if there are files
        self.company: list[int] = []  # the seeds that have drawn dropout from one stream with this one, itself too
        self.seconds_before = 0.0
        self.started = time.monotonic()

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take over everything that a checkpoint holds except the optimizer's state."""
        saved = checkpoint.saved
        self.model.load_state_dict(saved["model_state"])
        restore_torch_states(saved["random_states"], self.device)
        self.rng.bit_generator.state = saved["random_states"]["episodes"]
        self.validation = checkpoint.validation
        self.episode = self.saved_episode = checkpoint.episode
        self.loss_sum, self.loss_count, self.seconds_before = saved["loss_sum"], saved["loss_count"], saved["seconds"]
        self.company = saved.get("dropout_stream_of_seeds", self.company)

    def save(self, optimizer_state: dict[str, Any]) -> None:
        """Write a checkpoint from which training can go on."""
        contents = checkpoint_contents(self.model, self.experiment, self.validation, self.episode, vars(self.args))
        contents["optimizer_state"] = optimizer_state
        contents["random_states"] = {**torch_states(self.device), "episodes": self.rng.bit_generator.state}
        contents["provenance"] = self.provenance
        contents["loss_sum"], contents["loss_count"] = self.loss_sum, self.loss_count
        contents["seconds"], contents["device"] = self.seconds, describe_device(self.device)
        contents["scan_files"] = [file._asdict() for file in self.files]
        contents["dropout_stream_of_seeds"] = self.company
        save_checkpoint(self.path, contents)
        self.saved_episode = self.episode

    @property
    def seconds(self) -> float:
        """Wall time spent training, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.started

    def draw(self) -> EpisodeBatch:
        """Draw the next episode; it has the mapping of no validation episode."""
        excluded = frozenset(one.mapping for one in self.validation)
        return encode(self.sampler.training_episode(self.rng, excluded), *self.vocabularies)

    @cached_property
    def encoded_validation(self) -> list[EpisodeBatch]:
        """The validation episodes as tensors, on the CPU."""
        return [encode(episode, *self.vocabularies) for episode in self.validation]

    def open_curve(self) -> Curve:
        """Begin the learning curve's file, or take over its rows."""
        return Curve(self.path.with_suffix(".csv"), [field.name for field in fields(Row)], self.episode, is_logged)

    def log_row(self, lr: float, accuracy: Accuracy) -> Row:
        """Put a line of the learning curve together.

        Raises:
            UserError: if the loss is no number any more.
        """
        loss = self.loss_sum / self.loss_count
        if not math.isfinite(loss):
            raise UserError(f"{self.path}: the loss is {loss} at episode {self.episode}; try a smaller --lr")
        return Row(
            self.episode, round(self.seconds, 2), lr, loss, accuracy.retrieval.percent, accuracy.generalize.percent
        )


def train(trainings: Sequence[Training], learner: Learner | LockStep, replaced: Iterable[Path]) -> None:
    """Train runs, one or several in lock step, to their last episode, logging and saving on the way.

    `replaced` are the networks that later runs of the command are to replace. Ctrl-C and SIGTERM wait for the end of
    the episode, and save.
    """
    args, seeds = trainings[0].args, [one.args.seed for one in trainings]
    names = [f"seed {seed}: " if len(seeds) > 1 else "" for seed in seeds]
    for one in trainings:
        one.company = list(dict.fromkeys([*one.company, *seeds]))
    curves = [one.open_curve() for one in trainings]
    episode = trainings[0].episode
    if episode == 0:
        begin_anew(lambda: save_all(trainings, learner), replaced)
    with interrupts_noticed() as is_interrupted:
        while episode < args.num_episodes and not is_interrupted():
            lr = learner.lr
            learner.step([one.draw() for one in trainings])
            episode += 1
            for one in trainings:
                one.episode, one.loss_count = episode, one.loss_count + 1
            if episode % args.lr_decay_schedule == 0:
                learner.drop_learning_rate(args.keep_moments)
            is_last = episode == args.num_episodes
            if is_logged(episode) or is_last:
                take_stock(trainings, learner)
                for one, name, curve, accuracy in zip(
                    trainings, names, curves, scores(trainings, learner), strict=True
                ):
                    row = one.log_row(lr, accuracy)
                    print(f"{name}{row.printed(args.num_episodes)}", flush=True)
                    curve.add(astuple(row))
            if is_logged(episode):  # a last line out of turn leaves the next one as if the run had been longer
                learner.loss_sums.zero_()
                for one in trainings:
                    one.loss_sum, one.loss_count = 0.0, 0
            if episode % SAVE_EVERY == 0 or is_last:
                save_all(trainings, learner)
        if trainings[0].saved_episode < episode:
            save_all(trainings, learner)


def save_all(trainings: Sequence[Training], learner: Learner | LockStep) -> None:
    """Write the checkpoints of all runs."""
    take_stock(trainings, learner)
    for number, one in enumerate(trainings):
        one.save(learner.optimizer_state(number))


def take_stock(trainings: Sequence[Training], learner: Learner | LockStep) -> None:
    """Give the runs what their learner holds of them: weights and losses.

    Raises:
        UserError: if one has diverged, before anything of any of them is written.
    """
    learner.give_weights()
    for one in trainings:
        check_finite(one.path, one.model.state_dict(), f"{DIVERGED} (episode {one.episode})")
    for one, loss_sum in zip(trainings, learner.loss_sums.tolist(), strict=True):
        one.loss_sum = loss_sum


def scores(trainings: Sequence[Training], learner: Learner | LockStep) -> list[Accuracy]:
    """Score every run on its validation episodes."""
    return learner.validate([one.encoded_validation for one in trainings], trainings[0].args.max_length_eval)


def model_config(args: argparse.Namespace, experiment: Experiment) -> ModelConfig:
    """Say what the network is made of: the experiment's sizes, and the options of the command line that are fields."""
    chosen = {field.name: getattr(args, field.name) for field in fields(ModelConfig) if hasattr(args, field.name)}
    return network_config(experiment, **chosen)


def find_earlier_run(
    args: argparse.Namespace, experiment: Experiment, device: torch.device, default_of: Callable[[str], Any]
) -> Checkpoint | None:
    """Load the checkpoint that a run goes on from, if there is one; `default_of` gives a flag's default.

    Raises:
        UserError: if the file is something else, or if it was trained with other arguments.
    """
    path = path_of(args)
    if args.overwrite or not path.exists():
        return None
    checkpoint = load_checkpoint(path, device)
    if checkpoint.is_original:
        raise UserError(f"{path} is a file of the original release, which cannot be resumed; {ANEW}")
    if "weights_only" in checkpoint.saved:
        raise UserError(f"{path} holds a network without its training, which cannot be trained further; {ANEW}")
    arguments = with_what_was_done(checkpoint.arguments)
    if arguments["keep_moments"] and not args.keep_moments:
        kept = f"{path} was trained with Adam's moments kept when the learning rate drops"
        if "keep_moments" not in checkpoint.arguments:
            kept += " (and queries padded to the longest of the language), as earlier code did"
        raise UserError(f"{kept}; pass --keep_moments to go on so, {ANEW.removeprefix('pass ')}")
    differing = differing_arguments(arguments, vars(args), {*PLACES, "num_episodes"}, default_of)
    if differing:
        raise UserError(f"{path} was trained with {differing}; {ANEW}")
    contents_of = [[file.sha256 for file in one.files or ()] for one in (checkpoint.experiment, experiment)]
    if contents_of[0] != contents_of[1]:
        raise UserError(f"{path} was trained on other contents of --train_file or --test_file; {ANEW}")
    if checkpoint.vocabularies != vocabularies_of(experiment):
        raise UserError(f"{path} has another vocabulary than {args.episode_type}; {ANEW}")
    if checkpoint.episode > args.num_episodes:
        raise UserError(
            f"{path} has {checkpoint.episode} episodes, more than --num_episodes {args.num_episodes}; {ANEW}"
        )
    return checkpoint if checkpoint.episode > 0 else None  # before its first episode a run is what its seed makes it


def experiment_of(args: argparse.Namespace) -> Experiment:
    """Find the experiment that the command line asks for.

    Raises:
        UserError: if there is none, a file of the user's own is not as expected, or right answers would be cut off.
    """
    if args.train_file is None:
        experiment = find_experiment(args.episode_type, args.extra_directions)
    else:
        experiment = find_own_experiment(args.train_file, args.test_file)
    needed = experiment.language.longest_output + 1
    if args.max_length_eval < needed:
        found = f"right answers of {experiment.name} have up to {needed} symbols, EOS included"
        raise UserError(f"--max_length_eval {args.max_length_eval}: {found}; pass --max_length_eval {needed} or more")
    return experiment


def check_files(plans: Sequence["Plan"], files: Sequence[SplitFile]) -> None:
    """Make sure that runs go on with the data with which they began; earlier code did not record them.

    Raises:
        UserError: if one would not.
    """
    now = {file.name: file.sha256 for file in files}
    for plan in plans:
        before = [] if plan.earlier is None else plan.earlier.saved.get("scan_files", [])
        for name in [one["name"] for one in before if now.get(one["name"]) != one["sha256"]]:
            advice = "point --data_dir at the one it began with, or pass --overwrite to start anew"
            raise UserError(f"{path_of(plan.args)} was trained with another content of {name}; {advice}")


class Plan(NamedTuple):
    """What to train, one seed, and the checkpoint that it goes on from."""

    args: argparse.Namespace
    earlier: Checkpoint | None

    @property
    def episode(self) -> int:
        """How far it has come."""
        return self.earlier.episode if self.earlier is not None else 0

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.episode == self.args.num_episodes)


def in_lock_step(device: torch.device) -> bool:
    """Say whether runs are trained in lock step; on a GPU a single one too, as it is several times faster so."""
    return device.type == "cuda"


def in_groups(plans: Sequence[Plan], device: torch.device) -> list[list[Plan]]:
    """Say which runs are trained together: in lock step those that have come equally far; a finished one goes alone."""
    if not in_lock_step(device):
        return [[plan] for plan in plans]
    alone = [[plan] for plan in plans if plan.is_finished]
    ordered = sorted((plan for plan in plans if not plan.is_finished), key=lambda plan: plan.episode)
    return alone + [list(group) for _, group in itertools.groupby(ordered, key=lambda plan: plan.episode)]


def set_up(
    plans: Sequence[Plan], experiment: Experiment, device: torch.device, files: Sequence[SplitFile]
) -> tuple[list[Training], Learner | LockStep]:
    """Make the runs of a group and what trains them.

    Raises:
        UserError: if a checkpoint lacks what going on takes.
    """
    trainings = [Training(plan.args, experiment, device) for plan in plans]
    for training, plan in zip(trainings, plans, strict=True):
        training.files = files
        if plan.earlier is None:
            training.validation = training.sampler.validation_episodes(training.validation_rng)
        else:
            with refused_if_damaged(training.path):
                training.go_on_from(plan.earlier)
    models, lr = [training.model for training in trainings], plans[0].args.lr
    if in_lock_step(device) and not plans[0].is_finished:
        learner: Learner | LockStep = LockStep(models, shapes_of(trainings[0].sampler), lr)
    else:
        learner = Learner(models[0], lr)
    saved = [plan.earlier.saved for plan in plans if plan.earlier is not None]  # of all or of none
    if saved:
        with refused_if_damaged(*(training.path for training in trainings)):
            learner.load_optimizer_states([one["optimizer_state"] for one in saved])
        sums = [training.loss_sum for training in trainings]
        learner.loss_sums.copy_(torch.tensor(sums, dtype=torch.float64))
    return trainings, learner


@contextmanager
def refused_if_damaged(*paths: Path) -> Iterator[None]:
    """Turn whatever an ill-formed checkpoint leads to into a line that says what to do."""
    try:
        yield
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise cannot_go_on(error, ANEW, *paths) from None


def work_on(
    plans: Sequence[Plan],
    experiment: Experiment,
    device: torch.device,
    files: Sequence[SplitFile],
    replaced: Iterable[Path] = (),
) -> None:
    """Train a group of runs, or report that there is nothing left to do; `replaced` are networks to do away with."""
    args = plans[0].args
    for plan in plans:
        print(
            f"{args.episode_type} on {describe_device(device)}, seed {plan.args.seed}, to {path_of(plan.args)}",
            flush=True,
        )
    trainings, learner = set_up(plans, experiment, device, files)
    if plans[0].is_finished:
        for one, accuracy in zip(trainings, scores(trainings, learner), strict=True):
            print(f"{one.path} is finished ({one.episode} episodes); --overwrite trains it anew")
            print(show_accuracy(accuracy.retrieval.percent, accuracy.generalize.percent))
        return
    if plans[0].episode > 0:
        print(f"going on from episode {plans[0].episode}", flush=True)
    with interruption_explained(same_command(args), "episode", lambda: trainings[-1].saved_episode):
        train(trainings, learner, replaced)


def main() -> None:
    """Train, go on, or report that there is nothing left to do."""
    parser = make_parser()
    args = parser.parse_args()
    seeds = args.seeds or [DEFAULT_SEED if args.seed is None else args.seed]
    commands = [complete(args, seed, parser) for seed in seeds]
    device = choose_device(args.gpu, args.cpu, args.threads)
    experiment = experiment_of(commands[0])
    with claimed([path_of(one) for one in commands], "pass another --fn_out_model"):
        plans = [Plan(one, find_earlier_run(one, experiment, device, parser.get_default)) for one in commands]
        unfinished = [plan for plan in plans if not plan.is_finished]
        files = scan_files(experiment, of_test=False, data_dir=args.data_dir) if unfinished else []
        for note in filter(None, (file.note for file in files)):
            print(note, flush=True)
        check_files(unfinished, files)
        groups = in_groups(plans, device)
        for number, group in enumerate(groups):
            others = [path_of(plan.args) for later in groups[1:] for plan in later]
            work_on(group, experiment, device, files, replaced=others if args.overwrite and number == 0 else [])


if __name__ == "__main__":
    run_script(main)
