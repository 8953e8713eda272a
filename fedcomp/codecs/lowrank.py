"""`lowrank`: each matrix as the product of two thin ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from fedcomp.codecs.groups import PIECE, Cuts
from fedcomp.codecs.stage import check_parameters, parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator

    from fedcomp.types import NDArray

_MAX = float(np.finfo(np.float32).max)
_LARGEST_RANK = 64
"""The receiver's work grows with the rank, and a sender decides on it."""


@dataclass(frozen=True)
class LowRank:
    """Approximate each matrix (a tensor's first axis against all others) by ``left @ right.T`` of a given rank.

    One power iteration, started from the right factors that were sent last time, so that the factors follow the
    updates over the rounds; without them, from a fixed random matrix, and once more. The left factor has orthonormal
    columns. Vectors, and matrices that are no larger than their factors, pass through.

    The projection contracts, so error feedback converges. Products are sums in a fixed order, not matrix products,
    whose rounding depends on threads and machine.

    Args:
        rank: Columns of a factor.

    References:
        Vogels et al., PowerSGD, NeurIPS 2019, algorithm 1 and section 4.2 (warm start). There the factors are averaged
        over the clients between the two halves of the iteration; here each client sends both of its own in one message.
    """

    name: ClassVar[str] = "lowrank"
    wire_id: ClassVar[int] = 25
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0
    is_stateless: ClassVar[bool] = False
    preserves_norm: ClassVar[bool] = False
    needs_whole_tensors: ClassVar[bool] = True

    rank: int = parameter(minimum=1, maximum=_LARGEST_RANK)

    def __post_init__(self) -> None:
        check_parameters(self)

    def apply(
        self, values: NDArray, cuts: Cuts, rng: Generator | None, previous: NDArray | None
    ) -> tuple[NDArray, int]:
        """Return the factors, left before right, and the rank."""
        factors = _random_start(self.cuts_after(cuts, self.rank).size)
        is_warm = previous is not None and previous.size == factors.size
        for block in _blocks(cuts, self.rank):
            if not block.is_factored:
                factors[block.factors] = values[block.values]
                continue
            right = block.right(factors)
            if previous is not None and is_warm:
                right = _warm_start(block.right(previous), right)
            matrix = values[block.values].reshape(block.shape)
            # Powers of two: exact, and no product or sum of squares leaves float32's range.
            scale = _power_of_two_above(matrix)
            matrix = matrix / scale
            for _ in range(1 if is_warm else 2):
                left = _orthonormalize(_times(matrix, right))
                right = _transposed_times(matrix, left)
            block.left(factors)[:] = left
            with np.errstate(over="ignore"):
                block.right(factors)[:] = np.clip(right * scale, -_MAX, _MAX)
        return factors, self.rank

    @classmethod
    def cuts_after(cls, cuts: Cuts, key: int) -> Cuts:
        """Return where the factors begin: each is a tensor, each of its columns a channel."""
        tensors, channels = [0], [0]
        for block in _blocks(cuts, key):
            start, end = block.factors.start, block.factors.stop
            if block.is_factored:
                rows, columns = block.shape
                middle = start + rows * key
                tensors += [middle, end]
                channels += [*range(start + rows, middle + 1, rows), *range(middle + columns, end + 1, columns)]
            else:
                tensors.append(end)
                channels += block.channels.tolist()
        return Cuts(np.array(tensors, np.int64), np.array(channels, np.int64))

    @classmethod
    def invert(cls, values: NDArray, cuts: Cuts, key: int) -> NDArray:
        """Multiply the factors."""
        restored = np.empty(cuts.size, np.float32)
        for block in _blocks(cuts, key):
            if block.is_factored:
                product = restored[block.values].reshape(block.shape)
                _multiply(block.left(values), block.right(values), out=product)
            else:
                restored[block.values] = values[block.factors]
        return restored

    @classmethod
    def parse_wire(cls, args: tuple[int, ...]) -> int:
        """Return the rank."""
        (rank,) = args
        if not 1 <= rank <= _LARGEST_RANK:
            raise ValueError(f"rank {rank}, expected 1 to {_LARGEST_RANK}")
        return rank


class _Block(NamedTuple):
    """One tensor: where it is among the values, where its factors are, and its shape as a matrix."""

    values: slice
    factors: slice
    shape: tuple[int, int]
    rank: int
    channels: NDArray

    @property
    def is_factored(self) -> bool:
        return _is_worth_it(self.shape, self.rank)

    def left(self, factors: NDArray) -> NDArray:
        """Return the left factor, transposed: (rank, rows), a view."""
        rows = self.shape[0]
        return factors[self.factors][: rows * self.rank].reshape(self.rank, rows)

    def right(self, factors: NDArray) -> NDArray:
        """Return the right factor, transposed: (rank, columns), a view."""
        rows, columns = self.shape
        return factors[self.factors][rows * self.rank :].reshape(self.rank, columns)


def _is_worth_it(shape: tuple[int, int], rank: int) -> bool:
    rows, columns = shape
    return rank * (rows + columns) < rows * columns


def _blocks(cuts: Cuts, rank: int) -> Iterator[_Block]:
    """Yield the tensors; channels of a tensor are the rows of its matrix."""
    position = 0
    bounds = np.unique(cuts.channels)  # an empty tensor's channel begins where the next one does
    first = np.searchsorted(bounds, cuts.tensors)
    for i, (start, end) in enumerate(zip(cuts.tensors[:-1], cuts.tensors[1:], strict=True)):
        rows = max(int(first[i + 1] - first[i]), 1)
        shape = rows, int(end - start) // rows
        size = rank * sum(shape) if _is_worth_it(shape, rank) else int(end - start)
        channels = bounds[first[i] + 1 : first[i + 1] + 1] - start + position
        yield _Block(slice(start, end), slice(position, position + size), shape, rank, channels)
        position += size


def _random_start(size: int) -> NDArray:
    """Return values in [-1, 1) from raw Philox output, whose stream NumPy guarantees: float32."""
    words = np.random.Philox(key=0).random_raw(-(-size // 2)).astype("<u8").view("<i4")[:size]
    return words.astype(np.float32) * np.float32(2.0**-31)


def _power_of_two_above(matrix: NDArray) -> np.float32:
    largest = max(float(matrix.max()), -float(matrix.min()))
    _, exponent = np.frexp(largest)
    return np.float32(2.0 ** min(int(exponent), 127)) if largest else np.float32(1)


def _warm_start(previous: NDArray, random: NDArray) -> NDArray:
    """Return the previous right factor with its columns near 1; a column of zeros would stay zero for ever."""
    return np.stack(
        [old / _power_of_two_above(old) if old.any() else new for old, new in zip(previous, random, strict=True)]
    )


def _times(matrix: NDArray, right: NDArray) -> NDArray:
    """Return ``matrix @ right.T``, transposed: (rank, rows)."""
    return np.stack([(matrix * column).sum(axis=1) for column in right])


def _transposed_times(matrix: NDArray, left: NDArray) -> NDArray:
    """Return ``matrix.T @ left.T``, transposed: (rank, columns)."""
    return np.stack([(matrix * column[:, np.newaxis]).sum(axis=0) for column in left])


def _orthonormalize(vectors: NDArray) -> NDArray:
    """Return orthonormal rows (Gram-Schmidt in float64, twice); a row that depends on the others becomes zeros."""
    rows = vectors.astype(np.float64)
    for i, row in enumerate(rows):
        length, others = np.sqrt(np.square(row).sum()), rows[:i]
        for _ in range(2):
            shares = (others * row).sum(axis=1, keepdims=True)
            row -= (shares * others).sum(axis=0)
        remaining = np.sqrt(np.square(row).sum())
        row *= 1 / remaining if remaining > 1e-6 * length else 0
    return rows.astype(np.float32)


def _multiply(left: NDArray, right: NDArray, out: NDArray) -> None:
    """Write ``left.T @ right`` into `out`, in pieces that stay in the cache."""
    step = max(1, PIECE // out.shape[1])
    for first in range(0, out.shape[0], step):
        rows = slice(first, first + step)
        out[rows] = 0
        for a, b in zip(left, right, strict=True):
            out[rows] += a[rows, np.newaxis] * b
