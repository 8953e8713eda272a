"""Clients in the caller's process."""

import threading

from tests.simulation.grids import ask, echo, grid_of, messages, partitions


def test_a_client_is_called_when_its_reply_is_asked_for():
    trained = []

    def train(message, context):
        trained.append(context.node_id)
        return echo(message, context)

    with grid_of(train, num_workers=0) as grid:
        replies = grid.send_and_receive(messages(grid))
        assert trained == []
        next(iter(replies))
        assert len(trained) == 1


def test_a_client_that_hangs_is_left_behind_and_may_come_back():
    release, came_back = threading.Event(), threading.Event()

    def train(message, context):
        if context.node_config["partition-id"] == 0 and not release.is_set():
            release.wait(20)
            came_back.set()
        return echo(message, context)

    with grid_of(train, num_workers=0, client_timeout=0.2) as grid:
        assert partitions(ask(grid)) == ["no answer within 0.2 s", 1, 2]
        assert partitions(ask(grid)) == ["still busy with an earlier message", 1, 2]
        release.set()
        came_back.wait(20)
        (stuck,) = grid._engine._stuck.values()
        stuck.result(20)
        assert partitions(ask(grid)) == [0, 1, 2]


def test_a_reply_at_the_last_moment_counts(monkeypatch):
    """The wait ends just before the client does; the reply is there when the grid looks, so it is taken."""

    def wait_too_long(futures, timeout):
        for future in futures:
            future.result(5)

    monkeypatch.setattr("fedcomp.simulation.in_process.wait", wait_too_long)
    with grid_of(echo, num_workers=0, client_timeout=1e-9) as grid:
        assert partitions(ask(grid)) == [0, 1, 2]
