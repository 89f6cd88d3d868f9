"""Measure how long pieces of work take, in turns, so that a busy machine slows all of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


def now(device: torch.device) -> float:
    """Read the clock, in seconds: this process's CPU time, or on a GPU wall time once it has done all it was given."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Time one call."""
    start = now(device)
    work()
    return now(device) - start


def medians(works: Sequence[Callable[[], Any]], repeats: int, device: torch.device) -> list[float]:
    """Time several pieces of work in turn, after one warm-up each; returns the median of each, in seconds."""
    for work in works:
        work()
    times = [[seconds(work, device) for work in works] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]
