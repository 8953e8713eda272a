"""Positions coded by what both ends know: where training has moved the model so far.

`Odds` says how many selected cells are expected where. Counted in expected cells instead of cells, the way to the next
selected one has always the same distribution, whatever the model: exponential, if the line's own rate were known. It is
not; with a Gamma prior of its rate the way has a Lomax distribution, whose shape grows by one with each cell that is
found. So a line that is dead costs a bit or two, a line that is busy is soon known to be, and nothing is sent for
either.

References:
    Brown et al., The time-rescaling theorem and its application to neural spike train data analysis, Neural
    Computation 2002, section 2.1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.odds import Odds
from fedcomp.codecs.rans import TOTAL, IntervalDecoder, encode_intervals
from fedcomp.errors import InvalidValues

if TYPE_CHECKING:
    from fedcomp.codecs.groups import Cuts
    from fedcomp.codecs.odds import Line
    from fedcomp.types import NDArray

LONGEST_LINE = 1 << 24
"""Cells. Each takes a 2^32nd of all probability, so that none is impossible."""
_HALVINGS = (0, 1, 1, 2, 2, 2, 2, 3)
"""Binary logarithm of the shape that is used, by the selected cells so far: at most one more than these, 8 at most, so
that powers are a few multiplications. The rate is always right."""


def can_code(cuts: Cuts) -> bool:
    """Tell whether all lines are short enough."""
    return all(max(m.rows, m.columns) <= LONGEST_LINE for m in cuts.matrices)


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
            selected = np.flatnonzero(mask[line.start :: line.step][: line.expected.size])
            remaining -= selected.size
            steps.add(line, selected, is_last=not remaining)
            matrix.learn(selected)
    return steps.encode()


def decode_positions(data: bytes, count: int, cuts: Cuts, moved: NDArray) -> NDArray:
    """Invert `encode_positions`: int64, strictly increasing, below ``cuts.size``.

    Raises:
        FrameError: `data` do not hold `count` positions, all of them and nothing else.
    """
    decoder, remaining = IntervalDecoder(data), count
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


class _Steps:
    """Ways from one selected cell of a line to the next, or to its end, gathered to be coded at once."""

    def __init__(self) -> None:
        self._lines: list[_LineSteps] = []

    def add(self, line: Line, selected: NDArray, *, is_last: bool) -> None:
        """Add a line; in the last one the way to the end is not coded."""
        size = line.expected.size
        targets = selected if is_last else np.append(selected, size)
        begins = np.zeros(targets.size, np.int64)
        begins[1:] = selected[: targets.size - 1] + 1
        expected = np.concatenate([[0.0], line.expected])
        self._lines.append(
            _LineSteps(
                size - begins,
                size - targets,
                expected[begins],
                expected[targets],
                expected[np.minimum(targets + 1, size)],
                np.arange(targets.size),
                np.full(targets.size, line.patience),
            )
        )

    def encode(self) -> bytes:
        """Return the bytes of all that was added."""
        if not self._lines:
            return encode_intervals(np.empty(0, np.int64), np.empty(0, np.int64))
        all_ = _LineSteps(*map(np.concatenate, zip(*self._lines, strict=True)))
        left, to_end, begin, low, high, found, patience = all_
        halvings = np.array(_HALVINGS)[np.minimum(found, len(_HALVINGS) - 1)]
        scale = (patience + begin) * (1 << halvings) / (found + 1)
        ends = _survival(scale, low - begin, halvings) * (TOTAL - 1 - left)
        starts = _survival(scale, high - begin, halvings) * (TOTAL - 1 - left)
        ends = ends.astype(np.int64) + to_end + 1
        starts = np.where(to_end > 0, starts.astype(np.int64) + to_end, 0)
        return encode_intervals(starts, ends - starts)


class _LineSteps(NamedTuple):
    left: NDArray
    to_end: NDArray
    begin: NDArray
    low: NDArray
    high: NDArray
    found: NDArray
    patience: NDArray


def _survival(scale: NDArray, way: NDArray, halvings: NDArray) -> NDArray:
    ratio = scale / (scale + way)
    for level in (1, 2, 3):
        ratio = np.where(halvings >= level, ratio * ratio, ratio)
    return ratio


def _decode_line(decoder: IntervalDecoder, line: Line, remaining: int) -> list[int]:
    """Return the selected cells of a line, at most `remaining`."""
    expected, size = memoryview(line.expected), line.expected.size
    selected: list[int] = []
    first, begin = 0, 0.0
    while len(selected) < remaining:
        halvings = _HALVINGS[min(len(selected), len(_HALVINGS) - 1)]
        scale = (line.patience + begin) * (1 << halvings) / (len(selected) + 1)
        whole = TOTAL - 1 - (size - first)

        def bound(cell: int) -> int:
            """Return where the interval of a cell ends and that of the one before it begins."""
            ratio = scale / (scale + (expected[cell - 1] - begin if cell > first else 0.0))  # noqa: B023
            for _ in range(halvings):  # noqa: B023
                ratio *= ratio
            return int(ratio * whole) + size - cell + 1  # noqa: B023

        number, lowest = decoder.peek(), bound(size)
        if number < lowest:
            decoder.take(0, lowest)
            break
        # About where it is, by the inverse, which need not be exact: the bounds decide.
        ratio = number / TOTAL
        for _ in range(halvings):
            ratio = sqrt(ratio)
        cell = bisect_right(expected, begin + scale / ratio - scale, first, size - 1)
        start, end = bound(cell + 1), bound(cell)
        if not start <= number < end:
            cell = bisect_left(range(size), True, first, key=lambda c: bound(c + 1) <= number)  # noqa: B023
            start, end = bound(cell + 1), bound(cell)
        decoder.take(start, end - start)
        selected.append(cell)
        first, begin = cell + 1, expected[cell]
    return selected
