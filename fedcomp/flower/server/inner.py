"""The strategy inside: which one takes the step, its loop, what it says of its clients, the model it goes on from."""

from __future__ import annotations

import math
from types import new_class
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

_STEPS = ("configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate", "summary")
"""What a loop calls: the abstract methods of Flower's `Strategy`."""


def check_inner(inner: object, wrapper: type[Strategy]) -> None:
    """Raise `UsageError` unless a strategy can work inside another one, of class `wrapper`."""
    found = class_of(inner)
    if not isinstance(inner, Strategy):
        raise UsageError(f"inner is {found}, expected a strategy of flwr.serverapp.strategy, such as FedAvg()")
    step = innermost(inner)
    if isinstance(step, wrapper) or isinstance(getattr(step, "inner", None), wrapper):
        raise UsageError(f"inner is a {wrapper.__name__} already, or holds one: updates are compressed once")
    if isinstance(step, FedXgbBagging | FedXgbCyclic):
        raise UsageError(f"inner is {found}: trees grow each round, and only models of fixed shapes are compressed")


def class_of(strategy: object) -> str:
    """Return the full name of an object's class, as errors call it."""
    return f"{type(strategy).__module__}.{type(strategy).__qualname__}"


def has_own_loop(strategy: Strategy) -> bool:
    """Return whether a strategy brings a `start` of its own, as Flower's examples do to save the best model."""
    return type(strategy).start is not Strategy.start


def taking_steps_of(strategy: Strategy, inner: Strategy) -> Strategy:
    """Return `inner` with the steps of the strategy around it: what a loop of `inner`'s own calls is `strategy`'s.

    It is of a subclass of `inner`'s class, and its attributes are `inner`'s own: what a loop sets is set there.
    """
    own = type(inner)
    members = {step: getattr(strategy, step) for step in _STEPS} | {"__module__": own.__module__}
    acting: Strategy = object.__new__(new_class(own.__name__, (own,), exec_body=lambda body: body.update(members)))
    acting.__dict__ = inner.__dict__
    return acting


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
