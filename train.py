"""Meta-train a network on one type of episode; stop and resume at any time.

    python train.py --episode_type scan_prim_permutation

writes <dir_model>/net_<episode_type>.tar, with the arguments that are not the defaults in its name, and beside it the
learning curve as .csv. Every run is determined by its arguments: interrupted and started again it ends with the very
weights of an uninterrupted run (same machine, CPU). With --seeds a GPU trains several networks in lock step; dropout
then depends on all of the seeds.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from checkpoint import PLACES, checkpoint_contents, network_config, save_checkpoint
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
from common.run_loop import TrainingRun, add_overwrite, claimed, refused_if_damaged, same_command
from earlier_runs import Plan, check_files, find_earlier_run, in_groups, path_of, trains_in_lock_step
from episode_batch import encode, vocabularies_of
from evaluate import Accuracy, evaluate_episodes
from generate_episode import (
    EXPERIMENTS,
    EXTRA_DIRECTIONS,
    OWN_FILES,
    EpisodeSampler,
    Experiment,
    find_experiment,
    find_own_experiment,
    scan_files,
)
from lockstep.lock_step import LockStep, shapes_of
from model import MetaSeq2Seq, ModelConfig, make_network
from scan_util import SplitFile, add_data_folder
from training_step import Learner, learning_rate

LOG_EVERY = 100  # episodes; also after the first and the last
SAVE_EVERY = 1000  # episodes


@dataclass(frozen=True)
class Arguments:
    """What a command asks for with one seed; the names are those of the flags, and so are the defaults."""

    episode_type: str = "ME"
    train_file: Path | None = None
    test_file: Path | None = None
    num_episodes: int = 10000
    lr: float = 0.001
    lr_decay_schedule: int = 5000
    keep_moments: bool = False
    disable_recon_loss: bool = False
    extra_directions: int | None = None
    max_length_eval: int = 50
    seed: int = 1
    emb_size: int = ModelConfig.emb_size
    nlayers: int = ModelConfig.nlayers
    dropout: float = ModelConfig.dropout
    disable_memory: bool = False
    disable_attention: bool = False
    mask_padding: bool = False
    dir_model: Path = Path("out_models")
    fn_out_model: str = ""
    data_dir: Path = Path("data")
    overwrite: bool = False
    gpu: int | None = None
    cpu: bool = False
    threads: int = 1


@dataclass
class Row:
    """A line of the learning curve; losses in nats per symbol, accuracies in percent or None."""

    episode: int
    seconds: float
    lr: float
    train_loss: float
    retrieval: float | None
    generalize: float | None


class Run:
    """One seed's network, its random stream of training episodes, and its validation episodes."""

    def __init__(self, plan: Plan, experiment: Experiment, sampler: EpisodeSampler, device: torch.device) -> None:
        """Start from the seed, or from an earlier run's checkpoint; torch's stream is for weights and dropout."""
        self.args, self.path = plan.args, plan.path
        self.rng, validation = (np.random.default_rng(one) for one in np.random.SeedSequence(plan.args.seed).spawn(2))
        if plan.earlier is None:
            torch.manual_seed(plan.args.seed)
            self.network = make_network(model_config(plan.args, experiment)).to(device)
            self.validation = sampler.validation_episodes(validation)
        else:
            self.network, self.validation = plan.earlier.model, plan.earlier.validation
        self.mappings = frozenset(episode.mapping for episode in self.validation)
        self.encoded_validation = [encode(episode, *vocabularies_of(experiment)) for episode in self.validation]
        self.dropout_seeds: list[int] = []  # of the runs that have drawn dropout from one stream with this one

    def resume(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Take over the random streams that a checkpoint holds."""
        restore_torch_states(saved["random_states"], device)
        self.rng.bit_generator.state = saved["random_states"]["episodes"]
        self.dropout_seeds = list(saved["dropout_stream_of_seeds"])


class Training(TrainingRun):
    """The runs of a group, trained to their last episode: one on a CPU, on a GPU all of its seeds in lock step."""

    unit = "episode"

    def __init__(
        self, plans: Sequence[Plan], experiment: Experiment, device: torch.device, files: Sequence[SplitFile]
    ) -> None:
        """Start from the seeds, or resume from the checkpoints, which are equally far.

        Raises:
            UserError: if a checkpoint lacks what resuming takes.
        """
        self.args, self.experiment, self.files = plans[0].args, experiment, files
        super().__init__([plan.path for plan in plans], Row, self.args.num_episodes, device, same_command(self.args))
        self.sampler = EpisodeSampler(experiment, self.args.data_dir, support_loss=not self.args.disable_recon_loss)
        self.runs = [Run(plan, experiment, self.sampler, device) for plan in plans]
        self.learner: Learner | LockStep
        if trains_in_lock_step(device):
            self.learner = LockStep(self.networks, shapes_of(self.sampler), self.args.lr)
        else:
            self.learner = Learner(self.networks[0], self.args.lr)
        self.loss_sums = self.learner.loss_sums  # a learner adds to them in each step
        saved = [plan.earlier.saved for plan in plans if plan.earlier is not None]  # all of the plans have one, or none
        with refused_if_damaged(*self.paths) if saved else nullcontext():
            for run, one in zip(self.runs, saved, strict=False):
                run.resume(one, device)
            if saved:
                self.resume(plans[0].episode, saved)
                self.learner.load_adam_states([one["adam_state"] for one in saved])
        for run in self.runs:
            run.dropout_seeds = list(dict.fromkeys([*run.dropout_seeds, *(other.args.seed for other in self.runs)]))

    @property
    def networks(self) -> list[MetaSeq2Seq]:
        """The networks, one a seed."""
        return [run.network for run in self.runs]

    def step(self) -> None:
        """Draw an episode for each run, with the mapping of none of its validation episodes, and learn from it."""
        args, vocabularies = self.args, vocabularies_of(self.experiment)
        episodes = [self.sampler.training_episode(run.rng, run.mappings) for run in self.runs]
        self.lr = learning_rate(args.lr, args.lr_decay_schedule, self.done)
        self.learner.step([encode(episode, *vocabularies) for episode in episodes], self.lr)
        if (self.done + 1) % args.lr_decay_schedule == 0 and not args.keep_moments:
            self.learner.restart_adam()

    def rows(self) -> list[Row]:
        """Validate, and put a line of each learning curve together."""
        found = zip(self.mean_losses(), self.accuracies(), strict=True)
        return [
            Row(
                self.done,
                round(self.seconds_of(run), 2),
                self.lr,
                loss,
                score.retrieval.percent,
                score.generalize.percent,
            )
            for run, (loss, score) in enumerate(found)
        ]

    def accuracies(self) -> list[Accuracy]:
        """Score every run on its validation episodes."""
        episodes = [run.encoded_validation for run in self.runs]
        if isinstance(self.learner, LockStep):
            return self.learner.validate(episodes, self.args.max_length_eval)
        batches = [batch.to(self.device) for batch in episodes[0]]
        return [evaluate_episodes(self.networks[0], batches, self.args.max_length_eval)]

    def shown(self, run: int, row: Row) -> str:
        """Write a line for people, in the original release's form."""
        name = f"seed {self.runs[run].args.seed}: " if len(self.runs) > 1 else ""
        left = "?" if self.seconds_left is None else minutes(self.seconds_left)
        done = f"({row.episode} {100 * row.episode // self.total}% finished)"
        scores = show_accuracy(row.retrieval, row.generalize)
        return f"{name}{minutes(row.seconds)} (- {left}) {done} TrainLoss: {row.train_loss:.4f}, {scores}"

    def is_logged(self, step: int) -> bool:
        """Say whether a line is due."""
        return step == 1 or step % LOG_EVERY == 0

    def is_saved(self, step: int) -> bool:
        """Say whether a checkpoint is due."""
        return step % SAVE_EVERY == 0

    def save(self) -> None:
        """Write a checkpoint of each run, from which training can resume."""
        for number, (run, adam_state) in enumerate(zip(self.runs, self.learner.adam_states(), strict=True)):
            contents = checkpoint_contents(run.network, self.experiment, run.validation, self.done, asdict(run.args))
            contents["model_state"] = {name: weight.clone() for name, weight in contents["model_state"].items()}
            contents["adam_state"] = adam_state
            contents["random_states"] = {**torch_states(self.device), "episodes": run.rng.bit_generator.state}
            contents["scan_files"] = [file._asdict() for file in self.files]
            contents["dropout_stream_of_seeds"] = run.dropout_seeds
            save_checkpoint(run.path, {**contents, **self.progress(number)})


def show_accuracy(retrieval: float | None, generalize: float | None) -> str:
    """Write the validation accuracies as the log lines have them."""
    shown = ["n/a" if percent is None else f"{percent:.1f}" for percent in (retrieval, generalize)]
    return f"ValAccRetrieval: {shown[0]}, ValAccGeneralize: {shown[1]}"


def minutes(seconds: float) -> str:
    """Write a duration as minutes and seconds."""
    return f"{int(seconds) // 60}m {int(seconds) % 60}s"


def model_config(args: Arguments, experiment: Experiment) -> ModelConfig:
    """Say what the network is made of: the experiment's sizes, and the arguments that are fields."""
    chosen = {field.name: getattr(args, field.name) for field in fields(ModelConfig) if hasattr(args, field.name)}
    return network_config(experiment, **chosen)


def experiment_of(args: Arguments) -> Experiment:
    """Find the experiment that the command asks for.

    Raises:
        UserError: if there is none, a file of the user's own is not as expected, or right answers would be cut off.
    """
    if args.train_file is None or args.test_file is None:
        experiment = find_experiment(args.episode_type, args.extra_directions)
    else:
        experiment = find_own_experiment(args.train_file, args.test_file)
    needed = experiment.language.longest_output + 1
    if args.max_length_eval < needed:
        found = f"right answers of {experiment.name} have up to {needed} symbols, EOS included"
        raise UserError(f"--max_length_eval {args.max_length_eval}: {found}; pass --max_length_eval {needed} or more")
    return experiment


def main() -> None:
    """Train, resume, or report that there is nothing left to do."""
    parser = make_parser()
    args = parser.parse_args()
    commands = [complete(args, seed, parser) for seed in args.seeds or [args.seed]]
    device = choose_device(args.gpu, args.cpu, args.threads)
    experiment = experiment_of(commands[0])
    with claimed([path_of(one) for one in commands], "pass another --fn_out_model"):
        plans = [Plan(one, find_earlier_run(one, experiment, device)) for one in commands]
        for plan in plans:
            if plan.is_finished:
                report_finished(plan)
        unfinished = [plan for plan in plans if not plan.is_finished]
        files = scan_files(experiment, of_test=False, data_dir=args.data_dir) if unfinished else []
        for note in filter(None, (file.note for file in files)):
            print(note, flush=True)
        check_files(unfinished, files)
        groups = in_groups(unfinished, device)
        for number, group in enumerate(groups):
            for plan in group:
                about = f"{plan.args.episode_type} on {describe_device(device)}, seed {plan.args.seed}"
                print(f"{about}, to {plan.path}", flush=True)
            # with --overwrite no network of an earlier command may be taken for one of this command's later runs
            later = [plan.path for others in groups[1:] for plan in others] if args.overwrite and number == 0 else []
            Training(group, experiment, device, files).run(replaced=later)


def report_finished(plan: Plan) -> None:
    """Say that there is nothing left to do, and how the network does on its validation episodes."""
    assert plan.earlier is not None
    batches = [
        encode(episode, *plan.earlier.vocabularies).to(plan.earlier.device) for episode in plan.earlier.validation
    ]
    accuracy = evaluate_episodes(plan.earlier.model, batches, plan.args.max_length_eval)
    print(f"{plan.path} is finished ({plan.episode} episodes); --overwrite trains it anew")
    print(show_accuracy(accuracy.retrieval.percent, accuracy.generalize.percent))


def complete(args: argparse.Namespace, seed: int | None, parser: OneLineParser) -> Arguments:
    """Give the arguments of one seed's run, with all that follows from them filled in."""
    asked = {field.name: getattr(args, field.name) for field in fields(Arguments)}
    given = Arguments(**{name: value for name, value in {**asked, "seed": seed}.items() if value is not None})
    implied: dict[str, Any] = {"episode_type": kind_of_episode(args, parser)}
    if implied["episode_type"] == "scan_around_right":
        implied["extra_directions"] = EXTRA_DIRECTIONS
    if given.train_file is not None or EXPERIMENTS[implied["episode_type"]].is_standard:
        implied["disable_memory"] = True
        if given.disable_recon_loss:
            parser.error(f"--disable_recon_loss: {implied['episode_type']} has no support items to ask for")
    usual = replace(Arguments(), **implied)
    open_ones = {name: value for name, value in implied.items() if asked[name] is None or asked[name] is False}
    given = replace(given, **open_ones)  # 0 is a value
    if not given.fn_out_model:
        given = replace(given, fn_out_model=default_name(given, usual))
    elif args.seeds and "{seed}" not in given.fn_out_model:
        parser.error("--fn_out_model: with --seeds each network needs a name of its own, such as net_seed{seed}.tar")
    return replace(given, fn_out_model=given.fn_out_model.replace("{seed}", str(given.seed)))


def kind_of_episode(args: argparse.Namespace, parser: OneLineParser) -> str:
    """Say what the episodes are: of the type that is asked for, or of files of the user's own."""
    if args.train_file is None and args.test_file is None:
        return str(args.episode_type or Arguments.episode_type)
    if args.train_file is None or args.test_file is None:
        parser.error("--train_file and --test_file go together")
    for name in ("episode_type", "extra_directions"):
        if getattr(args, name) is not None:
            parser.error(f"--{name} does not go with --train_file: files are trained on as standard seq2seq")
    return OWN_FILES


def default_name(given: Arguments, usual: Arguments) -> str:
    """Name a checkpoint by what tells its run from the usual one; more episodes extend a run, and do not count."""
    left_out = {"episode_type", "num_episodes", *PLACES}
    different = {
        name: value for name, value in vars(given).items() if name not in left_out and value != getattr(usual, name)
    }
    of_file = [] if given.train_file is None else [given.train_file.stem]
    told = [name if value is True else f"{name}{value}" for name, value in different.items()]
    return "_".join(["net", given.episode_type, *of_file, *told]) + ".tar"


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


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what an episode is and how to learn from it."""
    group = parser.add_argument_group("training")
    add, usual = group.add_argument, Arguments
    help_text = f"what the episodes are: {', '.join(EXPERIMENTS)} (default: {usual.episode_type})"
    add("--episode_type", choices=list(EXPERIMENTS), metavar="TYPE", help=help_text)
    help_text = "instead of a type: a file of your own to train on, with lines 'IN: <words> OUT: <words>'"
    help_text += ", as standard seq2seq: meanings stay, no support set"
    add("--train_file", type=Path, metavar="FILE", help=help_text)
    add("--test_file", type=Path, metavar="FILE", help="goes with --train_file: what test.py scores the network on")
    help_text = "episodes, one gradient step each"
    add("--num_episodes", type=positive_int, default=usual.num_episodes, metavar="N", help=help_text)
    add("--lr", type=positive_float, default=usual.lr, help="Adam's learning rate")
    help_text = "every N episodes multiply the learning rate by 0.1 and start Adam anew"
    add("--lr_decay_schedule", type=positive_int, default=usual.lr_decay_schedule, metavar="N", help=help_text)
    help_text = "keep Adam's moments when the learning rate drops (the original release does not)"
    add("--keep_moments", action="store_true", help=help_text)
    add("--disable_recon_loss", action="store_true", help="do not also ask for the support items (no support loss)")
    help_text = f"scan_around_right only: further directions (default: {EXTRA_DIRECTIONS})"
    add("--extra_directions", type=natural_int, metavar="N", help=help_text)
    help_text = "symbols after which an answer is cut off"
    add("--max_length_eval", type=positive_int, default=usual.max_length_eval, metavar="N", help=help_text)
    which = group.add_mutually_exclusive_group()
    help_text = f"of weights, dropout and episodes (default: {usual.seed})"
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


if __name__ == "__main__":
    run_script(main)
