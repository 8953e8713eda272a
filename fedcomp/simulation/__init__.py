"""Simulation: many clients on one machine, behind Flower's own Grid interface."""

from fedcomp.simulation.app_folder import override_run_config, run_app_folder
from fedcomp.simulation.configured_network import configured_network
from fedcomp.simulation.experiment import is_finished, last_checkpoint_round, resume, run_baseline, simulate
from fedcomp.simulation.global_random import seeded_global_random
from fedcomp.simulation.grid import LocalGrid
from fedcomp.simulation.load_app import load_app_folder
from fedcomp.simulation.network import NetworkGrid
from fedcomp.simulation.on_ray import run_app_folder_on_ray, simulate_on_ray
from fedcomp.simulation.run import flower_log_level, run_app

__all__ = [
    "LocalGrid",
    "NetworkGrid",
    "configured_network",
    "flower_log_level",
    "is_finished",
    "last_checkpoint_round",
    "load_app_folder",
    "override_run_config",
    "resume",
    "run_app",
    "run_app_folder",
    "run_app_folder_on_ray",
    "run_baseline",
    "seeded_global_random",
    "simulate",
    "simulate_on_ray",
]
