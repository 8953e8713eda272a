"""`sign`: one bit a value, and one magnitude a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.stage import ArraySpec, check_parameters, parameter
from fedcomp.codecs.ternary import unpack_signs
from fedcomp.errors import InvalidValues
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray

_SCALES = ("tensor", "model")


@dataclass(frozen=True)
class Sign:
    """Replace each value by ``sign(x) * mean|x|``, the mean over its tensor or the model; zero counts as positive.

    Biased: it needs error feedback.

    Args:
        scale: One magnitude a ``tensor`` or one for the ``model``.

    References:
        Karimireddy et al., Error Feedback Fixes SignSGD, ICML 2019, section 3 (scaled sign).
    """

    name: ClassVar[str] = "sign"
    wire_id: ClassVar[int] = 36
    needs_sparsifier: ClassVar[bool] = False

    scale: str = parameter("tensor", choices=_SCALES)

    def __post_init__(self) -> None:
        check_parameters(self)

    def quantize(self, values: NDArray, bounds: NDArray, rng: Generator | None) -> Arrays:
        """Return magnitudes and packed signs."""
        edges = bounds if self.scale == "tensor" else bounds[[0, -1]]
        means = [np.abs(values[i:j]).mean(dtype=np.float64) if i < j else 0.0 for i, j in pairwise(edges)]
        return {SectionKind.TABLES: np.array(means, np.float32), SectionKind.SIGNS: np.packbits(values < 0)}

    def expected(self, count: int, num_groups: int) -> Mapping[SectionKind, ArraySpec]:
        """Return one magnitude a group and a bit a value."""
        num_scales = num_groups if self.scale == "tensor" else 1
        return {
            SectionKind.TABLES: ArraySpec("float32", num_scales),
            SectionKind.SIGNS: ArraySpec("uint8", -(-count // 8)),
        }

    def dequantize(self, arrays: Arrays, bounds: NDArray) -> NDArray:
        """Return ``+-magnitude``; raises `InvalidValues` for a bad magnitude or padding that is not zero."""
        magnitudes = arrays[SectionKind.TABLES]
        if not np.all((magnitudes >= 0) & np.isfinite(magnitudes)):
            raise InvalidValues("a magnitude is negative or not finite")
        edges = bounds if self.scale == "tensor" else bounds[[0, -1]]
        values = unpack_signs(arrays[SectionKind.SIGNS], int(bounds[-1]))
        values *= np.repeat(magnitudes, np.diff(edges))
        return values

    def wire_args(self) -> tuple[int, ...]:
        """Return the index of the scale."""
        return (_SCALES.index(self.scale),)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage."""
        (scale,) = args
        if scale >= len(_SCALES):
            raise ValueError(f"sign of scale {scale}")
        return cls(scale=_SCALES[scale])
