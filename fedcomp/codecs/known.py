"""Directions in which training has moved a model: both ends know them, and the next update mostly follows them.

An update of a matrix is a sum of outer products: errors at its outputs times activations at its inputs. Both change
slowly, so the leading singular vectors of ``w - reference``, which both ends can compute, span most of the next update.
A vector in their span is a few coefficients instead of thousands of values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.subspace import leading_directions, orthonormalize

if TYPE_CHECKING:
    from fedcomp.codecs.groups import Cuts, Matrix
    from fedcomp.types import NDArray


class Directions(NamedTuple):
    """Orthonormal rows, or zeros: (count, rows) of the left and (count, columns) of the right side of a matrix."""

    left: NDArray
    right: NDArray


class Known:
    """What both ends know besides the update, as vectors like the update's.

    Args:
        moved: For each reference the current model minus it: float32, flat.
        cuts: Where tensors and channels begin in them.
    """

    def __init__(self, moved: tuple[NDArray, ...], cuts: Cuts) -> None:
        self.moved, self.cuts = moved, cuts
        self._found: dict[tuple[Matrix, int], Directions] = {}

    @property
    def since_first(self) -> NDArray:
        """The current model minus the earliest reference, which is the last one."""
        return self.moved[-1]

    def directions(self, matrix: Matrix, count: int) -> Directions:
        """Return the directions of one matrix, `count_directions` a side; computed once.

        Args:
            matrix: One of ``cuts.matrices``.
            count: Directions for each reference.
        """
        key = matrix, count
        if key not in self._found:
            self._found[key] = self._find(matrix, count)
        return self._found[key]

    def _find(self, matrix: Matrix, count: int) -> Directions:
        shape = matrix.rows, matrix.columns
        sizes = count_directions(shape, count, len(self.moved))
        if not any(sizes):
            return Directions(np.empty((0, matrix.rows)), np.empty((0, matrix.columns)))
        rank = min(count, *shape)
        found = [leading_directions(moved[matrix.where].reshape(shape), rank) for moved in self.moved]
        left, right = (np.concatenate(side) for side in zip(*found, strict=True))
        return Directions(orthonormalize(left[: sizes[0]]), orthonormalize(right[: sizes[1]]))


def count_directions(shape: tuple[int, int], count: int, num_references: int) -> tuple[int, int]:
    """Return the number of directions of the left and of the right side of a matrix.

    A side that is not much longer than that has none: its vectors are as short without.

    Args:
        shape: Rows and columns.
        count: Directions for each reference.
        num_references: References that there are.
    """
    total = min(count, *shape) * num_references
    rows, columns = (total if 2 * total <= length else 0 for length in shape)
    return rows, columns
