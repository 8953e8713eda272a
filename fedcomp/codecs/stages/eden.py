"""`eden`: the best levels for normal values, which a rotation makes of any, with an unbiased or a least-error scale."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import SCALES, read_scale_args, reduce_groups, scale_args, spread, sum_groups
from fedcomp.codecs.stage import parameter
from fedcomp.codecs.stages.levels import FixedLevels, nearest
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
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
class Eden(FixedLevels):
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

    scale: str = parameter("tensor", choices=SCALES)
    bits: int = parameter(2, minimum=1, maximum=4)
    unbiased: bool = parameter(True)

    @property
    def error_bound(self) -> float:
        """The scale of least error errs by no more than zero would."""
        return inf if self.unbiased else 1.0

    @property
    def levels(self) -> NDArray:
        """The levels over the largest one."""
        positive = np.array(_POSITIVE_LEVELS[self.bits])
        levels: NDArray = np.concatenate([-positive[::-1], positive]) / positive[-1]
        return levels.astype(np.float32)

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return scales and indices of levels."""
        bounds = cuts.by(self.scale, self.block)
        counts = np.maximum(np.diff(bounds), 1)
        squares = sum_groups(lambda piece: np.square(piece, dtype=np.float64), values, bounds)
        # Values over what the largest level stands for, so that they are in the levels' unit.
        units = (np.sqrt(squares / counts) * _POSITIVE_LEVELS[self.bits][-1]).clip(_TINY, _MAX).astype(np.float32)
        symbols, products = np.empty(values.size, np.uint8), np.empty(values.size, np.float32)
        for piece, unit in spread(units, bounds):
            ratios = values[piece] / unit
            symbols[piece] = nearest(ratios, self.levels)
            np.multiply(ratios, self.levels.take(symbols[piece]), out=products[piece])
        inner = reduce_groups(np.add, products, bounds).astype(np.float64) * units
        if self.unbiased:
            scales = squares / np.where(inner > 0, inner, 1)
        else:
            norms = sum_groups(lambda piece: np.square(self.levels).take(piece), symbols, bounds)
            scales = inner / np.maximum(norms, _TINY)
        scales = np.where(squares > 0, scales, 0).clip(0, _MAX)
        return {SectionKind.TABLES: scales.astype(np.float32), SectionKind.VALUES: symbols}

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
