"""A Flower Grid with a simulated clock: links, devices, stragglers and dropouts in front of any other Grid."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from flwr.app import Error, Message, MessageType
from flwr.common.constant import ErrorCode

from fedcomp.flower import Snapshot, StatefulGrid
from fedcomp.flower.grid.wrapping_grid import WrappingGrid
from fedcomp.flower.messages.records import content_bytes
from fedcomp.network import Exchange, Fate, RoundTiming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from flwr.serverapp import Grid

    from fedcomp.network import Network

_ROUND_KEY, _EXAMPLES_KEY = "server-round", "num-examples"
_NOBODY = -1


class NetworkGrid(WrappingGrid):
    """Give each client of another Grid a link and a processor, and keep the time they take.

    `send_and_receive` counts the bytes of each message and reply, moves the clock to the end of the exchange, and
    hands on what a real server would see: a reply that is late on the simulated clock is dropped silently, as Flower
    drops it after its timeout; a client that drops out or is not reachable has an error reply, and nothing is sent
    to it. Replies stream as they do from `inner`. Its timeout is of real seconds, and goes on to `inner`.

    `get_node_ids` returns who is reachable on the simulated clock, which it first moves on until enough are.
    `push_messages` and `pull_messages` take no simulated time.

    Args:
        inner: The Grid that does the work.
        network: The clients' links and devices. Client numbers are places in ``inner.get_node_ids()``: for
            `LocalGrid` the partition ids.
        started_at: Where the clock begins, seconds.
    """

    def __init__(self, inner: Grid, network: Network, *, started_at: float = 0.0) -> None:
        super().__init__(inner)
        self._network = network
        self._clients = {node: number for number, node in enumerate(inner.get_node_ids())}
        self._timing = RoundTiming(started_at)
        self._num_exchanges = 0

    @property
    def timing(self) -> RoundTiming:
        """The clock after the latest exchange, and whom it cost."""
        return self._timing

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids of the reachable clients, once there are enough of them."""
        if self._network.availability is None:
            return list(self._clients)
        now = self._network.wait(self._timing.simulated_seconds)
        self._timing = replace(self._timing, simulated_seconds=now)
        reachable = self._network.availability.reachable(now)
        return [node for node, client in self._clients.items() if reachable[client]]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Yield the replies that reach the server in simulated time, each as it is finished.

        Args:
            messages: One for each client.
            timeout: Real seconds, for `inner`.
        """
        waiting = list(messages)
        if not waiting:  # what a strategy that does not evaluate sends
            return
        sent = {self._number(message.metadata.dst_node_id): message for message in waiting}
        exchange = Exchange(
            self._network, list(sent), began=self._timing.simulated_seconds, occasion=self._occasion(waiting)
        )
        bytes_down = {client: content_bytes(m.content) for client, m in sent.items() if not exchange.lost(client)}
        reached = [message for message in waiting if self._number(message.metadata.dst_node_id) in bytes_down]
        try:
            for client, message in sent.items():
                if fate := exchange.lost(client):
                    yield _error_reply(message, fate)
            for reply in self._inner.send_and_receive(reached, timeout=timeout):
                client = self._number(reply.metadata.src_node_id)
                if client not in bytes_down:
                    yield reply  # nobody asked for it: refusing it is the strategy's part
                    continue
                fate = exchange.answer(
                    client,
                    bytes_down=bytes_down[client],
                    bytes_up=content_bytes(reply.content) if reply.has_content() else 0,
                    work_seconds=self._work_seconds(reply),
                )
                if fate is Fate.ARRIVED:
                    yield reply
                elif fate is Fate.DROPPED_OUT:
                    yield _error_reply(sent[client], fate)
        finally:
            self._timing = exchange.timing()

    def save_state(self, folder: Path) -> Snapshot:
        """Return where the clock stands, and the state of `inner` if it keeps one."""
        clock = {"seconds": self._timing.simulated_seconds, "exchanges": self._num_exchanges}
        parts = {"clock": Snapshot(clock, {})}
        if isinstance(self._inner, StatefulGrid):
            parts["inner"] = self._inner.save_state(folder)
        return Snapshot.join(parts)

    def restore_state(self, folder: Path, snapshot: Snapshot) -> None:
        """Set the clock, and let `inner` go on as it was."""
        clock = snapshot.part("clock").facts
        self._timing, self._num_exchanges = RoundTiming(clock["seconds"]), clock["exchanges"]
        if isinstance(self._inner, StatefulGrid):
            self._inner.restore_state(folder, snapshot.part("inner"))

    def _number(self, node_id: int) -> int:
        """Return a client's number; all nodes that there are not are the same one, whom `inner` answers for."""
        return self._clients.get(node_id, _NOBODY)

    def _occasion(self, messages: list[Message]) -> tuple[int | str, ...]:
        """Name the exchange for draws: by Flower's server round, so that a resumed run draws the same."""
        self._num_exchanges += 1
        for message in messages:
            for record in message.content.config_records.values():
                if _ROUND_KEY in record:
                    return message.metadata.message_type, str(record[_ROUND_KEY])
        return "exchange", self._num_exchanges

    def _work_seconds(self, reply: Message) -> float:
        """Return the reference device's time for what the client did; a reply without a usable count did nothing."""
        is_training = reply.metadata.message_type.startswith(MessageType.TRAIN)
        return self._network.work_seconds(_num_examples(reply), is_training=is_training)


def _num_examples(reply: Message) -> float:
    if not reply.has_content():
        return 0.0
    counts = [record.get(_EXAMPLES_KEY, 0) for record in reply.content.metric_records.values()]
    return sum(float(n) for n in counts if isinstance(n, int | float) and 0 <= n < math.inf)


def _error_reply(message: Message, fate: Fate) -> Message:
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, f"{fate.value} (simulated)"), reply_to=message)
