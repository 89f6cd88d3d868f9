"""Turn views into arrays: one source and one target per query.

The source is the query and all study examples, `q.. SOS x1.. IO y1.. SOS x2.. IO y2.. SOS .. EOS`; the decoder reads
SOS and the target's symbols, and has to predict these and EOS. For speed, the study text is written once for all
queries of a view, and bytes are joined, not lists. Letters: N queries, S source and U target symbols.

Source: Lake & Baroni 2023, Methods.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biml.views import View
from biml.vocabulary import Language

Symbols = npt.NDArray[np.uint8]


class QueryArrays(NamedTuple):
    """The queries of some views, padded to the longest."""

    source: Symbols  # (N, S)
    target_in: Symbols  # (N, U), SOS first
    target_out: Symbols  # (N, U), EOS last
    view: npt.NDArray[np.int64]  # (N,) number of the view that a query is from; part of the fingerprint of the data

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of queries, and lengths of source and target: N, S and U."""
        return (*self.source.shape, self.target_in.shape[1])

    def tensors(self, device: torch.device) -> "QueryTensors":
        """Turn into int64 on a device; a GPU takes the bytes from pinned memory, so nothing waits for it."""
        parts = [torch.from_numpy(part) for part in (self.source, self.target_in, self.target_out)]
        if device.type == "cuda":
            parts = [part.pin_memory() for part in parts]
        return QueryTensors(*(part.to(device, non_blocking=True).long() for part in parts))

    def lengthened(self, source_length: int, target_length: int, language: Language) -> "QueryArrays":
        """Pad sources and targets to these lengths; longer ones stay as they are."""

        def padded(part: Symbols, length: int, padding: int) -> Symbols:
            missing = max(length - part.shape[1], 0)
            return np.pad(part, ((0, 0), (0, missing)), constant_values=padding)

        source_pad, target_pad = language.source.pad, language.target.pad
        return self._replace(
            source=padded(self.source, source_length, source_pad),
            target_in=padded(self.target_in, target_length, target_pad),
            target_out=padded(self.target_out, target_length, target_pad),
        )


class QueryTensors(NamedTuple):
    """The same as tensors for a network: int64."""

    source: Tensor
    target_in: Tensor
    target_out: Tensor


def study_text(view: View, language: Language) -> bytes:
    """Write the study examples, the end of every source of a view."""
    source, table = language.source, language.target_in_source
    border, between = bytes([source.sos]), source.encode(["IO"])
    items = [given + between + target.translate(table) for given, target in view.support]
    return border + b"".join(item + border for item in items) + bytes([source.eos])


def assemble(views: Sequence[View], language: Language) -> QueryArrays:
    """Make the arrays of all queries of some views."""
    start, end = bytes([language.target.sos]), bytes([language.target.eos])
    sources: list[bytes] = []
    targets: list[bytes] = []
    counts = []
    for view in views:
        study = study_text(view, language)
        sources += [given + study for given, _ in view.query]
        targets += [target for _, target in view.query]
        counts.append(len(view.query))
    return QueryArrays(
        _padded(sources, language.source.pad),
        _padded([start + target for target in targets], language.target.pad),
        _padded([target + end for target in targets], language.target.pad),
        np.repeat(np.arange(len(views)), counts),
    )


def _padded(rows: Sequence[bytes], padding: int) -> Symbols:
    """Put rows of different lengths into one array."""
    longest = max(map(len, rows))
    filler = bytes([padding])
    text = b"".join([row.ljust(longest, filler) for row in rows])
    return np.frombuffer(bytearray(text), np.uint8).reshape(len(rows), longest)
