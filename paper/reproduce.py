"""Run the paper's whole evaluation: every cell of the table with five seeds, here or on a Ray cluster.

    python -m paper.reproduce                                         all runs that have no result yet
    python -m paper.reproduce --only me,jump_perm --seeds 1,2 --jobs 2
    python -m paper.reproduce --dry_run                               print the command lines instead
    python -m paper.reproduce --only me -- --num_episodes 2000        with further flags of train.py

A run is one cell with one seed: train.py, then test.py, as processes of their own. They write to out_models/<cell>/,
and what they print goes to seed<k>.log there. The result is <results_dir>/<cell>/seed<k>.json, the learning curve the
.csv beside it. Further flags make cells of their own, such as me_num_episodes2000. Stopped at any point, the same
command goes on from the last checkpoints and repeats no finished run. Where a result was trained with another recipe
than its cell's, such as one from before Adam started anew when the learning rate drops, the run is done anew and
replaces it; train.py refuses to go on from a checkpoint of that recipe, which has to be moved away first.
"""

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from paper.board import Board
from paper.cells import CELLS, SEEDS, Cell
from paper.cluster import run_on_ray
from paper.own_cells import read_cells, varied
from paper.processes import TICK, noticed_signals, typed
from paper.runs import RESULTS, Company, Run, all_commands, companies, result_of, work_on


def parse_arguments(cells: Mapping[str, Cell]) -> argparse.Namespace:
    """Read the command line; `only` are then the cells themselves, further flags included.

    Raises:
        UserError: if a file of cells or further flags cannot be read.
    """
    parser = OneLineParser(__doc__)
    group = parser.add_argument_group("what to run")
    help_text = f"these cells: {', '.join(cells)}, or of the file (default: all)"
    group.add_argument("--only", metavar="CELL,...", help=help_text)
    group.add_argument("--seeds", type=seed_list, metavar="K,...", help="these seeds (default: 1,2,3,4,5)")
    help_text = "cells of your own in place of the paper's, a line each: `name: flags of train.py`"
    group.add_argument("--cells", type=Path, metavar="FILE", help=help_text)
    help_text = "after --: further flags of train.py for every cell, whose name then says so"
    group.add_argument("flags", nargs="*", metavar="FLAG", help=help_text)
    help_text = "where the results go, and where finished ones are looked for"
    group.add_argument("--results_dir", type=folder_path, default=str(RESULTS), metavar="DIR", help=help_text)
    group.add_argument("--dry_run", action="store_true", help="print the command lines, one run a line, and do nothing")
    group = parser.add_argument_group("on this machine", "The first GPU if there is one, else the CPU.")
    group.add_argument("--jobs", type=positive_int, metavar="N", help="runs at once, each on one thread (default: 1)")
    which = group.add_mutually_exclusive_group()
    help_text = "use GPU N for all runs; those of a cell are trained in lock step and count as one job"
    which.add_argument("--gpu", type=natural_int, metavar="N", help=help_text)
    which.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    group = parser.add_argument_group("on a Ray cluster", "Its nodes share this folder; see docs/reproducing.md.")
    group.add_argument("--ray", metavar="ADDRESS", help="send the runs there: HOST:PORT of the head node, or auto")
    group.add_argument("--cpus_per_run", type=positive_float, metavar="C", help="cores for each run (default: 1)")
    group.add_argument(
        "--gpus_per_run",
        type=positive_float,
        metavar="G",
        help="GPUs for each run; 0.25 puts four on one (default: none)",
    )
    args = parser.parse_args()
    table = read_cells(args.cells) if args.cells else cells
    try:
        names = list(table) if args.only is None else name_list("cell", args.only, table)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --only: {error}")
    args.only, args.seeds = [varied(table[name], args.flags) for name in names], args.seeds or list(SEEDS)
    for option in ("jobs", "gpu", "cpu") if args.ray else ("cpus_per_run", "gpus_per_run"):
        if not any(getattr(args, option) is unset for unset in (None, False)):
            parser.error(f"--{option} goes {'without' if args.ray else 'with'} --ray")
    return args


def select_runs(cells: Iterable[Cell], seeds: Sequence[int], results_dir: Path = RESULTS) -> list[Run]:
    """List the runs in their order: the first seed of every cell before any second one, cheap cells first."""
    runs = [Run(cell, seed, results_dir) for cell in cells for seed in seeds]
    return sorted(runs, key=lambda run: (run.seed, run.cell.cost))


def device_flags(args: argparse.Namespace) -> list[str]:
    """Options that tell train.py and test.py where to run: on one thread each, unless a cluster gives a run more."""
    if args.ray:  # a node's Ray shows a run the GPUs that it may use
        return ["--threads", str(max(1, int(args.cpus_per_run or 1))), *([] if args.gpus_per_run else ["--cpu"])]
    return ["--gpu", str(args.gpu)] if args.gpu is not None else ["--cpu"] * args.cpu


def run_here(groups: Iterable[list[Run]], jobs: int, device: Sequence[str], board: Board, folder: Path) -> None:
    """Do the runs on this machine, some groups at once."""
    waiting, active = deque(groups), list[dict[Run, Generator[str | None, None, str]]]()
    with noticed_signals() as check:
        try:
            while waiting or active:
                check()
                while waiting and len(active) < jobs:
                    group = waiting.popleft()
                    company = Company(group)
                    active.append({run: work_on(run, device, folder, company) for run in group})
                    for run in group:
                        board.begin(run)
                for works in active:
                    for run, work in list(works.items()):
                        try:
                            note = next(work)
                            if note:
                                board.say(f"{run.name} {note}")
                        except StopIteration as end:
                            del works[run]
                            board.end(run, end.value)
                active = [works for works in active if works]
                board.show()
                time.sleep(TICK)
        finally:
            if active:  # all at once, since each may take a while to save what it has
                with ThreadPoolExecutor(len(active)) as pool:
                    list(pool.map(close_all, active))


def close_all(works: Mapping[Run, Generator[str | None, None, str]]) -> None:
    """Stop the runs of a group."""
    for work in works.values():
        work.close()


def main(cells: Mapping[str, Cell] = CELLS) -> None:
    """Do, or print, what has no result yet; exits with 1 if a run failed."""
    args = parse_arguments(cells)
    folder = Path.cwd()
    selected = select_runs(args.only, args.seeds, args.results_dir)
    runs = [run for run in selected if result_of(run, folder) is None]
    status = f"{len(selected) - len(runs)} of {len(selected)} runs have a result in {args.results_dir}{os.sep}"
    print(status, file=sys.stderr if args.dry_run else sys.stdout, flush=True)
    if args.dry_run:
        for group in companies(runs, in_lock_step=args.gpu is not None):
            print(" && ".join(typed(command, folder) for command in all_commands(group, device_flags(args))))
        return
    board = Board(runs, len(selected) - len(runs), folder)
    if args.ray and runs:
        run_on_ray(runs, args, device_flags(args), board, folder)
    elif runs:
        groups = companies(runs, in_lock_step=args.gpu is not None)
        run_here(groups, args.jobs or 1, device_flags(args), board, folder)
    print(board.summary())
    if board.failed:
        sys.exit(1)


if __name__ == "__main__":
    run_script(main)
