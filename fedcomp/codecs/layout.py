"""Where each tensor goes: into the flat coded vector, among the kept floats, or among the integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.groups import Cuts
from fedcomp.errors import EncodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.types import ModelDelta, ModelSpec, NDArray, TensorSpec


@dataclass(frozen=True)
class TensorGroup:
    """Tensors that are concatenated, in model order and each in C order, into one flat vector."""

    tensors: tuple[TensorSpec, ...]

    @cached_property
    def bounds(self) -> NDArray:
        """Start of each tensor in the flat vector and, last, its length: int64, one more than tensors."""
        return np.cumsum([0, *(tensor.size for tensor in self.tensors)], dtype=np.int64)

    @cached_property
    def cuts(self) -> Cuts:
        """Where tensors and channels begin in the flat vector."""
        starts = [
            np.linspace(start, start + tensor.size, tensor.num_channels, endpoint=False, dtype=np.int64)
            for tensor, start in zip(self.tensors, self.bounds[:-1], strict=True)
        ]
        return Cuts(self.bounds, np.concatenate([*starts, self.bounds[-1:]]))

    @property
    def size(self) -> int:
        """Number of elements of the flat vector."""
        return int(self.bounds[-1])

    def flatten(self, delta: ModelDelta, dtype: str) -> NDArray:
        """Concatenate this group's tensors of `delta` into a new flat vector."""
        flat = np.empty(self.size, dtype)
        for tensor, part in self.slices(flat):
            part[:] = delta[tensor.name].reshape(-1)
        return flat

    def slices(self, flat: NDArray) -> Iterator[tuple[TensorSpec, NDArray]]:
        """Cut a flat vector back into (tensor, flat view) pairs."""
        for tensor, start, end in zip(self.tensors, self.bounds[:-1], self.bounds[1:], strict=True):
            yield tensor, flat[start:end]


@dataclass(frozen=True)
class Layout:
    """A model's tensors by how they travel.

    Args:
        spec: The model.
        keep_below: Floating tensors with fewer elements are kept as plain floats.
        frozen: Indices of tensors that do not travel: they did not change.
    """

    spec: ModelSpec
    keep_below: int = 0
    frozen: frozenset[int] = frozenset()

    @cached_property
    def coded(self) -> TensorGroup:
        """Floating tensors that are sparsified and quantized."""
        return TensorGroup(tuple(t for t in self._travelling if t.is_float and t.size >= self.keep_below))

    @cached_property
    def kept(self) -> TensorGroup:
        """Small floating tensors that travel as plain floats."""
        return TensorGroup(tuple(t for t in self._travelling if t.is_float and t.size < self.keep_below))

    @cached_property
    def integers(self) -> TensorGroup:
        """Integer tensors (BatchNorm's counters): always lossless."""
        return TensorGroup(tuple(t for t in self._travelling if not t.is_float))

    @property
    def _travelling(self) -> list[TensorSpec]:
        return [tensor for i, tensor in enumerate(self.spec) if i not in self.frozen]


@lru_cache(maxsize=32)
def layout_of(spec: ModelSpec, keep_below: int, frozen: frozenset[int] = frozenset()) -> Layout:
    """Return the (cached) layout of a model; arguments as `Layout`."""
    return Layout(spec, keep_below, frozen)


def flatten_integers(group: TensorGroup, delta: ModelDelta) -> NDArray:
    """Flatten to int64.

    Raises:
        EncodeError: A tensor holds a number beyond that; names the tensor.
    """
    for tensor in group.tensors:
        if tensor.dtype == "uint64" and int(np.max(delta[tensor.name], initial=0)) > np.iinfo(np.int64).max:
            raise EncodeError(f"update of tensor {tensor.name!r} holds an integer beyond 64 bits with a sign")
    return group.flatten(delta, "int64")


def flatten_finite(group: TensorGroup, delta: ModelDelta) -> NDArray:
    """Flatten to float32 and check that every value is finite.

    Raises:
        EncodeError: A tensor holds NaN or infinity, or a value beyond float32; names the tensor.
    """
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused just below
        flat = group.flatten(delta, "float32")
    # The extremes carry NaN and infinity: two reads, no temporary of the vector's size.
    if flat.size and not (isfinite(flat.max()) and isfinite(flat.min())):
        name = next(tensor.name for tensor, part in group.slices(flat) if not np.isfinite(part).all())
        raise EncodeError(f"update of tensor {name!r} holds NaN, infinity or a value beyond float32")
    return flat
