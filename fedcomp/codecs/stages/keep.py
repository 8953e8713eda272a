"""`keep`: small tensors (biases, norm scales) travel as plain floats; compressing them saves next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.codecs.stage import check_parameters, parameter

if TYPE_CHECKING:
    from fedcomp.types import NDArray


@dataclass(frozen=True)
class Keep:
    """Leave floating tensors with fewer than `below` elements uncompressed.

    Args:
        below: Element count, 0 or more; 0 keeps nothing.
        dtype: Their type on the wire. A value that float16 can't hold makes the whole section float32.
    """

    name: ClassVar[str] = "keep"
    wire_id: ClassVar[int] = 1

    below: int = parameter(minimum=0, maximum=2**31 - 1)
    dtype: str = parameter("float16", choices=("float16", "float32"))

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def is_unbiased(self) -> bool:
        """Whether nothing is rounded."""
        return self.error_bound == 0

    @property
    def error_bound(self) -> float:
        """Nothing is lost in float32; rounding to float16 errs by no more than zero would."""
        return 1.0 if self.below and self.dtype == "float16" else 0.0

    def narrow(self, values: NDArray) -> NDArray:
        """Return float32 `values` in the wire's type."""
        with np.errstate(over="ignore"):
            narrowed = values.astype(self.dtype)
        return narrowed if np.isfinite(narrowed).all() else values

    @staticmethod
    def parse_wire(args: tuple[int, ...]) -> tuple[int, str]:
        """Read (below, dtype) from the stage's wire arguments; raises `ValueError` if they are none."""
        below, bits = args
        if bits not in (16, 32):
            raise ValueError(f"kept floats of {bits} bits, expected 16 or 32")
        return below, f"float{bits}"
