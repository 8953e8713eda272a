"""How many bytes a frame may have: the same in every round and for everybody, or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log
from statistics import median
from sys import float_info
from typing import TYPE_CHECKING, TypeAlias

from fedcomp.codecs import parse_codec
from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from fedcomp.codecs import Codec

_MOST = 5.0
"""By what a weight makes a client's budget larger or smaller than the usual one, at most."""

Budget: TypeAlias = int | Callable[[int, int], int]
"""Most bytes of a frame, 0 for no limit; or what returns them, for a server round and a client's node id."""


@dataclass(frozen=True)
class GrowingBudget:
    """A budget that grows geometrically over the rounds, and is `num_bytes` on average.

    With error feedback, bytes that are saved early are not lost: what they would have said is said later, when steps
    are small and precision counts.

    Args:
        num_bytes: Of a frame, on average over the rounds.
        num_rounds: Of the run.
        growth: The last round's budget over the first one's, above 0; 1 is the same in every round.

    Raises:
        UsageError: One of them is out of range.
    """

    num_bytes: int
    num_rounds: int
    growth: float = 1.0

    def __post_init__(self) -> None:
        if self.num_bytes < 1 or self.num_rounds < 1:
            raise UsageError(f"{self.num_bytes} bytes in {self.num_rounds} rounds, expected 1 or more of both")
        if not 0 < self.growth < inf:
            raise UsageError(f"growth is {self.growth}, expected a finite number above 0")

    def __call__(self, server_round: int, client: int) -> int:
        """Return the budget of a round, from 1; all clients have the same."""
        return max(1, int(self.num_bytes * self._shares[min(server_round, self.num_rounds) - 1]))

    @cached_property
    def _shares(self) -> list[float]:
        last = max(self.num_rounds - 1, 1)
        shares: list[float] = [self.growth ** (number / last) for number in range(self.num_rounds)]
        mean = sum(shares) / len(shares)
        return [share / mean for share in shares]


def granted(budget: Budget, server_round: int, client: int) -> int:
    """Return what a frame of a client may have in a round; 0 for no limit."""
    return budget if isinstance(budget, int) else budget(server_round, client)


def divide_by_weight(budgets: Mapping[int, int], weights: Mapping[int, float], power: float) -> dict[int, int]:
    """Give more of a round's bytes to clients whose updates count more in the mean; the round has as many as before.

    A client's error is in the mean times its weight: with equal budgets nearly all of the mean's error is that of the
    few clients with large weights.

    Args:
        budgets: Of each client of the round, if all were equal; 0 for no limit, which stays none.
        weights: Positive, of the clients that are known; others count as their median.
        power: In [0, 2]; 0 leaves budgets as they are, 1 makes them proportional to the weights. The error of an
            update of norm `u` falls about as bytes to the power -0.7, so that ``(weight * u) ** 1.2`` is best for the
            mean: more than 1 where clients with much data also move farther.

    Returns:
        The budgets. Weights are what clients say: nobody has less than a fifth of the median client's budget, or more
        than five times it.
    """
    limited = {client: budget for client, budget in budgets.items() if budget}
    if not (power and limited and weights):
        return dict(budgets)
    usual = median(weights.values())
    shares = {client: _share(weights.get(client, usual) / usual, power) for client in limited}
    scale = sum(limited.values()) / sum(budget * shares[client] for client, budget in limited.items())
    return dict(budgets) | {client: max(1, int(scale * shares[client] * budget)) for client, budget in limited.items()}


def _share(ratio: float, power: float) -> float:
    logarithm, limit = power * log(max(ratio, float_info.min)), log(_MOST)
    return exp(min(max(logarithm, -limit), limit))


def check_budget(name: str, budget: Budget) -> None:
    """Raise `UsageError` unless a budget is a number of bytes, 0 for no limit, or a function."""
    if callable(budget) or (isinstance(budget, int) and not isinstance(budget, bool) and budget >= 0):
        return
    raise UsageError(f"{name} is {budget!r}, expected a whole number of bytes, 0 for no limit, or a function")


def check_scalable(codec: str | Codec, budget: Budget) -> None:
    """Raise `UsageError` if there is a budget that a codec can not keep to."""
    codec = parse_codec(codec) if isinstance(codec, str) else codec
    if budget:
        codec.check_scalable()
