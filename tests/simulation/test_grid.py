"""The local grid: what holds with and without worker processes."""

import os
import random
import time

import flwr
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from fedcomp import forking
from fedcomp.errors import UsageError
from fedcomp.simulation import LocalGrid
from tests.simulation.grids import answer, ask, count_calls, echo, grid_of, messages, partitions, values


@pytest.fixture(params=[0, 2], ids=["in-process", "workers"])
def num_workers(request):
    return request.param


@pytest.fixture
def make_grid(num_workers):
    """Make grids that are closed at the end."""
    grids = []

    def make(train, num_nodes=3, **arguments):
        grids.append(grid_of(train, num_nodes, num_workers=num_workers, **arguments))
        return grids[-1]

    yield make
    for grid in grids:
        grid.close()
        grid.close()


def test_every_client_answers_for_itself_in_the_order_of_the_messages(make_grid):
    def train(message, context):
        time.sleep(0.05 if context.node_config["partition-id"] == 0 else 0)
        return echo(message, context)

    grid = make_grid(train, 8)
    replies = ask(grid)
    assert partitions(replies) == [*range(8)]
    assert [reply.metadata.src_node_id for reply in replies] == list(grid.get_node_ids())
    backwards = messages(grid)[::-1]
    assert partitions(grid.send_and_receive(backwards)) == [*reversed(range(8))]
    assert all(reply.metadata.reply_to_message_id for reply in replies)
    assert not list(grid.send_and_receive([]))


def test_push_and_pull(make_grid):
    grid = make_grid(echo, 6)
    ids = list(grid.push_messages(messages(grid)))
    assert len(set(ids)) == 6
    wanted, found = ids[1:], []
    while len(found) < 5:
        pulled = list(grid.pull_messages(wanted))
        assert pulled
        found += partitions(pulled)
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert partitions(grid.pull_messages(ids)) == [0]
    assert not list(grid.pull_messages([*ids, "unknown"]))


def test_pushed_messages_do_not_come_out_of_a_round(make_grid):
    grid = make_grid(echo)
    (pushed,) = grid.push_messages(messages(grid)[:1])
    assert partitions(ask(grid)) == [0, 1, 2]
    assert partitions(grid.pull_messages([pushed])) == [0]


def test_state_stays_with_the_client_and_nothing_else_is_shared(make_grid):
    def train(message, context):
        count = count_calls(context)
        assert message.content["arrays"]["w"].numpy().tolist() == [0, 1, 2]
        assert list(message.content) == ["metrics", "arrays", "config"]
        message.content["arrays"]["w"].data = b"scribble"
        message.content["config"]["list"].append(9)
        del message.content["metrics"]
        return answer(message, count=count)

    grid = make_grid(train)
    content = RecordDict(
        {
            "metrics": MetricRecord({"a": 1}),
            "arrays": ArrayRecord({"w": Array(np.arange(3))}),
            "config": ConfigRecord({"list": [1, 2]}),
        }
    )
    for expected in (0, 1):
        replies = ask(grid, content)
        assert values(replies, "count") == [expected] * 3
        replies[0].content["config"]["count"] = 99
    np.testing.assert_array_equal(content["arrays"]["w"].numpy(), np.arange(3))
    assert content["config"]["list"] == [1, 2]
    assert "metrics" in content


def test_what_a_client_keeps_is_not_what_the_server_gets(make_grid):
    def train(message, context):
        if "kept" not in context.state:
            context.state["kept"] = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
        return Message(RecordDict({"arrays": context.state["kept"]}), reply_to=message)

    grid = make_grid(train, num_nodes=1)
    (first,) = ask(grid)
    first.content["arrays"]["w"].data = b"scribble"
    del first.content["arrays"]["w"]
    (second,) = ask(grid)
    np.testing.assert_array_equal(second.content["arrays"]["w"].numpy(), np.zeros(3))


def test_a_state_can_grow_shrink_and_vanish(make_grid):
    def train(message, context):
        size = message.content["config"]["size"]
        had = len(context.state["a"]["w"].data) if "a" in context.state else 0
        context.state.clear()
        if size:
            context.state["a"] = ArrayRecord({"w": Array("uint8", (size,), "raw", bytes(size))})
        return answer(message, had=had)

    grid, had = make_grid(train, 2), 0
    for size in (10, 100_000, 7, 0, 3):
        content = RecordDict({"config": ConfigRecord({"size": size})})
        assert values(ask(grid, content), "had") == [had] * 2
        had = size


def test_two_messages_to_one_client_are_worked_on_one_after_the_other(make_grid):
    grid = make_grid(lambda message, context: answer(message, count=count_calls(context)), 2)
    to_first = [Message(RecordDict(), next(iter(grid.get_node_ids())), "train") for _ in range(5)]
    assert values(grid.send_and_receive(to_first), "count") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("failure", [ValueError("no data"), SystemExit(3), KeyboardInterrupt(), MemoryError("full")])
def test_a_client_that_raises_becomes_an_error_reply(make_grid, failure):
    def train(message, context):
        if context.node_config["partition-id"] == 1:
            raise failure
        return echo(message, context)

    first, second, third = ask(make_grid(train))
    assert partitions([first, third]) == [0, 2]
    assert type(failure).__name__ in second.error.reason


def test_what_a_client_raised_is_told_even_if_it_is_no_text(make_grid):
    def train(message, context):
        raise FileNotFoundError(os.fsdecode(b"caf\xe9.csv"))

    assert partitions(ask(make_grid(train, num_nodes=1))) == [r"FileNotFoundError: caf\udce9.csv"]


def test_a_client_that_takes_too_long_does_not_hold_up_the_others(make_grid):
    def train(message, context):
        if context.node_config["partition-id"] == 0:
            time.sleep(60)
        return echo(message, context)

    assert partitions(ask(make_grid(train, client_timeout=1))) == ["no answer within 1 s", 1, 2]


def test_the_rounds_time_bounds_the_round(make_grid, caplog):
    def train(message, context):
        time.sleep(0.1)
        return echo(message, context)

    grid = make_grid(train, num_nodes=30)
    replies = ask(grid, timeout=0.35)
    assert 1 <= len(replies) < 30
    assert caplog.messages == [f"the round's time is over: {30 - len(replies)} of 30 clients were not reached"]
    answered = [reply for reply in replies if reply.has_content()]
    assert partitions(answered) == [*range(30)][: len(answered)]
    assert all("no answer within" in reply.error.reason for reply in replies[len(answered) :])
    assert partitions(grid.send_and_receive(messages(grid)[-2:])) == [28, 29]


def test_clients_ahead_of_a_round_that_is_broken_off_keep_their_state(make_grid):
    grid = make_grid(lambda message, context: answer(message, count=count_calls(context)), 12)
    replies = iter(grid.send_and_receive(messages(grid)))
    assert values([next(replies), next(replies)], "count") == [0, 0]
    time.sleep(0.1)
    replies.close()
    assert values(ask(grid), "count") == [1, 1] + [0] * 10


def test_other_kinds_of_messages_and_mods(make_grid, num_workers):
    def stamp(message, context, call_next):
        reply = call_next(message, context)
        reply.content["config"]["stamped"] = True
        return reply

    app = ClientApp(mods=[stamp])
    app.train("foo")(lambda message, context: answer(message, did="train.foo"))
    app.evaluate()(lambda message, context: answer(message, did="evaluate"))
    app.query("size")(lambda message, context: answer(message, did="query.size"))
    kinds = ["train.foo", "evaluate", "query.size", "train"]
    with LocalGrid(app, num_nodes=1, num_workers=num_workers) as grid:
        (node,) = grid.get_node_ids()
        replies = list(grid.send_and_receive([Message(RecordDict(), node, kind) for kind in kinds]))
    assert values(replies[:3], "did") == kinds[:3]
    assert all(reply.content["config"]["stamped"] for reply in replies[:3])
    assert "No train function registered" in replies[3].error.reason


def test_other_answers_and_other_nodes(make_grid):
    grid = make_grid(lambda message, context: "done")
    assert partitions(grid.send_and_receive(messages(grid)[:1])) == ["TypeError: answered with str, not a Message"]
    to_nobody = Message(RecordDict(), 12345, "train")
    (reply,) = grid.send_and_receive([to_nobody])
    assert "no node has the id 12345" in reply.error.reason
    (pushed,) = grid.push_messages([to_nobody])
    assert "no node has the id 12345" in next(iter(grid.pull_messages([pushed]))).error.reason


def test_global_generators_are_seeded_for_each_call(make_grid):
    torch = pytest.importorskip("torch")

    def train(message, context):
        return answer(message, drawn=[random.random(), float(np.random.random()), float(torch.rand(1))])

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    drawn = [values(ask(make_grid(train, 4, seed=seed)), "drawn") for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({number for draws in drawn[1:] for client in draws for number in client}) == 2 * 4 * 3
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_the_run_has_its_id(make_grid):
    grid = make_grid(echo, run_id=5)
    assert grid.run.run_id == 5
    grid.set_run(other := Run.create_empty(6))
    assert grid.run is other


def test_a_number_of_workers_that_can_not_be(monkeypatch):
    with pytest.raises(UsageError, match="num_workers is -1, expected 0 or more"):
        grid_of(echo, num_workers=-1)
    with grid_of(echo, num_nodes=2, num_workers=9) as grid:
        assert grid.num_workers == 2
    monkeypatch.setattr("fedcomp.simulation.grid.can_fork", lambda: False)
    with grid_of(echo) as grid:
        assert grid.num_workers == 0
    with pytest.raises(UsageError, match="worker processes need Linux"):
        grid_of(echo, num_workers=1)
    assert forking.usable_cores() >= 1


def test_flower_is_the_version_whose_private_parts_were_read():
    """On an upgrade: read flwr.supercore.task_identity, flwr.supercore.run, flwr.common.serde and Metadata."""
    assert flwr.__version__.startswith("1.41.")
