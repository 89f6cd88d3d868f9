"""Random decisions in plain Python, from the generator that the caller hands in.

A single draw from a numpy generator takes longer than most of what is decided with it, so numbers are drawn in blocks.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

Thing = TypeVar("Thing")

BLOCK = 128  # numbers drawn at once; an episode takes some 300


def _fractions(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(BLOCK).tolist()


class Dice:
    """Uniform decisions. Takes whole blocks from a numpy generator, and keeps the rest of the last one.

    Args:
        rng: numpy's for many decisions, or Python's for a few, which is made in a tenth of the time.
    """

    fraction: Callable[[], float]  # draws a number from 0 up to, but without, 1

    def __init__(self, rng: np.random.Generator | random.Random) -> None:
        self.fraction = rng.random if isinstance(rng, random.Random) else _fractions(rng).__next__

    def below(self, limit: int) -> int:
        """Draw a whole number from 0 to `limit - 1`."""
        return int(self.fraction() * limit)

    def choice(self, things: Sequence[Thing]) -> Thing:
        """Draw one of some things."""
        return things[int(self.fraction() * len(things))]

    def shuffled(self, things: Sequence[Thing]) -> list[Thing]:
        """List the things in a random order (Fisher and Yates)."""
        order = list(things)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
