"""A quarter of an hour on a GPU: is it right, how fast is it, and as much of the paper's training as there is time for.

    python -m biml.gpu --out OUT --minutes 9 --data_dir data
    python -m biml.gpu --out OUT --minutes 9 --data_dir data --more_minutes 5 --work data/biml_work

In this order:

1. checks: a few steps in float32 have the losses of the CPU, and in bfloat16 nearly;
2. bench: 200 timed steps in each setting (float32, bf16, bf16 and compiled). A setting is right if its last losses are
   within 5 % of those of float32. The fastest that is right is chosen, and as many epochs as fit into the time, at most
   the paper's 50; --more_minutes tells of a later call, which is then counted on;
3. train: the full model with the paper's batches of 25 and its learning rate, from which a later call goes on;
4. eval: accuracy on the task that people were given, and where data_human/ is in --data_dir, the log-likelihood of
   people's answers.

Success, fixed before any such training was made: at least 85 % of the few-shot queries are answered as the grammar says
(the paper's ten networks: 92.9 %, SD 8.2), and people's answers are likelier than for the grammar with lapses, -529.56
nats. Whatever comes of it, the log says how many of 50 epochs it took, in which setting.

What is printed also goes to OUT/log.txt. OUT holds what is worth keeping, in eight files of at most 15 MiB: log.txt,
plan.json (what was measured and chosen), gold.json and human.json, the learning curve, the weights, and the checkpoint
in two pieces. With these in OUT, a later call, on another machine too, goes on: `--parts train,eval`. Episodes and the
whole checkpoint are in --work; the episodes are drawn where --data_dir has none.
"""

import argparse
import json
import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biml.episode_types import load_random
from biml.training import LOG_EVERY
from common.command_line import OneLineParser, folder_path, nonnegative_float, run_script
from common.devices import choose_device, describe_device
from common.files import save_bytes, save_json, written_whole
from common.session import PACKING_SECONDS, Session, add_session_options, check_folder, logged_session

PARTS = ("checks", "bench", "train", "eval")
SETTINGS = {"float32": (), "bf16": ("--bf16",), "bf16+compile": ("--bf16", "--compile")}  # options of biml.train
EPISODE_TYPE = "algebraic+biases"
BATCH = 25  # episodes of a step, the paper's
EPOCHS = 50  # the paper's
FEWEST = 2  # epochs: the rate's rise, and one at its peak
GOLD_PERCENT, HUMAN_NATS = 85.0, -529.56  # what counts as success
CHECK_SECONDS, BENCH_SECONDS, DRAW_SECONDS = 90.0, 180.0, 120.0  # the longest that each command may take
EVAL_SECONDS = 60.0  # kept for the evaluation
START_SECONDS = 30.0  # until a training takes its first step, compiled ones at most
SPARE = 1.05  # an epoch may take so much longer than was measured
DIFFERENCE = {"float32": 0.01, "bf16": 0.05}  # of losses, relative, from those of the CPU
SIMILAR = 0.05  # difference of mean losses at the end of the bench, relative
PIECE = 15 * 2**20  # bytes
NETWORK = "net_BIML"


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    episodes: tuple[str, ...] = ()  # options of biml.generate
    network: tuple[str, ...] = ()  # of biml.train
    settings: tuple[str, ...] = tuple(SETTINGS)
    checked: int = 5  # steps, of 2 episodes
    timed: int = 200  # steps
    repetitions: int = 100  # of people's answers


TINY_EPISODES = "--primitives 2 --functions 1 --longest_input 2 --longest_output 3 --num_support 2 --num_query 2"
TINY_NETWORK = "--emb_size 16 --nlayers_encoder 1 --nlayers_decoder 1 --ff_mult 1"
SMALL = Scale(
    tuple(f"{TINY_EPISODES} --num_train 60 --num_val 20".split()),
    tuple(TINY_NETWORK.split()),
    ("bf16",),
    checked=2,
    timed=4,
    repetitions=2,
)
"""For trying the script out on a CPU: `--cpu`."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    add_session_options(parser, PARTS)
    help_text = "folder with data_algebraic/ (drawn if it is not there) and data_human/ (your own download)"
    parser.add_argument("--data_dir", type=folder_path, default=Path("data"), metavar="DIR", help=help_text)
    parser.add_argument("--work", type=folder_path, metavar="DIR", help="for what is large (default: OUT/work)")
    help_text = "of a later call, which are counted on for further epochs"
    parser.add_argument("--more_minutes", type=nonnegative_float, default=0.0, metavar="M", help=help_text)
    parser.add_argument("--cpu", action="store_true", help="try the script out, at a tiny size")
    return parser.parse_args()


class Lease:
    """One call: where everything is, and the steps of it."""

    def __init__(self, args: argparse.Namespace, session: Session) -> None:
        self.session, self.out = session, args.out.resolve()
        self.scale = SMALL if args.cpu else Scale()
        self.where = ["--cpu"] if args.cpu else ["--gpu", str(args.gpu)]
        self.work = (args.work or args.out / "work").resolve()
        self.human = args.data_dir.resolve()
        has_episodes = (self.human / "data_algebraic" / "train.npz").exists()
        self.data = self.human if has_episodes and not args.cpu else self.work / "data"
        self.more_seconds = 60 * args.more_minutes - PACKING_SECONDS
        cores = os.cpu_count() or 1
        self.workers, self.jobs, self.threads = min(8, max(cores - 2, 1)), min(16, cores), min(8, cores)

    @property
    def plan(self) -> dict[str, Any]:
        """What was measured and chosen so far."""
        path = self.out / "plan.json"
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return plan

    def add_to_plan(self, **entries: Any) -> None:
        """Write down what was measured or chosen."""
        save_json(self.out / "plan.json", {**self.plan, **entries})

    @property
    def checkpoint(self) -> Path:
        """Where training goes on from."""
        path: Path = self.work / f"{NETWORK}.tar"
        return path

    def draw(self) -> bool:
        """Draw the episodes if there are none; says whether there are some now."""
        if (self.data / "data_algebraic" / "train.npz").exists():
            return True
        where = ["--dir_out", str(self.data / "data_algebraic"), "--jobs", str(self.jobs)]
        return self.session.run(["-m", "biml.generate", *where, *self.scale.episodes], DRAW_SECONDS) is not None

    def steps(self, name: str, seconds: float, *options: str) -> dict[str, Any] | None:
        """Let biml.steps take some; returns what it measured, None if it failed."""
        path = self.work / f"steps_{name}.json"
        path.unlink(missing_ok=True)
        common = ["--episode_type", EPISODE_TYPE, "--data_dir", str(self.data), *self.scale.network]
        if self.session.run(["-m", "biml.steps", *common, "--fn_out_results", str(path), *options], seconds) is None:
            return None
        measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return measured

    def check(self) -> bool:
        """Hold some losses to those of the CPU; says whether float32 is right."""
        few = ["--dropout", "0", "--batch_size", "2", "--no_lr_warmup", "--steps", str(self.scale.checked)]
        few += ["--warm_up", "0", "--no_validation"]
        on_cpu = self.steps("cpu", CHECK_SECONDS, *few, "--cpu", "--threads", str(self.threads))
        worst: dict[str, float] = {}
        for name in ("float32", "bf16"):
            steps = self.steps(f"check_{name}", CHECK_SECONDS, *few, *self.where, *SETTINGS[name])
            if steps is not None and on_cpu is not None:
                pairs = zip(steps["losses"], on_cpu["losses"], strict=True)
                worst[name] = max(abs(here - there) / there for here, there in pairs)
                verdict = "right" if worst[name] <= DIFFERENCE[name] else "WRONG"
                self.session.say(f"{name}: losses differ from the CPU's by up to {worst[name]:.1e}: {verdict}")
        self.add_to_plan(difference_from_cpu=worst)
        return worst.get("float32", math.inf) <= DIFFERENCE["float32"]

    def bench(self) -> None:
        """Time the settings and choose one, and the number of epochs."""
        measured = {}
        for name in self.scale.settings:
            options = ["--batch_size", str(BATCH), "--workers", str(self.workers), *self.where, *SETTINGS[name]]
            steps = self.steps(name, BENCH_SECONDS, "--steps", str(self.scale.timed), *options)
            if steps is not None:
                measured[name] = steps
        self.add_to_plan(measured=measured)
        right = {name: steps for name, steps in measured.items() if is_right(steps, measured.get("float32"))}
        if right and not self.checkpoint.exists():
            setting = min(right, key=lambda name: right[name]["milliseconds"])
            self.choose(setting, right[setting])

    def choose(self, setting: str, measured: dict[str, Any]) -> None:
        """Fit the schedule into the time."""
        n_steps = math.ceil(len(load_random(self.data, "train").num_support) / BATCH)
        validations = n_steps / LOG_EVERY * measured["validation_milliseconds"]
        epoch = SPARE * (n_steps * measured["milliseconds"] + validations) / 1000
        calls = [self.session.left, *[self.more_seconds] * (self.more_seconds > 0)]
        epochs = sum(max(int((seconds - EVAL_SECONDS - START_SECONDS) / epoch), 0) for seconds in calls)
        epochs = min(max(epochs, FEWEST), EPOCHS)
        self.add_to_plan(setting=setting, epochs=epochs, epoch_seconds=epoch)
        self.session.say(f"{setting}: {epochs} of {EPOCHS} epochs, of {epoch:.1f} s each")

    def train(self) -> None:
        """Train to the end of the schedule or of the time."""
        plan = self.plan
        if "setting" not in plan:
            self.session.say("no training: no setting was found right; see above")
            return
        seconds = self.session.left - EVAL_SECONDS
        if seconds < plan["epoch_seconds"]:
            self.session.say("no time for an epoch")
            return
        command = ["-m", "biml.train", "--episode_type", EPISODE_TYPE, "--data_dir", str(self.data)]
        command += ["--batch_size", str(BATCH), "--nepochs", str(plan["epochs"]), *self.scale.network]
        command += ["--dir_model", str(self.work), "--fn_out_model", f"{NETWORK}.tar", "--save_weights"]
        command += ["--workers", str(self.workers), "--minutes", f"{(seconds - 10) / 60:.3f}"]
        self.session.run([*command, *self.where, *SETTINGS[plan["setting"]]], seconds)
        self.keep()

    def keep(self) -> None:
        """Copy what is worth keeping, the checkpoint in pieces."""
        for name in (f"{NETWORK}.csv", f"{NETWORK}_weights.tar"):
            if (self.work / name).exists():
                shutil.copyfile(self.work / name, self.out / name)
        if self.checkpoint.exists():
            contents = self.checkpoint.read_bytes()
            for old in self.pieces():
                old.unlink()
            for number, start in enumerate(range(0, len(contents), PIECE)):
                save_bytes(self.out / f"{NETWORK}.tar.{number}", contents[start : start + PIECE])

    def pieces(self) -> list[Path]:
        """Find the pieces of the checkpoint in their order: a checkpoint has fewer than ten."""
        return sorted(self.out.glob(f"{NETWORK}.tar.[0-9]"))

    def join_pieces(self) -> None:
        """Put an earlier call's checkpoint together, if it is not there whole."""
        pieces = self.pieces()
        if self.checkpoint.exists() or not pieces:
            return
        for name in (f"{NETWORK}.csv", f"{NETWORK}_weights.tar"):
            if (self.out / name).exists():
                shutil.copyfile(self.out / name, self.work / name)
        with written_whole(self.checkpoint) as file:
            for piece in pieces:
                file.write(piece.read_bytes())

    def evaluate(self) -> None:
        """Ask the trained network what people were asked, and hold it to what was fixed beforehand."""
        if not self.checkpoint.exists():
            self.session.say("nothing to evaluate: there is no network yet")
            return
        gold = self.result("gold", self.data, "--episode_type", "few_shot_gold", "--max")
        if gold is not None:
            percent = gold["max"]["novel"]
            reached = "reached" if percent >= GOLD_PERCENT else "not reached"
            self.session.say(f"few-shot queries right: {percent:.2f} % (aim {GOLD_PERCENT:g} %: {reached})")
        if not (self.human / "data_human").is_dir():
            self.session.say(f"no data_human/ in {self.human}: people's answers are left out")
            return
        likelihood = ["--ll", "--ll_nrep", str(self.scale.repetitions)]
        human = self.result("human", self.human, "--episode_type", "few_shot_human", *likelihood)
        if human is not None:
            nats = human["ll"]["total"]
            reached = "reached" if nats > HUMAN_NATS else "not reached"
            self.session.say(f"people's answers: {nats:.2f} nats (aim above {HUMAN_NATS:g}: {reached})")

    def result(self, name: str, data: Path, *options: str) -> dict[str, Any] | None:
        """Let biml.eval evaluate the network; returns what it wrote, None if it failed."""
        path = self.out / f"{name}.json"
        path.unlink(missing_ok=True)  # of a network that was trained less
        network = ["--dir_model", str(self.work), "--fn_in_model", f"{NETWORK}.tar", "--data_dir", str(data)]
        command = ["-m", "biml.eval", *network, *self.where, *options, "--fn_out_results", str(path)]
        if self.session.run(command, EVAL_SECONDS) is None:
            return None
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return scores


def is_right(measured: dict[str, Any], reference: dict[str, Any] | None) -> bool:
    """Say whether losses at the end are finite and, where there is something to hold them to, like those."""
    last = -max(len(measured["losses"]) // 4, 1)
    mean = sum(measured["losses"][last:]) / -last
    if reference is None:
        return math.isfinite(mean)
    expected = sum(reference["losses"][last:]) / -last
    return bool(abs(mean - expected) <= SIMILAR * expected)


def main() -> None:
    """Do the parts that were asked for."""
    args = parse_arguments()
    check_folder(args.out)
    device = choose_device(None if args.cpu else args.gpu, args.cpu, 1)  # refuses a GPU that is not there
    with logged_session(args) as session:
        lease = Lease(args, session)
        lease.work.mkdir(parents=True, exist_ok=True)
        lease.join_pieces()
        session.say(f"{describe_device(device)}; torch {torch.__version__}, Python {sys.version.split()[0]}")
        works = lease.draw() and ("checks" not in args.parts or lease.check())
        if works and "bench" in args.parts:
            lease.bench()
        if works and "train" in args.parts:
            lease.train()
        if "eval" in args.parts:
            lease.evaluate()


if __name__ == "__main__":
    run_script(main)
