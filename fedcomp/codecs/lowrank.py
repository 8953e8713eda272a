"""`lowrank`: each matrix as a sum of few outer products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from fedcomp.codecs.groups import PIECE, Cuts
from fedcomp.codecs.stage import check_parameters, parameter
from fedcomp.codecs.subspace import leading_components

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator

    from fedcomp.types import NDArray

_MAX = float(np.finfo(np.float32).max)
_LARGEST_RANK = 64
"""The receiver's work grows with the rank, and a sender decides on it."""


@dataclass(frozen=True)
class LowRank:
    """Send each matrix (a tensor's first axis against all others) as its leading singular components.

    A component travels as two vectors, the left and the right singular vector, **both** multiplied by the singular
    value: then a quantization error of one size does the same harm wherever it falls, so that one step for the whole
    model (`deadzone`) is reverse water-filling over the components of all tensors, and those below the step vanish.
    Vectors, and matrices that are no larger than their factors, pass through.

    The components are found by subspace iteration, started from the right vectors that were sent last time, so that
    they follow the updates over the rounds; without them, from fixed random vectors, and once more. The projection
    contracts, so error feedback converges.

    Args:
        rank: Components of a matrix, at most.

    References:
        Vogels et al., PowerSGD, NeurIPS 2019, algorithm 1 and section 4.2 (warm start). There factors are averaged over
        the workers between the two halves of an iteration, and the left one is orthonormal; here each client sends
        both of its own in one message, and both are scaled.
        Cover and Thomas, Elements of Information Theory, section 10.3.3 (reverse water-filling).
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
        """Return the components, left vectors before right ones, and the rank."""
        factors = np.empty(self.cuts_after(cuts, self.rank).size, np.float32)
        if previous is not None and previous.size != factors.size:
            previous = None
        for block in _blocks(cuts, self.rank):
            if not block.is_factored:
                factors[block.factors] = values[block.values]
                continue
            start = None if previous is None else block.right(previous)
            left, right = leading_components(values[block.values].reshape(block.shape), self.rank, start)
            np.clip(left, -_MAX, _MAX, out=block.left(factors), casting="same_kind")
            np.clip(right, -_MAX, _MAX, out=block.right(factors), casting="same_kind")
        return factors, self.rank

    @classmethod
    def cuts_after(cls, cuts: Cuts, key: int) -> Cuts:
        """Return where the vectors begin: a matrix's left and right ones are a tensor each, a vector is a channel."""
        tensors, channels = [0], [np.zeros(1, np.int64)]
        for block in _blocks(cuts, key):
            start, end = block.factors.start, block.factors.stop
            if block.is_factored:
                rows, columns = block.shape
                middle = start + rows * key
                tensors += [middle, end]
                channels.append(np.arange(start + rows, middle + 1, rows))
                channels.append(np.arange(middle + columns, end + 1, columns))
            else:
                tensors.append(end)
                channels.append(np.arange(start + block.shape[1], end + 1, block.shape[1] or 1))
        return Cuts(np.array(tensors, np.int64), np.concatenate(channels))

    @classmethod
    def invert(cls, values: NDArray, cuts: Cuts, key: int) -> NDArray:
        """Add the outer products up."""
        restored = np.empty(cuts.size, np.float32)
        for block in _blocks(cuts, key):
            if block.is_factored:
                product = restored[block.values].reshape(block.shape)
                _add_products(block.left(values), block.right(values), out=product)
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
    """One tensor: where it is among the values, where its vectors are, and its shape as a matrix."""

    values: slice
    factors: slice
    shape: tuple[int, int]
    rank: int

    @property
    def is_factored(self) -> bool:
        return _is_worth_it(self.shape, self.rank)

    def left(self, factors: NDArray) -> NDArray:
        """Return the left vectors: (rank, rows), a view."""
        rows = self.shape[0]
        return factors[self.factors][: rows * self.rank].reshape(self.rank, rows)

    def right(self, factors: NDArray) -> NDArray:
        """Return the right vectors: (rank, columns), a view."""
        rows, columns = self.shape
        return factors[self.factors][rows * self.rank :].reshape(self.rank, columns)


def _is_worth_it(shape: tuple[int, int], rank: int) -> bool:
    rows, columns = shape
    return rank * (rows + columns) < rows * columns


def _blocks(cuts: Cuts, rank: int) -> Iterator[_Block]:
    """Yield the tensors, and where each one's vectors are."""
    position = 0
    for matrix in cuts.matrices:
        shape = matrix.rows, matrix.columns
        size = rank * sum(shape) if _is_worth_it(shape, rank) else matrix.rows * matrix.columns
        yield _Block(matrix.where, slice(position, position + size), shape, rank)
        position += size


def _add_products(left: NDArray, right: NDArray, out: NDArray) -> None:
    """Write the sum of the components' outer products, in pieces that stay in the cache.

    A component's singular value is the geometric mean of its vectors' lengths: one of the two is divided by it.
    """
    lengths = [np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1)) for vectors in (left, right)]
    singular = np.sqrt(lengths[0]) * np.sqrt(lengths[1])
    used = np.flatnonzero(singular)
    scaled = (left[used] / singular[used, np.newaxis]).astype(np.float32)
    step = max(1, PIECE // out.shape[1])
    for first in range(0, out.shape[0], step):
        rows = slice(first, first + step)
        out[rows] = 0
        for a, b in zip(scaled, right[used], strict=True):
            out[rows] += a[rows, np.newaxis] * b
