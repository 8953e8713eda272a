"""Strategies by name: Flower's, and FedDyn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi, Strategy

from server.feddyn import FedDyn

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.config import RunConfig


def build_strategy(config: RunConfig) -> Strategy:
    """Build the strategy that takes the server's step; evaluation happens at the server.

    Where clients come and go, a round asks a share of those who are there, and begins with as few as may count.
    """
    come_and_go = config.deployed or bool(config.availability)
    rate = config.server_learning_rate
    strategies: dict[str, Callable[..., Strategy]] = {
        "fedavg": FedAvg,
        "fedavgm": partial(FedAvgM, server_learning_rate=rate, server_momentum=config.server_momentum),
        "fedadam": partial(FedAdam, eta=rate),
        "fedyogi": partial(FedYogi, eta=rate),
        "fedadagrad": partial(FedAdagrad, eta=rate),
        "feddyn": partial(FedDyn, num_clients=config.num_clients),
    }
    return strategies[config.strategy](
        fraction_train=config.fraction_train,
        weighted_by_key=config.weight_key,
        fraction_evaluate=0.0,
        min_train_nodes=config.min_replies if come_and_go else config.clients_per_round,
        min_evaluate_nodes=0,
        min_available_nodes=config.min_replies if come_and_go else config.num_clients,
    )
