"""Sparse coordinates as gaps: what a sparsifier's choice looks like on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.groups import PIECE
from fedcomp.errors import InvalidValues

if TYPE_CHECKING:
    from fedcomp.types import NDArray


def positions_to_gaps(positions: NDArray) -> NDArray:
    """Return uint32 gaps: the first position, then each difference minus one.

    Args:
        positions: int64, strictly increasing, from 0 and below 2^32.
    """
    gaps = np.empty(positions.size, np.uint32)
    gaps[:1] = positions[:1]
    np.subtract(positions[1:], positions[:-1], out=gaps[1:], casting="unsafe")
    gaps[1:] -= 1
    return gaps


def gaps_to_positions(gaps: NDArray, size: int) -> NDArray:
    """Invert `positions_to_gaps`; strictly increasing by construction, since a gap is never negative.

    Args:
        gaps: uint32, from the wire.
        size: Length of the vector that the positions point into.

    Raises:
        InvalidValues: The last position is not below `size`.
    """
    # int64 on purpose: 2^31 gaps of 2^32 can't wrap, so a hostile sum is seen and not folded back into range.
    positions = np.cumsum(gaps, dtype=np.int64)
    for left in range(0, gaps.size, PIECE):
        piece = positions[left : left + PIECE]
        piece += np.arange(left, left + piece.size)
    if positions.size and positions[-1] >= size:
        raise InvalidValues(f"positions reach {positions[-1]}, the vector has {size} coordinates")
    return positions


def _smallest(keys: NDArray, count: int) -> NDArray:
    """Return the coordinates of the `count` smallest keys (one at least), of equal ones the first: increasing."""
    largest = np.partition(keys, count - 1)[count - 1]
    chosen = keys < largest
    chosen[np.flatnonzero(keys == largest)[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def draw_positions(seed: int, count: int, size: int) -> NDArray:
    """Draw `count` of `size` coordinates, uniformly and without repetition.

    Drawn from raw Philox output, whose stream NumPy guarantees; that of its samplers may change with a version, and
    the two ends of a connection need not have the same one.

    Args:
        seed: 64 bits.
        count: 0 to `size`.
        size: Below 2^32.

    Returns:
        int64, strictly increasing.
    """
    generator = np.random.Philox(key=seed)
    if count > size // 8:
        # One by one, the last ones of a full set would take turns without end to come up.
        keys = generator.random_raw(-(-size // 2)).astype("<u8").view("<u4")[:size]
        return _smallest(keys, count)
    drawn = np.empty(0, np.int64)
    while drawn.size < count:
        # With what is missing plus a tenth most draws are done in two turns.
        fresh = generator.random_raw(count - drawn.size + count // 10 + 16)
        scaled = ((fresh >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32)
        drawn = np.concatenate([drawn, scaled.astype(np.int64)])
        _, first = np.unique(drawn, return_index=True)
        drawn = drawn[np.sort(first)]
    return np.sort(drawn[:count])
