"""Benchmarks: both sides in one run, medians and ratios, never an absolute time alone."""

from fedcomp.benchmarks.codecs import CodecResult, benchmark_codecs

__all__ = ["CodecResult", "benchmark_codecs"]
