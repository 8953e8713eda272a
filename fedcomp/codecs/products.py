"""Matrices as sums of few outer products: expanded one by one, or many of them together.

To write out an update of 1.66 million parameters as sixteen outer products takes longer than all else of decoding it,
and a running mean needs none of them, only their sum. So a receiver checks the factors, and expands those of many
updates with one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.groups import PIECE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedcomp.types import NDArray

_STACKED = 128
"""Components that are expanded together: enough for a fast matrix product, and a fixed number, so that it repeats."""
_LARGEST = 1e30
"""Above it entries may become infinite where many are added up in float32."""
_MOST_CANCELLED = 64
"""How much longer components may be together than their sum: what rounding leaves of them is as much larger than it."""


@dataclass(frozen=True, eq=False)
class Product:
    """A matrix as ``left.T @ right``: float32, (rank, rows) and (rank, columns)."""

    left: NDArray
    right: NDArray

    @classmethod
    def of_components(cls, left: NDArray, right: NDArray) -> Product:
        """Make it of singular vectors that are both multiplied by the singular value.

        That is the geometric mean of the two lengths: one of the vectors is divided by it.
        """
        lengths = [np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1)) for vectors in (left, right)]
        singular = np.sqrt(lengths[0]) * np.sqrt(lengths[1])
        used = np.flatnonzero(singular)
        return cls((left[used] / singular[used, np.newaxis]).astype(np.float32), right[used])

    @property
    def bound(self) -> float:
        """What no entry's magnitude is above; not a number or infinite if a factor is."""
        largest = [np.abs(vectors).max(axis=1, initial=0).astype(np.float64) for vectors in (self.left, self.right)]
        return float((largest[0] * largest[1]).sum())

    def expand(self, flat: NDArray) -> None:
        """Write the matrix, row by row, in pieces that stay in the cache: the same bits on every machine."""
        out = flat.reshape(self.left.shape[1], self.right.shape[1])
        step = max(1, PIECE // out.shape[1])
        for first in range(0, out.shape[0], step):
            rows = slice(first, first + step)
            out[rows] = 0
            for a, b in zip(self.left, self.right, strict=True):
                out[rows] += a[rows, np.newaxis] * b

    def scaled(self, factor: float) -> Product:
        """Return the matrix multiplied by a number."""
        return Product(self.left * np.float32(factor), self.right)

    @property
    def cancels(self) -> bool:
        """Whether the components cancel each other: then a sum in another order, or a norm from angles, is another."""
        lengths = np.sqrt(np.diag(self._inner))
        return float(lengths.sum()) ** 2 > _MOST_CANCELLED**2 * self.squared_norm()

    def squared_norm(self) -> float:
        """Return the sum of the squared entries, from the components' lengths and angles; not of what `cancels`."""
        return float(self._inner.sum())

    @cached_property
    def _inner(self) -> NDArray:
        """The inner products of the components: float64, (rank, rank)."""
        left, right = self.left.astype(np.float64), self.right.astype(np.float64)
        return (left @ left.T) * (right @ right.T)


class Factored:
    """A flat vector in which some tensors are products.

    Args:
        tensors: One after the other, each as a product or as its flat values, float32.
        bounds: Tensor i has the place ``bounds[i]`` to ``bounds[i + 1]``.
    """

    def __init__(self, tensors: Sequence[Product | NDArray], bounds: NDArray) -> None:
        self.tensors, self._bounds = tensors, bounds
        self._expanded: NDArray | None = None

    @property
    def adds_up(self) -> bool:
        """Whether sums of many such, as factors, are finite and those of the expanded vectors but for rounding."""
        return all(
            t.bound <= _LARGEST and not t.cancels if isinstance(t, Product) else np.isfinite(t).all()
            for t in self.tensors
        )

    def expand(self) -> NDArray:
        """Return the whole vector, written once."""
        if self._expanded is None:
            self._expanded = np.empty(self._bounds[-1], np.float32)
            for tensor, start, end in zip(self.tensors, self._bounds[:-1], self._bounds[1:], strict=True):
                if isinstance(tensor, Product):
                    tensor.expand(self._expanded[start:end])
                else:
                    self._expanded[start:end] = tensor
        return self._expanded

    def scaled(self, factor: float) -> Factored:
        """Return the vector multiplied by a number."""
        scaled = [t.scaled(factor) if isinstance(t, Product) else t * np.float32(factor) for t in self.tensors]
        return Factored(scaled, self._bounds)

    def squared_norm(self) -> float:
        """Return the sum of the squared values, if it `adds_up`."""
        return sum(
            t.squared_norm() if isinstance(t, Product) else float(np.square(t, dtype=np.float64).sum())
            for t in self.tensors
        )


class ProductSum:
    """Adds up the weighted products of many updates.

    A fixed number of components is expanded together, in the order in which they come: one matrix product in float32,
    added up in float64. So the sum follows from the order of the updates, but its last bits may differ between
    machines, as those of training do.

    Args:
        total: Flat float64 arrays, one a tensor, that the sums are added to.
    """

    def __init__(self, total: Mapping[str, NDArray]) -> None:
        self._total = total
        self._stacks: dict[str, list[tuple[Product, float]]] = {}

    def add(self, tensor: str, product: Product, weight: float) -> None:
        """Add ``weight * product``, a positive weight; it is in the total after `flush` at the latest."""
        if not len(product.left):
            return
        stack = self._stacks.setdefault(tensor, [])
        stack.append((product, weight))
        if sum(len(product.left) for product, _ in stack) >= _STACKED:
            self._expand(tensor)

    def flush(self) -> None:
        """Expand what is left."""
        for tensor in list(self._stacks):
            self._expand(tensor)

    def _expand(self, tensor: str) -> None:
        stack = self._stacks.pop(tensor)
        # Relative to the largest weight, so that none is beyond float32.
        largest = max(weight for _, weight in stack)
        left = np.concatenate([product.left * np.float32(weight / largest) for product, weight in stack])
        expanded = (left.T @ np.concatenate([product.right for product, _ in stack])).reshape(-1)
        buffer = np.empty(PIECE)
        for first in range(0, expanded.size, PIECE):
            target = self._total[tensor][first : first + PIECE]
            target += np.multiply(expanded[first : first + PIECE], largest, out=buffer[: target.size], dtype=np.float64)
