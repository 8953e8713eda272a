"""Symbols as magnitudes and the signs of those that are not zero.

Signs of neighbours are alike in real updates: a row of a layer's gradient behind a ReLU has mostly one sign. Eight
signs make a byte, whose statistics see that; and magnitudes have half the alphabet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.codecs.groups import PIECE
from fedcomp.errors import InvalidValues

if TYPE_CHECKING:
    from fedcomp.types import NDArray


def split_signs(symbols: NDArray, centre: int) -> tuple[NDArray, NDArray]:
    """Return magnitudes, of the symbols' type, and packed signs of those that are not zero, 1 is negative.

    Args:
        symbols: Unsigned, no further from `centre` than half their type's range.
        centre: The symbol that means zero.
    """
    differences = (symbols - symbols.dtype.type(centre)).view(_signed(symbols.dtype))  # wraps, as it should
    magnitudes = np.abs(differences).view(symbols.dtype)
    # `compress` makes indices of 64 bits: a piece at a time.
    pieces = (slice(left, left + PIECE) for left in range(0, symbols.size, PIECE))
    negative = [np.compress(magnitudes[piece] != 0, differences[piece] < 0) for piece in pieces]
    return magnitudes, np.packbits(np.concatenate([np.empty(0, bool), *negative]))


def packed_size(magnitudes: NDArray) -> int:
    """Return the bytes that the signs of these magnitudes take before they are coded."""
    return -(-int(np.count_nonzero(magnitudes)) // 8)


def join_signs(magnitudes: NDArray, packed: NDArray, centre: int) -> NDArray:
    """Invert `split_signs`.

    Raises:
        InvalidValues: A magnitude is beyond half the symbols' range, or the padding after the last sign is not zero.
    """
    bits = np.unpackbits(packed)
    count = int(np.count_nonzero(magnitudes))
    if bits[count:].any():
        raise InvalidValues("the padding after the last sign is not zero")
    signed = _signed(magnitudes.dtype)
    if magnitudes.max(initial=0) > np.iinfo(signed).max + 1:
        raise InvalidValues(f"magnitude {magnitudes.max()} is beyond half the symbols' range")
    is_negative = np.zeros(magnitudes.size, bool)
    is_negative[magnitudes != 0] = bits[:count].view(bool)
    # -x is (x ^ -1) + 1, so one expression serves both signs without a branch.
    flips = is_negative.view(np.uint8).astype(magnitudes.dtype)
    symbols: NDArray = (magnitudes ^ (0 - flips)) + flips + magnitudes.dtype.type(centre)
    return symbols


def _signed(unsigned: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"i{unsigned.itemsize}")
