"""The grid with a simulated clock: what the server sees, and when."""

import json
import math

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.config import RunConfig
from fedcomp.errors import ConfigError, RunError
from fedcomp.flower.messages.records import content_bytes
from fedcomp.flower.server.traffic import TimedGrid
from fedcomp.network import Availability, Fate, Mix, Network, Profile, RoundTiming
from fedcomp.reporting import RunHistory
from fedcomp.simulation import LocalGrid, NetworkGrid, configured_network, simulate
from fedcomp.simulation.identity import task_identity
from tests.flower.toy import compressed, run_rounds, toy_client, toy_inner

LINK = Profile(name="link", down=8e3, up=8e3, rtt=0.5, loss=0.0, packet_bytes=1000, header_bytes=0)


@pytest.fixture(autouse=True)
def identity():
    with task_identity(run_id=5, node_id=1):
        yield


def echo(message, context):
    """Answer with as many kilobytes of floats as the client's number says."""
    size = 250 * (context.node_config["partition-id"] + 1)
    content = {"arrays": ArrayRecord([np.zeros(size, np.float32)]), "metrics": MetricRecord({"num-examples": 2})}
    return Message(RecordDict(content), reply_to=message)


def grid_of(train=echo, num_nodes=3, backwards=False, started_at=0.0, **arguments):
    app = ClientApp()
    app.train()(train)
    app.evaluate()(train)
    network = Network(mix=Mix((LINK,), (1.0,)), **{"example_seconds": 0.0} | arguments)
    inner = (Backwards if backwards else LocalGrid)(app, num_nodes=num_nodes, num_workers=0)
    return NetworkGrid(inner, network, started_at=started_at)


class Backwards(LocalGrid):
    """Replies in the reverse order."""

    def send_and_receive(self, messages, *, timeout=None):
        return super().send_and_receive(list(messages)[::-1], timeout=timeout)


def ask(grid, nodes=None, server_round=1, kind="train"):
    content = RecordDict({"config": ConfigRecord({"server-round": server_round})})
    messages = [Message(content, node, kind) for node in (grid.get_node_ids() if nodes is None else nodes)]
    return list(grid.send_and_receive(messages))


def seen(replies):
    return [len(r.content["arrays"]["0"].numpy()) if r.has_content() else r.error.reason for r in replies]


def test_the_clock_counts_what_was_sent_and_worked():
    grid = grid_of(example_seconds=1.5, local_epochs=2)
    replies = ask(grid)
    down = content_bytes(RecordDict({"config": ConfigRecord({"server-round": 1})}))
    up = content_bytes(replies[-1].content)
    assert 0 < down < 100
    assert up > 3000
    expected = 2 * 0.5 + (down + up) / 1000 + 2 * 1.5 * 2
    assert grid.timing == RoundTiming(pytest.approx(expected))
    before = grid.timing.simulated_seconds
    ask(grid, kind="evaluate")
    assert grid.timing.simulated_seconds == pytest.approx(before + expected - 6 + 1)


def test_replies_stream():
    trained = []

    def train(message, context):
        trained.append(context.node_id)
        return echo(message, context)

    grid = grid_of(train)
    replies = grid.send_and_receive([Message(RecordDict(), node, "train") for node in grid.get_node_ids()])
    next(iter(replies))
    assert len(trained) == 1


def test_late_replies_are_withheld_and_the_round_ends_at_the_deadline():
    grid = grid_of(deadline=3.6)
    assert seen(ask(grid)) == [250, 500]
    assert grid.timing == RoundTiming(3.6, stragglers=1)


def test_dropouts_are_errors_and_do_not_train():
    trained = []

    def train(message, context):
        trained.append(context.node_config["partition-id"])
        return echo(message, context)

    grid = grid_of(train, num_nodes=40, dropout=0.4)
    replies = ask(grid)
    reasons = [r.error.reason for r in replies if r.has_error()]
    assert set(reasons) == {f"{Fate.DROPPED_OUT.value} (simulated)"}
    assert len(trained) + len(reasons) == len(replies) == 40
    assert grid.timing.dropouts == len(reasons) > 5


def test_the_same_seed_loses_the_same_clients_in_any_order_of_replies():
    def play(backwards, seed=0):
        grid = grid_of(num_nodes=20, backwards=backwards, dropout=0.3, deadline=12.0, seed=seed)
        rounds = []
        for server_round in (1, 2, 3):
            replies = ask(grid, server_round=server_round)
            rounds.append((sorted(map(str, seen(replies))), grid.timing))
        return rounds

    assert play(backwards=False) == play(backwards=True) != play(backwards=False, seed=1)
    assert len({str(outcome) for outcome, _ in play(backwards=False)}) == 3


def test_only_reachable_clients_have_node_ids_and_the_clock_waits_for_enough():
    windows = Availability.of([(0, 0, 10), (2, 40, 50), (1, 50, 30)], num_clients=3, period=100)
    grid = grid_of(availability=windows)
    everybody = list(grid._clients)
    assert list(grid.get_node_ids()) == [everybody[0]]
    assert seen(ask(grid, everybody)) == [*[f"{Fate.UNAVAILABLE.value} (simulated)"] * 2, 250]
    assert grid.timing.unavailable == 2
    patient = grid_of(availability=windows, min_available=2)
    assert list(patient.get_node_ids()) == everybody[1:]
    assert patient.timing.simulated_seconds == pytest.approx(50)
    with pytest.raises(RunError, match="never more than 2"):
        grid_of(availability=windows, min_available=3).get_node_ids()


def test_a_client_that_leaves_on_the_way_is_an_error():
    windows = Availability.of([(0, 0, 1), (1, 0, 90)], num_clients=2, period=100)
    grid = grid_of(num_nodes=2, availability=windows)
    assert seen(ask(grid)) == [f"{Fate.DROPPED_OUT.value} (simulated)", 500]
    assert grid.timing == RoundTiming(61.0, dropouts=1)


@pytest.mark.parametrize("count", [float("nan"), float("inf"), -5, [1, 2]])
def test_a_count_that_is_none_costs_no_time(count):
    def train(message, context):
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": count})}), reply_to=message)

    grid = grid_of(train, example_seconds=1.0)
    ask(grid)
    assert grid.timing.simulated_seconds < 1.5


def test_real_failures_and_unknown_nodes_stay_what_they_are():
    def train(message, context):
        raise ValueError("no data")

    grid = grid_of(train)
    assert seen(ask(grid)) == ["ValueError: no data"] * 3
    assert "no node has the id 12345" in seen(ask(grid_of(), [12345]))[0]


def test_a_reply_that_nobody_asked_for_goes_to_the_strategys_checks():
    class Intruder(LocalGrid):
        def send_and_receive(self, messages, *, timeout=None):
            yield from super().send_and_receive([Message(RecordDict(), list(self.get_node_ids())[2], "train")])

    app = ClientApp()
    app.train()(echo)
    inner = Intruder(app, num_nodes=3)
    grid = NetworkGrid(inner, Network(mix=Mix((LINK,), (1.0,))))
    assert seen(ask(grid, list(inner.get_node_ids())[:1])) == [750]
    assert grid.timing == RoundTiming(0.0)


def test_a_round_without_messages_changes_nothing():
    grid = grid_of(deadline=3.6)
    ask(grid)
    before = grid.timing
    assert not ask(grid, [])
    assert grid.timing is before


def test_the_rest_is_the_inner_grids():
    grid = grid_of(started_at=50.0)
    assert isinstance(grid, TimedGrid)
    assert not isinstance(grid._inner, TimedGrid)
    grid.set_run(grid.run)
    (id_,) = grid.push_messages([Message(RecordDict(), next(iter(grid.get_node_ids())), "train")])
    assert seen(grid.pull_messages([id_])) == [250]
    assert not ask(grid, [])
    assert grid.timing == RoundTiming(50.0)
    with pytest.raises(NotImplementedError):
        grid.create_message()


@pytest.mark.parametrize("kind", ["compressed", "stock"])
def test_strategies_go_on_without_the_late_and_the_lost(kind):
    network = Network(mix=Mix((LINK,), (1.0,), spread=0.5), deadline=1.7, dropout=0.2)
    grids = []

    def on_grid(grid):
        grids.append(NetworkGrid(grid, network))
        return grids[-1]

    strategy, rounds = compressed() if kind == "compressed" else (toy_inner(FedAvg), [])
    run_rounds(strategy, toy_client(), num_rounds=3, on_grid=on_grid)
    assert 0 < grids[0].timing.simulated_seconds <= 3 * 1.7
    for traffic in rounds:
        assert traffic.failed == traffic.timing.stragglers + traffic.timing.dropouts
    assert sum(traffic.failed for traffic in rounds) > 0 or kind == "stock"


def run_digits(folder, **settings):
    base = {
        "model": "perceptron",
        "num-clients": 4,
        "partition": "iid",
        "objective": "supervised",
        "label-fraction": 1.0,
        "local-epochs": 4,
        "learning-rate-schedule": "constant",
        "teacher": "none",
        "network": "3g",
        "example-seconds": 1e-5,
        "network-spread": 0.0,
    }
    changes = {key.replace("_", "-"): value for key, value in settings.items()}
    summary = simulate(RunConfig.from_mapping(base | changes | {"out-dir": str(folder)}))
    return summary, RunHistory.read(folder)


def test_thin_updates_reach_the_same_accuracy_in_less_simulated_time_on_3g(tmp_path):
    summary, thin = run_digits(tmp_path / "thin", codec="thin", num_server_rounds=9)
    _, dense = run_digits(tmp_path / "dense", codec="none", num_server_rounds=5)
    needed = {run.name: run.cost_to_accuracy(0.85, run.seconds()) for run in (thin, dense)}
    assert needed[thin.name] < needed[dense.name]
    assert summary["simulated_seconds"] == thin.seconds()[-1]
    assert (summary["stragglers"], summary["dropouts"]) == (0, 0)
    assert {"simulated_seconds", "stragglers", "dropouts", "unavailable"} <= thin.rows[0].keys()


def test_a_run_with_everything_that_goes_wrong_repeats_itself(tmp_path):
    settings = {
        "network": "lte:0.5 3g:0.5",
        "network_spread": 0.5,
        "num_clients": 8,
        "num_server_rounds": 3,
        "local_epochs": 1,
        "round_deadline": 1.0,
        "dropout": 0.2,
        "availability": "diurnal:16",
        "min_replies": 2,
    }
    runs = [run_digits(tmp_path / name, **settings)[1] for name in "ab"]
    keys = ("simulated_seconds", "stragglers", "dropouts", "unavailable", "accuracy")
    first, second = ([[row[key] for key in keys] for row in run.rows] for run in runs)
    assert first == second
    assert sum(row["stragglers"] + row["dropouts"] + row["unavailable"] for row in runs[0].rows) > 0
    resolved = RunConfig.from_toml(tmp_path / "a" / "config.toml")
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["rounds"] == resolved.num_server_rounds == 3


def test_a_configuration_becomes_a_network(tmp_path):
    assert configured_network(RunConfig.from_mapping({})) is None
    network = configured_network(RunConfig.from_mapping({"network": "lte", "seed": 3, "local-epochs": 5}))
    assert (network.seed, network.local_epochs, network.availability) == (3, 5, None)
    assert network.deadline == network.server_rate == math.inf
    missing = {"network": "lte", "availability": str(tmp_path / "none.csv")}
    with pytest.raises(ConfigError, match=r"none\.csv"):
        configured_network(RunConfig.from_mapping(missing))
