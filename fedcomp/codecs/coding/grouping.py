"""Symbols of like rows and columns, grouped: each group is entropy-coded with statistics of its own.

Updates of real training are far from evenly spread: some channels and some inputs barely change. The mean magnitude of
a symbol is nearly that of its row times that of its column; both are sent as a class, a power of two, and the sum of
the two classes says which group a symbol belongs to. Rows and columns are sorted by class, so that a group is cut out
of a matrix in few rectangles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.groups import PIECE
from fedcomp.errors import InvalidValues

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedcomp.codecs.groups import Cuts, Matrix
    from fedcomp.types import NDArray

_SMALLEST_MATRIX = 4096
_SMALLEST_GROUP = 2048
"""Symbols for which a coder's tables are worth their bytes."""
_LARGEST_CLASS = 31
_SAMPLE = 1 << 15
_LEAST_GAIN = 0.02
_UNGROUPED, _DEAD = 0, 1


def grouped_matrices(cuts: Cuts) -> list[Matrix]:
    """Return the matrices that are large enough to have rows and columns worth telling apart."""
    return [m for m in cuts.matrices if min(m.rows, m.columns) > 1 and m.rows * m.columns >= _SMALLEST_MATRIX]


def count_lines(cuts: Cuts) -> int:
    """Return the number of rows and columns of all such matrices: of their classes that travel."""
    return sum(m.rows + m.columns for m in grouped_matrices(cuts))


def classify_lines(symbols: NDArray, cuts: Cuts, centre: int | None = None) -> NDArray:
    """Return each line's class, uint8: matrix by matrix, its rows, then its columns.

    0 is a line in which all symbols are `centre`, the one that means zero, or, without one, the most common. The
    classes of a row and a column that are not 0 add up to the binary logarithm of the magnitude that is expected where
    they meet, but for a constant.
    """
    middle = _most_common(symbols) if centre is None else np.asarray(centre, symbols.dtype)
    rows, columns = [], []
    for matrix in grouped_matrices(cuts):
        row_sums, column_sums = _line_sums(symbols[matrix.where].reshape(matrix.rows, matrix.columns), middle)
        rows.append(_octaves(row_sums / matrix.columns))
        columns.append(_octaves(column_sums * (matrix.columns / max(row_sums.sum(), 1.0))))
    lowest = [_lowest(r) + _lowest(c) for r, c in zip(rows, columns, strict=True)]
    shifts = [low - min(lowest) for low in lowest]
    classes = [
        _as_classes(line, shift)
        for r, c, shift in zip(rows, columns, shifts, strict=True)
        for line, shift in ((r, shift), (c, 0))
    ]
    return np.concatenate([np.empty(0, np.uint8), *classes])


def is_worth_it(symbols: NDArray, cuts: Cuts, classes: NDArray) -> bool:
    """Tell, by the entropies of a sample, whether grouping saves more than the classes and the tables cost."""
    groups = _Groups.of(cuts, classes)
    stride = max(1, symbols.size // _SAMPLE)
    alphabet = int(symbols.max()) + 1
    joint = [np.empty(0, np.int64)]
    for matrix, rows, columns in _lines(cuts, classes):
        index = np.arange(0, matrix.rows * matrix.columns, stride)
        found = groups.numbers[_contexts(rows[index // matrix.columns], columns[index % matrix.columns])]
        joint.append(found.astype(np.int64) * alphabet + symbols[matrix.where][index])
    sampled = np.concatenate(joint)
    if not sampled.size:
        return False
    counts = np.bincount(sampled, minlength=groups.sizes.size * alphabet).reshape(-1, alphabet)
    together = _entropy_bits(counts.sum(axis=0))
    saved = (together - sum(map(_entropy_bits, counts))) * stride
    cost = 4 * classes.size + 8 * 32 * np.count_nonzero(groups.sizes)
    return bool(saved - cost > _LEAST_GAIN * together * stride)


def group(symbols: NDArray, cuts: Cuts, classes: NDArray) -> list[NDArray]:
    """Return the symbols of each group that has any."""
    groups = _Groups.of(cuts, classes)
    parts: list[list[NDArray]] = [[] for _ in groups.sizes]
    parts[_UNGROUPED] = [symbols[where] for where in _ungrouped(cuts)]
    for matrix, rows, columns in _lines(cuts, classes):
        cells = symbols[matrix.where].reshape(matrix.rows, matrix.columns)
        cells = cells.take(np.argsort(rows, kind="stable"), axis=0).take(np.argsort(columns, kind="stable"), axis=1)
        for number, rectangle in _rectangles(rows, columns, groups):
            parts[number].append(cells[rectangle].reshape(-1))
    return [np.concatenate(part) for part in parts if part]


def group_sizes(cuts: Cuts, classes: NDArray) -> list[int]:
    """Return the number of symbols of each group that `group` returns.

    Raises:
        InvalidValues: A class is out of range.
    """
    if classes.size and classes.max() > _LARGEST_CLASS:
        raise InvalidValues(f"a row or column has class {classes.max()}, expected at most {_LARGEST_CLASS}")
    sizes = _Groups.of(cuts, classes).sizes
    return [int(size) for size in sizes if size]


def ungroup(groups_symbols: Sequence[NDArray], cuts: Cuts, classes: NDArray) -> NDArray:
    """Invert `group`."""
    groups = _Groups.of(cuts, classes)
    remaining = dict(zip(np.flatnonzero(groups.sizes).tolist(), groups_symbols, strict=True))
    symbols = np.empty(cuts.size, groups_symbols[0].dtype)
    for where in _ungrouped(cuts):
        symbols[where], remaining[_UNGROUPED] = np.split(remaining[_UNGROUPED], [where.stop - where.start])
    for matrix, rows, columns in _lines(cuts, classes):
        cells = np.empty((matrix.rows, matrix.columns), symbols.dtype)
        for number, rectangle in _rectangles(rows, columns, groups):
            target = cells[rectangle]
            source = remaining[number]
            target[:] = source[: target.size].reshape(target.shape)
            remaining[number] = source[target.size :]
        row_places, column_places = (np.argsort(np.argsort(line, kind="stable")) for line in (rows, columns))
        symbols[matrix.where] = cells.take(column_places, axis=1).take(row_places, axis=0).reshape(-1)
    return symbols


class _Groups(NamedTuple):
    """Which contexts share statistics: neighbours, until they have enough symbols.

    Args:
        numbers: The group of each context; context 0 is a dead row or column.
        sizes: Symbols in each group; the first holds what is in no matrix, the second what is dead.
    """

    numbers: NDArray
    sizes: NDArray

    @classmethod
    def of(cls, cuts: Cuts, classes: NDArray) -> _Groups:
        counts = np.zeros(2 * _LARGEST_CLASS + 1, np.int64)
        for matrix, rows, columns in _lines(cuts, classes):
            alive_rows, alive_columns = (_count_classes(line[line > 0]) for line in (rows, columns))
            counts += np.convolve(alive_rows, alive_columns)
            counts[0] += matrix.rows * matrix.columns - alive_rows.sum() * alive_columns.sum()
        numbers = np.full(counts.size, _DEAD)
        sizes = [cuts.size - int(counts.sum()), int(counts[0])]
        for context in np.flatnonzero(counts[1:]) + 1:
            if len(sizes) == _DEAD + 1 or sizes[-1] >= _SMALLEST_GROUP:
                sizes.append(0)
            sizes[-1] += int(counts[context])
            numbers[context] = len(sizes) - 1
        return cls(numbers, np.array(sizes))


def _lines(cuts: Cuts, classes: NDArray) -> Iterator[tuple[Matrix, NDArray, NDArray]]:
    """Yield (matrix, classes of its rows, classes of its columns)."""
    start = 0
    for matrix in grouped_matrices(cuts):
        middle, end = start + matrix.rows, start + matrix.rows + matrix.columns
        yield matrix, classes[start:middle], classes[middle:end]
        start = end


def _count_classes(line: NDArray) -> NDArray:
    return np.bincount(line, minlength=_LARGEST_CLASS + 1)


def _contexts(rows: NDArray, columns: NDArray) -> NDArray:
    return np.where((rows > 0) & (columns > 0), rows.astype(np.int64) + columns, 0)


def _rectangles(rows: NDArray, columns: NDArray, groups: _Groups) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Yield (group, rows and columns) of a matrix whose lines are sorted by class; neighbours of one group at once."""
    row_classes, row_starts = np.unique(np.sort(rows), return_index=True)
    column_classes, column_starts = np.unique(np.sort(columns), return_index=True)
    row_ends = [*row_starts[1:].tolist(), rows.size]
    for row_class, top, bottom in zip(row_classes, row_starts.tolist(), row_ends, strict=True):
        numbers = groups.numbers[_contexts(np.full(column_classes.size, row_class), column_classes)]
        changes = np.flatnonzero(np.diff(numbers, prepend=-1))
        lefts = column_starts[changes].tolist()
        rights = [*lefts[1:], columns.size]
        for number, left, right in zip(numbers[changes].tolist(), lefts, rights, strict=True):
            yield number, (slice(top, bottom), slice(left, right))


def _ungrouped(cuts: Cuts) -> list[slice]:
    """Return where the tensors are that are no such matrices."""
    grouped = {matrix.start for matrix in grouped_matrices(cuts)}
    return [m.where for m in cuts.matrices if m.start not in grouped and m.rows * m.columns]


def _most_common(symbols: NDArray) -> NDArray:
    """Return the symbol that a sample holds most often."""
    sample = symbols[:: max(1, symbols.size // _SAMPLE)]
    return np.asarray(np.bincount(sample).argmax(), symbols.dtype)


def _line_sums(cells: NDArray, centre: NDArray) -> tuple[NDArray, NDArray]:
    """Return the sums of magnitudes by row and by column, as float64; in pieces that stay in the cache."""
    row_sums, column_sums = np.zeros(cells.shape[0]), np.zeros(cells.shape[1])
    step = max(1, 4 * PIECE // cells.shape[1])
    signed = np.dtype(f"i{cells.itemsize}")
    for top in range(0, cells.shape[0], step):
        piece = cells[top : top + step]
        # Differences of more than half the range wrap around: that makes a worse guess, but never a dead line.
        magnitudes = np.abs((piece - centre).view(signed)).view(piece.dtype)
        row_sums[top : top + step] = magnitudes.sum(axis=1, dtype=np.uint32 if piece.shape[1] < 1 << 16 else np.uint64)
        column_sums += magnitudes.sum(axis=0, dtype=np.uint32)
    return row_sums, column_sums


def _octaves(means: NDArray) -> NDArray:
    """Return the binary logarithm, rounded up, by exponents, which are exact; the type's least for zero."""
    _, exponents = np.frexp(means)
    return np.where(means > 0, exponents.astype(np.int64), np.iinfo(np.int64).min)


def _lowest(line: NDArray) -> int:
    alive = line[line > np.iinfo(np.int64).min]
    return int(alive.min()) if alive.size else 0


def _as_classes(line: NDArray, shift: int) -> NDArray:
    """Count from 1, or 1 and a shift; 0 for dead lines."""
    counted = (line - _lowest(line) + 1 + shift).clip(1, _LARGEST_CLASS)
    return np.where(line > np.iinfo(np.int64).min, counted, 0).astype(np.uint8)


def _entropy_bits(counts: NDArray) -> float:
    """Return the bits that symbols with these counts take, by the Miller-Madow estimate."""
    used = counts[counts > 0]
    if used.size < 2:
        return 0.0
    total = used.sum()
    return float(total * np.log2(total) - (used * np.log2(used)).sum() + (used.size - 1) / (2 * np.log(2)))
