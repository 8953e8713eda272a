"""`codebook`: levels fitted to the values, and sent along."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import PIECE
from fedcomp.codecs.stage import ArraySpec, check_parameters, parameter
from fedcomp.codecs.stages.levels import level_means, look_up, nearest
from fedcomp.errors import InvalidValues
from fedcomp.wire import SectionKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.stage import Arrays
    from fedcomp.types import NDArray

_SCALES = ("tensor", "model")
_SAMPLE = 1 << 15
_ITERATIONS = 20
_BINS = 512


@dataclass(frozen=True)
class Codebook:
    """Round to the nearest of `levels` values that are fitted to each tensor (or to the model).

    ``lloyd`` minimizes the squared error: levels are the means of what is rounded to them (Lloyd-Max, 1-D k-means).
    ``quantile`` gives every level the same number of values: each symbol then carries its full bits, and entropy
    coding gains nothing.

    Levels are fitted on an evenly spaced sample of at most 32,768 values, and with ``lloyd`` they are the means over
    all values in the end.

    Args:
        levels: 2 to 256.
        fit: ``lloyd`` or ``quantile``.
        scale: One codebook a ``tensor`` or one for the ``model``.

    References:
        Lloyd, Least Squares Quantization in PCM, IEEE Trans. Inf. Theory 1982, section V, method I;
        Max, Quantizing for Minimum Distortion, IRE Trans. 1960.
    """

    name: ClassVar[str] = "codebook"
    wire_id: ClassVar[int] = 39
    needs_sparsifier: ClassVar[bool] = False
    centre: ClassVar[None] = None

    levels: int = parameter(16, minimum=2, maximum=256)
    fit: str = parameter("lloyd", choices=("lloyd", "quantile"))
    scale: str = parameter("tensor", choices=_SCALES)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def is_unbiased(self) -> bool:
        """It is not."""
        return False

    @property
    def error_bound(self) -> float:
        """Means err by no more than zero would; quantiles may."""
        return 1.0 if self.fit == "lloyd" else inf

    def quantize(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Arrays:
        """Return the codebooks, one after the other, and indices into them."""
        bounds = cuts.by(self.scale, 0)
        books = np.zeros((bounds.size - 1, self.levels), np.float32)
        symbols = np.zeros(values.size, np.uint8)
        for book, (start, end) in zip(books, pairwise(bounds), strict=True):
            if start < end:
                book[:] = self._fit(values[start:end])
                for left in range(start, end, PIECE):  # `nearest` gives 64 bits: a piece at a time
                    piece = slice(left, min(left + PIECE, end))
                    symbols[piece] = nearest(values[piece], book)
                if self.fit == "lloyd":
                    book[:] = level_means(values[start:end], symbols[start:end], book)
        return {SectionKind.TABLES: books.reshape(-1), SectionKind.VALUES: symbols}

    def expected(self, count: int, cuts: Cuts) -> Mapping[SectionKind, ArraySpec]:
        """Return a codebook a group and one index a value."""
        return {
            SectionKind.TABLES: ArraySpec("float32", self.levels * cuts.count(self.scale, 0, count)),
            SectionKind.VALUES: ArraySpec("uint8", count),
        }

    def dequantize(self, arrays: Arrays, cuts: Cuts) -> NDArray:
        """Return the levels that the indices name; raises `InvalidValues` for a level that is not finite."""
        if not np.isfinite(arrays[SectionKind.TABLES]).all():
            raise InvalidValues("a codebook holds NaN or infinity")
        books, symbols = arrays[SectionKind.TABLES].reshape(-1, self.levels), arrays[SectionKind.VALUES]
        parts = zip(books, pairwise(cuts.by(self.scale, 0)), strict=True)
        values = np.empty(symbols.size, np.float32)
        for book, (start, end) in parts:
            look_up(symbols[start:end], book, out=values[start:end])
        return values

    def wire_args(self) -> tuple[int, ...]:
        """Return the number of levels and the index of the scale."""
        return self.levels, _SCALES.index(self.scale)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage, as far as a decoder needs it."""
        levels, scale = args
        if not 2 <= levels <= 256 or scale >= len(_SCALES):
            raise ValueError(f"codebook of {levels} levels and scale {scale}")
        return cls(levels=levels, scale=_SCALES[scale])

    def _fit(self, values: NDArray) -> NDArray:
        """Return ascending levels, float32."""
        sample = values[:: -(-values.size // _SAMPLE)].astype(np.float64)
        middles = (np.arange(self.levels) + 0.5) / self.levels
        if self.fit == "quantile":
            quantiles: NDArray = np.quantile(sample, middles).astype(np.float32)
            return quantiles
        levels = _spread_by_density(sample, middles).astype(np.float32)
        for _ in range(_ITERATIONS):
            levels = np.sort(level_means(sample, nearest(sample, levels), levels)).astype(np.float32)
        return np.asarray(levels)


def _spread_by_density(sample: NDArray, middles: NDArray) -> NDArray:
    """Return levels as dense as a root of the density, which is nearly optimal (Panter and Dite, 1951, cube root).

    Here it is the power 3/8: made of square roots, it is rounded alike on every machine, as `cbrt` is not.
    """
    lowest, span = float(sample.min()), float(sample.max()) - float(sample.min())
    counts, edges = np.histogram((sample - lowest) / (span or 1.0), bins=_BINS, range=(0, 1))
    quarter = np.sqrt(np.sqrt(counts))
    mass = np.concatenate([[0.0], np.cumsum(np.sqrt(np.sqrt(counts) * quarter))])
    wanted = middles * mass[-1]
    bins = np.searchsorted(mass, wanted, side="right") - 1
    share = (wanted - mass[bins]) / (mass[bins + 1] - mass[bins])
    levels: NDArray = lowest + span * (edges[bins] + share / _BINS)
    return levels
