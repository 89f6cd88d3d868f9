"""A quarter of an hour on a GPU: is it right, how fast is it, and as much of the grid as there is time for.

    python -m tools.gpu --out OUT --minutes 9
    python -m tools.gpu --out OUT --minutes 9 --parts grid --jobs 6 --missing

In this order, in the folder OUT:

1. checks: the tests that need a GPU (they hold losses, gradients, weights and answers to those of the CPU, and steps
   replayed from a CUDA graph to steps taken one by one), and train.py --seeds with a stop on the way, and test.py;
2. bench: milliseconds of an eager step and of the plain version (bench_eager.json), and of the lock step
   (bench_lock_step.json);
3. grid: every cell with five seeds, the dearest cell first, until the time is over. A cell is begun only if it can end
   in time, as far as the finished ones tell. --jobs 6 trains six cells at once, with NVIDIA's multi-process service
   (MPS) if it is there, without which they would take turns. --missing leaves out what has a result in results/. After
   each cell results/ and the lists of wrong answers in out_models/ are packed into results.tar.gz. Networks of a few
   cells are kept without their training.

OUT must be new or empty, or be that of an earlier call, whose grid then goes on: cells that were cut off resume from
their checkpoints.

What is printed also goes to OUT/log.txt. A part that fails is reported, and the next one begins; without a network that
train.py and test.py could handle there is no grid. What is worth keeping lies in OUT itself: log.txt, the JSON files,
results.tar.gz and the networks. Where there is no git, --commit says which code this is.
"""

import argparse
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from common.command_line import OneLineParser, positive_int, run_script
from common.devices import choose_device
from common.files import written_whole
from common.session import HERE, PACKING_SECONDS, PATIENCE, Session, add_session_options, check_folder, logged_session
from paper.cells import CELLS, SEEDS, Cell

PARTS = ("checks", "bench", "grid")
SHIPPED = ("me", "jump_perm", "around_right")  # cells of which a network is kept
BENCHED = ("ME", "scan_prim_permutation", "scan_length", "standard_addprim_jump")
CHECK_SECONDS, BENCH_SECONDS = 60.0, 60.0  # the longest that each command may take
SHORT = 30.0  # seconds: a cell that took less had little left to do
MPS_CONTROL = "nvidia-cuda-mps-control"
MPS_FOLDER = "/usr/local/nvidia/bin"  # where containers have the driver's programs


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    add_session_options(parser, PARTS)
    parser.add_argument("--jobs", type=positive_int, default=1, metavar="N", help="cells at a time")
    parser.add_argument("--missing", action="store_true", help="only runs that have no result in results/")
    return parser.parse_args()


def check(session: Session) -> bool:
    """Run the tests that need a GPU, and the scripts; says whether these work."""
    tests = [str(HERE / "tests" / f"test_{name}.py") for name in ("devices", "lockstep", "nonstationary_training")]
    options = ["-m", "gpu", "--tb=short", "-v", "-p", "no:cacheprovider"]
    session.run(["-m", "pytest", *options, *tests], CHECK_SECONDS)
    where = ["--gpu", session.gpu, "--dir_model", "checks"]
    train = [str(HERE / "train.py"), *where, "--seeds", "1,2", "--fn_out_model", "net{seed}.tar", "--num_episodes"]
    commands = [
        [*train, "20", "--overwrite"],
        [*train, "40"],
        [str(HERE / "test.py"), *where, "--fn_in_model", "net2.tar"],
    ]
    return all(session.run(command, CHECK_SECONDS) is not None for command in commands)


def bench(session: Session) -> None:
    """Measure the eager step, the plain version and the lock step."""
    common = ["-m", "tools.bench", "--gpu", session.gpu]
    some = [*common, "--episode_types", *BENCHED]
    session.run([*some, "--repeats", "3", "--out", "bench_eager.json"], BENCH_SECONDS)
    lock_step = ["--repeats", "10", "--lock_step", "1,5,10", "--out", "bench_lock_step.json"]
    session.run([*some, *lock_step], BENCH_SECONDS)
    session.run([*common, "--episode_types", "ME", "--repeats", "10", "--lock_step", "50"], BENCH_SECONDS)


def train_grid(session: Session, jobs: int) -> None:
    """Train and score the cells, the dearest first, some at a time."""
    session.run([str(HERE / "scan_util.py"), "--data_dir", "data"], 60)
    waiting = iter(sorted(CELLS.values(), key=lambda cell: -cell.cost))
    lock = threading.Lock()
    rates: list[float] = []  # seconds that the finished cells took for a cost of 1

    def work() -> None:
        while session.left > 0:
            with lock:
                cell = next(waiting, None)
                if cell is None:
                    return
                if max(rates, default=0.0) * gpu_cost(cell) > session.left:
                    session.say(f"no time for {cell.name}")
                    continue
            command = ["-m", "paper.reproduce", "--gpu", session.gpu, "--only", cell.name]
            command += ["--results_dir", "results"]
            took = session.run([*command, "--seeds", ",".join(map(str, SEEDS))], session.left)
            with lock:
                pack_results(session.out)
                if took is not None and took > SHORT:
                    rates.append(took / gpu_cost(cell))

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def gpu_cost(cell: Cell) -> float:
    """Say what a cell costs on a GPU, relative to jump_perm: long sequences cost, large batches do not."""
    return min(cell.cost, 1.0)


def copy_results(out: Path) -> None:
    """Let the grid find the results that there are; those of an earlier call in the same folder stay as they are."""
    for cell in CELLS:
        for source in sorted((HERE / "results" / cell).glob("*")):
            target = out / "results" / cell / source.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


@contextlib.contextmanager
def multi_process_service(session: Session) -> Iterator[None]:
    """Run NVIDIA's service that lets processes share the card at the same moment, if it is there and works."""
    control = shutil.which(MPS_CONTROL, path=os.pathsep.join([os.environ.get("PATH", ""), MPS_FOLDER]))
    if control is None:
        session.say(f"cells take turns on the card: there is no {MPS_CONTROL}")
        yield
        return
    folder = session.out.resolve() / "mps"
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
            os.environ[name] = str(folder)
            stack.callback(os.environ.pop, name)
        try:
            subprocess.run([control, "-d"], timeout=PATIENCE, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            session.say(f"cells take turns on the card: MPS does not start ({error})")
            stack.close()
        else:
            stack.callback(subprocess.run, [control], input=b"quit\n", timeout=PATIENCE, check=False)
            if session.run(["-c", "import torch; torch.ones(1, device='cuda')"], CHECK_SECONDS) is None:
                session.say("cells take turns on the card: MPS does not work")
                stack.close()
        yield


def pack_results(out: Path) -> None:
    """Put the results that there are into one file, with what test.py wrote, which lists the wrong answers."""
    patterns = "results/*/*.json", "results/*/*.csv", "out_models/*/res_test_*.json"
    paths = sorted(itertools.chain.from_iterable(map(out.glob, patterns)))
    with written_whole(out / "results.tar.gz") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path in paths:
            archive.add(path, path.relative_to(out))


def keep_networks(session: Session) -> None:
    """Keep a network of a few cells."""
    session.deadline += PACKING_SECONDS  # they were kept for this
    for cell in SHIPPED:
        if (session.out / "results" / cell / "seed1.json").exists() and (
            session.out / "out_models" / cell / "net_seed1.tar"
        ).exists():
            command = ["-m", "tools.export", "--gpu", session.gpu, "--dir_model", f"out_models/{cell}"]
            session.run([*command, "--fn_in_model", "net_seed1.tar", "--out", f"net_{cell}_seed1.tar"], session.left)


def main() -> None:
    """Do the parts that were asked for."""
    args = parse_arguments()
    check_folder(args.out)
    choose_device(args.gpu, False, 1)  # refuses a GPU that is not there
    with logged_session(args) as session:
        card = torch.cuda.get_device_name(args.gpu)
        session.say(f"GPU {args.gpu}: {card}; torch {torch.__version__}, Python {sys.version.split()[0]}")
        works = check(session) if "checks" in args.parts else True
        if "bench" in args.parts:
            bench(session)
        if "grid" in args.parts and works:
            if args.missing:
                copy_results(args.out)
            with multi_process_service(session) if args.jobs > 1 else contextlib.nullcontext():
                train_grid(session, args.jobs)
            keep_networks(session)


if __name__ == "__main__":
    run_script(main)
