"""Positions coded by what both ends know: where training has moved the model so far.

`Odds` says how many selected cells are expected where. Counted in expected cells instead of cells, the way to the next
selected one has always the same distribution, whatever the model: exponential, if the line's own rate were known. It is
not; with a Gamma prior of its rate the way has a Lomax distribution, whose shape grows by one with each cell that is
found. So a line that is dead costs a bit or less, a line that is busy is soon known to be, and nothing is sent for
either.

References:
    Brown et al., The time-rescaling theorem and its application to neural spike train data analysis, Neural
    Computation 2002, section 2.1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.coding.odds import Odds
from fedcomp.codecs.coding.rans import LOWEST, TOTAL, TOTAL_BITS, IntervalDecoder, encode_intervals
from fedcomp.errors import InvalidValues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.codecs.coding.odds import Line
    from fedcomp.codecs.groups import Cuts
    from fedcomp.types import NDArray

_LONGEST_LINE = 1 << 24
"""Cells. Each takes a 2^32nd of all probability, so that none is impossible."""
_FEWEST_COORDINATES = 16
"""For each position. They are decoded one by one: there is a limit to what a frame may cost."""
_HALVINGS = (0, 1, 1, 2)
"""Binary logarithm of the shape that is used, by the selected cells so far: at most one more than these, 4 at most, so
that powers are a few multiplications. The rate is always right."""


def can_code(count: int, cuts: Cuts) -> bool:
    """Tell whether so many positions in such a vector may be coded: there are few, and all lines are short enough."""
    are_few = count * _FEWEST_COORDINATES <= cuts.size
    return are_few and all(max(m.rows, m.columns) <= _LONGEST_LINE for m in cuts.matrices)


def encode_positions(positions: NDArray, cuts: Cuts, moved: NDArray) -> bytes:
    """Return the coded positions.

    Args:
        positions: int64, strictly increasing.
        cuts: Of the vector that they point into.
        moved: How far each coordinate has moved, float32.
    """
    mask = np.zeros(cuts.size, bool)
    mask[positions] = True
    steps, remaining = _Steps(), positions.size
    for matrix in Odds(moved, cuts, positions.size).matrices():
        for line in matrix.lines():
            if not remaining:
                return steps.encode()
            selected = np.flatnonzero(mask[line.start :: line.step][: line.expected.size - 1])
            remaining -= selected.size
            steps.add(line, selected, is_last=not remaining)
            matrix.learn(selected)
    return steps.encode()


def decode_positions(data: bytes, count: int, cuts: Cuts, moved: NDArray) -> NDArray:
    """Invert `encode_positions`: int64, strictly increasing, below ``cuts.size``.

    Raises:
        FrameError: `data` do not hold `count` positions, all of them and nothing else.
    """
    num_lines = sum(min(m.rows, m.columns) for m in cuts.matrices)
    decoder, remaining = IntervalDecoder(data, count + num_lines), count  # a line's end is an interval, too
    parts = [np.empty(0, np.int64)]
    for matrix in Odds(moved, cuts, count).matrices():
        for line in matrix.lines():
            if not remaining:
                break
            selected = np.array(_decode_line(decoder, line, remaining), np.int64)
            remaining -= selected.size
            parts.append(line.start + line.step * selected)
            matrix.learn(selected)
    if remaining:
        raise InvalidValues(f"{remaining} of {count} positions are missing at the end of the vector")
    decoder.finish()
    return np.sort(np.concatenate(parts))


def estimate_bits(positions: NDArray, cuts: Cuts, moved: NDArray) -> NDArray:
    """Return about how many bits the position of each coordinate takes, float32, in an update with these positions.

    It is for encoders that weigh value against cost; nothing that is decoded depends on it.
    """
    mask = np.zeros(cuts.size, bool)
    mask[positions] = True
    bits = np.empty(cuts.size, np.float32)
    for matrix in Odds(moved, cuts, positions.size).matrices():
        for line in matrix.lines():
            size = line.expected.size - 1
            selected = np.flatnonzero(mask[line.start :: line.step][:size])
            rate = (selected.size + 1) / (float(line.expected[-1]) + line.patience)
            bits[line.start :: line.step][:size] = np.log2(1 + 1 / (rate * np.diff(line.expected)))
            matrix.learn(selected)
    return bits


class _Steps:
    """Ways from one selected cell of a line to the next, or to its end, gathered to be coded at once."""

    def __init__(self) -> None:
        self._cells: list[NDArray] = [np.empty((3, 0), np.int64)]
        self._expected: list[NDArray] = [np.empty((3, 0), np.int64)]
        self._lines: list[tuple[int, float, float]] = []

    def add(self, line: Line, selected: NDArray, *, is_last: bool) -> None:
        """Add a line; in the last one the way to the end is not coded."""
        size = line.expected.size - 1
        cells = np.zeros((3, selected.size + 1), np.int64)  # where each way begins, ends, and is surely over
        cells[0, 1:] = selected + 1
        cells[1, :-1] = selected
        cells[2, :-1] = cells[0, 1:]
        cells[1:, -1] = size
        if is_last:
            cells = cells[:, :-1]
        self._cells.append(size - cells)
        self._expected.append(line.expected.take(cells))
        self._lines.append((cells.shape[1], line.patience, line.idle))

    def encode(self) -> bytes:
        """Return the bytes of all that was added."""
        begins, targets, _ = np.concatenate(self._cells, axis=1)
        begin, low, high = np.concatenate(self._expected, axis=1)
        counts, patience, idle = np.array(self._lines).reshape(-1, 3).T
        counts = counts.astype(np.int64)
        found = np.arange(begins.size) - np.repeat(np.cumsum(counts) - counts, counts)
        halvings = np.array(_HALVINGS).take(found, mode="clip")
        scale = (np.repeat(patience, counts) + begin) * (1 << halvings) / (found + 1)
        idle = np.where(found, 0, np.repeat(idle, counts))
        whole = TOTAL - 1 - begins
        ends = _survival(scale, low - begin, halvings, idle, whole) + targets + 1
        starts = np.where(targets > 0, _survival(scale, high - begin, halvings, idle, whole) + targets, 0)
        return encode_intervals(starts, ends - starts)


def _survival(scale: NDArray, way: NDArray, halvings: NDArray, idle: NDArray, whole: NDArray) -> NDArray:
    """Return the share of `whole` that goes further than `way`: as whole numbers."""
    ratio = scale / (scale + way)
    for level in range(max(_HALVINGS)):
        ratio = np.where(halvings > level, ratio * ratio, ratio)
    shares: NDArray = ((idle + (1 - idle) * ratio) * whole).astype(np.int64)
    return shares


def _decode_line(decoder: IntervalDecoder, line: Line, remaining: int) -> list[int]:
    """Return the selected cells of a line, at most `remaining`.

    The one loop that runs for each position, so it has no calls where it can do without.
    """
    expected, size = line.expected.data, line.expected.size - 1
    selected: list[int] = []
    first = begin = 0
    state = decoder.state
    while len(selected) < remaining:
        found = len(selected)
        halvings = _HALVINGS[found] if found < len(_HALVINGS) else _HALVINGS[-1]
        scale = (line.patience + begin) * (1 << halvings) / (found + 1)
        whole = TOTAL - 1 - (size - first)
        idle = 0.0 if found else line.idle
        number = state & (TOTAL - 1)
        # About where it is, by the inverse, which need not be exact: the edges decide.
        ratio = max((number + 1) / TOTAL - idle, 1 / TOTAL) / (1 - idle)
        for _ in range(halvings):
            ratio = sqrt(ratio)
        cell = bisect_right(expected, begin + int(scale / ratio - scale), first + 1, size + 1) - 1
        low = scale / (scale + (expected[cell] - begin))
        high = scale / (scale + (expected[cell + 1] - begin)) if cell < size else 0.0
        for _ in range(halvings):
            low *= low
            high *= high
        if idle:
            low, high = idle + (1 - idle) * low, idle + (1 - idle) * high
        end = int(low * whole) + size - cell + 1
        start = int(high * whole) + size - cell if cell < size else 0
        if not start <= number < end:
            edge = partial(_edge, expected, size, begin, scale, halvings, idle, whole)
            cell = bisect_left(range(size + 2), -number, first + 1, key=lambda cell: -edge(cell)) - 1
            start, end = edge(cell + 1), edge(cell)
        state = (end - start) * (state >> TOTAL_BITS) + number - start
        if state < LOWEST:
            state = decoder.refill(state)
        if cell == size:
            break
        selected.append(cell)
        first, begin = cell + 1, expected[cell + 1]
    decoder.state = state
    return selected


def _edge(
    expected: Sequence[int], size: int, begin: int, scale: float, halvings: int, idle: float, whole: int, cell: int
) -> int:
    """Return where the interval of a cell ends and that of the one before it begins; `_Steps.encode`, one by one."""
    if cell > size:
        return 0
    ratio = scale / (scale + (expected[cell] - begin))
    for _ in range(halvings):
        ratio *= ratio
    return int((idle + (1 - idle) * ratio) * whole) + size - cell + 1
