"""Run the paper's whole evaluation: every cell of the table with five seeds, here or on a Ray cluster.

    python -m paper.reproduce                                         all runs that have no result yet
    python -m paper.reproduce --only me,jump_perm --seeds 1,2 --jobs 2
    python -m paper.reproduce --dry_run                               print the command lines instead
    python -m paper.reproduce --only me -- --num_episodes 2000        with further flags of train.py

A run is one cell with one seed: train.py, then test.py, as processes of their own. They write to out_models/<cell>/,
and what they print goes to seed<k>.log there. The result is <results_dir>/<cell>/seed<k>.json, the learning curve the
.csv beside it. Further flags make cells of their own, such as me_num_episodes2000. Stopped at any point, the same
command resumes from the last checkpoints and repeats no finished run. A result that was trained with another recipe
than its cell's is replaced; a checkpoint of another recipe stops its run, and has to be moved away first.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from common.command_line import (
    OneLineParser,
    folder_path,
    name_list,
    natural_int,
    positive_float,
    positive_int,
    run_script,
    seed_list,
)
from common.run_loop import signals_handled
from paper.cells import CELLS, SEEDS, Cell, read_cells, varied
from paper.cluster import run_on_ray
from paper.progress import Progress
from paper.runs import RESULTS, TICK, Run, result_of, typed, work_on


def parse_arguments(cells: Mapping[str, Cell]) -> argparse.Namespace:
    """Read the command line; `only` are then the cells themselves, further flags included.

    Raises:
        UserError: if a file of cells or further flags cannot be read.
    """
    parser = OneLineParser(__doc__)
    add = parser.add_argument_group("what to run").add_argument
    add("--only", metavar="CELL,...", help=f"these cells: {', '.join(cells)}, or of the file (default: all)")
    add("--seeds", type=seed_list, metavar="K,...", help="these seeds (default: 1,2,3,4,5)")
    help_text = "cells of your own in place of the paper's, a line each: `name: flags of train.py`"
    add("--cells", type=Path, metavar="FILE", help=help_text)
    help_text = "after --: further flags of train.py for every cell, whose name then says so"
    add("flags", nargs="*", metavar="FLAG", help=help_text)
    help_text = "where the results go, and where finished ones are looked for"
    add("--results_dir", type=folder_path, default=str(RESULTS), metavar="DIR", help=help_text)
    add("--dry_run", action="store_true", help="print the command lines, one run a line, and do nothing")
    group = parser.add_argument_group("on this machine", "The first GPU if there is one, else the CPU.")
    group.add_argument("--jobs", type=positive_int, metavar="N", help="runs at once, each on one thread (default: 1)")
    which = group.add_mutually_exclusive_group()
    help_text = "use GPU N for all runs; those of a cell are trained in lock step and count as one job"
    which.add_argument("--gpu", type=natural_int, metavar="N", help=help_text)
    which.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    group = parser.add_argument_group("on a Ray cluster", "Its nodes share this folder; see docs/reproducing.md.")
    add = group.add_argument
    add("--ray", metavar="ADDRESS", help="send the runs there: HOST:PORT of the head node, or auto")
    add("--cpus_per_run", type=positive_float, metavar="C", help="cores for each run (default: 1)")
    help_text = "GPUs for each run; 0.25 puts four on one (default: none)"
    add("--gpus_per_run", type=positive_float, metavar="G", help=help_text)
    args = parser.parse_args()
    table = read_cells(args.cells) if args.cells else cells
    try:
        names = list(table) if args.only is None else name_list("cell", args.only, table)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --only: {error}")
    args.only, args.seeds = [varied(table[name], shlex.join(args.flags)) for name in names], args.seeds or list(SEEDS)
    for option in ("jobs", "gpu", "cpu") if args.ray else ("cpus_per_run", "gpus_per_run"):
        if not any(getattr(args, option) is unset for unset in (None, False)):
            parser.error(f"--{option} goes {'without' if args.ray else 'with'} --ray")
    return args


def select_runs(cells: Iterable[Cell], seeds: Sequence[int], results_dir: Path = RESULTS) -> list[Run]:
    """List the runs in their order: the first seed of every cell before any second one, cheap cells first."""
    runs = [Run(cell, seed, results_dir) for cell in cells for seed in seeds]
    return sorted(runs, key=lambda run: (run.seed, run.cell.cost))


def grouped(runs: Sequence[Run], in_lock_step: bool) -> list[list[Run]]:
    """Say which runs one process trains: each its own or, in lock step, all of a cell; the first one's place counts."""
    if not in_lock_step:
        return [[run] for run in runs]
    return [[run for run in runs if run.cell == cell] for cell in dict.fromkeys(run.cell for run in runs)]


def device_flags(args: argparse.Namespace) -> list[str]:
    """Options that tell train.py and test.py where to run: on one thread each, unless a cluster gives a run more."""
    if args.ray:  # a node's Ray shows a run the GPUs that it may use
        return ["--threads", str(max(1, int(args.cpus_per_run or 1))), *([] if args.gpus_per_run else ["--cpu"])]
    return ["--gpu", str(args.gpu)] if args.gpu is not None else ["--cpu"] * args.cpu


class Stop:
    """Whether everything is to stop: a signal says so, and each thread ends the process that it has started."""

    is_wanted = False

    def __call__(self, *_: object) -> None:
        """Handle a signal."""
        self.is_wanted = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if everything is to stop."""
        if self.is_wanted:
            raise KeyboardInterrupt("interrupted; the same command resumes from the last checkpoints")


def run_here(
    groups: Sequence[list[Run]], jobs: int, device: Sequence[str], progress: Progress, folder: Path, stop: Stop
) -> None:
    """Do the runs on this machine, some groups at once, each in a thread that waits for its processes."""

    def work(group: list[Run]) -> None:
        for run in group:
            progress.begin(run)
        for run, error in work_on(group, device, folder, stop.check, progress.say).items():
            progress.end(run, error)

    with ThreadPoolExecutor(jobs) as pool:
        left = {pool.submit(work, group) for group in groups}
        try:
            while left:
                done, left = wait(left, TICK, FIRST_COMPLETED)
                stop.check()
                for one in done:
                    one.result()  # raises what is a bug of ours
                progress.show()
        finally:
            stop()  # whatever ends this one ends the others
            pool.shutdown(cancel_futures=True)


def main(cells: Mapping[str, Cell] = CELLS) -> None:
    """Do, or print, what has no result yet; exits with 1 if a run failed."""
    args = parse_arguments(cells)
    folder, device = Path.cwd(), device_flags(args)
    selected = select_runs(args.only, args.seeds, args.results_dir)
    runs = [run for run in selected if result_of(run, folder) is None]
    status = f"{len(selected) - len(runs)} of {len(selected)} runs have a result in {args.results_dir}{os.sep}"
    print(status, file=sys.stderr if args.dry_run else sys.stdout, flush=True)
    groups = grouped(runs, in_lock_step=args.gpu is not None)
    if args.dry_run:
        print("".join(f"{typed(group, device, folder)}\n" for group in groups), end="")
        return
    progress, stop = Progress(runs, len(selected) - len(runs), folder), Stop()
    with signals_handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop):
        if args.ray and runs:
            run_on_ray(runs, args, device, progress, folder, stop.check)
        elif runs:
            run_here(groups, args.jobs or 1, device, progress, folder, stop)
    print("".join(f"failed {run.name}: {error}\n" for run, error in progress.errors.items()) + progress.counts())
    if progress.errors:
        sys.exit(1)


if __name__ == "__main__":
    run_script(main)
