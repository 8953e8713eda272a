"""`deadzone`: one entropy-coded uniform grid for the whole model, with a wide zero and centroids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import PIECE, root_mean_square
from fedcomp.codecs.levels import level_means, look_up
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

_LARGEST_STEP = 1000.0


@dataclass(frozen=True)
class DeadZone:
    """Round with a bias towards zero, and decode to centroids.

    ``q = sign(x) * floor(|x| / step + 1/2 - zone)``, at most `largest` in size. What falls on a symbol decodes to the
    mean of the values that do, so a wider zero costs little error and saves much entropy. One step for the model is
    what reverse water-filling asks for: tensors with small updates are mostly zeros.

    Args:
        step: In root mean squares of the fresh update (see `Codec.encode`), above 0.
        zone: What is taken off before rounding, 0 (nearest) to 0.5 (down).
        largest: Largest symbol, 1 to 127.

    References:
        Sullivan, Efficient Scalar Quantization of Exponential and Laplacian Random Variables, IEEE Trans. Inf. Theory
        1996, sections III and IV (uniform thresholds with a dead zone and centroids).
    """

    name: ClassVar[str] = "deadzone"
    wire_id: ClassVar[int] = 40
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0
    needs_sparsifier: ClassVar[bool] = False

    step: float = parameter(above=0.0, maximum=_LARGEST_STEP)
    zone: float = parameter(0.2, minimum=0.0, maximum=0.5)
    largest: int = parameter(31, minimum=1, maximum=127)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def centre(self) -> int:
        """The middle symbol."""
        return self.largest

    def rescaled(self, factor: float) -> Self:
        """Return the stage with another step."""
        return replace(self, step=min(self.step * factor, _LARGEST_STEP))

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return the centroids of all symbols and the symbols, shifted to be unsigned."""
        step = np.float32(min(max(self.step * root_mean_square(values), _TINY), _MAX))
        symbols, sizes = np.empty(values.size, np.uint8), np.empty(PIECE, np.float32)
        for left in range(0, values.size, PIECE):
            piece = values[left : left + PIECE]
            level = sizes[: piece.size]
            np.divide(np.abs(piece), step, out=level)
            level += np.float32(0.5 - self.zone)
            np.floor(level, out=level)
            np.minimum(level, np.float32(self.largest), out=level)
            symbols[left : left + PIECE] = np.copysign(level, piece, out=level).astype(np.int8).view(np.uint8)
        symbols += np.uint8(self.largest)  # wraps, as it should
        centroids = level_means(values, symbols, np.zeros(self._num_levels), passed_over=self.largest)
        return {SectionKind.TABLES: centroids.astype(np.float32), SectionKind.VALUES: symbols}

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return one centroid a symbol there is, and one symbol a value."""
        return {
            SectionKind.TABLES: ArraySpec("float32", self._num_levels),
            SectionKind.VALUES: ArraySpec("uint8", count),
        }

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return the centroids of the symbols; raises `InvalidValues` for one that is not finite, or not there."""
        centroids = arrays[SectionKind.TABLES]
        if not np.isfinite(centroids).all():
            raise InvalidValues("a centroid is NaN or infinite")
        return look_up(arrays[SectionKind.VALUES], centroids)

    def wire_args(self) -> tuple[int, ...]:
        """Return the largest symbol."""
        return (self.largest,)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage, as far as a decoder needs it."""
        (largest,) = args
        if not 1 <= largest <= 127:
            raise ValueError(f"deadzone with symbols to {largest}")
        return cls(step=1.0, largest=largest)

    @property
    def _num_levels(self) -> int:
        return 2 * self.largest + 1
