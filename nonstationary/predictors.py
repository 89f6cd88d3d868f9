"""Exact Bayesian predictors: KT, KT told of the switches, PTW, LIN and random uniform, in float64.

Each takes sequences of symbols and returns log q_t(k), the log probability of every symbol k at every step t given the
symbols before t: row t predicts symbol t. Letters: B sequences, T steps, K symbols. `alpha` is the parameter of the
symmetric Dirichlet prior of a segment; 1/2 with two symbols is the estimator of Krichevsky and Trofimov (KT).

Source: Genewein et al. 2023, Section 4; Veness et al. 2013 (PTW); Willems 1996 and Willems and Krom 1997 (LIN).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from common.errors import UserError
from nonstationary.sources import Sequences, Source, ptw_depth

PREDICTORS = {"kt": "KT", "kt_oracle": "KT oracle", "ptw": "PTW", "lin": "LIN", "random_uniform": "random uniform"}
"""The exact predictors and what tables call them."""

OWN_MIXTURE = {
    "static": "kt",
    "ptw": "ptw",
    "lin": "lin",
    "regular": "kt_oracle",
    "random_uniform": "random_uniform",
}
"""The exact Bayes mixture of each source. Of `regular` it is the oracle, since its switches are known beforehand."""

USUAL = ("kt", "kt_oracle", "ptw", "lin")
"""The predictors of every evaluation."""


def usual_predictors(source: Source) -> tuple[str, ...]:
    """Name the usual predictors and the source's own mixture."""
    return tuple(dict.fromkeys([*USUAL, OWN_MIXTURE[source.name]]))


def check_depth(depth: int, length: int) -> None:
    """Raise UserError if PTW of a depth is not defined on sequences of a length."""
    if length > 2**depth:
        raise UserError(f"PTW of depth {depth} covers {2**depth} symbols, not {length}; it takes {ptw_depth(length)}")


def kt(symbols: Tensor, num_symbols: int = 2, alpha: float = 0.5) -> Tensor:
    """Predict (B, T) symbols by the mixture over stationary sources: (n_k + alpha) / (n + K alpha)."""
    return _posterior_mean(_counts_before(symbols, num_symbols), alpha).log()


def kt_oracle(symbols: Tensor, segments: Tensor, num_symbols: int = 2, alpha: float = 0.5) -> Tensor:
    """Predict (B, T) symbols by KT that starts anew at each true switch.

    Nothing that has to find the switches can reach it; where they are known beforehand, it is the optimum.
    """
    counts = _counts_before(symbols, num_symbols)
    is_first = segments != functional.pad(segments[:, :-1], (1, 0), value=-1)
    steps = torch.arange(symbols.shape[1], device=symbols.device)
    starts = torch.where(is_first, steps, 0).cummax(1).values
    return _posterior_mean(counts - counts.gather(1, starts[..., None].expand_as(counts)), alpha).log()


def ptw(symbols: Tensor, num_symbols: int = 2, alpha: float = 0.5, depth: int | None = None) -> Tensor:
    """Predict (B, T) symbols by partition tree weighting with KT in every segment.

    PTW_0 = KT;  PTW_d(x) = 1/2 KT(x) + 1/2 PTW_{d-1}(left half of x) PTW_{d-1}(right half of x).

    All steps are computed at once, level by level from blocks of one step up to the whole: at each step and for each
    symbol k that may come, the log probability of the step's block so far with k at its end. A block in its right half
    has its complete left half as a factor.

    Raises:
        UserError: if the sequences are longer than 2^depth.
    Source: Veness et al. 2013.
    """
    batch, length = symbols.shape
    depth = ptw_depth(length) if depth is None else depth
    check_depth(depth, length)
    covered = 2 ** ptw_depth(length)
    symbols = functional.pad(symbols, (0, covered - length))  # what comes later changes no prediction
    mixture = _block_kt(symbols, 1, num_symbols, alpha)
    for level in range(1, depth + 1):
        block = min(2**level, covered)
        if block == 2**level:
            halves = mixture.view(batch, -1, 2, block // 2, num_symbols)
            left = _chosen(mixture, symbols).view(batch, -1, 2, block // 2)[:, :, 0, -1]
            halves[:, :, 1] += left[..., None, None]
        mixture = torch.logaddexp(_block_kt(symbols, block, num_symbols, alpha), mixture) - math.log(2)
    before = functional.pad(_chosen(mixture, symbols)[:, :-1], (1, 0))
    return (mixture - before[..., None])[:, :length]


def lin(symbols: Tensor, num_symbols: int = 2, alpha: float = 0.5) -> Tensor:
    """Predict (B, T) symbols by the exact mixture over segmentations of the LIN prior ("live and die").

    A segment that has lasted k steps ends with probability 1/(2k). The time is O(T^2) a sequence.

    Source: Willems 1996; Willems and Krom 1997.
    """
    steps = torch.arange(1, symbols.shape[1] + 1, dtype=torch.float64, device=symbols.device)
    return renewal(symbols, 1 / (2 * steps), num_symbols, alpha)


def random_uniform(symbols: Tensor, num_symbols: int = 2, alpha: float = 0.5, max_segment: int = 20) -> Tensor:
    """Predict (B, T) symbols by the exact mixture over segments whose lengths are uniform from 1 to `max_segment`.

    A segment that has lasted k steps ends with probability 1/(max_segment - k + 1).
    """
    possible = max(0, max_segment - symbols.shape[1])  # after as many steps as there are symbols nothing ends any more
    left = torch.arange(max_segment, possible, -1, dtype=torch.float64, device=symbols.device)
    return renewal(symbols, 1 / left, num_symbols, alpha)


def renewal(symbols: Tensor, ends: Tensor, num_symbols: int, alpha: float) -> Tensor:
    """Predict (B, T) symbols by the exact mixture over segmentations in which lengths of segments are independent.

    Keeps the posterior over where the current segment began.

    Args:
        symbols: (B, T) int64.
        ends: (L,) float64, the hazard: the probability that a segment that has lasted 1, 2, ..., L steps ends there;
            no segment is longer than L, or L is at least T.
        num_symbols: K.
        alpha: of the Dirichlet prior.
    """
    batch, length = symbols.shape
    longest = len(ends)
    counts = _counts_before(symbols, num_symbols).transpose(1, 2).contiguous()  # (B, K, T)
    durations = torch.arange(longest, 0, -1, dtype=counts.dtype, device=counts.device)
    ends = ends.flip(0)
    began = counts.new_ones(batch, 1)  # posterior over the s steps at which the segment of step t may have begun, to t
    predictions = []
    for step in range(length):
        starts = began.shape[1]
        lasted = durations[-starts:]  # steps since then, both included
        seen = counts[:, :, step : step + 1] - counts[:, :, step + 1 - starts : step + 1]  # (B, K, s)
        joint = (seen + alpha) / (lasted - 1 + num_symbols * alpha) * began[:, None]
        predictions.append(joint.sum(2))
        symbol = symbols[:, step, None]
        chosen = joint.gather(1, symbol[..., None].expand(-1, 1, starts)).squeeze(1)
        began = chosen / predictions[-1].gather(1, symbol)
        ended = began * ends[-starts:]
        began = torch.cat([began - ended, ended.sum(1, keepdim=True)], dim=1)[:, -longest:]
    return torch.stack(predictions, dim=1).log()


def _counts_before(symbols: Tensor, num_symbols: int) -> Tensor:
    """Count each symbol before each step: (..., T) -> (..., T, K) float64."""
    one_hot = functional.one_hot(symbols, num_symbols).double()
    return one_hot.cumsum(-2) - one_hot


def _posterior_mean(counts: Tensor, alpha: float) -> Tensor:
    """Predict from (..., K) counts: the mean of the Dirichlet posterior."""
    return (counts + alpha) / (counts.sum(-1, keepdim=True) + counts.shape[-1] * alpha)


def _block_kt(symbols: Tensor, block: int, num_symbols: int, alpha: float) -> Tensor:
    """Weigh blocks of `block` steps by KT: the log probability of a step's block up to it, (B, T, K), K at the step."""
    in_blocks = symbols.view(len(symbols), -1, block)
    predictions = _posterior_mean(_counts_before(in_blocks, num_symbols), alpha).log()
    chosen = _chosen(predictions, in_blocks)
    return (predictions + (chosen.cumsum(-1) - chosen)[..., None]).view(*symbols.shape, num_symbols)


def _chosen(values: Tensor, symbols: Tensor) -> Tensor:
    """Pick each step's own symbol: (..., K) values, (...) symbols -> (...)."""
    return values.gather(-1, symbols[..., None]).squeeze(-1)


def predict(name: str, sequences: Sequences, source: Source, depth: int | None = None) -> Tensor:
    """Predict with the exact predictor of that name.

    Args:
        name: one of PREDICTORS.
        sequences: B sequences of T symbols; only the oracle looks at the segments.
        source: for the number of symbols, alpha and, in `random_uniform`, the longest segment.
        depth: of PTW; ceil(log2 T) if None.
    Returns:
        (B, T, K) float64 log probabilities.
    """
    symbols, prior = sequences.symbols, (source.num_symbols, source.alpha)
    match name:
        case "kt":
            return kt(symbols, *prior)
        case "kt_oracle":
            return kt_oracle(symbols, sequences.segments, *prior)
        case "ptw":
            return ptw(symbols, *prior, depth)
        case "lin":
            return lin(symbols, *prior)
    assert name == "random_uniform"
    return random_uniform(symbols, *prior, source.max_segment)
