"""Fixed levels: a table on [-1, 1] that both ends hold, scaled by each group's largest magnitude."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.codecs.groups import PIECE, SCALES, largest_magnitudes, spread
from fedcomp.codecs.stage import ArraySpec, check_parameters, parameter
from fedcomp.errors import InvalidValues
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray


@dataclass(frozen=True)
class FixedLevels(ABC):
    """Round ``x / max|x|`` of each group to the nearest level.

    Args:
        scale: What shares a largest magnitude: ``tensor``, ``model``, ``channel`` or ``block``.
        block: Values in a block.
    """

    needs_sparsifier: ClassVar[bool] = False
    is_unbiased: ClassVar[bool] = False

    scale: str = parameter("block", choices=SCALES)
    block: int = parameter(64, minimum=8, maximum=1 << 20)

    def __post_init__(self) -> None:
        check_parameters(self)  # type: ignore[arg-type]

    @property
    def error_bound(self) -> float:
        """Rounding to the nearest level errs by no more than zero would."""
        return 1.0

    @property
    @abstractmethod
    def levels(self) -> NDArray:
        """The table: float32, ascending, at most 256, -1 or more, ends at 1."""

    @property
    def centre(self) -> int | None:
        """The index of the level zero; None where the table has none."""
        found = np.flatnonzero(self.levels == 0)
        return int(found[0]) if found.size else None

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return scales and indices into the table."""
        bounds = cuts.by(self.scale, self.block)
        scales = largest_magnitudes(values, bounds)
        symbols = np.empty(values.size, np.uint8)
        for piece, scale in spread(np.where(scales > 0, scales, np.float32(1)), bounds):
            symbols[piece] = nearest(values[piece] / scale, self.levels)
        return {SectionKind.TABLES: scales, SectionKind.VALUES: symbols}

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return one scale a group and one index a value."""
        return {
            SectionKind.TABLES: ArraySpec("float32", cuts.count(self.scale, self.block, count)),
            SectionKind.VALUES: ArraySpec("uint8", count),
        }

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return ``level * scale``; raises `InvalidValues` for an index or a scale out of range."""
        scales = arrays[SectionKind.TABLES]
        if not np.all((scales >= 0) & np.isfinite(scales)):
            raise InvalidValues("a scale is negative or not finite")
        values = look_up(arrays[SectionKind.VALUES], self.levels)
        for piece, scale in spread(scales, cuts.by(self.scale, self.block)):
            values[piece] *= scale
        return values


def nearest(values: NDArray, levels: NDArray) -> NDArray:
    """Return the index of the level that is nearest to each value; of two equally near ones the upper."""
    return np.searchsorted(levels[1:] / 2 + levels[:-1] / 2, values, side="right")


def look_up(symbols: NDArray, levels: NDArray, out: NDArray | None = None) -> NDArray:
    """Return ``levels[symbols]``, float32, in `out` if given; raises `InvalidValues` for an index that is not there."""
    if symbols.size and symbols.max() >= levels.size:
        raise InvalidValues(f"level {symbols.max()} of {levels.size}")
    values = np.empty(symbols.size, levels.dtype) if out is None else out
    for left in range(0, symbols.size, PIECE):  # `take` widens its indices to 64 bits: a piece at a time
        piece = slice(left, left + PIECE)
        np.take(levels, symbols[piece], out=values[piece], mode="clip")
    return values


def level_means(values: NDArray, symbols: NDArray, fallback: NDArray) -> NDArray:
    """Return the mean of the values at each symbol, float64.

    Args:
        values: Of any float type.
        symbols: One a value.
        fallback: Means of unused symbols.
    """
    counts, sums = np.zeros(fallback.size), np.zeros(fallback.size)
    for left in range(0, symbols.size, PIECE):
        piece = slice(left, left + PIECE)
        counts += np.bincount(symbols[piece], minlength=fallback.size)
        sums += np.bincount(symbols[piece], weights=values[piece], minlength=fallback.size)
    return np.where(counts > 0, sums / np.maximum(counts, 1), fallback)
