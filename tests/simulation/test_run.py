"""Running apps in this process."""

import random

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.serverapp import ServerApp
from flwr.supercore.task_identity import TaskIdentity

from fedcomp.simulation import run_app, seeded_global_random
from tests.flower.toy import toy_client


def run(body, **arguments):
    app = ServerApp()
    app.main()(body)
    return run_app(app, toy_client(), num_nodes=5, run_config={"a": 1}, **arguments)


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
