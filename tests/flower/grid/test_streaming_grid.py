"""Replies stream, a round ends at its deadline with what came, and nothing of one round is taken for another's."""

import httpx
import pytest
from flwr.app import Error, Message

from fedcomp.errors import UsageError
from fedcomp.flower import StreamingGrid, streaming
from fedcomp.flower.server.traffic import DeadlineGrid
from fedcomp.simulation import LocalGrid, NetworkGrid
from fedcomp.simulation.identity import task_identity
from tests.flower.superlink import REQUEST, ScriptedSuperLink, order_to, reply_to
from tests.flower.toy import compressed, run_rounds, toy_client

SHORT = 0.3
"""Seconds: of exchanges in which somebody never answers."""


@pytest.fixture(autouse=True)
def _identity():
    with task_identity(run_id=1, node_id=1):
        yield


def clients_of(replies):
    return [reply.metadata.src_node_id for reply in replies]


def exchange(grid, clients, **arguments):
    return list(grid.send_and_receive([order_to(client) for client in clients], **arguments))


def test_each_reply_is_handed_on_before_the_others_are_there():
    ready = {1}
    superlink = ScriptedSuperLink(lambda m: reply_to(m) if m.metadata.dst_node_id in ready else None)
    came = []
    for reply in StreamingGrid(superlink).send_and_receive([order_to(client) for client in (3, 1, 2)]):
        came.append(reply.metadata.src_node_id)
        ready.add(came[-1] + 1)
    assert came == [1, 2, 3]


def test_a_reply_in_anothers_name_is_not_handed_on():
    def answer(message):
        client = message.metadata.dst_node_id
        return reply_to(message) if client != 1 else forged(message, as_of=2)

    replies = exchange(StreamingGrid(ScriptedSuperLink(answer), deadline=SHORT), (1, 2, 3))
    assert sorted(clients_of(replies)) == [2, 3]


def test_an_error_in_anothers_name_is_not_handed_on():
    def answer(message):
        client = message.metadata.dst_node_id
        lost = Message(Error(1001, "lost-model: forged"), reply_to=message)
        return reply_to(message) if client != 1 else renamed(lost, as_of=2)

    replies = exchange(StreamingGrid(ScriptedSuperLink(answer), deadline=SHORT), (1, 2, 3))
    assert [(reply.metadata.src_node_id, reply.has_error()) for reply in replies] == [(2, False), (3, False)]


def forged(message, as_of):
    return renamed(reply_to(message), as_of)


def renamed(reply, as_of):
    reply.metadata.__dict__["_src_node_id"] = as_of
    return reply


def test_requests_are_bounded_however_many_clients_there_are():
    superlink = ScriptedSuperLink(reply_to)
    assert sorted(clients_of(exchange(StreamingGrid(superlink), range(1, 101)))) == list(range(1, 101))
    assert superlink.largest_pull <= 16


def test_what_nobody_takes_waits_at_the_superlink():
    superlink = ScriptedSuperLink(reply_to)
    replies = StreamingGrid(superlink).send_and_receive([order_to(client) for client in range(1, 101)])
    next(replies)
    replies.close()
    assert len(superlink.waiting) >= 100 - 2 * 16


@pytest.mark.parametrize("limits", [{"deadline": SHORT}, {"timeout": SHORT}, {"deadline": SHORT, "timeout": 3600}])
def test_the_round_ends_with_what_came(limits):
    superlink = ScriptedSuperLink(lambda m: None if m.metadata.dst_node_id == 2 else reply_to(m))
    grid = StreamingGrid(superlink, deadline=limits.get("deadline"))
    assert clients_of(exchange(grid, (1, 2, 3), timeout=limits.get("timeout"))) == [1, 3]
    assert grid.num_late == 0


def test_a_late_reply_is_counted_in_a_later_round_and_is_none_of_it():
    is_there = False
    superlink = ScriptedSuperLink(lambda m: reply_to(m) if m.metadata.dst_node_id != 2 or is_there else None)
    grid = StreamingGrid(superlink, deadline=SHORT)
    assert clients_of(exchange(grid, (1, 2))) == [1]
    is_there = True
    replies = exchange(grid, (1, 2))
    assert [reply.metadata.reply_to_message_id for reply in replies] == ["message-3", "message-4"]
    assert grid.num_late == 1
    assert not superlink.waiting
    exchange(grid, (1, 2))
    assert grid.num_late == 1


def test_what_is_owed_is_asked_for_once_a_round():
    superlink = ScriptedSuperLink(lambda m: reply_to(m) if m.metadata.dst_node_id == 1 else None)
    grid = StreamingGrid(superlink, deadline=SHORT)
    exchange(grid, (1, 2))
    before = superlink.asked["message-2"]
    for _ in range(3):
        exchange(grid, (1,))
    assert superlink.asked["message-2"] == before + 3


def test_messages_expire_some_time_after_the_deadline():
    superlink = ScriptedSuperLink(lambda m: None)
    exchange(StreamingGrid(superlink, deadline=SHORT), (1,))
    exchange(StreamingGrid(superlink), (1,), timeout=SHORT)
    short, long = (message.metadata.ttl for message in superlink.waiting.values())
    assert (short, long) == (SHORT + 300, 43200)


@pytest.mark.parametrize("largest_push", [1, 5, 1 << 30])
def test_a_client_that_can_not_be_asked_has_an_error_reply(largest_push):
    superlink = ScriptedSuperLink(reply_to, refused={2}, largest_push=largest_push)
    replies = exchange(StreamingGrid(superlink), range(1, 21))
    assert sorted(clients_of(replies)) == list(range(1, 21))
    assert [r.metadata.src_node_id for r in replies if r.has_error()] == [2]


def test_a_message_that_is_too_large_on_its_own_costs_its_client_only():
    replies = exchange(StreamingGrid(ScriptedSuperLink(reply_to, largest_push=0)), (1, 2))
    assert all("not taken" in reply.error.reason for reply in replies)
    assert clients_of(replies) == [1, 2]


AWAY = {
    "refused connection": httpx.ConnectError("refused"),
    "lost connection": httpx.RemoteProtocolError("closed"),
    "slow": httpx.ReadTimeout("slow"),
    "reset": ConnectionResetError("reset"),
    "restarting": httpx.HTTPStatusError("503", request=REQUEST, response=httpx.Response(503)),
    "busy": httpx.HTTPStatusError("429", request=REQUEST, response=httpx.Response(429)),
}


@pytest.mark.parametrize("fault", AWAY)
def test_requests_are_repeated_while_the_superlink_is_away(fault):
    superlink = ScriptedSuperLink(reply_to, away=[AWAY[fault]] * 3)
    grid = StreamingGrid(superlink, deadline=60)
    assert clients_of(exchange(grid, (1, 2))) == [1, 2]
    superlink.waiting.clear()
    replies = grid.send_and_receive([order_to(1), order_to(2)])
    first = next(replies)
    assert [first.metadata.src_node_id, *clients_of(replies)] == [1, 2]


def test_a_superlink_that_stays_away_costs_the_round_only():
    superlink = ScriptedSuperLink(reply_to, away=[AWAY["refused connection"]] * 1000)
    grid = StreamingGrid(superlink, deadline=SHORT)
    assert all(reply.has_error() for reply in exchange(grid, (1, 2)))
    superlink.away.clear()
    assert [reply.has_content() for reply in exchange(grid, (1, 2))] == [True, True]


def test_a_loss_while_replies_are_looked_for_is_not_the_end():
    def answer(message):
        nonlocal faults
        if faults:
            faults -= 1
            raise httpx.ReadError("lost")
        return reply_to(message)

    faults = 2
    assert clients_of(exchange(StreamingGrid(ScriptedSuperLink(answer)), (1, 2))) == [1, 2]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("the run was stopped"), httpx.HTTPStatusError("400", request=REQUEST, response=httpx.Response(400))],
)
def test_other_errors_reach_the_strategy(error):
    with pytest.raises(type(error), match=str(error)):
        exchange(StreamingGrid(ScriptedSuperLink(reply_to, away=[error])), (1, 2))


def test_unasked_replies_are_passed_over():
    stranger = order_to(9)

    def answer(message):
        return reply_to(stranger if message.metadata.dst_node_id == 2 else message)

    replies = exchange(StreamingGrid(ScriptedSuperLink(answer), deadline=SHORT), (1, 2))
    assert clients_of(replies) == [1]


def test_nothing_is_sent_where_nothing_is_to_be_sent():
    superlink = ScriptedSuperLink(reply_to, away=[RuntimeError("a request")])
    assert list(StreamingGrid(superlink).send_and_receive([])) == []


def test_only_grids_that_hold_replies_back_are_wrapped():
    superlink = ScriptedSuperLink(reply_to)
    wrapped = streaming(superlink, deadline=5.0)
    assert isinstance(wrapped, StreamingGrid)
    assert isinstance(wrapped, DeadlineGrid)
    assert streaming(wrapped) is wrapped
    for kind in (LocalGrid, NetworkGrid):
        grid = kind.__new__(kind)
        assert streaming(grid) is grid
    with pytest.raises(UsageError, match="deadline"):
        StreamingGrid(superlink, deadline=0)


def test_a_federation_over_it_is_the_one_over_the_grid_inside():
    results = {}
    for wrap in (None, StreamingGrid):
        strategy, rounds = compressed()
        result = run_rounds(strategy, toy_client(), num_rounds=3, on_grid=wrap)
        results[wrap] = {name: array.data for name, array in result.arrays.items()}
        assert [(r.accepted, r.failed, r.late, r.skipped) for r in rounds] == [(4, 0, 0, False)] * 3
    assert results[None] == results[StreamingGrid]


def test_late_replies_are_counted_in_the_round_that_sees_them():
    """Client 3's reply to round 1 comes in round 2, in which it has nothing else to say."""

    class HoldingBack:
        """Show the last client's replies one round late."""

        def __init__(self, grid):
            self._grid, self._slow = grid, max(grid.get_node_ids())

        def __getattr__(self, name):
            return getattr(self._grid, name)

        def push_messages(self, messages):
            ids = list(self._grid.push_messages(messages))
            self._held = {i for i, m in zip(ids, messages, strict=True) if m.metadata.dst_node_id == self._slow}
            return ids

        def pull_messages(self, message_ids):
            shown = [id_ for id_ in message_ids if id_ not in self._held]
            return self._grid.pull_messages(shown) if shown else []

    strategy, rounds = compressed(min_replies=2)
    run_rounds(
        strategy, toy_client(), num_rounds=3, on_grid=lambda grid: StreamingGrid(HoldingBack(grid), deadline=SHORT)
    )
    assert [(r.accepted, r.failed, r.late) for r in rounds] == [(3, 1, 0), (3, 1, 1), (3, 1, 1)]


def test_a_round_without_a_quorum_at_the_deadline_changes_nothing_and_is_counted():
    class Deaf:
        def __init__(self, grid):
            self._grid = grid

        def __getattr__(self, name):
            return getattr(self._grid, name)

        def pull_messages(self, message_ids):
            return []

    strategy, rounds = compressed(min_replies=2)
    result = run_rounds(
        strategy, toy_client(), num_rounds=2, on_grid=lambda grid: StreamingGrid(Deaf(grid), deadline=SHORT)
    )
    assert not result.arrays
    assert [(r.accepted, r.failed, r.skipped) for r in rounds] == [(0, 4, True)] * 2
