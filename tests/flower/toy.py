"""A tiny federation: NumPy clients whose training adds a known number, run over the local grid."""

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.flower import CompressedStrategy, compression_mod, to_array_record, to_model
from fedcomp.flower.messages.records import frame_to_record
from fedcomp.simulation import run_app

MODEL = {
    "weight": np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5),
    "bias": np.zeros(3, np.float32),
    "counter": np.array(7),
}


def local_update(partition, server_round):
    """Return what a client's training adds: different for each client and round, larger in front."""
    rng = np.random.default_rng([partition, server_round])
    return {
        "weight": (rng.normal(size=(8, 5)) * np.linspace(1, 0.1, 40).reshape(8, 5)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
        "counter": np.array(2),
    }


def toy_client(*outer_mods, inner_mods=(), with_mod=True, initial=None):
    """Build a ClientApp; `outer_mods` see the reply after compression, `inner_mods` before."""
    app = ClientApp(mods=[*outer_mods, *([compression_mod(initial=initial)] if with_mod else []), *inner_mods])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        (arrays,) = message.content.array_records.values()
        server_round = message.content["config"]["server-round"]
        partition = context.node_config["partition-id"]
        update = local_update(partition, server_round)
        model = {name: values + update[name] for name, values in to_model(arrays).items()}
        metrics = MetricRecord({"num-examples": partition + 1, "loss": float(partition)})
        return Message(RecordDict({"arrays": to_array_record(model), "metrics": metrics}), reply_to=message)

    return app


def tamper(victims, change):
    """Make a mod that lets `change(reply, context)` replace the replies of some partitions."""

    def mod(message, context, call_next):
        reply = call_next(message, context)
        return change(reply, context) if context.node_config["partition-id"] in victims else reply

    return mod


def frame_of(reply):
    """Return the frame in a reply."""
    (array,) = reply.content["arrays"].values()
    return array.data


def with_frame(reply, frame):
    """Put another frame into a reply."""
    reply.content["arrays"] = frame_to_record(frame)
    return reply


def toy_inner(kind=FedAvg, num_nodes=4, **arguments):
    """Build a strategy that asks every node and evaluates nowhere."""
    return kind(
        fraction_evaluate=0.0,
        min_train_nodes=num_nodes,
        min_available_nodes=num_nodes,
        min_evaluate_nodes=0,
        **arguments,
    )


def run_rounds(strategy, client, *, num_nodes=4, num_rounds=1, model=MODEL, on_grid=None):
    """Run a federation and return its `Result`."""
    results = []
    app = ServerApp()

    @app.main()
    def main(grid, context):
        watched = on_grid(grid) if on_grid else grid
        results.append(strategy.start(watched, to_array_record(model), num_rounds=num_rounds))

    run_app(app, client, num_nodes=num_nodes, num_workers=0, run_config={}, client_timeout=5.0)
    return results[0]


def with_replies(make):
    """Make an `on_grid` whose every reply is followed by those that ``make(reply, message)`` returns."""

    class Adding:
        def __init__(self, grid):
            self._grid = grid

        def __getattr__(self, name):
            return getattr(self._grid, name)

        def send_and_receive(self, messages, *, timeout=None):
            asked = {message.metadata.dst_node_id: message for message in messages}
            for reply in self._grid.send_and_receive(list(asked.values()), timeout=timeout):
                yield reply
                yield from make(reply, asked[reply.metadata.src_node_id])

    return Adding


def compressed(inner=None, **arguments):
    """Wrap a strategy and collect the traffic of its rounds."""
    rounds = []
    return CompressedStrategy(inner or toy_inner(), on_round=rounds.append, **arguments), rounds


def mean_update(partitions, server_round=1):
    """Return the weighted mean of the clients' updates, as float64."""
    weights = {p: p + 1 for p in partitions}
    return {
        name: sum(w * local_update(p, server_round)[name].astype(np.float64) for p, w in weights.items())
        / sum(weights.values())
        for name in MODEL
    }


def assert_model(arrays, expected, atol=1e-6):
    """Compare a record with a model: types exactly, values closely."""
    model = to_model(arrays)
    assert list(model) == list(MODEL)
    for name, values in model.items():
        assert values.dtype == MODEL[name].dtype
        np.testing.assert_allclose(values, expected[name], atol=atol, err_msg=name)
