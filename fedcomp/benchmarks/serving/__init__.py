"""The serving benchmark: many clients, more models than fit, and what the network costs over a call in process."""

from fedcomp.benchmarks.serving.crowded import ServingResult, benchmark_serving, check_serving

__all__ = ["ServingResult", "benchmark_serving", "check_serving"]
