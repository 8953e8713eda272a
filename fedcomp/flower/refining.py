"""Strategies within strategies, and the model that they go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.serverapp.strategy import FedAvgM, Strategy

if TYPE_CHECKING:
    from flwr.app import ArrayRecord


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
