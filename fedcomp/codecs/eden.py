"""`eden`: the best levels for normal values, which a rotation makes of any, with an unbiased or a least-error scale."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import SCALES, read_scale_args, reduce_groups, scale_args, spread, sum_groups
from fedcomp.codecs.levels import look_up, nearest
from fedcomp.codecs.stage import ArraySpec, check_parameters, parameter
from fedcomp.errors import InvalidValues
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray

_TINY, _MAX = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_POSITIVE_LEVELS = {
    1: (0.797885,),
    2: (0.45278, 1.510418),
    3: (0.245094, 0.756005, 1.343909, 2.151946),
    4: (0.128395, 0.388048, 0.656759, 0.94234, 1.256231, 1.618046, 2.069017, 2.73259),
}
"""Fixed points of Lloyd's iteration for the standard normal density."""


@dataclass(frozen=True)
class Eden:
    """Round ``x / rms`` to Lloyd-Max levels of the normal distribution, and send one scale a group.

    Behind `Rotate` every group is nearly normal, so that no levels need to travel. The scale is ``|x|^2 / <x, q>``,
    which makes the estimate unbiased behind a rotation, or ``<x, q> / |q|^2``, which has the least squared error.

    Args:
        bits: 1 to 4. One bit is `Sign`, which packs its signs.
        unbiased: Use the unbiased scale.
        scale: What shares a scale: ``tensor``, ``model``, ``channel`` or ``block``.
        block: Values in a block.

    References:
        Vargaftik et al., EDEN: Communication-Efficient and Robust Distributed Mean Estimation, ICML 2022, section 3;
        Max, Quantizing for Minimum Distortion, IRE Trans. 1960, table I (the levels).
    """

    name: ClassVar[str] = "eden"
    wire_id: ClassVar[int] = 41
    is_unbiased: ClassVar[bool] = False
    needs_sparsifier: ClassVar[bool] = False
    centre: ClassVar[None] = None

    bits: int = parameter(2, minimum=1, maximum=4)
    unbiased: bool = parameter(True)
    scale: str = parameter("tensor", choices=SCALES)
    block: int = parameter(256, minimum=8, maximum=1 << 20)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def error_bound(self) -> float:
        """The scale of least error errs by no more than zero would."""
        return inf if self.unbiased else 1.0

    @property
    def levels(self) -> NDArray:
        """The levels, ascending: float32."""
        positive = np.array(_POSITIVE_LEVELS[self.bits], np.float32)
        return np.concatenate([-positive[::-1], positive])

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return scales and indices of levels."""
        bounds = cuts.by(self.scale, self.block)
        counts = np.maximum(np.diff(bounds), 1)
        squares = sum_groups(lambda piece: np.square(piece, dtype=np.float64), values, bounds)
        rms = np.sqrt(squares / counts).clip(_TINY, _MAX).astype(np.float32)
        symbols, products = np.empty(values.size, np.uint8), np.empty(values.size, np.float32)
        for piece, unit in spread(rms, bounds):
            ratios = values[piece] / unit
            symbols[piece] = nearest(ratios, self.levels)
            np.multiply(ratios, self.levels.take(symbols[piece]), out=products[piece])
        inner = reduce_groups(np.add, products, bounds)
        if self.unbiased:
            factors = np.where(inner > 0, counts / np.where(inner > 0, inner, 1), 0)
        else:
            norms = sum_groups(lambda piece: np.square(self.levels).take(piece), symbols, bounds)
            factors = inner / np.maximum(norms, _TINY)
        # The largest level is below 4 scales, so that what is decoded is finite.
        scales = np.where(squares > 0, rms * factors, 0).clip(max=_MAX / 4)
        return {SectionKind.TABLES: scales.astype(np.float32), SectionKind.VALUES: symbols}

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return one scale a group and one index a value."""
        return {
            SectionKind.TABLES: ArraySpec("float32", cuts.count(self.scale, self.block, count)),
            SectionKind.VALUES: ArraySpec("uint8", count),
        }

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return ``level * scale``; raises `InvalidValues` for an index or a scale out of range."""
        scales = arrays[SectionKind.TABLES]
        if not np.all((scales >= 0) & (scales <= _MAX / 4)):
            raise InvalidValues("a scale is negative, not finite or too large")
        values = look_up(arrays[SectionKind.VALUES], self.levels)
        for piece, scale in spread(scales, cuts.by(self.scale, self.block)):
            values[piece] *= scale
        return values

    def wire_args(self) -> tuple[int, ...]:
        """Return bits and what shares a scale."""
        return self.bits, *scale_args(self.scale, self.block)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage, as far as a decoder needs it."""
        bits, *rest = args
        if bits not in _POSITIVE_LEVELS:
            raise ValueError(f"eden of {bits} bits")
        scale, block = read_scale_args(rest)
        return cls(bits=bits, scale=scale, block=block)
