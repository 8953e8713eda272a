"""A federation over tensors of any kind: what the text and the table example have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.flower import CompressedStrategy, compression_mod, to_array_record, to_model
from fedcomp.models import get_weights, set_weights
from fedcomp.seeding import derive_seed
from fedcomp.simulation import run_app
from fedcomp.simulation.run import flower_log_level
from fedcomp.training import train_on_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flwr.app import ArrayRecord, Context
    from flwr.serverapp import Grid
    from torch import nn

    from fedcomp.flower import RoundTraffic
    from fedcomp.training import Batch, LocalSettings, Objective


class Examples(NamedTuple):
    """One client's examples; those without labels have the truth in their place, for measuring."""

    labelled: Batch
    unlabelled: Batch


@dataclass(frozen=True)
class Task:
    """What is learned.

    Args:
        build: Builds the model from a seed.
        clients: Each one's examples.
        measure: Returns a model's accuracy on what no client has, 0 to 1.
        objective: What clients minimize.
        settings: How they train.
    """

    build: Callable[[int], nn.Module]
    clients: Sequence[Examples]
    measure: Callable[[nn.Module], float]
    objective: Objective
    settings: LocalSettings


class Outcome(NamedTuple):
    """What came out: accuracy of the last model, and bytes that were sent."""

    accuracy: float
    uplink_bytes: int
    downlink_bytes: int


def run_task(task: Task, *, codec: str, downlink: str, num_rounds: int, seed: int = 0) -> Outcome:
    """Train with all clients in each round, in this process.

    Args:
        task: What is learned.
        codec: Of updates; ``none`` for plain float32 arrays.
        downlink: Of the model; the same.
        num_rounds: 1 or more.
        seed: Of all randomness.
    """
    model, outcome = task.build(seed), list[Outcome]()
    client, server = ClientApp(mods=[compression_mod(initial=lambda *_: get_weights(task.build(seed)))]), ServerApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        (arrays,), (instructions,) = message.content.array_records.values(), message.content.config_records.values()
        partition, server_round = int(context.node_config["partition-id"]), cast("int", instructions["server-round"])
        local, examples = task.build(seed), task.clients[partition]
        set_weights(local, to_model(arrays))
        metrics = train_on_batches(
            local,
            examples.labelled,
            examples.unlabelled,
            task.settings,
            objective=task.objective,
            seed=derive_seed(seed, server_round, partition),
        )
        content = RecordDict({"arrays": to_array_record(get_weights(local)), "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        initial = get_weights(model)
        rounds: list[RoundTraffic] = []
        everybody = len(task.clients)
        inner = FedAvg(fraction_evaluate=0.0, min_train_nodes=everybody, min_available_nodes=everybody)
        strategy = CompressedStrategy(
            inner, codec=codec, downlink=downlink, initial=initial, seed=seed, on_round=rounds.append
        )
        final: ArrayRecord = strategy.start(grid, to_array_record(initial), num_rounds=num_rounds).arrays
        set_weights(model, to_model(final))
        up, down = sum(each.uplink_bytes for each in rounds), sum(each.downlink_bytes for each in rounds)
        outcome.append(Outcome(task.measure(model), up, down))

    with flower_log_level(40):
        run_app(server, client, num_nodes=len(task.clients), num_workers=0, run_config={}, seed=seed)
    return outcome[0]


def print_outcomes(outcomes: dict[str, Outcome], reference: str) -> None:
    """Print accuracies, bytes, and how many times fewer these are than those of `reference`."""
    base = outcomes[reference]
    print(f"{'':24}{'accuracy':>10}{'bytes up':>14}{'bytes down':>14}{'fewer up':>10}{'fewer down':>12}")
    for name, each in outcomes.items():
        up, down = base.uplink_bytes / each.uplink_bytes, base.downlink_bytes / each.downlink_bytes
        print(f"{name:24}{each.accuracy:10.1%}{each.uplink_bytes:14,}{each.downlink_bytes:14,}{up:9.1f}x{down:11.1f}x")
