"""`threshold`: every coordinate above a magnitude."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import root_mean_square
from fedcomp.codecs.stage import Selection, check_parameters, parameter

if TYPE_CHECKING:
    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray

_LARGEST_SIGMAS = 1000.0


@dataclass(frozen=True)
class Threshold:
    """Keep coordinates whose magnitude is at least `sigmas` times the root mean square of the fresh update.

    The number that travels follows the update's shape: heavy tails send more. No sorting: one read and one compare.

    Args:
        sigmas: Multiple of the root mean square, 0 to 1000; 0 keeps every coordinate that is not zero.

    References:
        Strom, Scalable Distributed DNN Training Using Commodity GPU Cloud Computing, Interspeech 2015, section 3
        (a fixed threshold; here it is relative).
    """

    name: ClassVar[str] = "threshold"
    wire_id: ClassVar[int] = 18
    sends_positions: ClassVar[bool] = True
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0

    sigmas: float = parameter(minimum=0.0, maximum=_LARGEST_SIGMAS)

    def __post_init__(self) -> None:
        check_parameters(self)

    def rescaled(self, factor: float) -> Self:
        """Return the stage with another threshold."""
        return replace(self, sigmas=min(self.sigmas * factor, _LARGEST_SIGMAS))

    def scaled(self, amount: float) -> Self:
        """Return the stage with another threshold; how much more that sends depends on the values' tails."""
        return self.rescaled(1 / amount)

    def select(self, values: NDArray, cuts: Cuts, rng: Generator | None, *, moved: NDArray | None = None) -> Selection:
        """Choose by magnitude; deterministic."""
        limit = self.sigmas * root_mean_square(values)
        if limit > float(np.finfo(np.float32).max):
            limit = np.inf  # which no value reaches
        positions = np.flatnonzero((np.abs(values) >= limit) & (values != 0))
        return Selection(positions, values[positions])
