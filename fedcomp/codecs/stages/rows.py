"""`rows`: whole channels, so that a position pays for many values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import sum_groups
from fedcomp.codecs.stage import Selection, check_parameters, parameter

if TYPE_CHECKING:
    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray


@dataclass(frozen=True)
class Rows:
    """Keep the channels (rows of a matrix, filters of a convolution; a vector is one) of largest mean square.

    ``max(1, round(density * n))`` of the n channels that hold any value are kept, with all their coordinates.

    Args:
        density: Share of the channels, in (0, 1].

    References:
        Konecny et al., Federated Learning: Strategies for Improving Communication Efficiency, 2016, section 2
        (structured updates); Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.1 (by norm).
    """

    name: ClassVar[str] = "rows"
    wire_id: ClassVar[int] = 19
    sends_positions: ClassVar[bool] = True
    is_unbiased: ClassVar[bool] = False
    error_bound: ClassVar[float] = 1.0

    density: float = parameter(above=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_parameters(self)

    def scaled(self, amount: float) -> Self:
        """Return the stage with another density."""
        return replace(self, density=min(self.density * amount, 1.0))

    def select(self, values: NDArray, cuts: Cuts, rng: Generator | None, *, moved: NDArray | None = None) -> Selection:
        """Choose whole channels; of equal ones the first."""
        sizes = np.diff(cuts.channels)
        sums = sum_groups(lambda piece: np.square(piece, dtype=np.float64), values, cuts.channels)
        means = np.where(sizes > 0, sums / np.maximum(sizes, 1), -1.0)
        count = max(1, round(self.density * np.count_nonzero(sizes)))
        chosen = np.zeros(sizes.size, bool)
        chosen[np.argsort(-means, kind="stable")[:count]] = True
        positions = np.flatnonzero(np.repeat(chosen, sizes))
        return Selection(positions, values[positions])
