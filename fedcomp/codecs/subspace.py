"""Leading singular components of a matrix, the same bits on every machine.

A matrix product's rounding depends on the library, its threads and the processor. Here factors are rounded to integers
first, few enough bits that no sum is ever rounded: every order of additions then gives the same product.
"""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.types import NDArray

_MANTISSA_BITS = 53
_OVERSAMPLING = 4
"""Vectors beyond those that are asked for: with them the iteration can't miss a leading one by bad luck."""


def leading_components(matrix: NDArray, rank: int, start: NDArray | None) -> tuple[NDArray, NDArray]:
    """Find the leading singular components by subspace iteration.

    Args:
        matrix: float32, (m, n), finite.
        rank: Number of components, at most min(m, n).
        start: Vectors near the right singular ones, (`rank` or fewer, n); None to start from fixed random ones.

    Returns:
        Left and right singular vectors, both multiplied by the singular values: float64, (rank, m) and (rank, n), in
        falling order. A component that the matrix does not have is zeros.

    References:
        Halko, Martinsson and Tropp, SIAM Review 2011, algorithm 4.4 (randomized subspace iteration).
    """
    bits = _num_bits(matrix.shape)
    exact = _to_integers(matrix, bits)
    right = _random_vectors(min(rank + _OVERSAMPLING, *matrix.shape), matrix.shape[1])
    if start is not None:
        right[: len(start)] = _refill(start.astype(np.float64), right[: len(start)])
    for _ in range(2 if start is None else 1):
        left = orthonormalize(_multiply(_rows_to_integers(right, bits), exact.transposed()))
        right = _multiply(_to_integers(left, bits), exact)
    rotation, squares = _eigenvectors(_multiply(_to_integers(right, bits), _to_integers(right, bits).transposed()))
    rotation, lengths = rotation[:rank], np.sqrt(squares[:rank, np.newaxis])
    return lengths * _combine(rotation, left), _combine(rotation, right)


def leading_directions(matrix: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Find orthonormal vectors near the leading singular ones, in no particular order.

    Args:
        matrix: float32, (m, n), finite.
        count: Vectors a side, at most min(m, n).

    Returns:
        Left and right ones: float64, (count, m) and (count, n). Those that the matrix does not have are zeros.

    References:
        Halko, Martinsson and Tropp, SIAM Review 2011, algorithm 4.4 (randomized subspace iteration).
    """
    bits = _num_bits(matrix.shape)
    exact = _to_integers(matrix, bits)
    right = _random_vectors(count, matrix.shape[1])
    for _ in range(2):
        left = orthonormalize(_multiply(_rows_to_integers(right, bits), exact.transposed()))
        right = orthonormalize(_multiply(_to_integers(left, bits), exact))
    return left, right


def project(vectors: NDArray, directions: NDArray) -> NDArray:
    """Return the coefficients of vectors (r, n) along orthonormal directions (k, n): float64, (r, k)."""
    bits = _num_bits(directions.shape)
    return _multiply(_to_integers(vectors, bits), _to_integers(directions, bits).transposed())


def expand(coefficients: NDArray, directions: NDArray) -> NDArray:
    """Return the vectors with these coefficients (r, k) along directions (k, n): float64, (r, n)."""
    bits = _num_bits(directions.shape)
    return _multiply(_to_integers(coefficients, bits), _to_integers(directions, bits))


def _num_bits(shape: tuple[int, ...]) -> int:
    """Return how many bits two factors may have, so that sums over any axis are never rounded."""
    return (_MANTISSA_BITS - ceil(log2(max(shape)))) // 2


class _Integers(NamedTuple):
    """Whole numbers in float64, and the power of two that they are multiples of."""

    values: NDArray
    unit: float

    def transposed(self) -> _Integers:
        return _Integers(self.values.T, self.unit)


def _to_integers(values: NDArray, bits: int) -> _Integers:
    """Round to multiples of a power of two, the largest magnitude to at most ``2^bits`` of them."""
    largest = max(float(values.max(initial=0)), -float(values.min(initial=0)))
    _, exponent = np.frexp(largest)
    unit = 2.0 ** (int(exponent) - bits)
    integers = np.divide(values, unit, dtype=np.float64)
    return _Integers(np.rint(integers, out=integers), unit)


def _rows_to_integers(rows: NDArray, bits: int) -> _Integers:
    """Round each row for itself, to one unit: only the directions of the rows matter."""
    integers = [_to_integers(row, bits).values for row in rows]
    return _Integers(np.stack(integers), 2.0**-bits)


def _multiply(a: _Integers, b: _Integers) -> NDArray:
    return (a.values @ b.values) * (a.unit * b.unit)


def _refill(vectors: NDArray, random: NDArray) -> NDArray:
    """Replace vectors of zeros: they would stay zeros for ever."""
    return np.where(vectors.any(axis=1, keepdims=True), vectors, random)


def _random_vectors(count: int, size: int) -> NDArray:
    """Return values in [-1, 1) from raw Philox output, whose stream NumPy guarantees."""
    words = np.random.Philox(key=0).random_raw(-(-count * size // 2)).astype("<u8").view("<i4")
    return words[: count * size].reshape(count, size) * 2.0**-31


def orthonormalize(vectors: NDArray) -> NDArray:
    """Return orthonormal rows (Gram-Schmidt, twice); a row that depends on those before it becomes zeros."""
    rows = vectors.copy()
    for i, row in enumerate(rows):
        length, others = np.sqrt(np.square(row).sum()), rows[:i]
        for _ in range(2):
            shares = (others * row).sum(axis=1, keepdims=True)
            row -= (shares * others).sum(axis=0)
        remaining = np.sqrt(np.square(row).sum())
        row *= 1 / remaining if remaining > 1e-6 * length else 0
    return rows


def _eigenvectors(gram: NDArray) -> tuple[NDArray, NDArray]:
    """Return eigenvectors (rows) and eigenvalues, falling, of a symmetric positive matrix: cyclic Jacobi rotations.

    Pairs without a common row are rotated at once (Brent and Luk, 1985, section 3).
    """
    size = len(gram)
    even = size + size % 2  # a row of zeros gives everyone a partner
    matrix, vectors = np.zeros((even, even)), np.eye(even)
    matrix[:size, :size] = gram
    for _ in range(30):
        off_diagonal = np.abs(matrix - np.diag(np.diag(matrix)))
        if off_diagonal.max() <= 1e-12 * np.diag(matrix).max():
            break
        for p, q in _tournament(even):
            cosines, sines = _rotations(matrix[p, p], matrix[q, q], matrix[p, q])
            _turn_rows(matrix, p, q, cosines, sines)
            _turn_rows(matrix.T, p, q, cosines, sines)
            _turn_rows(vectors, p, q, cosines, sines)
    order = np.argsort(-np.diag(matrix)[:size], kind="stable")
    return vectors[order, :size], np.diag(matrix)[order].clip(0)


def _tournament(size: int) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield rounds of disjoint pairs, in which everyone of an even number meets everyone else once."""
    players = np.arange(size)
    for _ in range(size - 1):
        yield players[: size // 2], players[size // 2 :][::-1]
        players[1:] = np.roll(players[1:], 1)


def _rotations(app: NDArray, aqq: NDArray, apq: NDArray) -> tuple[NDArray, NDArray]:
    """Return cosines and sines that make the off-diagonal elements zero."""
    with np.errstate(over="ignore"):  # an off-diagonal element that is next to nothing turns by next to nothing
        ratios = (aqq - app) / np.where(apq == 0, 1, 2 * apq)
        tangents = np.copysign(1 / (np.abs(ratios) + np.sqrt(ratios * ratios + 1)), ratios)
    tangents = np.where(apq == 0, 0, tangents)
    cosines = 1 / np.sqrt(tangents * tangents + 1)
    return cosines, tangents * cosines


def _turn_rows(matrix: NDArray, p: NDArray, q: NDArray, cosines: NDArray, sines: NDArray) -> None:
    upper, lower, c, s = matrix[p], matrix[q], cosines[:, np.newaxis], sines[:, np.newaxis]
    matrix[p], matrix[q] = c * upper - s * lower, s * upper + c * lower


def _combine(rotation: NDArray, vectors: NDArray) -> NDArray:
    """Return ``rotation @ vectors`` as sums in a fixed order."""
    return np.stack([(weights[:, np.newaxis] * vectors).sum(axis=0) for weights in rotation])
