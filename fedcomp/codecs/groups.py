"""Groups of values that share a scale: the model, a tensor, a channel or a block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fedcomp.types import NDArray

SCALES = ("tensor", "model", "channel", "block")
"""What a scale may be shared by, in the order of their numbers on the wire."""

PIECE = 1 << 15
"""Values that are worked on at a time: 128 KiB of float32 stay in the cache, so several passes cost as one."""


class Matrix(NamedTuple):
    """A tensor in a flat vector of values, seen as its channels by all else."""

    start: int
    rows: int
    columns: int

    @property
    def where(self) -> slice:
        """Where its values are."""
        return slice(self.start, self.start + self.rows * self.columns)


@dataclass(frozen=True)
class Cuts:
    """Where a flat vector of values is cut.

    Args:
        tensors: Bounds of tensors, int64: tensor i owns ``values[tensors[i]:tensors[i + 1]]``.
        channels: Bounds of channels, the slices along each tensor's first axis; a vector is one channel.
    """

    tensors: NDArray
    channels: NDArray

    @classmethod
    def of_one(cls, size: int) -> Cuts:
        """Return the cuts of a single vector."""
        bounds = np.array([0, size], np.int64)
        return cls(bounds, bounds)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(self.tensors[-1])

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Every tensor as a matrix: one row a channel, so a vector is one row."""
        channels = np.unique(self.channels)  # an empty tensor's channel begins where the next one does
        rows = np.maximum(np.diff(np.searchsorted(channels, self.tensors)), 1)
        sizes = np.diff(self.tensors)
        triples = zip(self.tensors[:-1].tolist(), rows.tolist(), (sizes // rows).tolist(), strict=True)
        return tuple(Matrix(*triple) for triple in triples)

    def at(self, positions: NDArray) -> Cuts:
        """Return the cuts of ``values[positions]``, positions strictly increasing."""
        return Cuts(np.searchsorted(positions, self.tensors), np.searchsorted(positions, self.channels))

    def by(self, scale: str, block: int) -> NDArray:
        """Return the bounds of the groups that share a scale.

        Args:
            scale: One of `SCALES`.
            block: Values in a block; the last one may have fewer.
        """
        if scale == "block":
            return np.append(np.arange(0, self.size, block), self.size)
        return {"tensor": self.tensors, "channel": self.channels, "model": self.tensors[[0, -1]]}[scale]

    def count(self, scale: str, block: int, num_values: int) -> int:
        """Return the number of groups in a selection of `num_values`, whichever are selected."""
        return -(-num_values // block) if scale == "block" else self.by(scale, block).size - 1


def reduce_groups(reduce: np.ufunc, values: NDArray, bounds: NDArray) -> NDArray:
    """Reduce each group; an empty one gives 0. The result has `values`' type."""
    result = np.zeros(bounds.size - 1, values.dtype)
    filled = np.diff(bounds) > 0
    if filled.any():
        result[filled] = reduce.reduceat(values, bounds[:-1][filled])
    return result


def sum_groups(function: Callable[[NDArray], NDArray], values: NDArray, bounds: NDArray) -> NDArray:
    """Return the sum of ``function(values)`` over each group, float64; the function is called on small pieces."""
    sums = np.zeros(bounds.size - 1)
    for left in range(0, values.size, PIECE):
        right = min(left + PIECE, values.size)
        first = np.searchsorted(bounds, left, side="right") - 1
        last = np.searchsorted(bounds, right, side="left")
        local = bounds[first : last + 1].clip(left, right) - left
        sums[first:last] += reduce_groups(np.add, function(values[left:right]).astype(np.float64), local)
    return sums


def largest_magnitudes(values: NDArray, bounds: NDArray) -> NDArray:
    """Return the largest magnitude of each group, float32; 0 for an empty one."""
    return np.maximum(reduce_groups(np.maximum, values, bounds), -reduce_groups(np.minimum, values, bounds))


def root_mean_square(values: NDArray) -> float:
    """Return the root mean square, summed in float64 without a float64 copy of the whole; 0 of no values."""
    # Not np.dot: its rounding depends on the machine and on its threads, and so would every byte after it.
    pieces = (values[left : left + PIECE] for left in range(0, values.size, PIECE))
    return float(np.sqrt(sum(np.square(piece, dtype=np.float64).sum() for piece in pieces) / max(values.size, 1)))


def spread(table: NDArray, bounds: NDArray) -> Iterator[tuple[slice, NDArray]]:
    """Yield (piece of the values, each of its values' entry in `table`), in pieces that stay in the cache.

    Where a whole piece is of one group, the entry is a scalar array.
    """
    for left in range(0, int(bounds[-1]), PIECE):
        right = min(left + PIECE, int(bounds[-1]))
        first = np.searchsorted(bounds, left, side="right") - 1
        last = np.searchsorted(bounds, right, side="left")
        if last - first == 1:
            yield slice(left, right), table[first]
        else:
            counts = np.diff(bounds[first : last + 1].clip(left, right))
            yield slice(left, right), np.repeat(table[first:last], counts)


def scale_args(scale: str, block: int) -> tuple[int, ...]:
    """Return how a scale is written on the wire: its index, and the block if there are blocks."""
    return SCALES.index(scale), *((block,) if scale == "block" else ())


def read_scale_args(args: Sequence[int]) -> tuple[str, int]:
    """Invert `scale_args`; the block of other scales is of no importance. Raises `ValueError` for what is none."""
    index, *block = args
    if index >= len(SCALES) or len(block) != (SCALES[index] == "block") or (block and not 8 <= block[0] <= 1 << 20):
        raise ValueError(f"scale with arguments {args}")
    return SCALES[index], block[0] if block else 8
