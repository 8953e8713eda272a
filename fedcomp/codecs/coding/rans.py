"""A coder of intervals: what is likely takes few bits, exactly as few as its probability says.

An asymmetric numeral system with one state. It codes anything that a model describes as a part of the interval from 0
to `TOTAL`, and does not care which; the encoder works from the last part to the first, so that the decoder, which may
have to learn from each part what the next ones mean, gets them in order. Integers only: the same everywhere.

References:
    Duda, Asymmetric numeral systems, arXiv:1311.2540, section 3 (the range variant, rANS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import FrameMalformed

if TYPE_CHECKING:
    from fedcomp.types import NDArray

INTERVALS = 4
"""The coder's number on the wire. Its sections mean nothing without a model, so `entropy.decompress` knows none."""

TOTAL_BITS = 32
TOTAL = 1 << TOTAL_BITS
_WORD_BITS = 16
_LOWEST_BITS = 44
LOWEST = 1 << _LOWEST_BITS
"""A state has at least that, and less than that and a word: two digits of Python's integers, and 2^12 times `TOTAL`, so
that rounding costs next to nothing."""
_STATE_BYTES, _LONGEST_BYTES = 8, TOTAL_BITS // 8
"""Of the state, and of an interval of width 1 besides."""


def encode_intervals(starts: NDArray, widths: NDArray) -> bytes:
    """Return the bytes of a sequence of intervals.

    Args:
        starts: int64, from 0.
        widths: int64, from 1; ``starts + widths`` is at most `TOTAL`.
    """
    state, words = LOWEST, []
    for start, width in zip(reversed(starts.tolist()), reversed(widths.tolist()), strict=True):
        # A state from here on would not fit after the step.
        limit = width << (_LOWEST_BITS - TOTAL_BITS + _WORD_BITS)
        while state >= limit:
            words.append(state & 0xFFFF)
            state >>= _WORD_BITS
        quotient, rest = divmod(state, width)
        state = (quotient << TOTAL_BITS) + rest + start
    return state.to_bytes(_STATE_BYTES, "little") + np.array(words[::-1], "<u2").tobytes()


class IntervalDecoder:
    """Reads intervals in the order in which they were given to `encode_intervals`.

    Args:
        data: From the wire.
        most: How many intervals there may be.

    Attributes:
        state: All that is known of what follows; its lowest bits are a number in the next interval. Loops that can not
            afford a call for each interval do what `take` does on their own.

    Raises:
        FrameMalformed: `data` does not begin with a state, or is longer than so many intervals can be.
    """

    def __init__(self, data: bytes, most: int) -> None:
        # As Python's integers the words take 20 times their bytes.
        if len(data) > (longest := _STATE_BYTES + most * _LONGEST_BYTES):
            raise FrameMalformed(
                f"a section of intervals has {len(data)} bytes, expected at most {longest} for {most} intervals"
            )
        self.state = int.from_bytes(data[:_STATE_BYTES], "little")
        if len(data) < _STATE_BYTES or len(data) % 2 or not LOWEST <= self.state < LOWEST << _WORD_BITS:
            raise FrameMalformed("a section of intervals does not begin with a state")
        self._words = np.frombuffer(data, "<u2", offset=_STATE_BYTES)[::-1].tolist()

    def peek(self) -> int:
        """Return a number that is in the next interval."""
        return self.state & (TOTAL - 1)

    def take(self, start: int, width: int) -> None:
        """Pass over the next interval, which holds what `peek` returned.

        Raises:
            FrameMalformed: The data end within it.
        """
        state = width * (self.state >> TOTAL_BITS) + (self.state & (TOTAL - 1)) - start
        self.state = state if state >= LOWEST else self.refill(state)

    def refill(self, state: int) -> int:
        """Return a state that is large enough again; raises `FrameMalformed` if the data end."""
        while state < LOWEST:
            if not self._words:
                raise FrameMalformed("a section of intervals ends too early")
            state = state << _WORD_BITS | self._words.pop()
        return state

    def finish(self) -> None:
        """Raise `FrameMalformed` unless this is where the encoder began."""
        if self.state != LOWEST or self._words:
            raise FrameMalformed("a section of intervals does not end where it should")
