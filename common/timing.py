"""Time pieces of work in turns, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


def now(device: torch.device) -> float:
    """Read the clock, in seconds: this process's CPU time, or wall time once a GPU has finished its work."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Time one call."""
    start = now(device)
    work()
    return now(device) - start


def in_turns(works: Sequence[Callable[[], Any]], repeats: int, device: torch.device) -> list[list[float]]:
    """Time several pieces of work in turns, after one warm-up each; returns the seconds of each, one per repeat."""
    for work in works:
        work()
    rows = [[seconds(work, device) for work in works] for _ in range(repeats)]
    return [list(column) for column in zip(*rows, strict=True)]


def medians(works: Sequence[Callable[[], Any]], repeats: int, device: torch.device) -> list[float]:
    """Time as `in_turns`; returns the median seconds of each piece of work."""
    return [statistics.median(times) for times in in_turns(works, repeats, device)]
