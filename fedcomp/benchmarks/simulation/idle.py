"""Clients that send back what they got: what remains is the engine's own cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.benchmarks.simulation.stock import RoundsInTurn, fractions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import Context
    from flwr.serverapp import Grid

    from fedcomp.benchmarks.simulation.turns import Turns
    from fedcomp.benchmarks.simulation.work import Work

client_app = ClientApp()
_TENSORS = 6


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Do nothing."""
    content = {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


def make_server(work: Work, turns: Turns, num_bytes: int) -> ServerApp:
    """Return a ServerApp that sends a model of so many bytes round, and drops what comes back unread."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        rounds = RoundsInTurn(turns)
        size = num_bytes // 4 // _TENSORS
        model = ArrayRecord([np.ones(size, np.float32) for _ in range(_TENSORS)])
        _CountReplies(rounds, **fractions(work)).start(
            grid, model, num_rounds=work.rounds, evaluate_fn=rounds.between(work.rounds)
        )

    return app


class _CountReplies(FedAvg):
    """FedAvg's sampling and messages without its sums, which cost the same on any engine."""

    def __init__(self, rounds: RoundsInTurn, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._rounds = rounds

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[None, None]:
        """Count."""
        metrics = [RecordDict({"metrics": reply.content["metrics"]}) for reply in replies if reply.has_content()]
        self._rounds.sum_up(metrics, self.weighted_by_key)
        return None, None
