"""Piecewise-stationary sources: where a sequence switches, what holds in each segment, and the symbols themselves.

Within a segment the symbols are independent draws from one categorical distribution, whose parameter comes from a
symmetric Dirichlet; at every switch it is drawn anew. The sources differ in where they switch. Everything is drawn for
the whole batch at once from a generator that the caller hands in. Letters: B sequences, T steps, K symbols.

Source: Genewein et al. 2023; the priors over switches are those of Veness et al. 2013 (PTW) and of Willems 1996 and
Willems and Krom 1997 (LIN).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Dirichlet

from common.errors import UserError


@dataclass(frozen=True)
class Source:
    """A distribution over sequences."""

    name: str = "ptw"
    alpha: float = 0.5  # of the symmetric Dirichlet from which a segment's parameter is drawn
    num_symbols: int = 2  # K
    shift_period: int = 20  # of `regular`: steps from one switch to the next
    max_segment: int = 20  # of `random_uniform`: the longest segment, in steps


USERS = {"shift_period": "regular", "max_segment": "random_uniform"}
"""Settings that only one source, or its exact mixture, uses; elsewhere they have their default."""


def check_source(source: Source) -> None:
    """Raise UserError if nothing can be drawn from a source, which may come from a damaged file."""
    counts = {"num_symbols": 2, "shift_period": 1, "max_segment": 1}
    are_counts = all(type(getattr(source, name)) is int and getattr(source, name) >= n for name, n in counts.items())
    if source.name not in SEGMENTS or not are_counts or not 0 < source.alpha < math.inf:
        raise UserError(f"nothing can be drawn from {source}")


class Sequences(NamedTuple):
    """Sampled sequences with what they were sampled from."""

    symbols: Tensor  # (B, T) int64
    parameters: Tensor  # (B, T, K) float64: the true probability of each symbol at each step
    segments: Tensor  # (B, T) int64: number of the segment, from 0, one more at each switch

    def to(self, device: torch.device) -> "Sequences":
        """Move to a device."""
        return Sequences(*(part.to(device) for part in self))

    def rows(self, start: int, stop: int) -> "Sequences":
        """Take some of the sequences."""
        return Sequences(*(part[start:stop] for part in self))


def ptw_depth(length: int) -> int:
    """Tell the depth of the smallest binary tree with at least `length` leaves: ceil(log2 T)."""
    return (length - 1).bit_length()


def ptw_segments(n: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw a partition from the PTW prior for each sequence; (B, T) segment numbers.

    A block of two or more steps is split in the middle with probability 1/2, and so are its halves in turn; what is
    not split stays one segment. The first block has 2^D >= T steps; what lies beyond T is cut off.
    """
    depth = ptw_depth(length)
    is_switch = torch.zeros(n, 2**depth, dtype=torch.int64)
    is_split = torch.ones(n, 1, dtype=torch.int64)  # of the blocks at one level; "above" the first all is split
    for level in range(depth):
        coins = torch.randint(2, (n, 2**level), generator=generator)
        is_split = coins * (is_split if level == 0 else is_split.repeat_interleave(2, dim=1))
        block = 2 ** (depth - level)
        is_switch[:, block // 2 :: block] = is_split
    return is_switch[:, :length].cumsum(1)


def lin_segments(n: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw a partition from the LIN prior for each sequence; (B, T) segment numbers.

    A segment that has lasted k steps ends with probability 1/(2k), so it lasts more than k steps with probability
    prod_{i<=k} (i - 1/2)/i. Lengths are drawn by inverting that function.
    """
    steps = torch.arange(1, length + 1, dtype=torch.float64)
    survival = ((steps - 0.5) / steps).cumprod(0)  # P(length > k) for k = 1..T
    uniform = torch.rand(n, length, dtype=torch.float64, generator=generator)
    lasted = torch.searchsorted(-survival, -uniform, right=True)  # how many k have survival >= uniform
    return _from_lengths(lasted + 1, length)


def _from_lengths(lengths: Tensor, length: int) -> Tensor:
    """Turn the lengths of consecutive segments, (B, at least as many as fit), into (B, T) segment numbers."""
    first_of_next = lengths.cumsum(1)
    steps = torch.arange(length).expand(len(lengths), length).contiguous()
    return torch.searchsorted(first_of_next, steps, right=True)


SEGMENTS = ("static", "ptw", "lin", "regular", "random_uniform")
"""Names of the sources."""


def draw_segments(source: Source, n: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw where n sequences switch; (B, T) segment numbers.

    `static` never does, `regular` every `shift_period` steps; the lengths in `random_uniform` are uniform from 1 to
    `max_segment`; `ptw` and `lin` have priors of their own.
    """
    match source.name:
        case "static":
            return torch.zeros(n, length, dtype=torch.int64)
        case "regular":
            return (torch.arange(length) // source.shift_period).expand(n, length)
        case "ptw":
            return ptw_segments(n, length, generator)
        case "lin":
            return lin_segments(n, length, generator)
    assert source.name == "random_uniform"
    return _from_lengths(torch.randint(1, source.max_segment + 1, (n, length), generator=generator), length)


def sample(source: Source, n: int, length: int, generator: torch.Generator) -> Sequences:
    """Draw `n` sequences of `length` symbols.

    Args:
        source: the distribution.
        n: sequences, B.
        length: steps, T.
        generator: of the CPU; all randomness comes from it.
    Source: Genewein et al. 2023, Section 3.
    """
    segments = draw_segments(source, n, length, generator)
    ends = (segments[:, -1] + 1).cumsum(0)  # segments of this sequence and those before it
    size = int(ends[-1]), source.num_symbols
    drawn = _dirichlet(torch.full(size, source.alpha, dtype=torch.float64), generator)
    parameters = drawn[(ends - segments[:, -1] - 1)[:, None] + segments]
    uniform = torch.rand(n, length, 1, dtype=torch.float64, generator=generator)
    symbols = (uniform >= parameters.cumsum(2)[..., :-1]).sum(2)
    return Sequences(symbols, parameters, segments)


def _dirichlet(concentration: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from Dirichlet distributions: torch can do that only from its own generator, which borrows our state."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        drawn = Dirichlet(concentration).sample()
        generator.set_state(torch.get_rng_state())
    return drawn
