"""Where the next selected coordinates are expected, learned line by line: the same at both ends.

The larger a weight has grown since the run began, the likelier it is to change again, and so are the rows and columns
around it. Each tensor is a matrix of lines (along its shorter side) of cells. A cell is selected at a rate which is a
product: one factor for the octave of its own movement, one for its place along the line, one for the line. All of them
are ratios of counts, observed over expected, so there is nothing to tune or to send: Gamma priors with Poisson counts.

- Octaves share their factors among all matrices, biggest matrix first.
- A place along the line begins with the factor of its activity, an octave of summed movement, and leaves it as it is
  observed to.
- The line's own factor has a prior from the lines before it, lines being sorted by activity: it is 0 with some
  probability, or Gamma distributed. It is left to the coder of the line (`Line`), which learns it from cell to cell.

Only additions, multiplications, divisions and square roots of doubles, each rounded as IEEE 754 says, and sums of whole
numbers below 2^53: no machine gets another result.

References:
    Gelman et al., Bayesian Data Analysis, 3rd edition, section 2.6 (Gamma priors of Poisson rates).
    Rissanen, Universal coding, information, prediction, and estimation, IEEE Trans. Inf. Theory 1984 (learning as one
    codes, instead of sending parameters).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.codecs.groups import Cuts, Matrix
    from fedcomp.types import NDArray

UNIT = float(1 << 20)
"""Expected cells are counted in these units, in whole numbers."""
_MOST_EXPECTED = 4 * UNIT
_NUM_OCTAVES = 32
_NUM_ACTIVITIES = 16

_PRIOR_OF_OCTAVE, _PRIOR_OF_ACTIVITY, _PRIOR_OF_PLACE, _PRIOR_OF_LINE = 16.0, 2.0, 0.75, 0.5
"""How many expected cells each prior is worth. Half or twice these change the bytes by less than 0.5 %."""
_PRIOR_OF_IDLE = 0.25, 1.0
"""Idle lines, of how many, before any was seen."""
_MEMORY = 0.95
"""What a line's prior keeps of all before it, from line to line."""
_LEAST_FOUND = 2.0**-20
"""After thousands of idle lines in a row a prior would be 0, or its inverse infinite."""
_TURN = 8
_LEARNING = 128
"""The first lines all count for octaves and activities, then one of eight does: it saves a third of the time."""


class Line(NamedTuple):
    """One line, before it is coded.

    Args:
        start: Of its first cell, in the flat vector.
        step: From one cell to the next.
        expected: How many selected cells are expected before each cell and, last, in the line, in `UNIT`: int64, one
            more than cells, strictly increasing from 0.
        patience: The line's own factor has a Gamma prior of shape 1 and this rate, in `UNIT`: whole, above 0.
        idle: Or it is 0, with this probability: less than 1, in whole 1024ths, so that sums with it are exact.
    """

    start: int
    step: int
    expected: NDArray
    patience: float
    idle: float


class Odds:
    """What is expected of all matrices.

    Args:
        moved: How far each weight has moved, float32, of either sign; values that are no numbers do no harm.
        cuts: Where tensors and channels begin in it.
        count: How many coordinates are selected.
    """

    def __init__(self, moved: NDArray, cuts: Cuts, count: int) -> None:
        self._moved, self._cuts = moved, cuts
        self._octaves = _Factors(_NUM_OCTAVES, _PRIOR_OF_OCTAVE, count / max(cuts.size, 1))

    def matrices(self) -> Iterator[MatrixOdds]:
        """Yield the matrices, largest first; each must be gone through before the next one is asked for."""
        for matrix in sorted(self._cuts.matrices, key=lambda m: -m.rows * m.columns):
            if matrix.rows * matrix.columns:
                yield MatrixOdds(matrix, octaves_below_top(self._moved[matrix.where]), self._octaves)


class MatrixOdds:
    """What is expected of one matrix.

    Args:
        matrix: Where it is.
        octaves: Of its cells.
        octave_factors: What all matrices know of octaves.
    """

    def __init__(self, matrix: Matrix, octaves: NDArray, octave_factors: _Factors) -> None:
        self._matrix, self._octaves = matrix, octaves.reshape(matrix.rows, matrix.columns)
        if matrix.rows > matrix.columns:
            self._octaves = np.ascontiguousarray(self._octaves.T)
        self._of_octaves = octave_factors
        lines, places = _sums(self._octaves)
        self._order = np.argsort(-lines, kind="stable")
        self._activities = _activities(places)
        self._of_activities = _Factors(_NUM_ACTIVITIES, _PRIOR_OF_ACTIVITY, 1.0)
        self._places_found = np.zeros(places.size)
        self._places_expected = np.full(places.size, _PRIOR_OF_PLACE)
        self._line_found = self._line_expected = _PRIOR_OF_LINE
        self._num_idle, self._num_lines = _PRIOR_OF_IDLE

    def lines(self) -> Iterator[Line]:
        """Yield the lines, most active first; `learn` must be told of each before the next one is asked for."""
        by_rows = self._matrix.rows <= self._matrix.columns
        step, stride = (1, self._matrix.columns) if by_rows else (self._matrix.columns, 1)
        for turn, line in enumerate(self._order.tolist()):
            if turn < _TURN or turn % _TURN == 0:
                self._of_octaves.update()
                self._of_activities.update()
                prior = self._of_activities.values.take(self._activities) * (_PRIOR_OF_PLACE * UNIT)
            self._line = self._octaves[line]
            self._by_octave = self._of_octaves.values.take(self._line)
            cells = prior + self._places_found
            cells /= self._places_expected
            cells *= self._by_octave
            np.minimum(cells, _MOST_EXPECTED, out=cells)
            cells += 1  # so that nothing is impossible
            self._cells = cells.astype(np.int64)  # down
            expected = np.zeros(cells.size + 1, np.int64)
            np.cumsum(self._cells, out=expected[1:])
            self._total = float(expected[-1])
            self._patience = max(1.0, float(np.rint(UNIT * self._line_expected / self._line_found)))
            self._is_sampled = turn < _LEARNING or turn % _TURN == 0
            self._idle = min(float(np.floor(1024 * self._num_idle / self._num_lines)), 1023.0) / 1024
            yield Line(self._matrix.start + line * stride, step, expected, self._patience, self._idle)

    def learn(self, selected: NDArray) -> None:
        """Take into account which cells of the line are selected."""
        factor = (selected.size + 1) / (self._total + self._patience) * UNIT
        if self._is_sampled:
            self._of_octaves.add(self._line, selected, self._cells, factor)
            self._of_activities.add(self._activities, selected, self._cells, factor)
        self._by_octave *= factor
        self._places_expected += self._by_octave
        self._places_found[selected] += UNIT
        # A line without any is idle, or it is not and nothing came up all along.
        by_chance = (1 - self._idle) * (self._patience / (self._patience + self._total))
        idle = 0.0 if selected.size else self._idle / (self._idle + by_chance)
        self._num_idle, self._num_lines = self._num_idle * _MEMORY + idle, self._num_lines * _MEMORY + 1
        self._line_found = max(self._line_found * _MEMORY + selected.size, _LEAST_FOUND)
        self._line_expected = self._line_expected * _MEMORY + (1 - idle) * (self._total / UNIT)


class _Factors:
    """A factor for each of a few classes of cells: observed over expected, with a prior.

    Args:
        count: Classes.
        prior: Expected cells that the prior is worth.
        mean: The prior's mean.
    """

    def __init__(self, count: int, prior: float, mean: float) -> None:
        self._prior, self._mean = prior, mean
        self._found, self._expected = np.zeros(count), np.zeros(count)
        self.values = np.full(count, mean)

    def update(self) -> None:
        """Make `values` what is known by now."""
        self.values = (self._found + self._prior * self._mean) / (self._expected + self._prior)

    def add(self, classes: NDArray, selected: NDArray, expected: NDArray, factor: float) -> None:
        """Add a line.

        Args:
            classes: Of its cells.
            selected: Which cells are.
            expected: How many cells were expected for each, in whole `UNIT`.
            factor: What to multiply that with, and divide by `UNIT`.
        """
        # Whole numbers below 2^53: a sum of them is the same in any order.
        sums = np.bincount(classes, expected, self.values.size) * (factor / UNIT)
        sums /= self.values
        self._expected += sums
        self._found += np.bincount(classes[selected], minlength=self.values.size)


def octaves_below_top(values: NDArray) -> NDArray:
    """Return the binary exponent of each float32: 31 is the largest there is, 1 is 30 less or more than that.

    What is below 2^-126 has 0; infinity and what is no number have a large one. The result is uint8.
    """
    exponents = (values.view(np.uint32) >> np.uint32(23)).astype(np.uint8)  # without the sign, which is cut off
    steps = np.arange(256) - int(exponents.max(initial=0)) + _NUM_OCTAVES - 1
    table = steps.clip(1, _NUM_OCTAVES - 1).astype(np.uint8)
    table[0] = 0
    return table.take(exponents)


def _sums(octaves: NDArray) -> tuple[NDArray, NDArray]:
    """Return the sums over lines and over places of two to the power of the octave, int64: 1 for the 16 lowest."""
    powers = np.left_shift(1, (np.arange(_NUM_OCTAVES) - _NUM_OCTAVES // 2).clip(0)).astype(np.uint16)
    powers[0] = 0
    cells = powers.take(octaves)
    return cells.sum(axis=1, dtype=np.int64), cells.sum(axis=0, dtype=np.int64)


def _activities(sums: NDArray) -> NDArray:
    """Return classes of whole numbers: 15 for the octave of the largest, 1 for 14 octaves less or more, 0 for 0."""
    _, octaves = np.frexp(sums.astype(np.float64))
    classes = (octaves - octaves.max(initial=0) + _NUM_ACTIVITIES - 1).clip(1)
    return np.where(sums > 0, classes, 0)
