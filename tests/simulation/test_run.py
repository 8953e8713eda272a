"""Running apps: both see their configuration, and randomness is seeded."""

import json
import random

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

from fedcomp.config import RunConfig
from fedcomp.errors import RunError
from fedcomp.simulation import run_app, seeded_global_random, simulate
from tests.flower.toy import toy_client


def run(body, **arguments):
    app = ServerApp()
    app.main()(body)
    return run_app(app, toy_client(), num_nodes=5, num_workers=0, run_config={"a": 1}, **arguments)


def test_both_apps_see_the_run_config_and_the_servers_context_comes_back():
    def main(grid, context):
        context.state["seen"] = ConfigRecord({"a": context.run_config["a"]})

    assert run(main).state["seen"]["a"] == 1


def test_errors_of_the_server_come_out_unchanged():
    def main(grid, context):
        raise LookupError("nobody home")

    with pytest.raises(LookupError, match="nobody home"):
        run(main)


def test_sampling_is_seeded_and_global_state_is_restored():
    draws = []

    def main(grid, context):
        draws.append((random.sample(sorted(grid.get_node_ids()), 3), np.random.random()))

    random.seed(1)
    before, identity = random.getstate(), TaskIdentity._run_id
    run(main, seed=3)
    run(main, seed=3)
    run(main, seed=4)
    assert draws[0] == draws[1] != draws[2]
    assert random.getstate() == before
    assert TaskIdentity._run_id == identity


def test_seeding_restores_after_an_error():
    before = random.getstate()
    with pytest.raises(ValueError, match="x"), seeded_global_random(0):
        raise ValueError("x")
    assert random.getstate() == before


def test_a_client_that_seeds_globally_does_not_decide_who_is_sampled():
    drawn = []

    def sample_rounds(meddle):
        sampled = []
        server_app, client_app = ServerApp(), ClientApp()

        @client_app.train()
        def train(message, context):
            meddle()
            return Message(RecordDict(), reply_to=message)

        @server_app.main()
        def main(grid, context):
            for _ in range(4):
                nodes = random.sample(list(grid.get_node_ids()), 2)
                sampled.append(nodes)
                list(grid.send_and_receive([Message(RecordDict(), node, "train") for node in nodes]))

        run_app(server_app, client_app, num_nodes=50, num_workers=0, run_config={})
        return sampled

    undisturbed = sample_rounds(lambda: None)
    assert sample_rounds(lambda: (random.seed(42), np.random.seed(42))) == undisturbed
    assert sample_rounds(lambda: drawn.append((random.random(), np.random.random()))) == undisturbed
    assert len(set(drawn)) == 8  # every client has a stream of its own
    sample_rounds(lambda: drawn.append((random.random(), np.random.random())))
    assert drawn[8:] == drawn[:8]


def test_stock_fedavg_averages_over_the_rounds_and_samples_by_the_seed():
    trained, results = [], []
    server_app, client_app = ServerApp(), ClientApp()

    @client_app.train()
    def train(message, context):
        partition = context.node_config["partition-id"]
        trained.append(partition)
        (weights,) = message.content["arrays"].to_numpy_ndarrays()
        content = {"arrays": ArrayRecord([weights + partition]), "m": MetricRecord({"num-examples": partition + 1})}
        return Message(RecordDict(content), reply_to=message)

    @server_app.main()
    def main(grid, context):
        strategy = FedAvg(fraction_train=context.run_config["fraction"], fraction_evaluate=0.0)
        results.append(strategy.start(grid, ArrayRecord([np.zeros(2, np.float32)]), num_rounds=2))

    def run_fraction(fraction, seed):
        trained.clear()
        run_app(server_app, client_app, num_nodes=12, num_workers=0, run_config={"fraction": fraction}, seed=seed)
        return list(trained)

    assert sorted(run_fraction(1.0, seed=0)) == sorted([*range(12)] * 2)
    mean = sum(p * (p + 1) for p in range(12)) / sum(p + 1 for p in range(12))
    np.testing.assert_allclose(results[0].arrays.to_numpy_ndarrays()[0], 2 * mean, rtol=1e-6)
    assert run_fraction(0.25, seed=1) == run_fraction(0.25, seed=1) != run_fraction(0.25, seed=2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_real_deadline_closes_a_local_round(tmp_path, num_workers):
    keys = {"out-dir": str(tmp_path / "run"), "round-deadline": 1e-6, "teacher": "none", "num-server-rounds": 1}
    with pytest.raises(RunError, match="no update of any client"):
        simulate(RunConfig.from_mapping(keys), num_workers=num_workers)
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert (row["accepted"], row["failed"], row["skipped"]) == (0, 20, 1)
