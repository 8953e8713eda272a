"""A checked update that is still as sparse as it came."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.layout import layout_of
from fedcomp.codecs.products import Factored, Product
from fedcomp.errors import InvalidValues
from fedcomp.types import ModelSpec, range_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fedcomp.codecs.layout import Layout
    from fedcomp.codecs.products import ProductSum
    from fedcomp.types import Model, ModelDelta, NDArray

_PIECE = 1 << 15


@dataclass(frozen=True, slots=True)
class DecodedUpdate:
    """What a frame holds, after every check. Its memory follows the coordinates sent, not the model.

    Args:
        layout: The receiver's model.
        positions: Coordinates of `values` in the coded vector, int64; None if dense.
        coded: What `values` returns, or the factors that it is expanded from.
        bounds: Tensor i of the coded group owns ``values[bounds[i]:bounds[i + 1]]``.
        kept: float32, the kept group.
        integers: int64, the integer group.
    """

    layout: Layout
    positions: NDArray | None
    coded: NDArray | Factored
    bounds: NDArray
    kept: NDArray
    integers: NDArray

    @classmethod
    def from_delta(cls, delta: ModelDelta) -> DecodedUpdate:
        """Wrap an update that came without a codec; every value finite."""
        layout = layout_of(ModelSpec.of(delta), 0)
        coded, integers = layout.coded.flatten(delta, "float32"), layout.integers.flatten(delta, "int64")
        return cls(layout, None, coded, layout.coded.bounds, np.empty(0, np.float32), integers)

    @property
    def values(self) -> NDArray:
        """The coded values: float32, one for each position."""
        return self.coded.expand() if isinstance(self.coded, Factored) else self.coded

    def add_to(self, total: Mapping[str, NDArray], weight: float, products: ProductSum | None = None) -> None:
        """Add ``weight * update`` into flat, floating arrays, one a tensor, in place.

        Args:
            total: The arrays.
            weight: Any number.
            products: Takes what came as factors, to add it to `total` together with others'; None if this shall.
        """
        buffer = np.empty(_PIECE)
        if products is not None:
            for coded, values in zip(self.layout.coded.tensors, self._tensors(), strict=True):
                if isinstance(values, Product):
                    products.add(coded.name, values, weight)
        for tensor, where, values in self._parts(expand=products is None):
            if not isinstance(where, slice):
                total[tensor][where] += np.multiply(values, weight, dtype=np.float64)
                continue
            # In pieces that stay in the cache, so that the weighted values never go out to memory.
            for left in range(0, values.size, _PIECE):
                piece = slice(left, min(left + _PIECE, values.size))
                target = total[tensor][piece]
                # Not in float32, as NumPy would: a large weight would make infinite what is finite.
                weighted = np.multiply(values[piece], weight, out=buffer[: target.size], dtype=np.float64)
                np.add(target, weighted, out=target)

    def to_delta(self) -> ModelDelta:
        """Return the update as arrays of the model's shapes: float32 and int64."""
        delta = {t.name: np.zeros(t.size, np.float32 if t.is_float else np.int64) for t in self.layout.spec}
        for tensor, where, values in self._parts():
            delta[tensor][where] = values
        return {tensor.name: delta[tensor.name].reshape(tensor.shape) for tensor in self.layout.spec}

    def norm(self) -> float:
        """Return the Euclidean norm of the floating tensors."""
        if isinstance(self.coded, Factored):
            coded = self.coded.squared_norm()
        else:
            coded = float(np.square(self.coded, dtype=np.float64).sum())
        return math.sqrt(coded + float(np.square(self.kept, dtype=np.float64).sum()))

    def check_norm(self, largest: float) -> None:
        """Raise `InvalidValues` if the norm is over `largest`."""
        # Every value is known to be finite: without a cap there is nothing to measure.
        if largest != math.inf and not (norm := self.norm()) <= largest:
            raise InvalidValues(f"update has norm {norm:.4g}, at most {largest:.4g} is allowed")

    def check_integers(self, base: Model, largest: int) -> None:
        """Check where the update moves integers to.

        Args:
            base: What it is applied to.
            largest: Furthest that a number may move, at most 2^62.

        Raises:
            InvalidValues: Further than that, or out of a tensor's type.
        """
        for tensor, steps in self.layout.integers.slices(self.integers):
            furthest = max(int(steps.max(initial=0)), -int(steps.min(initial=0)))
            if furthest > largest:
                raise InvalidValues(f"tensor {tensor.name!r} moves by {furthest}, at most {largest} is allowed")
            before = base[tensor.name].reshape(-1)
            if _leave_type(before, steps):
                raise InvalidValues(f"tensor {tensor.name!r} leaves the range of its type, {before.dtype}")

    def scaled(self, factor: float) -> DecodedUpdate:
        """Return the update with its floating tensors multiplied by a number."""
        coded = self.coded.scaled(factor) if isinstance(self.coded, Factored) else self.coded * np.float32(factor)
        return replace(self, coded=coded, kept=self.kept * np.float32(factor))

    def _tensors(self) -> Sequence[Product | NDArray]:
        """Return the coded tensors as they came."""
        return self.coded.tensors if isinstance(self.coded, Factored) else self._cut(self.coded)

    def _cut(self, vector: NDArray) -> list[NDArray]:
        return [vector[start:end] for start, end in pairwise(self.bounds)]

    def _parts(self, *, expand: bool = True) -> Iterator[tuple[str, NDArray | slice, NDArray]]:
        """Yield (tensor, where in its flat array, values), without the products if they are not to be expanded."""
        coded = self.layout.coded
        tensors = self._cut(self.values) if expand else self._tensors()
        for i, (tensor, part) in enumerate(zip(coded.tensors, tensors, strict=True)):
            if isinstance(part, Product):
                continue
            where: NDArray | slice = slice(None)
            if self.positions is not None:
                where = self.positions[self.bounds[i] : self.bounds[i + 1]] - coded.bounds[i]
            yield tensor.name, where, part
        for group, flat in ((self.layout.kept, self.kept), (self.layout.integers, self.integers)):
            for tensor, values in group.slices(flat):
                yield tensor.name, slice(None), values


def _leave_type(before: NDArray, steps: NDArray) -> bool:
    """Tell whether a sum of integers is beyond the first ones' type; steps are int64 and at most 2^62."""
    low, high = range_of(before.dtype)
    wide = np.uint64 if before.dtype == np.uint64 else np.int64
    up, down = steps.clip(min=0).astype(wide), (-steps.clip(max=0)).astype(wide)
    # What could overflow is subtracted from the limits.
    return bool((before.astype(wide) > high - up).any() or (before.astype(wide) < low + down).any())
