"""Configured runs of fedcomp's own apps, one after the other, and what came out."""

from __future__ import annotations

import importlib
import json
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.config import NO_CODEC, RunConfig
from fedcomp.errors import UsageError
from fedcomp.simulation.configured_network import configured_network
from fedcomp.simulation.run import flower_log_level, run_app

if TYPE_CHECKING:
    from types import ModuleType

_SERVER, _CLIENT = "server.app", "clients.app"


def simulate(config: RunConfig, *, num_workers: int | None = None) -> dict[str, Any]:
    """Run a configuration to the end on this machine.

    Args:
        config: The run; its `out_dir` must be set, new or empty.
        num_workers: See `LocalGrid`.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UsageError: The apps are not there, or what they need is not installed.
        FedcompError: The run failed.
    """
    server, client = import_apps()
    with flower_log_level(logging.ERROR):
        run_app(
            server.app,
            client.app,
            num_nodes=config.num_clients,
            num_workers=num_workers,
            run_config=config.to_mapping(),
            client_timeout=config.client_timeout,
            seed=config.seed,
            network=configured_network(config),
            warm_up=partial(client.warm_up, config),
        )
    summary: dict[str, Any] = json.loads((Path(config.out_dir) / "summary.json").read_text(encoding="utf-8"))
    return summary


def float32_baseline(config: RunConfig) -> RunConfig:
    """Return the same run with plain float32 updates and no student, in a subfolder ``baseline``."""
    out_dir = str(Path(config.out_dir) / "baseline")
    changes = {"codec": NO_CODEC, "teacher": "none", "out-dir": out_dir}
    return RunConfig.from_mapping(config.to_mapping() | changes)


def import_apps() -> tuple[ModuleType, ModuleType]:
    """Import the apps by name: they stand above this package, beside it in the source tree."""
    try:
        return importlib.import_module(_SERVER), importlib.import_module(_CLIENT)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error}: a simulation needs fedcomp's source tree, installed with `pip install -e '.[simulation]'`"
        ) from None
