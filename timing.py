"""Measure how long pieces of work take, in turns, so that a busy machine slows all of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Time one call: CPU seconds, or wall seconds on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        return time.perf_counter() - start
    start = time.process_time()
    work()
    return time.process_time() - start


def medians(works: Sequence[Callable[[], Any]], repeats: int, device: torch.device) -> list[float]:
    """Time several pieces of work in turn, after one warm-up each; returns the median of each, in seconds."""
    for work in works:
        work()
    times = [[seconds(work, device) for work in works] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]
