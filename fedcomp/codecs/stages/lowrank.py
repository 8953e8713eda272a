"""`lowrank`: each matrix as a sum of few outer products."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from fedcomp.codecs.groups import Cuts
from fedcomp.codecs.known import Directions, count_directions
from fedcomp.codecs.products import Factored, Product
from fedcomp.codecs.stage import check_parameters, parameter
from fedcomp.codecs.subspace import expand, leading_components, project
from fedcomp.errors import MissingContext

if TYPE_CHECKING:
    from numpy.random import Generator

    from fedcomp.codecs.groups import Matrix
    from fedcomp.codecs.known import Known
    from fedcomp.types import NDArray

_MAX = float(np.finfo(np.float32).max)
_LARGEST_RANK = 64
"""The receiver's work grows with the rank and the directions, and a sender decides on the former."""
_MOST_REFERENCES = 4


@dataclass(frozen=True)
class LowRank:
    """Send each matrix (a tensor's first axis against all others) as its leading singular components.

    A component travels as two vectors, the left and the right singular vector, **both** multiplied by the singular
    value: then a quantization error of one size does the same harm wherever it falls, so that one step for the whole
    model (`deadzone`) is reverse water-filling over the components of all tensors, and those below the step vanish.
    A matrix with fewer rows or columns has as many components as those; vectors pass through.

    Where both ends hold earlier models (`CodingContext.references`), a vector travels as its coefficients along the
    directions in which training has moved the matrix since then, and what is left beside them. That is more numbers,
    but the coefficients hold most of the energy, and what is left is mostly below the step.

    The components are found by subspace iteration, started from the known directions, or from the right vectors that
    were sent last time, so that they follow the updates over the rounds; without either, from fixed random vectors,
    and once more. The projection contracts, so error feedback converges.

    Args:
        rank: Components of a matrix, at most.
        directions: Known directions of a matrix for each reference; 0 makes no use of references.

    References:
        Vogels et al., PowerSGD, NeurIPS 2019, algorithm 1 and section 4.2 (warm start). There factors are averaged over
        the workers between the two halves of an iteration, and the left one is orthonormal; here each client sends
        both of its own in one message, and both are scaled.
        Cover and Thomas, Elements of Information Theory, section 10.3.3 (reverse water-filling).
        Gur-Ari, Roberts and Dyer, Gradient Descent Happens in a Tiny Subspace, 2018, section 2 (updates stay in the
        span of earlier ones).
    """

    name: ClassVar[str] = "lowrank"
    wire_id: ClassVar[int] = 27
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0
    is_stateless: ClassVar[bool] = False
    preserves_norm: ClassVar[bool] = False
    needs_whole_tensors: ClassVar[bool] = True

    rank: int = parameter(minimum=1, maximum=_LARGEST_RANK)
    directions: int = parameter(16, minimum=0, maximum=_LARGEST_RANK)

    def __post_init__(self) -> None:
        check_parameters(self)

    def apply(
        self,
        values: NDArray,
        cuts: Cuts,
        *,
        rng: Generator | None = None,
        previous: NDArray | None = None,
        known: Known | None = None,
    ) -> tuple[NDArray, tuple[int, ...]]:
        """Return the components, left vectors before right ones, and rank, directions and references."""
        known = known if self.directions else None
        key = (self.rank, self.directions, len(known.moved)) if known else (self.rank,)
        factors = np.empty(self.cuts_after(cuts, key).size, np.float32)
        if known or (previous is not None and previous.size != factors.size):
            previous = None
        for block in _blocks(cuts.matrices, key):
            if not block.is_factored:
                factors[block.factors] = values[block.values]
                continue
            directions = block.directions(known)
            start = directions.right[: block.rank] if directions.right.size else None
            if previous is not None:
                start = block.right(previous).beside
            matrix = values[block.values].reshape(block.matrix.rows, block.matrix.columns)
            left, right = leading_components(matrix, block.rank, start)
            block.left(factors).write(left, directions.left)
            block.right(factors).write(right, directions.right)
        return factors, key

    def writes(self, key: tuple[int, ...]) -> bool:
        """Its own rank, alone or with its own directions."""
        return key[:2] in ((self.rank,), (self.rank, self.directions))

    @classmethod
    def cuts_after(cls, cuts: Cuts, key: tuple[int, ...]) -> Cuts:
        """Return where the vectors begin: a matrix's left and right ones are a tensor each, a vector is a channel.

        Coefficients are a tensor of their own.
        """
        return _cuts_of_factors(cuts.matrices, key)

    @classmethod
    def invert(cls, values: NDArray, cuts: Cuts, key: tuple[int, ...], known: Known | None) -> NDArray:
        """Add the outer products up."""
        return cls.factor(values, cuts, key, known).expand()

    @classmethod
    def factor(cls, values: NDArray, cuts: Cuts, key: tuple[int, ...], known: Known | None) -> Factored:
        """Return what `invert` does, not yet expanded."""
        _check_references(key, known)
        tensors: list[Product | NDArray] = []
        for block in _blocks(cuts.matrices, key):
            if block.is_factored:
                directions = block.directions(known)
                left = block.left(values).read(directions.left)
                right = block.right(values).read(directions.right)
                tensors.append(Product.of_components(left, right))
            else:
                tensors.append(values[block.factors])
        return Factored(tensors, cuts.tensors)

    @classmethod
    def parse_wire(cls, args: tuple[int, ...]) -> tuple[int, ...]:
        """Return the rank and, where references are used, the directions for each and their number."""
        if len(args) not in (1, 3):
            raise ValueError(f"rank, or rank, directions and references, not {args}")
        limits = {"rank": _LARGEST_RANK, "directions": _LARGEST_RANK, "references": _MOST_REFERENCES}
        for (name, limit), arg in zip(limits.items(), args, strict=False):
            if not 1 <= arg <= limit:
                raise ValueError(f"{name} {arg}, expected 1 to {limit}")
        return args


class _Vectors(NamedTuple):
    """Vectors of one side of a matrix among the factors, views: what goes along known directions, what goes beside."""

    along: NDArray
    beside: NDArray

    def write(self, vectors: NDArray, directions: NDArray) -> None:
        """Split vectors; what rounding takes off the coefficients is left beside."""
        vectors = np.clip(vectors, -_MAX, _MAX)
        if directions.size:
            self.along[:] = project(vectors, directions)
            vectors = vectors - expand(self.along, directions)
        self.beside[:] = vectors

    def read(self, directions: NDArray) -> NDArray:
        """Invert `write`."""
        if not directions.size:
            return self.beside
        return (self.beside + expand(self.along, directions)).astype(np.float32)


class _Block(NamedTuple):
    """One tensor: where it is among the values, where its vectors are, and which of them there are."""

    matrix: Matrix
    factors: slice
    is_factored: bool
    rank: int
    num_directions: tuple[int, int]
    num_each: int

    @property
    def values(self) -> slice:
        return self.matrix.where

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Return the shapes of what stands among the factors: coefficients and rest of the left side, of the right."""
        rows, columns = self.matrix.rows, self.matrix.columns
        if not self.is_factored:
            return [(rows, columns)]
        along_left, along_right = self.num_directions
        lengths = (along_left, rows, along_right, columns)
        return [(self.rank, length) for length in lengths if length]

    def directions(self, known: Known | None) -> Directions:
        if known is None:
            return Directions(np.empty((0, self.matrix.rows)), np.empty((0, self.matrix.columns)))
        return known.directions(self.matrix, self.num_each)

    def left(self, factors: NDArray) -> _Vectors:
        return self._side(factors[self.factors][: self._middle], self.matrix.rows)

    def right(self, factors: NDArray) -> _Vectors:
        return self._side(factors[self.factors][self._middle :], self.matrix.columns)

    @property
    def _middle(self) -> int:
        return self.rank * (self.num_directions[0] + self.matrix.rows)

    def _side(self, side: NDArray, length: int) -> _Vectors:
        along, beside = np.split(side, [side.size - self.rank * length])
        return _Vectors(along.reshape(self.rank, -1), beside.reshape(self.rank, length))


@functools.lru_cache(maxsize=64)
def _blocks(matrices: tuple[Matrix, ...], key: tuple[int, ...]) -> tuple[_Block, ...]:
    """Return the tensors, and where each one's vectors are."""
    most, each, num_references = (*key, 0, 0)[:3]
    blocks, position = [], 0
    for matrix in matrices:
        rows, columns = matrix.rows, matrix.columns
        rank, sides, size = min(most, rows, columns), (0, 0), rows * columns
        is_factored = min(rows, columns) > 1
        if is_factored:
            sides = count_directions((rows, columns), each, num_references)
            size = rank * (rows + columns + sum(sides))
        blocks.append(_Block(matrix, slice(position, position + size), is_factored, rank, sides, each))
        position += size
    return tuple(blocks)


@functools.lru_cache(maxsize=64)
def _cuts_of_factors(matrices: tuple[Matrix, ...], key: tuple[int, ...]) -> Cuts:
    tensors, channels = [0], [np.zeros(1, np.int64)]
    for block in _blocks(matrices, key):
        start = block.factors.start
        for rows, columns in block.shapes:
            end = start + rows * columns
            tensors.append(end)
            channels.append(np.arange(start + columns, end + 1, columns or 1))
            start = end
    return Cuts(np.array(tensors, np.int64), np.concatenate(channels))


def _check_references(key: tuple[int, ...], known: Known | None) -> None:
    used, held = (*key, 0, 0)[2], len(known.moved) if known else 0
    if used and used != held:
        raise MissingContext(f"frame makes use of {used} earlier models, the receiver was given {held}")
