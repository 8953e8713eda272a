"""`rotate`: a random rotation that makes any vector look normal, so that one scale fits all its values."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.codecs.groups import PIECE, Cuts
from fedcomp.codecs.stage import check_parameters
from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator

    from fedcomp.codecs.known import Known
    from fedcomp.types import NDArray

_LARGEST_BLOCK = 8192
_SMALLEST_BLOCK = 64
_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Rotate:
    """Flip random signs and apply a Hadamard transform, block by block, before quantization.

    Both are orthogonal, so errors keep their size. Blocks have 8,192 values; what is left is cut into smaller powers of
    two down to 64, so that padding is at most 63 zeros.

    With ``sign(unbiased=true)`` behind it this is DRIVE, EDEN's one-bit quantizer; each block has its own scale there.
    It is unbiased as far as the rotation is a uniform one, which a Hadamard transform nearly is; where a few values
    dominate a block, a bias remains. A rotation destroys sparsity and structure: where an update has them, other
    codecs are better.

    Sums are taken by butterflies of additions, not by matrix products, whose rounding depends on threads and machine.

    References:
        Vargaftik et al., DRIVE: One-bit Distributed Mean Estimation, NeurIPS 2021, sections 3 and 4;
        Vargaftik et al., EDEN, ICML 2022, section 3.
    """

    name: ClassVar[str] = "rotate"
    wire_id: ClassVar[int] = 24
    is_unbiased: ClassVar[bool] = True
    error_bound: ClassVar[float] = 0.0
    is_stateless: ClassVar[bool] = True
    preserves_norm: ClassVar[bool] = True
    needs_whole_tensors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_parameters(self)

    def apply(
        self,
        values: NDArray,
        cuts: Cuts,
        *,
        rng: Generator | None = None,
        previous: NDArray | None = None,
        known: Known | None = None,
    ) -> tuple[NDArray, tuple[int, ...]]:
        """Return the rotated values and the seed of the signs; raises `UsageError` without an rng."""
        if rng is None:
            raise UsageError("rotate needs a random generator: encode(delta, rng=...)")
        seed = int(rng.integers(1 << 32))
        return rotate(values, seed), (seed,)

    def writes(self, key: tuple[int, ...]) -> bool:
        """Any seed."""
        return True

    @classmethod
    def cuts_after(cls, cuts: Cuts, key: tuple[int, ...]) -> Cuts:
        """Return where the blocks begin."""
        return block_cuts(cuts.size)

    @classmethod
    def invert(cls, values: NDArray, cuts: Cuts, key: tuple[int, ...], known: Known | None) -> NDArray:
        """Rotate back; `values` are changed."""
        return rotate_back(values, cuts.size, *key)

    @classmethod
    def parse_wire(cls, args: tuple[int, ...]) -> tuple[int, ...]:
        """Return the seed."""
        if len(args) != 1:
            raise ValueError(f"rotate has one seed, not {args}")
        return args


def block_cuts(size: int) -> Cuts:
    """Return where the blocks of a vector of `size` values begin, and how long it is with its padding."""
    sizes = [length for _, length in _blocks(size)]
    bounds = np.cumsum([0, *sizes], dtype=np.int64)
    return Cuts(bounds, bounds)


def rotate(values: NDArray, seed: int) -> NDArray:
    """Rotate a vector.

    Args:
        values: float32, (n,); magnitudes that a sum of a block could not hold are clipped.
        seed: 64 bits; decides the signs.

    Returns:
        float32, padded to whole blocks.
    """
    rotated = np.zeros(block_cuts(values.size).size, np.float32)
    np.clip(values, -_MAX / _LARGEST_BLOCK, _MAX / _LARGEST_BLOCK, out=rotated[: values.size])
    generator = np.random.Philox(key=seed)
    for start, length, count in _runs(values.size):
        part = rotated[start : start + length * count]
        part *= _signs(generator, part.size)
        _hadamard(part.reshape(count, length), inverse=False)
    return rotated


def rotate_back(rotated: NDArray, size: int, seed: int) -> NDArray:
    """Invert `rotate`; `rotated` is changed, if it can be."""
    rotated = np.require(rotated, requirements="W")
    generator = np.random.Philox(key=seed)
    for start, length, count in _runs(size):
        part = rotated[start : start + length * count]
        _hadamard(part.reshape(count, length), inverse=True)
        part *= _signs(generator, part.size)
    return rotated[:size]


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, length) of the blocks."""
    start, padded = 0, -(-size // _SMALLEST_BLOCK) * _SMALLEST_BLOCK
    while start < padded:
        length = min(_LARGEST_BLOCK, 1 << ((padded - start).bit_length() - 1))
        yield start, length
        start += length


def _runs(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, length, count) of blocks of one length, in pieces that stay in the cache."""
    pieces = PIECE // _LARGEST_BLOCK
    full = size // _LARGEST_BLOCK
    for first in range(0, full, pieces):
        yield first * _LARGEST_BLOCK, _LARGEST_BLOCK, min(pieces, full - first)
    for start, length in _blocks(size - full * _LARGEST_BLOCK):
        yield full * _LARGEST_BLOCK + start, length, 1


def _signs(generator: np.random.Philox, count: int) -> NDArray:
    """Return the next +1 and -1 from raw Philox output, whose stream NumPy guarantees; `count` is a multiple of 64."""
    bits = np.unpackbits(generator.random_raw(count // 64).astype("<u8").view(np.uint8))
    return np.float32(1) - np.float32(2) * bits


def _hadamard(blocks: NDArray, *, inverse: bool) -> None:
    """Transform each row of (count, 2^k) in place, normalized.

    A row is read as a matrix, transformed along its first axis, transposed, and transformed along its first axis again:
    every addition runs over long contiguous stretches. Without the transposition back it is still a Hadamard transform,
    with its outputs in another order.
    """
    count, length = blocks.shape
    half = 1 << ((length.bit_length() - 1) // 2)
    rows, columns = (length // half, half) if inverse else (half, length // half)
    matrices = blocks.reshape(count, rows, columns)
    _butterflies(matrices)
    turned = np.ascontiguousarray(matrices.transpose(0, 2, 1))
    _butterflies(turned)
    np.multiply(turned.reshape(count, length), np.float32(1 / sqrt(length)), out=blocks)


def _butterflies(matrices: NDArray) -> None:
    """Apply an unnormalized Hadamard transform along axis 1 of (count, 2^k, width), in place."""
    count, rows, width = matrices.shape
    half = 1
    while half < rows:
        pairs = matrices.reshape(count, rows // (2 * half), 2, half * width)
        upper, lower = pairs[:, :, 0], pairs[:, :, 1]
        difference = upper - lower
        upper += lower
        lower[:] = difference
        half *= 2
