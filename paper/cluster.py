"""Runs on a Ray cluster. Ray itself is imported only here, and only when it is asked for."""

import argparse
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from common.errors import UserError
from paper.board import Board
from paper.processes import PATIENCE, TICK, noticed_signals
from paper.run_logs import log_size
from paper.runs import Run, finish, result_of, write_error

NODE_DEATHS = 10  # that a run survives on a cluster


@contextmanager
def joined_cluster(address: str, folder: Path) -> Iterator[Any]:
    """Be the driver of a Ray cluster; gives the package. What Ray prints meanwhile goes to out_models/ray.log.

    Raises:
        UserError: if Ray is not installed, or if there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray; install it with `pip install -r requirements-cluster.txt`") from None
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        raise UserError(f"--ray {address}: cannot join a cluster there: {error}; `ray start` starts one") from None
    notes = folder / "out_models" / "ray.log"
    notes.parent.mkdir(parents=True, exist_ok=True)
    with notes.open("a", buffering=1, encoding="utf-8") as file, redirect_stdout(file):
        try:
            yield ray
        finally:
            ray.shutdown()


def run_on_ray(
    runs: Sequence[Run], args: argparse.Namespace, device: Sequence[str], board: Board, folder: Path
) -> None:
    """Send the runs to a Ray cluster whose nodes share the folder; a run whose node dies goes on at another one."""
    with joined_cluster(args.ray, folder) as ray, noticed_signals() as check:
        there = ray.cluster_resources()
        board.say(f"{len(runs)} runs for {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs")
        demand = {"num_cpus": args.cpus_per_run or 1.0, "num_gpus": args.gpus_per_run or 0.0}
        task = ray.remote(**demand, max_retries=NODE_DEATHS)(finish)
        sizes = {run: log_size(folder / run.log) for run in runs}
        tasks = {task.options(name=run.name).remote(run, device, folder): run for run in runs}
        try:
            while tasks:
                check()
                for done in ray.wait(list(tasks), timeout=TICK)[0]:
                    run = tasks.pop(done)
                    board.end(run, outcome(ray, done, run, folder))
                for run in board.waiting[:]:
                    if log_size(folder / run.log) > sizes[run]:
                        board.begin(run)
                board.show()
        finally:
            for task in tasks:
                ray.cancel(task)  # its node stops the process
            if tasks:
                ray.wait(list(tasks), num_returns=len(tasks), timeout=PATIENCE)


def outcome(ray: Any, done: Any, run: Run, folder: Path) -> str:
    """Say what went wrong with a run that is over: what its node says, or what became of the node."""
    try:
        return str(ray.get(done))
    except ray.exceptions.RayError as error:
        return "" if result_of(run, folder) else write_error(run, f"{type(error).__name__}: {error}", folder)
