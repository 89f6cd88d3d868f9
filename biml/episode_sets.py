"""Whole sets of random episodes, the same for a seed however many processes draw them.

Every episode has a random stream of its own, given by the seed, the split and the episode's number. Validation episodes
are drawn first; no training episode has the grammar of one of them, in any order of rules.
"""

import multiprocessing
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from biml.episode import PAPER_SIZES, Episode, EpisodeSizes, sample_episode
from biml.packed_episodes import PackedEpisodes, join, pack
from common.run_loop import signals_handled

STREAMS = {"val": 0, "train": 1}  # the splits' own random streams
PART = 250  # episodes that a process draws at a time


@dataclass(frozen=True)
class EpisodeSet:
    """What determines the episodes of one split."""

    seed: int
    split: str  # a key of STREAMS
    sizes: EpisodeSizes = PAPER_SIZES
    excluded: frozenset[str] = field(default=frozenset(), repr=False)  # identifiers of grammars

    def episode(self, index: int) -> Episode:
        """Draw the episode of this number.

        Raises:
            UserError: if there seem to be no episodes of these sizes.
        """
        stream = np.random.SeedSequence(self.seed, spawn_key=(STREAMS[self.split], index))
        return sample_episode(np.random.default_rng(stream), self.excluded, self.sizes)

    def part(self, numbers: range) -> PackedEpisodes:
        """Draw and pack some episodes."""
        return pack(map(self.episode, numbers), {})

    def about(self) -> dict[str, Any]:
        """Tell what the episodes are made with."""
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        sizes = asdict(self.sizes)
        excluded = len(self.excluded)
        return {"seed": self.seed, "split": self.split, "sizes": sizes, "excluded": excluded, "versions": versions}


def generate(
    episodes: EpisodeSet, count: int, jobs: int = 1, progress: Callable[[int], None] = lambda done: None
) -> PackedEpisodes:
    """Draw and pack the first `count` episodes of a set.

    Args:
        episodes: the set.
        count: how many, at least 1.
        jobs: processes that share the work; the result does not depend on it.
        progress: called now and then with the number of episodes done.
    Raises:
        UserError: if there seem to be no episodes of these sizes.
        OSError: if one of the processes is ended from outside.
    """
    ranges = [range(start, min(start + PART, count)) for start in range(0, count, PART)]
    parts: list[PackedEpisodes] = []
    for part in _drawn(episodes, ranges, min(jobs, len(ranges))):
        parts.append(part)
        progress(min(len(parts) * PART, count))
    return join(parts, {**episodes.about(), "count": count})


def _drawn(episodes: EpisodeSet, ranges: Sequence[range], jobs: int) -> Iterator[PackedEpisodes]:
    """Draw the parts of a set in their order, in `jobs` processes."""
    if jobs == 1:
        yield from map(episodes.part, ranges)
        return
    try:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            with signals_handled((signal.SIGINT,), signal.SIG_IGN):  # inherited: Ctrl-C is dealt with here alone
                parts = pool.map(episodes.part, ranges)  # starts all processes
            yield from parts
    except BrokenProcessPool:
        raise OSError("a process that drew episodes was ended, for want of memory perhaps; try fewer --jobs") from None


def identifiers(packed: PackedEpisodes) -> frozenset[str]:
    """Collect what identifies the grammars of packed episodes."""
    grammars = (packed.grammar(index) for index in range(len(packed)))
    return frozenset(grammar.identifier for grammar in grammars if grammar is not None)
