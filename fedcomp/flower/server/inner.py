"""The strategy inside: which one takes the step, what it says of its clients, and the model that it goes on from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    FedAvgM,
    FedXgbBagging,
    FedXgbCyclic,
    Strategy,
)

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from flwr.app import ArrayRecord


def check_inner(inner: object, wrapper: type[Strategy]) -> None:
    """Raise `UsageError` unless a strategy can work inside another one, of class `wrapper`."""
    found = f"{type(inner).__module__}.{type(inner).__qualname__}"
    if not isinstance(inner, Strategy):
        raise UsageError(f"inner is {found}, expected a strategy of flwr.serverapp.strategy, such as FedAvg()")
    if isinstance(innermost(inner), wrapper):
        raise UsageError(f"inner is a {wrapper.__name__} already: updates are compressed once")
    if isinstance(inner, FedXgbBagging | FedXgbCyclic):
        raise UsageError(f"inner is {found}: trees grow each round, and only models of fixed shapes are compressed")
    if type(inner).start is not Strategy.start:
        raise UsageError(
            f"inner is {found}, whose own start would never be called: let a subclass of {wrapper.__name__} have it"
        )


def begin_from(strategy: Strategy, arrays: ArrayRecord) -> None:
    """Make `arrays` the model that a strategy takes its next step from.

    FedAvgM alone remembers the model that it returned; all others are told the model of each round.
    """
    strategy = innermost(strategy)
    if isinstance(strategy, FedAvgM):
        strategy.current_arrays = arrays


def innermost(strategy: Strategy) -> Strategy:
    """Return the strategy that takes the step; those for differential privacy hold it."""
    while isinstance(wrapped := getattr(strategy, "strategy", None), Strategy):
        strategy = wrapped
    return strategy


def weighted_by(strategy: Strategy) -> str:
    """Return the key of a client's weight in its metrics."""
    return str(getattr(innermost(strategy), "weighted_by_key", "num-examples"))


def only_weight(strategy: Strategy) -> float | None:
    """Return the one weight that a client can have, where the strategy has an attribute of that name; else None."""
    found: float | None = getattr(innermost(strategy), "only_weight", None)
    return found


def norm_at_clients(strategy: Strategy) -> float:
    """Return the norm that a strategy trusts its clients to clip to, infinity if it does not."""
    if isinstance(strategy, DifferentialPrivacyClientSideFixedClipping | DifferentialPrivacyClientSideAdaptiveClipping):
        return float(strategy.clipping_norm)
    return math.inf
