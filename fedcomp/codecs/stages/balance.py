"""`balance`: tensors with small updates are coded more finely, as far as their smallness asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.codecs.groups import root_mean_square
from fedcomp.codecs.stage import check_parameters, parameter

if TYPE_CHECKING:
    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray

_MOST_OCTAVES = 40


@dataclass(frozen=True)
class Balance:
    """Multiply each tensor by a power of two before all else, and divide it after decoding.

    Codecs spend their bytes where the squared error is: on the tensors with the largest updates. But a first
    convolution with a hundredth of a classifier's update is not a hundredth as important. With gains
    ``g_t = (rms_largest / rms_t) ** power``, rounded to a power of two, one step for the whole model is a step of its
    own for each tensor: between one absolute precision for all (power 0) and one relative to each tensor's own update
    (power 1). Whatever stands behind shares out a fixed number of bytes by that.

    Gains are exact and take a byte a tensor. A selection behind this stage compares what is multiplied.

    Args:
        power: 0 to 1.

    References:
        Dong et al., HAWQ-V2, NeurIPS 2020, section 3 (bits by a layer's sensitivity, which here is taken to fall with
        the size of its update: an update in proportion to its gradient says so of an Adam step).
    """

    name: ClassVar[str] = "balance"
    wire_id: ClassVar[int] = 3
    is_unbiased: ClassVar[bool] = True

    power: float = parameter(1.0, minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def error_bound(self) -> float:
        """Nothing is lost here; what it does to the bounds of others is the codec's to say."""
        return 0.0

    def find_octaves(self, values: NDArray, cuts: Cuts) -> tuple[int, ...]:
        """Return the binary logarithm of each tensor's gain, 0 to 40."""
        sizes = np.array([root_mean_square(values[start:end]) for start, end in pairwise(cuts.tensors)])
        smaller = np.divide(sizes.max(initial=0), sizes, out=np.ones_like(sizes), where=sizes > 0)
        octaves = self.power * np.log2(smaller)
        return tuple(np.rint(octaves).clip(0, _MOST_OCTAVES).astype(int).tolist())

    @staticmethod
    def parse_wire(args: tuple[int, ...]) -> tuple[int, ...]:
        """Return the octaves; raises `ValueError` for one out of range."""
        if any(octave > _MOST_OCTAVES for octave in args):
            raise ValueError(f"gains of 2 to the {max(args)}, expected at most {_MOST_OCTAVES}")
        return args


def multiply_tensors(values: NDArray, bounds: NDArray, octaves: tuple[int, ...], *, sign: int) -> NDArray:
    """Return the values of each tensor multiplied by two to the ``sign * octave``; clipped to float32's range.

    Args:
        values: float32, flat.
        bounds: Tensor i owns ``values[bounds[i]:bounds[i + 1]]``.
        octaves: One a tensor.
        sign: 1 or -1.
    """
    largest = np.finfo(np.float32).max
    scaled = np.empty_like(values)
    with np.errstate(over="ignore"):
        for (start, end), octave in zip(pairwise(bounds), octaves, strict=True):
            np.ldexp(values[start:end], sign * octave, out=scaled[start:end])
    return np.clip(scaled, -largest, largest, out=scaled)
