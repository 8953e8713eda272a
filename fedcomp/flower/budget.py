"""How many bytes a frame may have: the same in every round, or falling from round to round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from fedcomp.codecs import parse_codec
from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from fedcomp.codecs import Codec

Budget: TypeAlias = int | Callable[[int, int], int]
"""Most bytes of a frame, 0 for no limit; or what returns them, for a server round and a client's node id."""


@dataclass(frozen=True)
class TiltedBudget:
    """A budget that changes linearly over the rounds, and is `num_bytes` on average.

    Args:
        num_bytes: Of a frame.
        num_rounds: Of the run.
        tilt: By which share of it the first round has more, and the last one less; -1 to 1.
    """

    num_bytes: int
    num_rounds: int
    tilt: float = 0.0

    def __call__(self, server_round: int, client: int) -> int:
        """Return the budget of a round, from 1; all clients have the same."""
        progress = (server_round - 1) / max(self.num_rounds - 1, 1)
        return round(self.num_bytes * (1 + self.tilt * (1 - 2 * min(progress, 1.0))))


def granted(budget: Budget, server_round: int, client: int) -> int:
    """Return what a frame of a client may have in a round; 0 for no limit."""
    return budget if isinstance(budget, int) else budget(server_round, client)


def check_scalable(codec: str | Codec, budget: Budget) -> None:
    """Raise `UsageError` if there is a budget that a codec can not keep to."""
    codec = parse_codec(codec) if isinstance(codec, str) else codec
    if budget and not codec.is_scalable:
        raise UsageError(f"{codec} can't keep to a budget: it has neither a sparsifier nor deadzone")
