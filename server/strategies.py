"""The strategy of a run: who takes the server's step, by name, and the compression around it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi, Strategy

from fedcomp.flower import CompressedStrategy, FrameKeys, GrowingBudget, num_bytes, to_array_record
from fedcomp.wire import FrameLimits
from server.feddyn import FedDyn

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.config import RunConfig
    from fedcomp.flower import AcceptedUpdate, Budget, RoundTraffic
    from fedcomp.types import Model


def compressed_strategy(
    config: RunConfig,
    initial: Model,
    *,
    refine: Callable[[int, Model], Model] | None,
    on_update: Callable[[int, AcceptedUpdate], None],
    on_round: Callable[[RoundTraffic], None],
) -> CompressedStrategy:
    """Build what orders, checks and decodes updates as a configuration says, around `build_strategy`.

    Args:
        config: The run.
        initial: The model that it begins with, as clients can build it.
        refine: See `CompressedStrategy`, as the next two.
        on_update: See there.
        on_round: See there.
    """
    dense_bytes = num_bytes(to_array_record(initial))
    return CompressedStrategy(
        build_strategy(config),
        codec=config.codec,
        downlink=config.downlink,
        downlink_full=config.downlink_full,
        initial=initial if config.shared_initial else None,
        uplink_budget=growing_budget(config, config.uplink_budget_bytes, config.target_ratio, dense_bytes),
        budget_by_weight=config.budget_by_weight,
        downlink_budget=growing_budget(config, config.downlink_budget_bytes, config.downlink_target_ratio, dense_bytes),
        downlink_cache_bytes=config.downlink_cache_bytes,
        downlink_max_lag=config.downlink_max_lag,
        residual_decay=config.residual_decay,
        momentum_correction=config.momentum_correction,
        seed=config.seed,
        limits=frame_limits(config),
        clip_update_norm=config.clip_update_norm,
        authenticate=FrameKeys(config.frame_keys) if config.frame_keys else None,
        min_replies=config.min_replies,
        zeros_stay=config.prune_ratio > 0,
        refine=refine,
        on_update=on_update,
        on_round=on_round,
    )


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


def growing_budget(config: RunConfig, budget_bytes: int, target_ratio: float, dense_bytes: int) -> Budget:
    """Return a budget that is given in bytes, or as a ratio to what plain arrays take; 0 for none."""
    num_bytes = budget_bytes or (int(dense_bytes / target_ratio) if target_ratio else 0)
    return GrowingBudget(num_bytes, config.num_server_rounds, config.budget_growth) if num_bytes else 0


def frame_limits(config: RunConfig) -> FrameLimits:
    """Return the caps for what a client may send."""
    caps: dict[str, float] = {"max_norm": config.max_update_norm, "max_frame_bytes": config.max_frame_bytes}
    return FrameLimits(**{name: cap for name, cap in caps.items() if cap})  # type: ignore[arg-type]
