"""A checked update that is still as sparse as it came."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.layout import layout_of
from fedcomp.errors import InvalidValues
from fedcomp.types import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fedcomp.codecs.layout import Layout
    from fedcomp.types import ModelDelta, NDArray

_PIECE = 1 << 15


@dataclass(frozen=True, slots=True)
class DecodedUpdate:
    """What a frame holds, after every check. Its memory follows the coordinates sent, not the model.

    Args:
        layout: The receiver's model.
        positions: Coordinates of `values` in the coded vector, int64; None if dense.
        values: float32.
        bounds: Tensor i of the coded group owns ``values[bounds[i]:bounds[i + 1]]``.
        kept: float32, the kept group.
        integers: int64, the integer group.
    """

    layout: Layout
    positions: NDArray | None
    values: NDArray
    bounds: NDArray
    kept: NDArray
    integers: NDArray

    @classmethod
    def from_delta(cls, delta: ModelDelta) -> DecodedUpdate:
        """Wrap an update that came without a codec; every value finite."""
        layout = layout_of(ModelSpec.of(delta), 0)
        coded, integers = layout.coded.flatten(delta, "float32"), layout.integers.flatten(delta, "int64")
        return cls(layout, None, coded, layout.coded.bounds, np.empty(0, np.float32), integers)

    def add_to(self, total: Mapping[str, NDArray], weight: float) -> None:
        """Add ``weight * update`` into flat, floating arrays, one a tensor, in place."""
        buffer = np.empty(_PIECE)
        for tensor, where, values in self._parts():
            if not isinstance(where, slice):
                total[tensor][where] += weight * values
                continue
            # In pieces that stay in the cache, so that the weighted values never go out to memory.
            for left in range(0, values.size, _PIECE):
                piece = slice(left, min(left + _PIECE, values.size))
                target = total[tensor][piece]
                np.add(target, np.multiply(values[piece], weight, out=buffer[: target.size]), out=target)

    def to_delta(self) -> ModelDelta:
        """Return the update as arrays of the model's shapes: float32 and int64."""
        delta = {t.name: np.zeros(t.size, np.float32 if t.is_float else np.int64) for t in self.layout.spec}
        for tensor, where, values in self._parts():
            delta[tensor][where] = values
        return {tensor.name: delta[tensor.name].reshape(tensor.shape) for tensor in self.layout.spec}

    def norm(self) -> float:
        """Return the Euclidean norm of the floating tensors."""
        return float(np.sqrt(sum(np.square(part, dtype=np.float64).sum() for part in (self.values, self.kept))))

    def check_norm(self, largest: float) -> None:
        """Raise `InvalidValues` if the norm is over `largest`."""
        # Every value is known to be finite: without a cap there is nothing to measure.
        if largest != inf and not (norm := self.norm()) <= largest:
            raise InvalidValues(f"update has norm {norm:.4g}, at most {largest:.4g} is allowed")

    def _parts(self) -> Iterator[tuple[str, NDArray | slice, NDArray]]:
        """Yield (tensor, where in its flat array, values)."""
        coded = self.layout.coded
        for i, tensor in enumerate(coded.tensors):
            part = slice(self.bounds[i], self.bounds[i + 1])
            where = slice(None) if self.positions is None else self.positions[part] - coded.bounds[i]
            yield tensor.name, where, self.values[part]
        for group, flat in ((self.layout.kept, self.kept), (self.layout.integers, self.integers)):
            for tensor, values in group.slices(flat):
                yield tensor.name, slice(None), values
