"""`topk`: the coordinates of largest magnitude."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.coding.contextual import estimate_bits
from fedcomp.codecs.stage import Selection, check_parameters, parameter

if TYPE_CHECKING:
    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray


@dataclass(frozen=True)
class TopK:
    """Keep the ``max(1, round(density * n))`` largest of n magnitudes; exact zeros are never sent.

    Among equal magnitudes the lowest coordinates win, so the choice is deterministic.

    With a price, a coordinate competes with its magnitude less ``price * threshold`` for each bit that its position
    takes, where the threshold is the least magnitude that is chosen without: of two values that are nearly the same the
    one that is expected is sent. It needs to know how the model has moved, and does nothing where that is not given.

    Args:
        density: Share of the coordinates, in (0, 1].
        scope: Compare magnitudes over the whole ``model``, or within each ``tensor``.
        price: Of a bit, in thresholds, 0 to 1; about 0.04 is good.

    References:
        Aji and Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017, section 3 (both scopes).
        Sullivan and Wiegand, Rate-Distortion Optimization for Video Compression, IEEE Signal Processing Magazine 1998
        (choosing by distortion plus a multiple of the rate).
    """

    name: ClassVar[str] = "topk"
    wire_id: ClassVar[int] = 16
    sends_positions: ClassVar[bool] = True
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0

    density: float = parameter(above=0.0, maximum=1.0)
    scope: str = parameter("model", choices=("model", "tensor"))
    price: float = parameter(0.0, minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_parameters(self)

    def scaled(self, amount: float) -> Self:
        """Return the stage with another density."""
        return replace(self, density=min(self.density * amount, 1.0))

    def select(self, values: NDArray, cuts: Cuts, rng: Generator | None, *, moved: NDArray | None = None) -> Selection:
        """Choose the largest magnitudes; deterministic.

        Args:
            values: float32, flat, finite.
            cuts: Where tensors and channels begin in them.
            rng: Not used.
            moved: How far each coordinate has moved, as `code_positions` takes it; without it positions have no price.
        """
        magnitudes = np.abs(values)
        positions = self._largest_of_each(magnitudes, cuts)
        if self.price and moved is not None and positions.size:
            threshold = magnitudes[positions].min()
            with np.errstate(over="ignore"):  # huge values have an infinite price, and no buyer
                magnitudes -= np.float32(self.price) * threshold * estimate_bits(positions, cuts, moved)
            magnitudes[values == 0] = 0
            positions = self._largest_of_each(np.maximum(magnitudes, 0, out=magnitudes), cuts)
        return Selection(positions, values[positions])

    def _largest_of_each(self, magnitudes: NDArray, cuts: Cuts) -> NDArray:
        edges = cuts.by(self.scope, 0)
        parts = [start + self._largest(magnitudes[start:end]) for start, end in pairwise(edges)]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _largest(self, magnitudes: NDArray) -> NDArray:
        """Return the chosen coordinates: int64, strictly increasing."""
        if not magnitudes.size:
            return np.empty(0, np.int64)
        count = max(1, round(self.density * magnitudes.size))
        threshold = _kth_largest(magnitudes.copy(), count)
        if threshold == 0:
            return np.flatnonzero(magnitudes)
        chosen = np.flatnonzero(magnitudes >= threshold)
        surplus = chosen.size - count
        if not surplus:
            return chosen
        ties = np.flatnonzero(magnitudes[chosen] == threshold)
        return np.delete(chosen, ties[-surplus:])


def _kth_largest(magnitudes: NDArray, k: int) -> NDArray:
    """Return the k-th largest of `magnitudes`, which are put into another order."""
    magnitudes.partition(magnitudes.size - k)
    return np.asarray(magnitudes[magnitudes.size - k])
