"""`float32` and `float16`: values as plain floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.stage import ArraySpec, check_parameters
from fedcomp.errors import InvalidValues
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray


@dataclass(frozen=True)
class Float32:
    """Leave the values as they are: lossless for float32 models."""

    name: ClassVar[str] = "float32"
    wire_id: ClassVar[int] = 32
    is_unbiased: ClassVar[bool] = True
    error_bound: ClassVar[float] = 0.0
    needs_sparsifier: ClassVar[bool] = False
    centre: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_parameters(self)

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return the values in the wire's type, clipped to its range."""
        largest = np.finfo(self.name).max
        with np.errstate(over="ignore"):
            narrowed = values.astype(self.name, copy=False)
        if narrowed is not values:
            np.clip(narrowed, -largest, largest, out=narrowed)
        return {SectionKind.VALUES: narrowed}

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return one section of plain floats."""
        return {SectionKind.VALUES: ArraySpec(self.name, count)}

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return the values as float32; raises `InvalidValues` for NaN and infinity."""
        values = arrays[SectionKind.VALUES].astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise InvalidValues("values hold NaN or infinity")
        return values

    def wire_args(self) -> tuple[int, ...]:
        """Return nothing: the id says it all."""
        return ()

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage."""
        if args:
            raise ValueError(f"{cls.name} takes no arguments")
        return cls()


@dataclass(frozen=True)
class Float16(Float32):
    """Round the values to float16; what is beyond its range is clipped to +-65,504."""

    name: ClassVar[str] = "float16"
    wire_id: ClassVar[int] = 33
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0
