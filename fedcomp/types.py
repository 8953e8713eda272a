"""The two things that travel through every layer: what a model looks like, and how it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xxhash

from fedcomp.errors import EncodeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

NDArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]

Model: TypeAlias = Mapping[str, NDArray]
"""Ordered tensor name -> array: the weights of a model."""

ModelDelta: TypeAlias = Mapping[str, NDArray]
"""Ordered tensor name -> array: **local minus global**. Floating tensors are float32, integers int64."""

_ROUNDING = 1e-6
"""How far a mean of counters that agree may be from a whole number, over its size: a few roundings of float32."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, NumPy dtype name and shape of one tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements; 1 for a scalar."""
        return prod(self.shape)

    @property
    def num_channels(self) -> int:
        """Length of the first axis; 1 for a vector or a scalar, which have no channels, and for an empty tensor."""
        return self.shape[0] if len(self.shape) > 1 and self.size else 1

    @property
    def is_float(self) -> bool:
        """Whether the tensor holds floating-point values (integers are counters and travel losslessly)."""
        return "float" in self.dtype


@dataclass(frozen=True)
class ModelSpec:
    """Ordered names, types and shapes of a model's tensors: what both ends agree on beforehand.

    Shapes always come from the receiver's own spec, never from the wire. Only the fingerprint travels.

    Example:
        >>> spec = ModelSpec.of({"w": np.zeros((2, 3), np.float32)})
        >>> spec.num_parameters
        6
    """

    tensors: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, model: Model) -> ModelSpec:
        """Read the spec off a model (or off a delta, which has the same names and shapes).

        Raises:
            EncodeError: A tensor is no NumPy array, or one of complex numbers, texts or objects.
        """
        for name, array in model.items():
            _check_array(name, array)
        return cls(tuple(TensorSpec(name, array.dtype.name, array.shape) for name, array in model.items()))

    def __iter__(self) -> Iterator[TensorSpec]:
        return iter(self.tensors)

    @cached_property
    def num_parameters(self) -> int:
        """Number of elements over all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def fingerprint(self) -> int:
        """A 32-bit fingerprint of names, kinds and shapes; 0 never occurs.

        Float widths are left out: a float16 model's delta travels as float32, and either end may know only
        its own width.
        """
        kinds = [(t.name, "float" if t.is_float else "int", t.shape) for t in self.tensors]
        return xxhash.xxh3_64_intdigest(repr(kinds).encode()) % (2**32 - 1) + 1


def fingerprint_model(model: Model) -> int:
    """Fingerprint the values of a model: 32 bits over every tensor's bytes in order; 0 never occurs."""
    digest = xxhash.xxh3_64()
    for array in model.values():
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.intdigest() % (2**32 - 1) + 1


def have_same_tensors(one: Model, other: Model) -> bool:
    """Tell whether two models have tensors of the same names, types and shapes, in any order."""
    return {*ModelSpec.of(one)} == {*ModelSpec.of(other)}


def check_model(name: str, model: object) -> None:
    """Raise `UsageError` unless `model`, which is called `name`, is a mapping of NumPy arrays of numbers."""
    if not isinstance(model, Mapping):
        raise UsageError(f"{name} is a {type(model).__name__}, expected a mapping of NumPy arrays")
    try:
        ModelSpec.of(model)
    except EncodeError as error:
        raise UsageError(f"{name} is no model: {error}; `to_model` makes one of an ArrayRecord") from None


def subtract_models(local: Model, base: Model) -> ModelDelta:
    """Return the update ``local - base``: the one place where the sign of a delta is defined.

    Args:
        local: The model after local training.
        base: The global model that training started from; same names and shapes.

    Returns:
        float32 arrays for tensors that are floating in `base`, int64 for the others, in `base`'s order.

    Raises:
        EncodeError: Names or shapes differ.
        UsageError: A tensor of integers came back as floats that are not whole numbers, or a tensor as no numbers.
    """
    if local.keys() != base.keys():
        missing, extra = sorted(base.keys() - local.keys()), sorted(local.keys() - base.keys())
        raise EncodeError(f"local model has other tensors than the global one: missing {missing}, extra {extra}")
    delta = {}
    for name, before in base.items():
        after = local[name]
        if after.shape != before.shape:
            raise EncodeError(f"tensor {name!r} has shape {after.shape}, the global model has {before.shape}")
        # Where both are float64, so is their difference: as float32 a large number does not move by a small step.
        floats = np.float64 if after.dtype == before.dtype == np.float64 else np.float32
        step = _working_copy(name, after, before.dtype, floats) - _working_copy(name, before, before.dtype, floats)
        delta[name] = step.astype(np.float32, copy=False) if _is_float(before.dtype) else step
    return delta


def add_delta(base: Model, delta: ModelDelta) -> dict[str, NDArray]:
    """Return ``base + delta`` with `base`'s types: the inverse of `subtract_models`.

    What is beyond a type's range, as no such difference is, becomes the nearest that the type has.
    """
    return {name: _add(before, delta[name]) for name, before in base.items()}


def cast_within(values: NDArray, dtype: np.dtype[Any]) -> NDArray:
    """Return values in another type; what is beyond its range becomes the nearest that it has."""
    if np.can_cast(values.dtype, dtype):
        return values.astype(dtype, copy=False)
    low, high = range_of(dtype)
    if values.dtype.kind == "f" and float(high) > high:  # as a float the largest of 64 bits is one more
        high = np.nextafter(float(high), 0)
    return np.asarray(values.clip(low, high)).astype(dtype)


def round_within(values: NDArray, dtype: np.dtype[Any]) -> NDArray:
    """Return values in another type as `cast_within` does, rounded where that has no fractions."""
    return cast_within(np.asarray(values if dtype.kind == "f" else np.rint(values)), dtype)


def range_of(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the least and the largest finite number of a type; of booleans 0 and 1."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    return float(np.finfo(dtype).min), float(np.finfo(dtype).max)


def _add(before: NDArray, step: NDArray) -> NDArray:
    # NumPy's sum of two scalars is no array.
    if "float" in before.dtype.name:
        return cast_within(np.asarray(before + step), before.dtype)
    after = np.asarray(before.astype(np.int64) + step)
    # 64 bits wrap around, as their difference did, and so come back.
    return after.astype(before.dtype) if before.dtype.itemsize == 8 else cast_within(after, before.dtype)


def to_integers(values: NDArray) -> NDArray | None:
    """Return integers as int64, and floats that are whole numbers but for rounding; None if they are not."""
    if not _is_float(values.dtype):
        return values.astype(np.int64, copy=False)
    exact = values.astype(np.float64)
    whole = np.rint(exact)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        is_whole = np.abs(exact - whole) <= _ROUNDING * np.maximum(1, np.abs(whole))
    if not (is_whole & (np.abs(whole) < 2.0**63)).all():
        return None
    return whole.astype(np.int64)


def _working_copy(name: str, values: NDArray, base: np.dtype[Any], floats: type[np.floating[Any]]) -> NDArray:
    """Return values as what a delta is made of: the kind is the global model's, whatever a client computes in."""
    if _is_number(values.dtype):
        if _is_float(base):
            return values.astype(floats, copy=False)
        if (integers := to_integers(values)) is not None:
            return integers
    unless = " and not all whole numbers" if _is_float(values.dtype) else ""
    raise UsageError(f"tensor {name!r} came back as {values.dtype}{unless}, the global model has {base}")


def _check_array(name: str, array: object) -> None:
    if not isinstance(array, (np.ndarray, np.generic)):
        raise EncodeError(f"tensor {name!r} is a {type(array).__name__}, expected a NumPy array")
    if not _is_number(array.dtype):
        raise EncodeError(f"tensor {name!r} has type {array.dtype}, expected floats, integers or booleans")


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biu" or _is_float(dtype)


def _is_float(dtype: np.dtype[Any]) -> bool:
    return "float" in dtype.name
