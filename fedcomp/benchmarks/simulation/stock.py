"""A Flower app as its tutorials write it: FedAvg, and a client that trains in plain torch."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.benchmarks.simulation.plain import load_data, make_model
from fedcomp.benchmarks.simulation.plain import train as train_plainly
from fedcomp.benchmarks.simulation.work import Work

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid

    from fedcomp.benchmarks.simulation.turns import Turns

client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train one client for one epoch."""
    torch.set_num_threads(1)
    config: dict[str, Any] = {**message.content.config_records["config"]}
    config.pop("server-round")
    work = Work(**config)
    model = make_model(work.model)
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    started = time.perf_counter()
    data = load_data(work)
    loading = time.perf_counter() - started
    result = train_plainly(model, data, int(context.node_config["partition-id"]), work.batch_size, work.learning_rate)
    metrics = MetricRecord({"num-examples": result.examples, "train-loss": result.loss, "loading": loading})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


def make_server(work: Work, turns: Turns) -> ServerApp:
    """Return a ServerApp that runs FedAvg, a round each turn."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        initial = ArrayRecord(make_model(work.model).state_dict())
        rounds = RoundsInTurn(turns)
        strategy = FedAvg(**fractions(work), train_metrics_aggr_fn=rounds.sum_up)
        strategy.start(
            grid,
            initial,
            num_rounds=work.rounds,
            train_config=ConfigRecord(asdict(work)),
            evaluate_fn=rounds.between(work.rounds),
        )

    return app


def fractions(work: Work) -> dict[str, Any]:
    """Return FedAvg's arguments for this many clients a round."""
    return {
        "fraction_train": work.clients / work.num_clients,
        "fraction_evaluate": 0.0,
        "min_available_nodes": work.num_clients,
    }


class RoundsInTurn:
    """Waits before each round of a strategy, and tells what the clients reported after it.

    What processes take to load the data in their first round they do side by side, so the slowest counts.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._examples, self._loss, self._loading = 0, 0.0, 0.0

    def sum_up(self, replies: list[RecordDict], weighted_by: str) -> MetricRecord:
        """Stand in for FedAvg's mean of the metrics: images are summed up."""
        metrics = [next(iter(reply.metric_records.values())) for reply in replies]
        counts = [float(m[weighted_by]) for m in metrics]  # type: ignore[arg-type]
        losses = [float(m.get("train-loss", 0.0)) for m in metrics]  # type: ignore[arg-type]
        self._examples = round(sum(counts))
        self._loading = max((float(m.get("loading", 0.0)) for m in metrics), default=0.0)  # type: ignore[arg-type]
        self._loss = sum(n * loss for n, loss in zip(counts, losses, strict=True)) / (self._examples or 1)
        return MetricRecord({"num-examples": self._examples})

    def between(self, rounds: int) -> Any:
        """Return what Flower calls before the first round, and after each with the global model."""

        def evaluate(server_round: int, arrays: ArrayRecord) -> None:
            if server_round:
                self._turns.done(self._examples, self._loss)
            if server_round == 1:
                self._turns.loading(self._loading)
            if server_round < rounds:
                self._turns.wait()

        return evaluate
