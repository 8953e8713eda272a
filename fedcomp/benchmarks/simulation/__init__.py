"""Simulations compared: a bare torch loop, fedcomp's engine and Flower's on Ray, in turn at the same work."""

from fedcomp.benchmarks.simulation.results import (
    MODELS,
    TRAINING,
    SimulationReport,
    SimulationResult,
    benchmark_crowd,
    benchmark_idle,
    benchmark_simulation,
    benchmark_training,
    check_simulation,
    other_simulators,
)

__all__ = [
    "MODELS",
    "TRAINING",
    "SimulationReport",
    "SimulationResult",
    "benchmark_crowd",
    "benchmark_idle",
    "benchmark_simulation",
    "benchmark_training",
    "check_simulation",
    "other_simulators",
]
