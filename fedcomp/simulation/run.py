"""Run a ServerApp and a ClientApp on this machine."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from flwr.app import Context, RecordDict

from fedcomp.seeding import derive_seed
from fedcomp.simulation.global_random import seeded_global_random
from fedcomp.simulation.grid import LocalGrid
from fedcomp.simulation.identity import task_identity
from fedcomp.simulation.network import NetworkGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    from fedcomp.network import Network

_SERVER_NODE_ID = 1


def run_app(
    server_app: ServerApp,
    client_app: ClientApp,
    *,
    num_nodes: int,
    run_config: Mapping[str, bool | int | float | str],
    num_workers: int | None = None,
    client_timeout: float | None = None,
    seed: int = 0,
    network: Network | None = None,
    warm_up: Callable[[], object] | None = None,
) -> Context:
    """Run both apps to the end.

    Args:
        server_app: Any ServerApp; what it raises comes out of here unchanged.
        client_app: Any ClientApp.
        num_nodes: Number of clients.
        run_config: What both find in ``context.run_config``.
        num_workers: See `LocalGrid`; it changes nothing but the time.
        client_timeout: Seconds for one message to one client, None for no limit.
        seed: Decides which clients Flower samples, and their node ids.
        network: The clients' simulated links and devices, None for none.
        warm_up: See `LocalGrid`.

    Returns:
        The ServerApp's context, with whatever state it left there.
    """
    run_id = derive_seed(seed, "run") or 1
    grid = LocalGrid(
        client_app,
        num_nodes=num_nodes,
        num_workers=num_workers,
        run_config=run_config,
        client_timeout=client_timeout,
        run_id=run_id,
        seed=seed,
        warm_up=warm_up,
    )
    context = Context(
        run_id=run_id, node_id=_SERVER_NODE_ID, node_config={}, state=RecordDict(), run_config=dict(run_config)
    )
    with grid, task_identity(run_id=run_id, node_id=_SERVER_NODE_ID), seeded_global_random(seed):
        server_app(NetworkGrid(grid, network) if network else grid, context)
    return context


@contextlib.contextmanager
def flower_log_level(level: int) -> Iterator[None]:
    """Set the level of Flower's logger, and restore it: its round-by-round lines break a live display."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
