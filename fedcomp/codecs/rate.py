"""Rate control: the finest encoding that fits a budget of bytes."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_TARGET, _ENOUGH = 0.993, 0.985
"""Shares of the budget: what is aimed at, and with what the search is content."""
_MOST_ATTEMPTS = 30
_FARTHEST = 40.0
_CLOSEST = 2.0**-14


class _Attempt(NamedTuple):
    """How finely something was encoded, as a binary logarithm, and what came out."""

    fineness: float
    frame: bytes

    @property
    def log_size(self) -> float:
        return log2(len(self.frame))


def fit_budget(encode: Callable[[float], bytes], budget: int) -> bytes:
    """Find an encoding of at most `budget` bytes, and of little less where there is that much to say.

    Bytes grow about in proportion to the amount, so the search is a secant's in logarithms, kept between the finest
    encoding that fits and the coarsest that does not.

    Args:
        encode: Returns the bytes for an amount relative to 1; a larger amount gives no fewer bytes, as a rule.
        budget: In bytes.

    Raises:
        UsageError: Not even the coarsest encoding fits, or the budget is not positive.
    """
    if budget < 1:
        raise UsageError(f"budget is {budget} bytes, expected 1 or more")
    fits: _Attempt | None = None
    over: _Attempt | None = None
    fineness, has_grown, is_flat = 0.0, False, False
    for _ in range(_MOST_ATTEMPTS):
        attempt = _Attempt(fineness, encode(2.0**fineness))
        if len(attempt.frame) > budget:
            over, is_flat = attempt, False
        elif fits is None or len(attempt.frame) > len(fits.frame):
            fits, has_grown, is_flat = attempt, fits is not None, False
            if len(attempt.frame) >= _ENOUGH * budget:
                break
        elif has_grown and is_flat and not over:
            break  # a leap made nothing longer, either: all is said
        else:
            fits, is_flat = _Attempt(fineness, fits.frame), True
        following = _next_fineness(fits, over, log2(_TARGET * budget), is_flat=is_flat)
        if following is None:
            break
        fineness = following
    if fits is None:
        smallest = len(over.frame) if over else 0
        raise UsageError(f"{budget} bytes are too small a budget: the coarsest encoding has {smallest}")
    return fits.frame


def _next_fineness(fits: _Attempt | None, over: _Attempt | None, target: float, *, is_flat: bool) -> float | None:
    """Return where to try next; None if it is of no use.

    Args:
        fits: The finest that fits.
        over: The coarsest that does not.
        target: Binary logarithm of the bytes that are aimed at.
        is_flat: Whether the last step made nothing longer, as where next to nothing is sent yet: a secant says little.
    """
    if fits and over:
        width = over.fineness - fits.fineness
        if width < _CLOSEST:
            return None
        share = (target - fits.log_size) / (over.log_size - fits.log_size)
        return fits.fineness + min(max(share, 0.5 if is_flat else 0.05), 0.95) * width
    last = fits or over
    if last is None:
        return 0.0
    away = target - last.log_size
    step = (1.2 * away if abs(away) < 4 else 4 if away > 0 else -4) + (0.1 if away > 0 else -0.1)
    fineness = last.fineness + (max(4.0, last.fineness) if is_flat else step)
    return fineness if abs(fineness) <= _FARTHEST else None
