"""A model that the server has changed after its strategy: the strategy must go on from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.serverapp.strategy import FedAvgM, Strategy

if TYPE_CHECKING:
    from flwr.app import ArrayRecord


def begin_from(strategy: Strategy, arrays: ArrayRecord) -> None:
    """Make `arrays` the model that a strategy takes its next step from.

    FedAvgM alone remembers the model that it returned; all others are told the model of each round.
    """
    while isinstance(wrapped := getattr(strategy, "strategy", None), Strategy):
        strategy = wrapped
    if isinstance(strategy, FedAvgM):
        strategy.current_arrays = arrays
