"""The local grid: a Flower Grid that isolates its clients and survives them."""

import threading
import time

import flwr
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from fedcomp.simulation import LocalGrid
from fedcomp.simulation.identity import task_identity


@pytest.fixture(autouse=True)
def identity():
    with task_identity(run_id=5, node_id=1):
        yield


def grid_of(train, num_nodes=3, **arguments):
    app = ClientApp()
    app.train()(train)
    return LocalGrid(app, num_nodes=num_nodes, **arguments)


def echo(message, context):
    return Message(
        RecordDict({"config": ConfigRecord({"partition": context.node_config["partition-id"]})}), reply_to=message
    )


def messages(grid, content=None):
    return [Message(content or RecordDict(), node, "train") for node in grid.get_node_ids()]


def partitions(replies):
    return [r.content["config"]["partition"] if r.has_content() else r.error.reason for r in replies]


def test_every_client_answers_for_itself():
    grid = grid_of(echo)
    replies = list(grid.send_and_receive(messages(grid)))
    assert partitions(replies) == [0, 1, 2]
    assert [r.metadata.src_node_id for r in replies] == list(grid.get_node_ids())
    assert all(r.metadata.reply_to_message_id for r in replies)


def test_replies_stream():
    trained = []

    def train(message, context):
        trained.append(context.node_id)
        return echo(message, context)

    grid = grid_of(train)
    replies = grid.send_and_receive(messages(grid))
    assert trained == []
    next(iter(replies))
    assert len(trained) == 1


def test_push_and_pull():
    grid = grid_of(echo)
    ids = list(grid.push_messages(messages(grid)))
    assert len(set(ids)) == 3
    assert partitions(grid.pull_messages(ids[1:])) == [1, 2]
    assert partitions(grid.pull_messages(ids)) == [0]
    assert not list(grid.pull_messages(["unknown"]))


def test_state_stays_with_the_client_and_nothing_else_is_shared():
    def train(message, context):
        count = context.state["seen"]["count"] if "seen" in context.state else 0
        context.state["seen"] = ConfigRecord({"count": count + 1})
        message.content["arrays"]["w"].data = b"scribble"
        message.content["config"]["list"].append(9)
        del message.content["metrics"]
        return Message(RecordDict({"state": context.state["seen"]}), reply_to=message)

    grid = grid_of(train)
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.arange(3))}),
            "config": ConfigRecord({"list": [1, 2]}),
            "metrics": MetricRecord({"a": 1}),
        }
    )
    for expected in (1, 2):
        replies = list(grid.send_and_receive(messages(grid, content)))
        assert [r.content["state"]["count"] for r in replies] == [expected] * 3
        replies[0].content["state"]["count"] = 99
    np.testing.assert_array_equal(content["arrays"]["w"].numpy(), np.arange(3))
    assert content["config"]["list"] == [1, 2]
    assert "metrics" in content


@pytest.mark.parametrize("failure", [ValueError("no data"), SystemExit(3), KeyboardInterrupt()])
def test_a_client_that_raises_becomes_an_error_reply(failure):
    def train(message, context):
        if context.node_config["partition-id"] == 1:
            raise failure
        return echo(message, context)

    grid = grid_of(train)
    first, second, third = grid.send_and_receive(messages(grid))
    assert partitions([first, third]) == [0, 2]
    assert type(failure).__name__ in second.error.reason


def test_a_client_that_hangs_is_left_behind_and_may_come_back():
    release = threading.Event()

    def train(message, context):
        if context.node_config["partition-id"] == 0 and not release.is_set():
            release.wait(20)
        return echo(message, context)

    grid = grid_of(train, client_timeout=0.2)
    assert partitions(grid.send_and_receive(messages(grid))) == ["no answer within 0.2 s", 1, 2]
    started = time.monotonic()
    assert partitions(grid.send_and_receive(messages(grid))) == ["still busy with an earlier message", 1, 2]
    assert time.monotonic() - started < 10
    release.set()
    time.sleep(0.2)
    assert partitions(grid.send_and_receive(messages(grid))) == [0, 1, 2]


def test_the_rounds_time_bounds_the_round(caplog):
    def train(message, context):
        time.sleep(0.15)
        return echo(message, context)

    grid = grid_of(train, num_nodes=20)
    replies = list(grid.send_and_receive(messages(grid), timeout=0.4))
    assert 1 <= len(replies) < 20
    assert caplog.messages == [f"the round's time is over: {20 - len(replies)} of 20 clients were not reached"]


def test_a_reply_at_the_last_moment_counts(monkeypatch):
    """The wait ends just before the client does; the reply is there when the grid looks, so it is taken."""

    def wait_too_long(futures, timeout):
        for future in futures:
            future.result(5)

    monkeypatch.setattr("fedcomp.simulation.grid.wait", wait_too_long)
    grid = grid_of(echo, client_timeout=1e-9)
    assert partitions(grid.send_and_receive(messages(grid))) == [0, 1, 2]


def test_what_a_client_keeps_is_not_what_the_server_gets():
    def train(message, context):
        if "kept" not in context.state:
            context.state["kept"] = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
        return Message(RecordDict({"arrays": context.state["kept"]}), reply_to=message)

    grid = grid_of(train, num_nodes=1)
    (first,) = grid.send_and_receive(messages(grid))
    first.content["arrays"]["w"].data = b"scribble"
    del first.content["arrays"]["w"]
    (second,) = grid.send_and_receive(messages(grid))
    np.testing.assert_array_equal(second.content["arrays"]["w"].numpy(), np.zeros(3))


def test_the_run_has_its_id():
    grid = grid_of(echo, run_id=5)
    assert grid.run.run_id == 5
    grid.set_run(other := Run.create_empty(6))
    assert grid.run is other


def test_other_answers_and_other_nodes():
    grid = grid_of(lambda message, context: "done")
    assert partitions(grid.send_and_receive(messages(grid)[:1])) == ["TypeError: answered with str, not a Message"]
    (reply,) = grid.send_and_receive([Message(RecordDict(), 12345, "train")])
    assert "no node has the id 12345" in reply.error.reason


def test_node_ids_come_from_the_seed():
    assert list(grid_of(echo).get_node_ids()) == list(grid_of(echo).get_node_ids())
    assert set(grid_of(echo, seed=1).get_node_ids()).isdisjoint(grid_of(echo, seed=2).get_node_ids())


def test_flower_is_the_version_whose_private_identity_was_read():
    """On an upgrade: read flwr.supercore.task_identity, flwr.supercore.run and Metadata, then change this."""
    assert flwr.__version__.startswith("1.41.")
