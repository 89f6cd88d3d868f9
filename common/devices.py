"""Where torch computes: options, the choice of a device, and the states of torch's random generators there."""

import argparse
import ctypes
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from common.command_line import natural_int, positive_int
from common.errors import UserError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's numbers of these settings, in malloc.h
LARGEST_THRESHOLDS = 2**30, 2**25  # bytes; the second is the most that older glibc takes
N_WARM_UP = 3  # runs before a graph is recorded, as torch's notes on CUDA graphs advise


def add_device_options(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Add --gpu, --cpu and --threads; gives the group of those that choose the device."""
    group = parser.add_argument_group("device", "The first GPU if there is one, else the CPU.")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--gpu", type=natural_int, metavar="N", help="use GPU N")
    which.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    group.add_argument("--threads", type=positive_int, default=1, metavar="N", help="CPU threads")
    return which


def usable_cores() -> int:
    """Count the cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(gpu: int | None, cpu: bool, threads: int) -> torch.device:
    """Pick the device, set the number of CPU threads, and have a GPU compute in float32 as the CPU does, not in TF32.

    Raises:
        UserError: if GPU number `gpu` is not there, or if there are fewer cores than threads.
    """
    if threads > usable_cores():
        raise UserError(f"{threads} threads: there are {usable_cores()} cores to use; ask for fewer")
    torch.set_num_threads(threads)
    n_gpus = torch.cuda.device_count()
    if gpu is not None and gpu >= n_gpus:
        there = f"the GPUs here are 0 to {n_gpus - 1}" if n_gpus else "torch finds no GPU here; leave --gpu out"
        raise UserError(f"GPU {gpu}: {there}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device("cpu") if cpu or n_gpus == 0 else torch.device("cuda", gpu or 0)


def keep_freed_memory() -> None:
    """Have the CPU's memory that a step frees kept for the next one, where the C library is glibc.

    It is else given back to the system, which hands it out again page by page, each filled with zeros.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None and any(mallopt(MMAP_THRESHOLD, size) for size in LARGEST_THRESHOLDS):
        mallopt(TRIM_THRESHOLD, 2**31 - 1)


def describe_device(device: torch.device) -> str:
    """Name the device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({torch.get_num_threads()} thread(s))"


def torch_states(device: torch.device) -> dict[str, Any]:
    """Take down the states of torch's own generators, as plain data."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def restore_torch_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Put torch's generators back into states taken down before."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def put_back(tensors: Sequence[torch.Tensor], device: torch.device) -> Iterator[None]:
    """Give tensors, and torch's generators, the values again that they had before the block."""
    before, random_states = [tensor.clone() for tensor in tensors], torch_states(device)
    yield
    for tensor, value in zip(tensors, before, strict=True):
        tensor.copy_(value)
    restore_torch_states(random_states, device)


def recorded(work: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """Record work on tensors that stay where they are as a graph, after doing it a few times."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*capturable=True")  # Adam, of being run before it is recorded
            for _ in range(N_WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            work()
    return graph
