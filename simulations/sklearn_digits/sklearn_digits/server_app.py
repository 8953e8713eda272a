"""The server: FedAvg, in a `CompressedStrategy` that names the codecs and counts the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.flower import CompressedStrategy, to_array_record
from fedcomp.flower import to_model as read_model

from .task import initial_model, load_examples, to_classifier

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, Context
    from flwr.serverapp import Grid

    from fedcomp.flower import RoundTraffic

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds, and tell how good the model has become and what that took."""
    config, model = context.run_config, initial_model()
    rounds: list[RoundTraffic] = []
    strategy = CompressedStrategy(
        FedAvg(fraction_evaluate=0.0),
        codec=str(config["codec"]),
        downlink=str(config["downlink"]),
        initial=model,
        seed=int(config["seed"]),
        on_round=rounds.append,
    )
    result = strategy.start(
        grid, to_array_record(model), num_rounds=int(config["num-server-rounds"]), evaluate_fn=evaluate
    )
    up, down = sum(each.uplink_bytes for each in rounds), sum(each.downlink_bytes for each in rounds)
    asked = sum(each.sent for each in rounds)
    summary = {
        "accuracy": measure(result.arrays),
        "bytes-up-a-client-and-round": up / asked,
        "bytes-down-a-client-and-round": down / asked,
        "times-fewer-up": sum(each.dense_uplink_bytes for each in rounds) / up,
        "times-fewer-down": sum(each.dense_downlink_bytes for each in rounds) / down,
    }
    context.state["summary"] = MetricRecord({**summary})
    print(", ".join(f"{name} {value:.4g}" for name, value in summary.items()))


def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Measure the global model after a round."""
    return MetricRecord({"accuracy": measure(arrays)})


def measure(arrays: ArrayRecord) -> float:
    """Return the accuracy on the test images."""
    _, test = load_examples()
    return float(to_classifier(read_model(arrays)).score(*test))
