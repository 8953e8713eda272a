"""The server benchmark: what a round costs a client, and what its updates cost the server."""

from fedcomp.benchmarks.server.client_round import CLIENT_CODECS, ClientRoundResult, benchmark_client_rounds
from fedcomp.benchmarks.server.fold import FoldResult, benchmark_folds
from fedcomp.benchmarks.server.kills import KilledRun, kill_at_random
from fedcomp.benchmarks.server.promises import check_server
from fedcomp.benchmarks.server.soak import SoakResult, soak

__all__ = [
    "CLIENT_CODECS",
    "ClientRoundResult",
    "FoldResult",
    "KilledRun",
    "SoakResult",
    "benchmark_client_rounds",
    "benchmark_folds",
    "check_server",
    "kill_at_random",
    "soak",
]
