"""`log`: powers of two, and zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import read_scale_args, scale_args
from fedcomp.codecs.stage import parameter
from fedcomp.codecs.stages.levels import FixedLevels

if TYPE_CHECKING:
    from fedcomp.types import NDArray


@dataclass(frozen=True)
class Log(FixedLevels):
    """Round to ``0`` and ``+-max|x| * 2^-j``, j from 0 to ``2^(bits-1) - 2``.

    The relative error is at most a third down to three quarters of the smallest power: for values that span
    many orders.

    Args:
        bits: 2 to 6: 1 to 31 powers.

    References:
        Miyashita et al., Convolutional Neural Networks using Logarithmic Data Representation, 2016, section 3.
    """

    name: ClassVar[str] = "log"
    wire_id: ClassVar[int] = 38

    bits: int = parameter(4, minimum=2, maximum=6)

    @property
    def levels(self) -> NDArray:
        """The levels, ascending."""
        powers = np.ldexp(np.float32(1), -np.arange((1 << (self.bits - 1)) - 1))
        return np.concatenate([-powers, [np.float32(0)], powers[::-1]])

    def wire_args(self) -> tuple[int, ...]:
        """Return bits and what shares a scale."""
        return self.bits, *scale_args(self.scale, self.block)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage."""
        bits, *rest = args
        if not 2 <= bits <= 6:
            raise ValueError(f"log of {bits} bits")
        scale, block = read_scale_args(rest)
        return cls(scale=scale, block=block, bits=bits)
