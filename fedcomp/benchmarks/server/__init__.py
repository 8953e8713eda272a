"""The server benchmark: what a round costs a client, and what its updates cost the server."""

from fedcomp.benchmarks.server.client_round import CLIENT_CODECS, ClientRoundResult, benchmark_client_rounds
from fedcomp.benchmarks.server.fold import FoldResult, benchmark_folds
from fedcomp.benchmarks.server.promises import check_server

__all__ = [
    "CLIENT_CODECS",
    "ClientRoundResult",
    "FoldResult",
    "benchmark_client_rounds",
    "benchmark_folds",
    "check_server",
]
