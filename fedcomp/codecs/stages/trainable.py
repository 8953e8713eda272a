"""`trainable`: tensors that did not change do not travel, so an adapter costs what the adapter weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.codecs.stage import check_parameters

if TYPE_CHECKING:
    from fedcomp.types import ModelDelta

_LIMB_BITS = 56
"""Eight bytes of a varint."""


@dataclass(frozen=True)
class Trainable:
    """Leave out every tensor whose update is all zeros: those of a frozen backbone.

    What is left is the model for all later stages, so a density is one of the trainable coordinates. Where every
    tensor changed the frame has no byte of this stage.

    References:
        Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019, section 2 (adapters);
        Hu et al., LoRA, ICLR 2022, section 4.1.
    """

    name: ClassVar[str] = "trainable"
    wire_id: ClassVar[int] = 2
    is_unbiased: ClassVar[bool] = True
    error_bound: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        check_parameters(self)

    def find_frozen(self, delta: ModelDelta) -> frozenset[int]:
        """Return the indices of the tensors without any change."""
        return frozenset(i for i, values in enumerate(delta.values()) if not values.any())

    @staticmethod
    def wire_args(frozen: frozenset[int]) -> tuple[int, ...]:
        """Return bit i for tensor i, 1 if it is frozen, in limbs of 56 bits, lowest first; the last one is not 0."""
        mask, limbs = sum(1 << i for i in frozen), []
        while mask:
            limbs.append(mask % (1 << _LIMB_BITS))
            mask >>= _LIMB_BITS
        return tuple(limbs)

    @staticmethod
    def parse_wire(args: tuple[int, ...]) -> frozenset[int]:
        """Invert `wire_args`; raises `ValueError` for what it does not write."""
        if not args or args[-1] == 0 or max(args) >> _LIMB_BITS:
            raise ValueError("mask of frozen tensors")
        # Limb by limb: a mask as one number is copied for each of its bits, and a sender decides how many those are.
        bits = ((i, bit) for i, limb in enumerate(args) for bit in range(limb.bit_length()) if limb >> bit & 1)
        return frozenset(_LIMB_BITS * i + bit for i, bit in bits)
