"""`deadzone`: one entropy-coded uniform grid for the whole model, with a wide zero and centroids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import PIECE, root_mean_square
from fedcomp.codecs.stage import ArraySpec, check_parameters, parameter
from fedcomp.codecs.stages.levels import look_up
from fedcomp.errors import InvalidValues
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray

_TINY, _MAX = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

_SMALLEST_STEP, _LARGEST_STEP = 1e-6, 1e6
_MOST_LEVELS = 32_767
_ENTRIES = 15


@dataclass(frozen=True)
class DeadZone:
    """Round with a bias towards zero, and decode to centroids.

    ``q = sign(x) * floor(|x| / step + 1/2 - zone)``, at most `largest` in size. What falls on a symbol decodes to the
    mean magnitude of the values that do, so a wider zero costs little error and saves much entropy. One step for the
    model is what reverse water-filling asks for: tensors with small updates are mostly zeros.

    A small update has few symbols, so its table counts: both signs share an entry, which is a byte, where in its cell
    the centroid is; and where there are many levels, all beyond the first 15 share one.

    Args:
        step: In root mean squares of the fresh update (see `Codec.encode`), above 0.
        zone: What is taken off before rounding, 0 (nearest) to 0.5 (down).
        largest: Largest symbol, 1 to 32767; symbols beyond 127 take two bytes before they are coded.

    References:
        Sullivan, Efficient Scalar Quantization of Exponential and Laplacian Random Variables, IEEE Trans. Inf. Theory
        1996, sections III and IV (uniform thresholds with a dead zone and centroids).
    """

    name: ClassVar[str] = "deadzone"
    wire_id: ClassVar[int] = 40
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0
    needs_sparsifier: ClassVar[bool] = False

    step: float = parameter(minimum=_SMALLEST_STEP, maximum=_LARGEST_STEP)
    zone: float = parameter(0.2, minimum=0.0, maximum=0.5)
    largest: int = parameter(_MOST_LEVELS, minimum=1, maximum=_MOST_LEVELS)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def centre(self) -> int:
        """The middle symbol."""
        return self.largest

    def rescaled(self, factor: float) -> Self:
        """Return the stage with another step."""
        return replace(self, step=min(max(self.step * factor, _SMALLEST_STEP), _LARGEST_STEP))

    def scaled(self, amount: float) -> Self:
        """Return the stage with a step that makes for about `amount` times as many bytes."""
        return self.rescaled(1 / amount)

    def fitted(self, values: NDArray) -> Self:
        """Return the stage with no more symbols than these values make use of, and the same step for them."""
        level = np.float32(_extreme(values)) / self._absolute_step(values) + np.float32(0.5 - self.zone)
        if level >= _MOST_LEVELS - 1:  # where the last level decides about the step, rounding may make it one less
            return self
        return replace(self, largest=int(np.clip(level, 1, self.largest)))

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return step and centroids, and the symbols, shifted to be unsigned."""
        step = self._absolute_step(values)
        symbols, sizes = np.empty(values.size, self._unsigned), np.empty(PIECE, np.float32)
        signed = np.dtype(f"i{symbols.itemsize}")
        counts, sums = np.zeros(self.largest + 1), np.zeros(self.largest + 1)
        for left in range(0, values.size, PIECE):
            piece = values[left : left + PIECE]
            level = sizes[: piece.size]
            np.divide(np.abs(piece), step, out=level)
            level += np.float32(0.5 - self.zone)
            np.floor(level, out=level)
            np.minimum(level, np.float32(self.largest), out=level)
            used = np.flatnonzero(level)
            used_levels = level[used].astype(np.intp)
            counts += np.bincount(used_levels, minlength=counts.size)
            sums += np.bincount(used_levels, weights=np.abs(piece[used]), minlength=counts.size)
            symbols[left : left + PIECE] = np.copysign(level, piece, out=level).astype(signed).view(symbols.dtype)
        symbols += symbols.dtype.type(self.largest)  # wraps, as it should
        return {SectionKind.TABLES: _write_table(step, sums, counts), SectionKind.VALUES: symbols}

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return a byte a level and two numbers, and one symbol a value."""
        return {
            SectionKind.TABLES: ArraySpec("uint8", 8 + min(self.largest - 1, _ENTRIES)),
            SectionKind.VALUES: ArraySpec(self._unsigned.name, count),
        }

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return the centroids of the symbols; raises `InvalidValues` for one that is not finite, or not there."""
        magnitudes = _read_table(arrays[SectionKind.TABLES], self.largest)
        centroids = np.concatenate([-magnitudes[:0:-1], magnitudes])
        return look_up(arrays[SectionKind.VALUES], centroids)

    def wire_args(self) -> tuple[int, ...]:
        """Return the largest symbol."""
        return (self.largest,)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage, as far as a decoder needs it."""
        (largest,) = args
        if not 1 <= largest <= _MOST_LEVELS:
            raise ValueError(f"deadzone with symbols to {largest}")
        return cls(step=1.0, largest=largest)

    @property
    def _unsigned(self) -> np.dtype[np.unsignedinteger[Any]]:
        return np.dtype(np.uint8 if self.largest <= np.iinfo(np.int8).max else np.uint16)

    def _absolute_step(self, values: NDArray) -> np.float32:
        step = self.step * root_mean_square(values)
        if self.largest == _MOST_LEVELS:  # fewer are a choice: then large values are clipped
            step = max(step, _extreme(values) / _MOST_LEVELS)
        return np.float32(min(max(step, _TINY), _MAX))


def _extreme(values: NDArray) -> float:
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


_CELL = 1.5 / 255
"""Bytes divide what a level's values may be, in steps: from half a one below the level to a whole one above."""


def _write_table(step: np.float32, sums: NDArray, counts: NDArray) -> NDArray:
    """Write step and centroids as bytes; that of the last level, whose values have no bound, as it is.

    Args:
        step: Above 0.
        sums: Of the magnitudes at each level, from 0.
        counts: Of the values at each level.
    """
    levels = np.arange(1, counts.size - 1)
    inner = np.where(counts[1:-1] > 0, sums[1:-1] / np.maximum(counts[1:-1], 1) / float(step), levels)
    # What lies beyond the last entry shares it, by the mean of the places in the cells.
    last = slice(_ENTRIES - 1, None)
    places = (inner - levels + 0.5) / _CELL
    if levels.size > _ENTRIES:
        weights = counts[1:-1][last]
        places[_ENTRIES - 1] = (places[last] * weights).sum() / max(weights.sum(), 1)
    last_mean = min(sums[-1] / max(counts[-1], 1), _MAX)
    ends = np.array([step, last_mean], "<f4").view(np.uint8)
    return np.concatenate([ends, np.rint(places[:_ENTRIES]).clip(0, 255).astype(np.uint8)])


def _read_table(table: NDArray, largest: int) -> NDArray:
    """Return the magnitude of each level, float32, from 0."""
    step, last = np.ascontiguousarray(table[:8]).view("<f4")
    if not (np.isfinite(step) and step > 0 and np.isfinite(last) and last >= 0):
        raise InvalidValues(f"step {step} or largest centroid {last} is negative or not finite")
    levels = np.arange(1, largest)
    places = table[8:][np.minimum(levels - 1, _ENTRIES - 1)]
    inner = float(step) * (levels - 0.5 + places * _CELL)
    if inner.max(initial=0) > _MAX:  # not of the last one alone: cells overlap, so the one before it may be larger
        raise InvalidValues(f"a centroid is beyond float32: step {step}, {levels.size} levels")
    return np.concatenate([[0.0], inner, [last]]).astype(np.float32)
