"""The same seed gives the same global model, bit for bit, whatever the number of workers."""

import logging

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg, FedMedian

from fedcomp.config import RunConfig
from fedcomp.files import read_tensors
from fedcomp.simulation import flower_log_level, run_app, simulate

COMPRESSED = {
    "model": "perceptron",
    "objective": "supervised",
    "codec": "topk(density=0.1) | uniform(bits=4, stochastic=true)",
    "num-server-rounds": 3,
}
PLAIN = {"codec": "none", "num-server-rounds": 2}


@pytest.mark.parametrize(
    ("changes", "num_workers"), [(COMPRESSED, (0, 1, 2, 4)), (PLAIN, (0, 3))], ids=["compressed", "plain"]
)
def test_the_main_job(tmp_path, changes, num_workers):
    models = []
    for count in num_workers:
        folder = tmp_path / str(count)
        settings = {"num-clients": 6, "fraction-train": 0.7, "local-epochs": 1, "teacher": "none"}
        simulate(RunConfig.from_mapping(settings | changes | {"out-dir": str(folder)}), num_workers=count)
        models.append(read_tensors(folder / "model.safetensors"))
    for model in models[1:]:
        assert all((model[name] == values).all() for name, values in models[0].items())


@pytest.mark.parametrize("strategy", [FedAvg, FedMedian])
def test_stock_strategies(strategy):
    def run(num_workers):
        results = []
        server_app, client_app = ServerApp(), ClientApp()

        @client_app.train()
        def train(message, context):
            (weights,) = message.content["arrays"].to_numpy_ndarrays()
            weights = weights + np.random.normal(size=weights.shape).astype(np.float32)
            metrics = MetricRecord({"num-examples": 1 + context.node_config["partition-id"], "loss": weights[0].item()})
            return Message(RecordDict({"arrays": ArrayRecord([weights]), "metrics": metrics}), reply_to=message)

        @server_app.main()
        def main(grid, context):
            inner = strategy(fraction_train=0.6, fraction_evaluate=0.0)
            results.append(inner.start(grid, ArrayRecord([np.zeros(1000, np.float32)]), num_rounds=3))

        with flower_log_level(logging.ERROR):
            run_app(server_app, client_app, num_nodes=20, num_workers=num_workers, run_config={}, seed=7)
        (result,) = results
        return result.arrays.to_numpy_ndarrays()[0], result.train_metrics_clientapp

    expected, expected_metrics = run(0)
    for num_workers in (1, 2, 4):
        found, metrics = run(num_workers)
        np.testing.assert_array_equal(found, expected)
        assert metrics == expected_metrics
