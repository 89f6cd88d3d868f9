"""Runs on a Ray cluster. Ray itself is imported only here, and only when it is asked for."""

import argparse
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from common.errors import UserError
from paper.progress import Progress
from paper.runs import TICK, Check, Run, result_of, work_on, write_error

NODE_DEATHS = 10  # that a run survives on a cluster
PATIENCE = 10.0  # seconds that an address and a node get to answer


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
    runs: Sequence[Run], args: argparse.Namespace, device: Sequence[str], progress: Progress, folder: Path, check: Check
) -> None:
    """Send the runs to a Ray cluster whose nodes share the folder; a run whose node dies resumes on another one."""
    with joined_cluster(args.ray, folder) as ray:
        there = ray.cluster_resources()
        progress.say(f"{len(runs)} runs for {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs")
        demand = {"num_cpus": args.cpus_per_run or 1.0, "num_gpus": args.gpus_per_run or 0.0}
        task = ray.remote(**demand, max_retries=NODE_DEATHS)(work_on)
        sizes = {run: log_size(run, folder) for run in runs}  # a log grows once its run has begun
        tasks = {task.options(name=run.name).remote([run], device, folder): run for run in runs}
        try:
            while tasks:
                check()
                for run in [run for run in sizes if log_size(run, folder) > sizes[run]]:
                    del sizes[run]
                    progress.begin(run)
                for done in ray.wait(list(tasks), timeout=TICK)[0]:
                    run = tasks.pop(done)
                    sizes.pop(run, None)
                    progress.end(run, outcome(ray, done, run, folder))
                progress.show()
        finally:
            for task in tasks:
                ray.cancel(task)  # its node stops the process
            if tasks:
                ray.wait(list(tasks), num_returns=len(tasks), timeout=PATIENCE)


def log_size(run: Run, folder: Path) -> int:
    """Give the bytes of a run's log."""
    path = folder / run.log
    return path.stat().st_size if path.exists() else 0


def outcome(ray: Any, done: Any, run: Run, folder: Path) -> str:
    """Say what went wrong with a run that is over: what its node says, or what became of the node."""
    try:
        return str(ray.get(done)[run])
    except ray.exceptions.RayError as error:
        problem = UserError(f"{type(error).__name__}: {error}")
        return "" if result_of(run, folder) else write_error(run, problem, folder)
