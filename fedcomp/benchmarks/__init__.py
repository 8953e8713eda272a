"""Benchmarks: both sides in one run, medians and ratios, never an absolute time alone."""

from fedcomp.benchmarks.codecs import DEFAULT_CODECS, CodecResult, benchmark_codecs, synthetic_deltas
from fedcomp.benchmarks.peers import PeerResult, compare_sparse, compare_symbols

__all__ = [
    "DEFAULT_CODECS",
    "CodecResult",
    "PeerResult",
    "benchmark_codecs",
    "compare_sparse",
    "compare_symbols",
    "synthetic_deltas",
]
