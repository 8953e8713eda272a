"""What positions take by one signal at a time: the others are taken out of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.coding.contextual import encode_positions

if TYPE_CHECKING:
    from fedcomp.codecs.groups import Cuts, Matrix
    from fedcomp.types import NDArray


def bytes_by_signal(positions: NDArray, cuts: Cuts, moved: NDArray) -> dict[str, int]:
    """Code the same number of positions with all signals, with one, with none.

    Args:
        positions: int64, strictly increasing.
        cuts: Of the vector that they point into.
        moved: How far each coordinate has moved, float32.

    Returns:
        Bytes by what is left. ``all``; ``own``, each cell's movement (cells are shuffled in their matrix, and their
        movement with them); ``learned``, rows and columns as they are found to be while they are coded, without any
        movement; ``lines``, that and the mean movement of rows and columns; ``none``, how many are in each tensor.
    """
    selected = np.zeros(moved.size, bool)
    selected[positions] = True
    order = _shuffled_in_matrices(cuts)
    shuffled, blank = np.flatnonzero(selected[order]), np.ones_like(moved)
    left = {
        "all": (positions, moved),
        "own": (shuffled, moved[order]),
        "lines": (positions, _of_lines(moved, cuts)),
        "learned": (positions, blank),
        "none": (shuffled, blank),
    }
    return {name: len(encode_positions(where, cuts, movement)) for name, (where, movement) in left.items()}


def _shuffled_in_matrices(cuts: Cuts) -> NDArray:
    rng = np.random.default_rng(0)
    order = np.arange(cuts.size)
    for matrix in cuts.matrices:
        rng.shuffle(order[matrix.where])
    return order


def _of_lines(moved: NDArray, cuts: Cuts) -> NDArray:
    """Return what rows and columns say of each cell's movement: the product of their means, over that of all."""
    expected = np.empty_like(moved)
    for matrix in filter(_has_cells, cuts.matrices):
        expected[matrix.where] = _product_of_means(moved[matrix.where], matrix)
    return expected


def _has_cells(matrix: Matrix) -> bool:
    return matrix.rows * matrix.columns > 0


def _product_of_means(moved: NDArray, matrix: Matrix) -> NDArray:
    cells = np.abs(moved, dtype=np.float64).reshape(matrix.rows, matrix.columns)
    rows, columns = cells.mean(axis=1, keepdims=True), cells.mean(axis=0, keepdims=True)
    expected: NDArray = (rows * columns / max(float(cells.mean()), np.finfo(np.float64).tiny)).ravel()
    return expected
