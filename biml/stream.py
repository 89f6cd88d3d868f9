"""Batches of episodes, the same for a seed wherever a run was interrupted and whichever process makes them.

Every (epoch, episode) has dice of its own, and every epoch its own order, so nothing depends on what was drawn before.
"""

import functools
import math
import random
import signal
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from biml.batch import QueryArrays, assemble
from biml.dice import Dice
from biml.episode_types import ViewSet
from biml.views import View
from common.run_loop import STOPPING, signals_handled

ORDER, EPISODES, EVALUATION = 0, 1, 2  # streams of a seed
AHEAD = 4  # batches that each process makes ahead


def dice_of(seed: int, stream: int, *numbers: int) -> Dice:
    """Make the dice of one episode."""
    return Dice(random.Random(" ".join(map(str, (seed, stream, *numbers)))))  # hashed, so that all numbers count


@functools.lru_cache(maxsize=1)
def epoch_order(size: int, seed: int, epoch: int) -> list[int]:
    """Put the episodes of one epoch in a random order."""
    stream = np.random.SeedSequence(seed, spawn_key=(ORDER, epoch))
    order: list[int] = np.random.default_rng(stream).permutation(size).tolist()
    return order


class Batches(Dataset[QueryArrays]):
    """The training batches of all epochs by the number of the step, from 0; the last of an epoch may be smaller.

    `find_views` finds the episodes, and must be picklable where other processes make batches.
    """

    def __init__(self, find_views: Callable[[], ViewSet], batch_size: int, seed: int) -> None:
        self.find_views, self.batch_size, self.seed = find_views, batch_size, seed

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the episodes out; another process reads them anew."""
        return Batches, (self.find_views, self.batch_size, self.seed)

    @cached_property
    def views(self) -> ViewSet:
        """What the batches are made of."""
        return self.find_views()

    @property
    def steps_an_epoch(self) -> int:
        """How many batches have every episode once."""
        return math.ceil(self.views.size / self.batch_size)

    def __getitem__(self, step: int) -> QueryArrays:
        """Make a batch."""
        done, number = divmod(step, self.steps_an_epoch)
        epoch = done + 1
        order, start = epoch_order(self.views.size, self.seed, epoch), number * self.batch_size
        made: list[View] = []
        for episode in order[start : start + self.batch_size]:
            made += self.views.make(episode, dice_of(self.seed, EPISODES, epoch, episode))
        return assemble(made, self.views.language)


@contextmanager
def made_ahead(batches: Batches, steps: range, workers: int) -> Iterator[Iterator[QueryArrays]]:
    """Give the batches of some steps, made ahead by `workers` processes, which end with the block; 0: by this one.

    Raises:
        OSError: if one of the processes is ended from outside.
    """
    if workers == 0:
        yield (batches[step] for step in steps)
        return
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # as many processes as were asked for
        loader = DataLoader(
            batches,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            collate_fn=_as_it_is,
            prefetch_factor=AHEAD,
            multiprocessing_context="spawn",
            generator=torch.Generator(),  # the loader draws a number, which must not come from the run's own generator
        )
    with signals_handled(STOPPING, signal.SIG_IGN):  # inherited: this process alone deals with them
        made = (arrays for arrays in iter(loader))  # starts the processes, which end when this is closed
    try:
        yield made
    except RuntimeError as error:  # raised wherever this process happens to be
        if "DataLoader worker" not in str(error):
            raise
        raise OSError("a process that made batches was killed, perhaps for memory; try fewer --workers") from None
    finally:
        made.close()


def _as_it_is(arrays: Any) -> Any:
    return arrays


def views_of(views: ViewSet, seed: int, repetition: int = 0, numbers: Iterable[int] | None = None) -> Iterator[View]:
    """Make the views of an evaluation, of some episodes or of all; another repetition shuffles and renames anew."""
    for number in range(views.size) if numbers is None else numbers:
        yield from views.make(number, dice_of(seed, EVALUATION, repetition, number))


def evaluation_batches(views: ViewSet, batch_size: int, seed: int, repetition: int = 0) -> Iterator[QueryArrays]:
    """Give every episode once, in order; another repetition has other dice."""
    for start in range(0, views.size, batch_size):
        numbers = range(start, min(start + batch_size, views.size))
        yield assemble(list(views_of(views, seed, repetition, numbers)), views.language)


def fingerprint_of_views(views: Iterable[View]) -> int:
    """Make a number that other views would hardly share, whatever batches they are put into."""
    return checksum(repr((view.support, view.query, view.allowed_outputs)).encode() for view in views)


def fingerprint(arrays: Iterable[QueryArrays]) -> int:
    """Make a number that other episodes would hardly share, of some batches."""
    return checksum(part.tobytes() for batch in arrays for part in batch)


def checksum(parts: Iterable[bytes]) -> int:
    """Make a number that other bytes would hardly share."""
    return functools.reduce(lambda total, part: zlib.crc32(part, total), parts, 0)
