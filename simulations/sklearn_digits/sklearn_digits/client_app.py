"""The client: a few passes of SGD over its own digits. `compression_mod` is the one line that is fedcomp's."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedcomp.flower import compression_mod, to_array_record
from fedcomp.flower import to_model as read_model

from .task import clients_examples, initial_model, to_classifier, to_model

if TYPE_CHECKING:
    from flwr.app import Context

app = ClientApp(mods=[compression_mod(initial=lambda message, context: initial_model())])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round."""
    config, node = context.run_config, context.node_config
    partition, seed = int(node["partition-id"]), int(config["seed"])
    examples = clients_examples(partition, int(node["num-partitions"]), seed)
    (arrays,), (instructions,) = message.content.array_records.values(), message.content.config_records.values()
    server_round = cast("int", instructions["server-round"])
    classifier = to_classifier(read_model(arrays), float(config["learning-rate"]), seed=seed + server_round)
    for _ in range(int(config["local-epochs"])):
        classifier.partial_fit(*examples)
    metrics = MetricRecord({"num-examples": len(examples.labels)})
    content = RecordDict({"arrays": to_array_record(to_model(classifier)), "metrics": metrics})
    return Message(content, reply_to=message)
