"""`sign`: one bit a value, and one magnitude a group."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import SCALES, read_scale_args, scale_args, spread, sum_groups
from fedcomp.codecs.stage import ArraySpec, check_parameters, parameter
from fedcomp.codecs.stages.ternary import unpack_signs
from fedcomp.errors import InvalidValues
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray

_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Sign:
    """Replace each value by ``sign(x) * mean|x|``, the mean over its group; zero counts as positive.

    The mean minimizes the squared error. Biased: it needs error feedback. Behind `Rotate`, the larger magnitude
    ``sum x^2 / sum|x|`` makes it unbiased.

    Args:
        unbiased: Use that magnitude.
        scale: What shares a magnitude: ``tensor``, ``model``, ``channel`` or ``block``.
        block: Values in a block.

    References:
        Karimireddy et al., Error Feedback Fixes SignSGD, ICML 2019, section 3 (scaled sign);
        Vargaftik et al., DRIVE, NeurIPS 2021, theorem 3 (the unbiased scale).
    """

    name: ClassVar[str] = "sign"
    wire_id: ClassVar[int] = 36
    needs_sparsifier: ClassVar[bool] = False
    centre: ClassVar[None] = None

    unbiased: bool = parameter(False)
    scale: str = parameter("tensor", choices=SCALES)
    block: int = parameter(256, minimum=8, maximum=1 << 20)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def is_unbiased(self) -> bool:
        """It is not by itself: only behind a rotation."""
        return False

    @property
    def error_bound(self) -> float:
        """The mean magnitude errs by no more than zero would."""
        return inf if self.unbiased else 1.0

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return magnitudes and packed signs."""
        bounds = cuts.by(self.scale, self.block)
        sums = sum_groups(np.abs, values, bounds)
        if self.unbiased:
            squares = sum_groups(lambda piece: np.square(piece, dtype=np.float64), values, bounds)
            magnitudes = (squares / np.where(sums > 0, sums, 1)).clip(max=_MAX)
        else:
            magnitudes = sums / np.maximum(np.diff(bounds), 1)
        return {SectionKind.TABLES: magnitudes.astype(np.float32), SectionKind.SIGNS: np.packbits(values < 0)}

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return one magnitude a group and a bit a value."""
        return {
            SectionKind.TABLES: ArraySpec("float32", cuts.count(self.scale, self.block, count)),
            SectionKind.SIGNS: ArraySpec("uint8", -(-count // 8)),
        }

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return ``+-magnitude``; raises `InvalidValues` for a bad magnitude or padding that is not zero."""
        magnitudes = arrays[SectionKind.TABLES]
        if not np.all((magnitudes >= 0) & np.isfinite(magnitudes)):
            raise InvalidValues("a magnitude is negative or not finite")
        values = unpack_signs(arrays[SectionKind.SIGNS], cuts.size)
        for piece, magnitude in spread(magnitudes, cuts.by(self.scale, self.block)):
            values[piece] *= magnitude
        return values

    def wire_args(self) -> tuple[int, ...]:
        """Return the index of the scale, and the block if there are blocks."""
        return scale_args(self.scale, self.block)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage."""
        scale, block = read_scale_args(args)
        return cls(scale=scale, block=block)
