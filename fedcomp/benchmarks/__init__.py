"""Benchmarks: both sides in one run, medians and ratios, never an absolute time alone."""

from fedcomp.benchmarks.bars import Bar, check_bars
from fedcomp.benchmarks.codecs import DEFAULT_CODECS, CodecResult, benchmark_codecs, synthetic_deltas
from fedcomp.benchmarks.peers import PeerResult, compare_sparse, compare_symbols
from fedcomp.benchmarks.plots import draw_plots, sweep_codecs

__all__ = [
    "DEFAULT_CODECS",
    "Bar",
    "CodecResult",
    "PeerResult",
    "benchmark_codecs",
    "check_bars",
    "compare_sparse",
    "compare_symbols",
    "draw_plots",
    "sweep_codecs",
    "synthetic_deltas",
]
