"""What an objective makes of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Step(NamedTuple):
    """A loss to minimize, and counts of pseudo-labels: how many there could be, are, and are right."""

    loss: Tensor
    candidates: int = 0
    confident: int = 0
    correct: int = 0
