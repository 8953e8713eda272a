"""`nf4`: sixteen levels at the quantiles of a normal distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from fedcomp.codecs.groups import read_scale_args, scale_args
from fedcomp.codecs.stages.levels import FixedLevels

if TYPE_CHECKING:
    from fedcomp.types import NDArray

_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@dataclass(frozen=True)
class NF4(FixedLevels):
    """Round to the 4-bit NormalFloat levels, each block by its own largest magnitude.

    Made for weights that look normal within a block. For updates an entropy-coded uniform quantizer with a dead zone
    spends fewer bytes at the same error.

    References:
        Dettmers et al., QLoRA, NeurIPS 2023, section 3 and appendix E (the table).
    """

    name: ClassVar[str] = "nf4"
    wire_id: ClassVar[int] = 37

    @property
    def levels(self) -> NDArray:
        """The sixteen levels."""
        return np.array(_NF4, np.float32)

    def wire_args(self) -> tuple[int, ...]:
        """Return what shares a scale."""
        return scale_args(self.scale, self.block)

    @classmethod
    def from_wire(cls, args: tuple[int, ...]) -> Self:
        """Rebuild the stage."""
        scale, block = read_scale_args(args)
        return cls(scale=scale, block=block)
