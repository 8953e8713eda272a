"""When clients can be reached: windows of time that repeat with a period."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICK = 1e-6  # seconds: no rounding puts a moment that is this much inside a window before it

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class Availability:
    """Windows in which clients are reachable.

    Window i holds at the times ``t`` with ``(t - starts[i]) mod period < lengths[i]``. Windows of one client neither
    overlap nor touch. All are in the order of their clients, so that a million of them cost a lookup nothing.

    Args:
        num_clients: Clients have the numbers from 0 to this, exclusive; one without a window is never reachable.
        period: Seconds after which everything repeats.
        clients: Whose window it is.
        starts: Seconds, from 0 to `period`.
        lengths: Seconds, above 0; `period` means always.
    """

    num_clients: int
    period: float
    clients: NDArray[np.intp]
    starts: Floats
    lengths: Floats

    @classmethod
    def of(cls, windows: Iterable[tuple[int, float, float]], *, num_clients: int, period: float) -> Self:
        """Build it from (client, start, length), in any order."""
        rows = sorted(windows)
        clients = np.array([client for client, _, _ in rows], np.intp)
        starts, lengths = (np.array([row[i] for row in rows], np.float64) for i in (1, 2))
        return cls(num_clients, period, clients, starts, lengths)

    def reachable(self, now: float) -> NDArray[np.bool_]:
        """Tell for each client whether it is reachable at a time, seconds."""
        result = np.zeros(self.num_clients, bool)
        result[self.clients[self._is_open(now)]] = True
        return result

    def leaves_at(self, client: int, now: float) -> float:
        """Return until when a client that is reachable now stays so; infinite if for ever, `now` if it is not."""
        own = slice(*np.searchsorted(self.clients, [client, client + 1]))
        lengths = self.lengths[own]
        left = lengths - (now - self.starts[own]) % self.period
        if not (left > 0).any():
            return now
        return math.inf if lengths.max() >= self.period else float(now + left.max())

    def wait_for(self, count: int, now: float) -> float:
        """Return the first time, from now on, at which `count` clients are reachable.

        Raises:
            RunError: There is none.
        """
        most = num_open = int(self.reachable(now).sum())
        if num_open >= count:
            return now
        changing = self.lengths < self.period
        starts, ends = self.starts[changing], self.starts[changing] + self.lengths[changing]
        # Above 0 and at most a period: what happens at this very moment is in `num_open` already.
        opens, closes = (self.period - (now - moments) % self.period for moments in (starts, ends))
        moments = np.concatenate([closes, opens])
        steps = np.repeat([-1, 1], len(opens))
        order = np.argsort(moments, kind="stable")  # at one moment, who leaves does so before who comes
        for moment, total in zip(moments[order], num_open + np.cumsum(steps[order]), strict=True):
            most = max(most, int(total))
            if total >= count:
                return float(now + moment + _TICK)
        raise RunError(f"a round needs {count} clients at a time, but never more than {most} are reachable")

    def _is_open(self, now: float) -> NDArray[np.bool_]:
        return np.asarray((now - self.starts) % self.period < self.lengths)
