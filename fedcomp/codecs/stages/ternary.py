"""`ternary`: a sign for each selected coordinate, and one magnitude for all."""

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
class Ternary:
    """Replace each selected value by ``sign(x) * mu``, mu the mean magnitude of all of them.

    The mean minimizes the squared error among all common magnitudes.

    References:
        Sattler et al., Robust and Communication-Efficient Federated Learning from Non-IID Data (sparse ternary
        compression), IEEE TNNLS 2019, section V and algorithm 1.
    """

    name: ClassVar[str] = "ternary"
    wire_id: ClassVar[int] = 35
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0
    needs_sparsifier: ClassVar[bool] = True
    centre: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_parameters(self)

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return one magnitude and the packed signs."""
        magnitude = np.abs(values).mean(dtype=np.float64, keepdims=True) if values.size else np.empty(0)
        return {
            SectionKind.TABLES: magnitude.astype(np.float32),
            SectionKind.SIGNS: np.packbits(values < 0),
        }

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return one magnitude and a bit a value."""
        return {
            SectionKind.TABLES: ArraySpec("float32", min(count, 1)),
            SectionKind.SIGNS: ArraySpec("uint8", -(-count // 8)),
        }

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return ``+-magnitude``; raises `InvalidValues` for a bad magnitude or padding that is not zero."""
        magnitude = arrays[SectionKind.TABLES]
        if not np.all((magnitude >= 0) & np.isfinite(magnitude)):
            raise InvalidValues("the magnitude is negative or not finite")
        signs = unpack_signs(arrays[SectionKind.SIGNS], cuts.size)
        return signs * magnitude if signs.size else signs

    def wire_args(self) -> tuple[int, ...]:
        """Return nothing: there is nothing to choose."""
        return ()

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage."""
        if args:
            raise ValueError("ternary takes no arguments")
        return cls()


def unpack_signs(packed: NDArray, count: int) -> NDArray:
    """Return +1 and -1 as float32; raises `InvalidValues` if the padding after the last sign is not zero."""
    bits = np.unpackbits(packed)
    if bits[count:].any():
        raise InvalidValues("the padding after the last sign is not zero")
    return np.float32(1) - np.float32(2) * bits[:count]
