"""Rounding weights to a grid so that the outputs change least, not the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedcomp.types import NDArray

_DAMPING = 0.01


def round_compensated(
    weights: NDArray, gram: NDArray, step: float | NDArray, zone: float, largest: float = np.inf
) -> NDArray:
    """Round a matrix to multiples of `step`, column by column; later ones make up for earlier errors.

    Minimizes ``||(W - Q) X||`` greedily: after a column is rounded, what is left of the rows moves by the error times
    the row of the inverse Gram matrix ``(X X^T)^-1`` of the inputs.

    Args:
        weights: (rows, inputs).
        gram: Of the inputs, (inputs, inputs), float64.
        step: Of the grid; or one a row, (rows,).
        zone: What is taken off before rounding, 0 (nearest) to 0.5 (down), as `DeadZone` does.
        largest: Multiple of the step that there may be, in either direction.

    Returns:
        float32, every value a multiple of `step`.

    References:
        Frantar et al., GPTQ, ICLR 2023, section 3; Hassibi and Stork, Optimal Brain Surgeon, NeurIPS 1992.
    """
    moved, size = weights.astype(np.float64), len(gram)
    damped = gram + np.eye(size) * max(_DAMPING * np.trace(gram) / size, 1e-12)
    order = np.argsort(-np.diag(gram), kind="stable")
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T
    moved, rounded = moved[:, order], np.empty_like(moved)
    for column in range(size):
        exact = moved[:, column]
        multiples = np.minimum(np.floor(np.abs(exact) / step + 0.5 - zone), largest)
        rounded[:, column] = np.sign(exact) * multiples * step
        error = (exact - rounded[:, column]) / factor[column, column]
        moved[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :])
    result = np.empty_like(rounded)
    result[:, order] = rounded
    return result.astype(np.float32)
