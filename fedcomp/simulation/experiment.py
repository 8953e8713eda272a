"""Configured runs of fedcomp's own apps, one after the other, and what came out."""

from __future__ import annotations

import importlib
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.codecs import NO_CODEC
from fedcomp.config import RunConfig
from fedcomp.errors import UsageError
from fedcomp.files import read_json
from fedcomp.flower import CheckpointFolder
from fedcomp.run_files import BASELINE_FOLDER, CHECKPOINT_FOLDER, CONFIG_FILE, SUMMARY_FILE
from fedcomp.simulation.configured_network import configured_network
from fedcomp.simulation.run import flower_log_level, run_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_SERVER, _CLIENT = "server.app", "clients.app"


def simulate(config: RunConfig, *, num_workers: int | None = None) -> dict[str, Any]:
    """Run a configuration to the end on this machine.

    Args:
        config: The run; its `out_dir` must be set, new or empty unless it is resumed.
        num_workers: See `LocalGrid`.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UsageError: The apps are not there, what they need is not installed, or no client could do what is asked.
        FedcompError: The run failed.
    """
    server, client = import_apps()
    client.check(config)
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
    return read_json(Path(config.out_dir) / SUMMARY_FILE)


def resume(folder: Path, *, num_workers: int | None = None) -> dict[str, Any]:
    """Go on with a run after its last finished round; of a finished one, only return the outcome.

    The final model is the same as if nothing had happened, bit for bit, also with another number of workers.

    Args:
        folder: The run's.
        num_workers: See `LocalGrid`.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UsageError: The folder is no run's, or another process is at it.
        CheckpointError: The checkpoint is damaged.
    """
    if is_finished(folder):
        return read_json(folder / SUMMARY_FILE)
    if not (folder / CONFIG_FILE).is_file():
        raise UsageError(f"{folder} is no run's folder: it has no {CONFIG_FILE}")
    begun = RunConfig.from_toml(folder / CONFIG_FILE)
    config = RunConfig.from_mapping(begun.to_mapping() | {"out-dir": str(folder), "resume": True})
    return simulate(config, num_workers=num_workers)


def is_finished(folder: Path) -> bool:
    """Tell whether a run has come to its end."""
    return (folder / SUMMARY_FILE).is_file()


def last_checkpoint_round(folder: Path) -> int | None:
    """Return the round after which a run that has not come to its end would go on; None if it would begin anew."""
    checkpoint = CheckpointFolder(folder / CHECKPOINT_FOLDER).last()
    return checkpoint.server_round if checkpoint else None


def run_baseline(
    folder: Path, *, num_workers: int | None = None, run: Callable[..., dict[str, Any]] = simulate
) -> dict[str, Any]:
    """Do a run once more with plain float32 updates and no student, in a subfolder ``baseline``.

    One that has begun there already is gone on with.

    Args:
        folder: The run's: its ``config.toml`` has what the run measured, too.
        num_workers: See `LocalGrid`.
        run: What runs it, called as `simulate` is.

    Returns:
        The contents of the baseline's ``summary.json``.
    """
    out_dir = folder / BASELINE_FOLDER
    if (out_dir / CONFIG_FILE).is_file():
        return resume(out_dir, num_workers=num_workers)
    plain = {"codec": NO_CODEC, "downlink": NO_CODEC, "frame-keys": "", "teacher": "none"}
    no_budgets = dict.fromkeys(
        ("uplink-budget-bytes", "target-ratio", "downlink-budget-bytes", "downlink-target-ratio"), 0
    )
    changes = plain | no_budgets | {"out-dir": str(out_dir)}
    config = RunConfig.from_toml(folder / CONFIG_FILE)
    return run(RunConfig.from_mapping(config.to_mapping() | changes), num_workers=num_workers)


def import_apps() -> tuple[ModuleType, ModuleType]:
    """Import the apps by name: they stand above this package, beside it in the source tree."""
    try:
        return importlib.import_module(_SERVER), importlib.import_module(_CLIENT)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error}: a simulation needs fedcomp's source tree, installed with `pip install -e '.[simulation]'`"
        ) from None
