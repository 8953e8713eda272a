"""Who takes part. Each runs in a process of its own: ``python -m fedcomp.benchmarks.simulation NAME ...``.

What a contestant needs is imported when it runs, so that no one's start pays for another's libraries.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    from fedcomp.benchmarks.simulation.turns import Turns
    from fedcomp.benchmarks.simulation.work import Work

WORKERS = 2
_MEGABYTE = 1 << 20
_KILOBYTE = 1000


def bare(work: Work, turns: Turns) -> None:
    """Plain torch, one process, one thread."""
    from fedcomp.benchmarks.simulation.bare import run_loop

    run_loop(work, turns)


def bare_two(work: Work, turns: Turns) -> None:
    """Plain torch, two processes."""
    from fedcomp.benchmarks.simulation.bare import run_two_processes

    run_two_processes(work, turns)


def engine(work: Work, turns: Turns) -> None:
    """Fedcomp's own client on its engine."""
    from fedcomp.benchmarks.simulation.own import run_own_app

    run_own_app(work, turns, num_workers=WORKERS)


def engine_stock(work: Work, turns: Turns) -> None:
    """A stock Flower app on fedcomp's engine."""
    from fedcomp.benchmarks.simulation import stock

    _on_engine(stock.make_server(work, turns), stock.client_app, work)


def ray_stock(work: Work, turns: Turns) -> None:
    """The same app on Flower's Ray simulation."""
    from fedcomp.benchmarks.simulation import stock

    _on_ray(stock.make_server(work, turns), stock.client_app, work)


def engine_idle(work: Work, turns: Turns) -> None:
    """Clients that do nothing with 1 MB, on the engine."""
    from fedcomp.benchmarks.simulation import idle

    _on_engine(idle.make_server(work, turns, _MEGABYTE), idle.client_app, work)


def ray_idle(work: Work, turns: Turns) -> None:
    """Clients that do nothing with 1 MB, on Ray."""
    from fedcomp.benchmarks.simulation import idle

    _on_ray(idle.make_server(work, turns, _MEGABYTE), idle.client_app, work)


def engine_crowd(work: Work, turns: Turns) -> None:
    """A crowd of clients that do nothing with 1 kB, on the engine."""
    from fedcomp.benchmarks.simulation import idle

    _on_engine(idle.make_server(work, turns, _KILOBYTE), idle.client_app, work)


CONTESTANTS: dict[str, Callable[[Work, Turns], None]] = {
    "bare": bare,
    "bare-two": bare_two,
    "engine": engine,
    "engine-stock": engine_stock,
    "ray-stock": ray_stock,
    "engine-idle": engine_idle,
    "ray-idle": ray_idle,
    "engine-crowd": engine_crowd,
}


def _on_engine(server_app: ServerApp, client_app: ClientApp, work: Work) -> None:
    from fedcomp.simulation import flower_log_level, run_app

    with flower_log_level(logging.ERROR):
        run_app(server_app, client_app, num_nodes=work.num_clients, num_workers=WORKERS, run_config={})


def _on_ray(server_app: ServerApp, client_app: ClientApp, work: Work) -> None:
    # Deprecated for users, who shall call `flwr run`; it is what that runs, without a SuperLink to start before.
    run_simulation = importlib.import_module("flwr.simulation").run_simulation
    warnings.simplefilter("ignore")
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": WORKERS}}
    run_simulation(server_app, client_app, work.num_clients, backend_config=resources)
