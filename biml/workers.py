"""Training batches that other processes make ahead, the same as without them.

What an episode looks like depends on seed, epoch and episode alone, so it does not matter who makes a batch, nor when.
"""

import math
import signal
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from biml.batch import QueryArrays
from biml.episode_types import ViewSet, training_views
from biml.stream import batches, epoch_order, training_batch
from common.run_loop import signals_handled

AHEAD = 4  # batches that each process makes ahead
Place = tuple[int, int]  # of a batch: epoch, from 1, and number within it, from 0


class Batches(Dataset[QueryArrays]):
    """All batches of a training by their place. A copy of it in another process reads the episodes there."""

    def __init__(self, episode_type: str, data_dir: Path, batch_size: int, seed: int) -> None:
        self.episode_type, self.data_dir, self.batch_size, self.seed = episode_type, data_dir, batch_size, seed
        self._order: tuple[int, list[int]] = 0, []  # of the last epoch that was asked for

    @cached_property
    def _views(self) -> ViewSet:
        return training_views(self.episode_type, self.data_dir)

    def __getitem__(self, place: Place) -> QueryArrays:
        """Make a batch."""
        epoch, number = place
        if self._order[0] != epoch:
            self._order = epoch, epoch_order(self._views.size, self.seed, epoch)
        start = number * self.batch_size
        return training_batch(self._views, self._order[1][start : start + self.batch_size], self.seed, epoch)


@contextmanager
def all_batches(
    source: Batches, views: ViewSet, epochs: range, done: int, workers: int
) -> Iterator[Iterator[QueryArrays]]:
    """Give the batches of some epochs, one after the other, and end the processes that made them.

    Args:
        source: the batches.
        views: what they are made of, for this process.
        epochs: which epochs.
        done: how many batches of the first epoch to leave out.
        workers: how many processes make them; 0 for this one.
    Raises:
        OSError: if one of the processes is ended from outside.
    """
    if workers == 0:
        yield (
            batch
            for epoch in epochs
            for batch in batches(views, source.batch_size, source.seed, epoch, done if epoch == epochs.start else 0)
        )
        return
    steps = math.ceil(views.size / source.batch_size)
    places = [(epoch, number) for epoch in epochs for number in range(steps)][done:]
    batches_made = _made_ahead(source, places, workers)
    try:
        yield batches_made
    except RuntimeError as error:  # raised wherever this process happens to be
        if "DataLoader worker" not in str(error):
            raise
        reason = "a process that makes batches was ended, for want of memory perhaps; try fewer --workers"
        raise OSError(reason) from None
    finally:
        batches_made.close()


def _made_ahead(source: Batches, places: list[Place], workers: int) -> Generator[QueryArrays, None, None]:
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # as many processes as were asked for
        loader = DataLoader(
            source,
            batch_size=None,
            sampler=places,
            num_workers=workers,
            collate_fn=_as_it_is,
            prefetch_factor=AHEAD,
            multiprocessing_context="spawn",
            generator=torch.Generator(),  # the loader draws a number, which is not to be missing elsewhere
        )
    with signals_handled((signal.SIGINT,), signal.SIG_IGN):  # inherited: Ctrl-C is dealt with here alone
        batches_made = iter(loader)  # starts the processes, which end with it
    yield from batches_made


def _as_it_is(arrays: Any) -> Any:
    return arrays
