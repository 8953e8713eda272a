"""Positions without the rows and columns that nothing was selected from: the rest of a matrix is a smaller one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.coding.grouping import count_lines, grouped_matrices
from fedcomp.errors import InvalidValues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray


def find_alive(positions: NDArray, cuts: Cuts) -> NDArray:
    """Return which lines hold a selected coordinate, bool: matrix by matrix, its rows, then its columns."""
    alive = [np.zeros(0, bool)]
    for matrix in grouped_matrices(cuts):
        first, last = np.searchsorted(positions, [matrix.where.start, matrix.where.stop])
        row, column = np.divmod(positions[first:last] - matrix.start, matrix.columns)
        alive += [np.bincount(row, minlength=matrix.rows) > 0, np.bincount(column, minlength=matrix.columns) > 0]
    return np.concatenate(alive)


def pack_alive(alive: NDArray) -> NDArray:
    """Return a bit a line, padded with zeros."""
    return np.packbits(alive)


def packed_size(cuts: Cuts) -> int:
    """Return the bytes that `pack_alive` gives."""
    return -(-count_lines(cuts) // 8)


def unpack_alive(packed: NDArray, cuts: Cuts) -> NDArray:
    """Invert `pack_alive`; raises `InvalidValues` if the padding after the last line is not zero."""
    bits = np.unpackbits(packed).astype(bool)
    if bits[count_lines(cuts) :].any():
        raise InvalidValues("the padding after the last row or column is not zero")
    return bits[: count_lines(cuts)]


def cropped_size(cuts: Cuts, alive: NDArray) -> int:
    """Return the number of coordinates that are left."""
    return sum(segment.cropped_size for segment in _segments(cuts, alive))


def crop(positions: NDArray, cuts: Cuts, alive: NDArray) -> NDArray:
    """Return positions (int64, increasing, all in lines that are alive) among what is left: increasing, too."""
    parts, start = [np.empty(0, np.int64)], 0
    for segment in _segments(cuts, alive):
        first, last = np.searchsorted(positions, [segment.start, segment.start + segment.size])
        parts.append(segment.crop(positions[first:last] - segment.start) + start)
        start += segment.cropped_size
    return np.concatenate(parts)


def uncrop(positions: NDArray, cuts: Cuts, alive: NDArray) -> NDArray:
    """Invert `crop`."""
    parts, start = [np.empty(0, np.int64)], 0
    for segment in _segments(cuts, alive):
        first, last = np.searchsorted(positions, [start, start + segment.cropped_size])
        parts.append(segment.uncrop(positions[first:last] - start) + segment.start)
        start += segment.cropped_size
    return np.concatenate(parts)


class _Segment(NamedTuple):
    """A stretch of the vector: a matrix with its lines that are left, or, where there are none, anything else."""

    start: int
    size: int
    columns: int = 1
    rows_left: NDArray | None = None
    columns_left: NDArray | None = None

    @property
    def cropped_size(self) -> int:
        if self.rows_left is None or self.columns_left is None:
            return self.size
        return self.rows_left.size * self.columns_left.size

    def crop(self, positions: NDArray) -> NDArray:
        if self.rows_left is None or self.columns_left is None:
            return positions
        row, column = np.divmod(positions, self.columns)
        return np.searchsorted(self.rows_left, row) * self.columns_left.size + np.searchsorted(
            self.columns_left, column
        )

    def uncrop(self, positions: NDArray) -> NDArray:
        if self.rows_left is None or self.columns_left is None or not positions.size:
            return positions
        row, column = np.divmod(positions, self.columns_left.size)
        uncropped: NDArray = self.rows_left[row] * self.columns + self.columns_left[column]
        return uncropped


def _segments(cuts: Cuts, alive: NDArray) -> Iterator[_Segment]:
    """Yield the whole vector in stretches."""
    end, lines = 0, 0
    for matrix in grouped_matrices(cuts):
        yield _Segment(end, matrix.start - end)
        middle, last = lines + matrix.rows, lines + matrix.rows + matrix.columns
        left = np.flatnonzero(alive[lines:middle]), np.flatnonzero(alive[middle:last])
        yield _Segment(matrix.start, matrix.rows * matrix.columns, matrix.columns, *left)
        end, lines = matrix.where.stop, last
    yield _Segment(end, cuts.size - end)
