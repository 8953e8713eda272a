"""`topk`: the coordinates of largest magnitude."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.stage import Selection, check_parameters, parameter

if TYPE_CHECKING:
    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray


@dataclass(frozen=True)
class TopK:
    """Keep the ``max(1, round(density * n))`` largest of n magnitudes; exact zeros are never sent.

    Among equal magnitudes the lowest coordinates win, so the choice is deterministic.

    Args:
        density: Share of the coordinates, in (0, 1].
        scope: Compare magnitudes over the whole ``model``, or within each ``tensor``.

    References:
        Aji and Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017, section 3 (both scopes).
    """

    name: ClassVar[str] = "topk"
    wire_id: ClassVar[int] = 16
    sends_positions: ClassVar[bool] = True
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0

    density: float = parameter(above=0.0, maximum=1.0)
    scope: str = parameter("model", choices=("model", "tensor"))

    def __post_init__(self) -> None:
        check_parameters(self)

    def scaled(self, amount: float) -> Self:
        """Return the stage with another density."""
        return replace(self, density=min(self.density * amount, 1.0))

    def select(self, values: NDArray, cuts: Cuts, rng: Generator | None) -> Selection:
        """Choose the largest magnitudes; deterministic."""
        edges = cuts.by(self.scope, 0)
        parts = [start + self._largest(values[start:end]) for start, end in pairwise(edges)]
        positions = np.concatenate([np.empty(0, np.int64), *parts])
        return Selection(positions, values[positions])

    def _largest(self, values: NDArray) -> NDArray:
        """Return the chosen coordinates of `values`: int64, strictly increasing."""
        if not values.size:
            return np.empty(0, np.int64)
        count = max(1, round(self.density * values.size))
        threshold = _kth_largest(np.abs(values), count)
        if threshold == 0:
            return np.flatnonzero(values)
        chosen = np.flatnonzero(np.abs(values) >= threshold)
        surplus = chosen.size - count
        if not surplus:
            return chosen
        ties = np.flatnonzero(np.abs(values[chosen]) == threshold)
        return np.delete(chosen, ties[-surplus:])


def _kth_largest(magnitudes: NDArray, k: int) -> NDArray:
    """Return the k-th largest of `magnitudes`, which are put into another order."""
    magnitudes.partition(magnitudes.size - k)
    return np.asarray(magnitudes[magnitudes.size - k])
