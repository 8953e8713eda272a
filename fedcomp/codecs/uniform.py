"""`uniform`: evenly spaced levels, symmetric around zero."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from fedcomp.codecs.stage import ArraySpec, check_parameters, parameter
from fedcomp.errors import InvalidValues, UsageError
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray

_SCALES = ("tensor", "model")
_PIECE = 1 << 15
_MAX = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Uniform:
    """Round to ``2^bits - 1`` levels: ``q = round(x / step)``, ``step = max|x| / (2^(bits-1) - 1)``.

    The error is at most half a step (nearest) or one step (stochastic). Stochastic rounding,
    ``floor(x / step + u)`` with u uniform in [0, 1), is unbiased.

    Args:
        bits: 2 to 16.
        stochastic: Round up with the probability that makes the result unbiased.
        scale: One step a ``tensor`` or one for the ``model``.

    References:
        Alistarh et al., QSGD, NeurIPS 2017, section 3.1 (stochastic rounding, with the maximum as the norm);
        Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, section 2.1 (symmetric case).
    """

    name: ClassVar[str] = "uniform"
    wire_id: ClassVar[int] = 34
    needs_sparsifier: ClassVar[bool] = False

    bits: int = parameter(minimum=2, maximum=16)
    stochastic: bool = parameter(False)
    scale: str = parameter("tensor", choices=_SCALES)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def largest(self) -> int:
        """The largest symbol's magnitude, in steps."""
        return (1 << (self.bits - 1)) - 1

    def quantize(self, values: NDArray, bounds: NDArray, rng: Generator | None) -> Arrays:
        """Return symbols (shifted to be unsigned) and steps; raises `UsageError` if an rng is needed."""
        if self.stochastic and rng is None:
            raise UsageError("uniform(stochastic=true) needs a random generator: encode(delta, rng=...)")
        bounds = self._scale_bounds(bounds)
        steps = np.zeros(bounds.size - 1, np.float32)
        symbols = np.zeros(values.size, self._signed)
        buffer = np.empty(_PIECE, np.float32)
        for i, (start, end) in enumerate(pairwise(bounds)):
            steps[i] = self._step(values[start:end]) if start < end else 0.0
            if not steps[i]:
                continue
            # In pieces that stay in the cache: several passes over memory become one.
            for left in range(start, end, _PIECE):
                piece = slice(left, min(left + _PIECE, end))
                levels = np.divide(values[piece], steps[i], out=buffer[: piece.stop - left])
                symbols[piece] = self._round(levels, rng)
        return {
            SectionKind.TABLES: steps,
            SectionKind.VALUES: symbols.view(self._unsigned) + self._unsigned.type(self.largest),
        }

    def expected(self, count: int, num_groups: int) -> Mapping[SectionKind, ArraySpec]:
        """Return one step a group and one symbol a value."""
        num_steps = num_groups if self.scale == "tensor" else 1
        return {
            SectionKind.TABLES: ArraySpec("float32", num_steps),
            SectionKind.VALUES: ArraySpec(self._unsigned.name, count),
        }

    def dequantize(self, arrays: Arrays, bounds: NDArray) -> NDArray:
        """Return ``symbol * step``; raises `InvalidValues` for a symbol or a step out of range."""
        steps, symbols = arrays[SectionKind.TABLES], arrays[SectionKind.VALUES]
        # Comparisons are false for NaN; the bound keeps every product finite.
        if not np.all((steps >= 0) & (steps <= self._largest_step)):
            raise InvalidValues("a quantization step is negative, not finite or too large")
        if symbols.size and symbols.max() > 2 * self.largest:
            raise InvalidValues(f"symbol {symbols.max()} is out of range, expected at most {2 * self.largest}")
        symbols = (symbols - self._unsigned.type(self.largest)).view(self._signed)  # wraps, as it should
        values = np.empty(symbols.size, np.float32)
        for step, (start, end) in zip(steps, pairwise(self._scale_bounds(bounds)), strict=True):
            np.multiply(symbols[start:end], step, out=values[start:end])
        return values

    def wire_args(self) -> tuple[int, ...]:
        """Return bits and the index of the scale."""
        return self.bits, _SCALES.index(self.scale)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage, as far as a decoder needs it."""
        bits, scale = args
        if not (2 <= bits <= 16 and scale < len(_SCALES)):
            raise ValueError(f"uniform of {bits} bits and scale {scale}")
        return cls(bits=bits, scale=_SCALES[scale])

    def _round(self, levels: NDArray, rng: Generator | None) -> NDArray:
        """Round in place, to whole numbers of at most `largest`."""
        if self.stochastic and rng is not None:
            levels += rng.random(levels.size, np.float32)
            np.floor(levels, out=levels)
            return np.minimum(levels, self.largest, out=levels)  # largest + u may have been rounded up
        return np.rint(levels, out=levels)

    @property
    def _unsigned(self) -> np.dtype[Any]:
        return np.dtype("uint8" if self.bits <= 8 else "uint16")

    @property
    def _signed(self) -> np.dtype[Any]:
        return np.dtype("int8" if self.bits <= 8 else "int16")

    def _scale_bounds(self, bounds: NDArray) -> NDArray:
        return bounds if self.scale == "tensor" else bounds[[0, -1]]

    def _step(self, group: NDArray) -> float:
        """The step, kept where neither ``x / step`` nor ``largest * step`` leaves float32's normal range."""
        largest = max(float(group.max()), -float(group.min()))
        return min(float(np.float32(max(largest / self.largest, _TINY))), self._largest_step) if largest else 0.0

    @property
    def _largest_step(self) -> float:
        """The largest step whose multiples are all finite."""
        return float(np.nextafter(np.float32(_MAX / self.largest), np.float32(0)))
