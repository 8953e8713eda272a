"""`randk`: random coordinates, drawn from a seed that both ends know, so that no position travels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.coding.positions import draw_positions
from fedcomp.codecs.stage import Selection, check_parameters, parameter
from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from numpy.random import Generator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray


@dataclass(frozen=True)
class RandK:
    """Keep ``k = max(1, round(density * n))`` of n coordinates, chosen without looking at them.

    Args:
        density: Share of the coordinates, in (0, 1].
        unbiased: Multiply what is kept by n / k, so that its expectation is the input. Leave it off where error
            feedback delivers the rest later.

    References:
        Konecny et al., Federated Learning: Strategies for Improving Communication Efficiency, 2016, section 2
        (random mask); Stich et al., Sparsified SGD with Memory, NeurIPS 2018, section 2 (rand-k).
    """

    name: ClassVar[str] = "randk"
    wire_id: ClassVar[int] = 17
    sends_positions: ClassVar[bool] = False

    density: float = parameter(above=0.0, maximum=1.0)
    unbiased: bool = parameter(False)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def is_unbiased(self) -> bool:
        """Whether it was asked to be."""
        return self.unbiased

    @property
    def error_bound(self) -> float:
        """What is left out is never more than there is, unless what is kept is enlarged."""
        return inf if self.unbiased else 1.0

    def scaled(self, amount: float) -> Self:
        """Return the stage with another density."""
        return replace(self, density=min(self.density * amount, 1.0))

    def select(self, values: NDArray, cuts: Cuts, rng: Generator | None, *, moved: NDArray | None = None) -> Selection:
        """Draw positions; raises `UsageError` without an rng."""
        if rng is None:
            raise UsageError("randk needs a random generator: encode(delta, rng=...)")
        count = min(values.size, max(1, round(self.density * values.size)))
        seed = int(rng.integers(1 << 32))
        positions = draw_positions(seed, count, values.size)
        chosen = values[positions]
        if self.unbiased and count:
            chosen = _scale_within_range(chosen, values.size / count)
        return Selection(positions, chosen, seed)


def _scale_within_range(values: NDArray, factor: float) -> NDArray:
    """Multiply, and clip what would leave float32's range."""
    largest = float(np.finfo(values.dtype).max)
    with np.errstate(over="ignore"):
        scaled: NDArray = values * values.dtype.type(factor)
    np.clip(scaled, -largest, largest, out=scaled)
    return scaled
