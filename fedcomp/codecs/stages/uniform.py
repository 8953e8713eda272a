"""`uniform`: evenly spaced levels."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import PIECE, SCALES, largest_magnitudes, read_scale_args, reduce_groups, scale_args, spread
from fedcomp.codecs.stage import ArraySpec, ParameterError, check_parameters, parameter
from fedcomp.errors import InvalidValues, UsageError
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray

_MAX = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Uniform:
    """Round to evenly spaced levels, ``q = round((x - offset) / step)``.

    Symmetric: ``offset = 0``, ``2^bits - 1`` levels, ``step = max|x| / (2^(bits-1) - 1)``; zero stays zero. Affine:
    ``offset = min x``, ``2^bits`` levels, ``step = (max x - min x) / (2^bits - 1)``; for values that lie on one side.

    The error is at most half a step (nearest) or one step (stochastic). Stochastic rounding, ``floor(q + u)`` with u
    uniform in [0, 1), is unbiased.

    Args:
        bits: 1 to 16; symmetric from 2 on.
        stochastic: Round up with the probability that makes the result unbiased.
        scale: What shares a step: ``tensor``, ``model``, ``channel`` or ``block``.
        block: Values in a block.
        affine: Levels from the smallest to the largest value.

    References:
        Alistarh et al., QSGD, NeurIPS 2017, section 3.1 (stochastic rounding; here the norm is the maximum);
        Wen et al., TernGrad, NeurIPS 2017, section 3.1 (which is ``bits=2, stochastic=true``);
        Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, section 2.1 (affine);
        Dettmers, 8-Bit Approximations for Parallelism in Deep Learning, ICLR 2016, section 2 (blocks).
    """

    name: ClassVar[str] = "uniform"
    wire_id: ClassVar[int] = 34
    needs_sparsifier: ClassVar[bool] = False

    bits: int = parameter(minimum=1, maximum=16)
    stochastic: bool = parameter(False)
    scale: str = parameter("tensor", choices=SCALES)
    block: int = parameter(256, minimum=8, maximum=1 << 20)
    affine: bool = parameter(False)

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.bits == 1 and not self.affine:
            raise ParameterError(
                "bits", "uniform: bits is 1, which has no symmetric levels beside zero: set affine=true, or use sign"
            )

    @property
    def is_unbiased(self) -> bool:
        """Stochastic rounding is."""
        return self.stochastic

    @property
    def error_bound(self) -> float:
        """Rounding to the nearest level errs by no more than rounding to zero, if zero is a level."""
        return inf if self.stochastic or self.affine else 1.0

    @property
    def largest(self) -> int:
        """The largest symbol's magnitude, in steps."""
        return (1 << self.bits) - 1 if self.affine else (1 << (self.bits - 1)) - 1

    @property
    def centre(self) -> int | None:
        """The middle symbol; affine levels need not hold zero."""
        return None if self.affine else self.largest

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return unsigned symbols and the groups' steps (and offsets); raises `UsageError` if an rng is needed."""
        if self.stochastic and rng is None:
            raise UsageError("uniform(stochastic=true) needs a random generator: encode(delta, rng=...)")
        bounds = cuts.by(self.scale, self.block)
        offsets, steps = self._offsets_and_steps(values, bounds)
        symbols = np.empty(values.size, self._unsigned)
        buffer = np.empty(PIECE, np.float32)
        divisors = np.where(steps > 0, steps, np.float32(1))
        for (piece, divisor), (_, offset) in zip(spread(divisors, bounds), spread(offsets, bounds), strict=True):
            levels = buffer[: piece.stop - piece.start]
            if self.affine:
                # Halves, since the difference may not fit; before they are divided, which would round large ones.
                np.subtract(values[piece] / 2, offset / 2, out=levels)
                levels /= divisor / 2
            else:
                np.divide(values[piece], divisor, out=levels)
            self._round(levels, rng)
            symbols[piece] = levels if self.affine else levels.astype(self._signed).view(self._unsigned)
        if not self.affine:
            symbols += self._unsigned.type(self.largest)  # wraps, as it should
        tables = np.concatenate([offsets, steps]) if self.affine else steps
        return {SectionKind.TABLES: tables, SectionKind.VALUES: symbols}

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return one step (and offset) a group and one symbol a value."""
        num_groups = cuts.count(self.scale, self.block, count)
        return {
            SectionKind.TABLES: ArraySpec("float32", 2 * num_groups if self.affine else num_groups),
            SectionKind.VALUES: ArraySpec(self._unsigned.name, count),
        }

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return ``offset + symbol * step``; raises `InvalidValues` for a symbol, step or offset out of range."""
        tables, symbols = arrays[SectionKind.TABLES], arrays[SectionKind.VALUES]
        offsets, steps = np.split(tables, 2) if self.affine else (np.zeros_like(tables), tables)
        # Comparisons are false for NaN; the bound keeps every product finite.
        if not np.all((steps >= 0) & (steps <= self._largest_step)):
            raise InvalidValues("a quantization step is negative, not finite or too large")
        with np.errstate(over="ignore", invalid="ignore"):
            highest = offsets + np.float32(self.largest) * steps
        if not (np.isfinite(offsets).all() and np.isfinite(highest).all()):
            raise InvalidValues("an offset is not finite, or the highest level beyond it is not")
        top = self.largest if self.affine else 2 * self.largest
        if symbols.size and symbols.max() > top:
            raise InvalidValues(f"symbol {symbols.max()} is out of range, expected at most {top}")
        if not self.affine:
            symbols = (symbols - self._unsigned.type(self.largest)).view(self._signed)  # wraps, as it should
        values = np.empty(symbols.size, np.float32)
        bounds = cuts.by(self.scale, self.block)
        for piece, step in spread(steps, bounds):
            np.multiply(symbols[piece], step, out=values[piece])
        if self.affine:
            for piece, offset in spread(offsets, bounds):
                values[piece] += offset
        return values

    def wire_args(self) -> tuple[int, ...]:
        """Return bits, affine or not, and what shares a scale."""
        return self.bits, int(self.affine), *scale_args(self.scale, self.block)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage, as far as a decoder needs it."""
        bits, affine, *rest = args
        if not (1 if affine else 2) <= bits <= 16 or affine > 1:
            raise ValueError(f"uniform of {bits} bits, affine {affine}")
        scale, block = read_scale_args(rest)
        return cls(bits=bits, affine=bool(affine), scale=scale, block=block)

    @property
    def _unsigned(self) -> np.dtype[Any]:
        return np.dtype("uint8" if self.bits <= 8 else "uint16")

    @property
    def _signed(self) -> np.dtype[Any]:
        return np.dtype("int8" if self.bits <= 8 else "int16")

    @property
    def _largest_step(self) -> float:
        """The largest step whose multiples are all finite."""
        return float(np.nextafter(np.float32(_MAX / self.largest), np.float32(0)))

    def _offsets_and_steps(self, values: NDArray, bounds: NDArray) -> tuple[NDArray, NDArray]:
        """Return float32 tables, kept where neither quotients nor products leave float32's normal range."""
        if self.affine:
            offsets = reduce_groups(np.minimum, values, bounds)
            spans = reduce_groups(np.maximum, values, bounds).astype(np.float64) - offsets
        else:
            offsets = np.zeros(bounds.size - 1, np.float32)
            spans = largest_magnitudes(values, bounds).astype(np.float64)
        steps = np.where(spans > 0, (spans / self.largest).clip(_TINY, self._largest_step), 0.0)
        return offsets, steps.astype(np.float32)

    def _round(self, levels: NDArray, rng: Generator | None) -> None:
        """Round in place to whole numbers, at most `largest`."""
        if self.stochastic and rng is not None:
            levels += rng.random(levels.size, np.float32)
            np.floor(levels, out=levels)
        else:
            np.rint(levels, out=levels)
        if self.stochastic or self.affine:  # a sum may have been rounded beyond the last level
            levels.clip(0 if self.affine else -self.largest, self.largest, out=levels)
