"""The same runs on Ray, through Flower's own simulation: on this machine, or on a cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.errors import UsageError
from fedcomp.files import read_json
from fedcomp.run_files import SUMMARY_FILE
from fedcomp.simulation.app_folder import override_run_config
from fedcomp.simulation.configured_network import configured_network
from fedcomp.simulation.experiment import import_apps
from fedcomp.simulation.load_app import load_app_folder, on_sys_path
from fedcomp.simulation.superlink import SimulationSuperLink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedcomp.config import RunConfig


def simulate_on_ray(
    config: RunConfig, *, num_workers: int | None = None, ray_address: str | None = None
) -> dict[str, Any]:
    """Run a configuration to the end on Ray.

    Flower draws other node ids and other clients there than the local engine, so results are alike, not equal.

    Args:
        config: The run; its `out_dir` must be set, new or empty.
        num_workers: Cores that a new Ray cluster has; None is all.
        ray_address: Of a running cluster, None starts one on this machine. All of its machines need fedcomp and the
            data set's files.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UsageError: Ray or the apps are not there, or only the local engine can do what the configuration asks.
        FedcompError: The run failed.
    """
    if configured_network(config):
        raise UsageError("network: links and devices are simulated by the local engine only; use --backend local")
    server, _ = import_apps()
    folder = Path(str(server.__file__)).parents[1]
    config = config.with_absolute_paths()
    with _superlink(config.num_clients, num_workers, ray_address) as superlink:
        superlink.run(folder, config.to_mapping())
    return read_json(Path(config.out_dir) / SUMMARY_FILE)


def run_app_folder_on_ray(
    path: str | Path,
    *,
    num_nodes: int,
    overrides: Iterable[str] = (),
    num_workers: int | None = None,
    ray_address: str | None = None,
) -> None:
    """Run what a Flower app's ``pyproject.toml`` names to the end, on Ray.

    Args:
        path: The app's folder.
        num_nodes: Number of clients.
        overrides: See `override_run_config`.
        num_workers: See `simulate_on_ray`.
        ray_address: See `simulate_on_ray`.

    Raises:
        UsageError: Ray is not there.
        ConfigError: It is no Flower app, can't be imported, or an override does not fit it.
        RunError: The run failed.
    """
    folder = Path(path).resolve()
    with on_sys_path(folder):
        _, _, defaults = load_app_folder(folder)  # its faults are said here, before anything is started
    run_config = override_run_config(defaults, overrides)
    with _superlink(num_nodes, num_workers, ray_address) as superlink:
        superlink.run(folder, run_config)


def _superlink(num_nodes: int, num_workers: int | None, ray_address: str | None) -> SimulationSuperLink:
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--backend ray needs Ray: pip install 'flwr[simulation]'")
    if num_workers == 0:
        raise UsageError("--workers 0 is for --backend local: Ray needs a process")
    if num_workers and ray_address:
        raise UsageError("--workers can't be used with --ray-address: a running cluster has the cores that it has")
    return SimulationSuperLink(num_nodes, num_cpus=num_workers, ray_address=ray_address)
