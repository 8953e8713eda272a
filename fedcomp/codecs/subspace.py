"""Leading singular vectors of a matrix: directions, the same bits on every machine, and components.

A matrix product's rounding depends on the library, its threads and the processor. What both ends must find alike is
made of factors that are rounded to integers first, few enough bits that no sum is ever rounded: every order of
additions then gives the same product. Components travel, and only one end finds them.
"""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from fedcomp.types import NDArray

_MANTISSA_BITS = 53
_OVERSAMPLING = 4
"""Vectors beyond those that are asked for: with them the iteration can't miss a leading one by bad luck."""
_DEPENDENT = 1e-5
"""A row of which no more than this is left depends on others: products of rounded factors are off by a tenth of it."""


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
    squares, rotation = np.linalg.eigh(right @ right.T)
    rotation, lengths = rotation.T[::-1][:rank], np.sqrt(squares[::-1][:rank, np.newaxis].clip(0))
    return lengths * (rotation @ left), rotation @ right


def leading_directions(matrix: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Find vectors that span nearly what the leading singular ones do, neither of one length nor quite orthogonal.

    Args:
        matrix: float32, (m, n), finite.
        count: Vectors a side, at most min(m, n).

    Returns:
        Left and right ones: float64, (count, m) and (count, n), for `orthonormalize`. Those that the matrix does not
        have are zeros.

    References:
        Halko, Martinsson and Tropp, SIAM Review 2011, algorithm 4.4 (randomized subspace iteration).
    """
    bits = _num_bits(matrix.shape)
    exact = _to_integers(matrix, bits)
    right = _random_vectors(count, matrix.shape[1])
    for _ in range(2):
        left = _orthogonalize(_multiply(_rows_to_integers(right, bits), exact.transposed()))
        right = _orthogonalize(_multiply(_rows_to_integers(left, bits), exact))
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
    integers = values.astype(np.float64)
    integers /= unit
    return _Integers(np.rint(integers, out=integers), unit)


def _rows_to_integers(rows: NDArray, bits: int) -> _Integers:
    """Round each row for itself, to one unit: only the directions of the rows matter."""
    _, exponents = np.frexp(np.abs(rows).max(axis=1, keepdims=True, initial=0))
    return _Integers(np.rint(np.ldexp(rows, bits - exponents)), 2.0**-bits)


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
    rows = _orthogonalize(_orthogonalize(vectors))
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    return rows / np.where(lengths > 0, lengths, 1)


def _orthogonalize(vectors: NDArray) -> NDArray:
    """Return orthogonal rows but for what rounding leaves of nearly parallel ones; one that depends on others is zeros.

    What is subtracted from each row is found in the rows' inner products, k times k numbers instead of k long rows.
    """
    bits = _num_bits(vectors.shape)
    rounded = _rows_to_integers(vectors, bits)
    shares = _gram_schmidt(_multiply(rounded, rounded.transposed()))
    return _multiply(_rows_to_integers(shares, bits), rounded)


def _gram_schmidt(gram: NDArray) -> NDArray:
    """Return of which shares of the rows orthogonal ones are made, (k, k), from the rows' inner products, (k, k)."""
    size, lengths = len(gram), np.diag(gram)
    left_and_shares = np.hstack([gram, np.eye(size)])
    for i, row in enumerate(left_and_shares):
        if row[i] > _DEPENDENT**2 * lengths[i]:
            left_and_shares[i + 1 :] -= left_and_shares[i + 1 :, i : i + 1] / row[i] * row
        else:
            row[:] = 0
    return left_and_shares[:, size:]
