"""Batches of training episodes, the same for a seed wherever the run was interrupted.

Every (epoch, episode) has dice of its own, and every epoch its own order, so nothing depends on what was drawn before.
"""

import random
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from biml.batch import QueryArrays, assemble
from biml.dice import Dice
from biml.episode_types import ViewSet
from biml.views import View

ORDER, EPISODES, EVALUATION = 0, 1, 2  # streams of a seed


def dice_of(seed: int, stream: int, *numbers: int) -> Dice:
    """Make the dice of one episode."""
    return Dice(random.Random(" ".join(map(str, (seed, stream, *numbers)))))  # hashed, so that all numbers count


def epoch_order(size: int, seed: int, epoch: int) -> list[int]:
    """Put the episodes of one epoch in a random order."""
    stream = np.random.SeedSequence(seed, spawn_key=(ORDER, epoch))
    order: list[int] = np.random.default_rng(stream).permutation(size).tolist()
    return order


def training_batch(views: ViewSet, numbers: Sequence[int], seed: int, epoch: int) -> QueryArrays:
    """Make the batch of some episodes as they are in one epoch."""
    made_views = [view for number in numbers for view in views.make(number, dice_of(seed, EPISODES, epoch, number))]
    return assemble(made_views, views.language)


def batches(views: ViewSet, batch_size: int, seed: int, epoch: int, first: int = 0) -> Iterator[QueryArrays]:
    """Give the batches of one epoch from the `first` on, episodes in random order, the last one smaller if need be."""
    order = epoch_order(views.size, seed, epoch)
    for start in range(first * batch_size, views.size, batch_size):
        yield training_batch(views, order[start : start + batch_size], seed, epoch)


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
    total = 0
    for view in views:
        total = zlib.crc32(repr((view.support, view.query, view.allowed_outputs)).encode(), total)
    return total


def fingerprint(arrays: Iterable[QueryArrays]) -> int:
    """Make a number that other episodes would hardly share, of some batches."""
    total = 0
    for part in (part for batch in arrays for part in batch):
        total = zlib.crc32(part.tobytes(), total)
    return total
