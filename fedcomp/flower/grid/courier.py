"""Messages to some clients and their replies, by a thread of its own, over the public methods of any Flower Grid.

Sending and looking for replies may take as long as the network likes: Flower's deployed Grid repeats a request for ever
while its SuperLink is away. Who waits for the replies goes on at the deadline all the same.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from contextlib import suppress
from logging import DEBUG, WARNING
from typing import TYPE_CHECKING

import httpx
from flwr.app import Error, Message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.logger import log

from fedcomp.flower.grid.inflating import inflating_carefully

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flwr.serverapp import Grid

_BATCH = 16
"""Messages sent or asked for at once: all replies that a request finds are in memory together."""
_MOST_IN_QUEUE = 2
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_LAST_LOOK_SECONDS = 10.0
"""What the last look, which begins at the deadline, may take until it finds a reply."""
_NOT_TAKEN = "the message was not taken: the client is unknown to the SuperLink, or the message is too large"


class Backlog:
    """What clients owe of exchanges that are over: clients by message id. Whoever holds `lock` may look and change.

    The lock also lets one courier at a time use the Grid: one may be stuck in a request when its time is over.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clients: dict[str, int] = {}
        self.num_late = 0


class Courier:
    """One exchange of messages.

    Args:
        grid: Whose `push_messages` and `pull_messages` are used.
        messages: One for each client, at least one.
        backlog: Of the exchanges before this one.
        seconds: Until the exchange is over; may be infinite.
        max_reply_bytes: See `inflating_carefully`.
    """

    def __init__(
        self, grid: Grid, messages: Iterable[Message], backlog: Backlog, seconds: float, max_reply_bytes: int
    ) -> None:
        self._grid, self._backlog, self._max_reply_bytes = grid, backlog, max_reply_bytes
        self._unsent = deque(messages)
        self._num_missing = self._num_messages = len(self._unsent)
        self._deadline = time.monotonic() + seconds
        self._waiting: dict[str, int] = {}
        # Bounded: where replies are folded more slowly than they come, they wait at the SuperLink.
        self._queue: queue.Queue[Message | Exception | None] = queue.Queue(_MOST_IN_QUEUE)
        self._is_over = threading.Event()

    def replies(self) -> Iterator[Message]:
        """Yield the replies as they come; what the thread fails with is raised here."""
        threading.Thread(target=self._run, name="fedcomp-courier", daemon=True).start()
        try:
            while (reply := self._next()) is not None:
                if isinstance(reply, Exception):
                    raise reply
                self._num_missing -= 1
                yield reply
            if self._num_missing:
                log(WARNING, "the round is closed: %d of %d clients are missing", self._num_missing, self._num_messages)
        finally:
            self._is_over.set()

    def _next(self) -> Message | Exception | None:
        """Wait for the next reply; None if there is none, or the thread is stuck after the deadline."""
        limit = None if self._deadline == math.inf else self._seconds_left() + _LAST_LOOK_SECONDS
        try:
            return self._queue.get(timeout=limit)
        except queue.Empty:
            return None

    def _run(self) -> None:
        with self._backlog.lock, inflating_carefully(self._max_reply_bytes):
            try:
                self._send()
                self._count_late()
                self._collect()
            except Exception as error:  # whatever it is, it belongs to who waits for replies
                self._hand_over(error)
            self._backlog.clients |= self._waiting
        self._hand_over(None)

    def _send(self) -> None:
        while self._unsent and not self._is_over.is_set():
            batch = [self._unsent.popleft() for _ in range(min(_BATCH, len(self._unsent)))]
            for message, message_id in zip(batch, self._push(batch), strict=True):
                if message_id:
                    self._waiting[message_id] = message.metadata.dst_node_id
                else:
                    self._hand_over(Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, _NOT_TAKEN), reply_to=message))

    def _push(self, batch: list[Message]) -> list[str | None]:
        """Return an id for each message, None or nothing for one that was not taken."""
        ids: list[str | None] = []
        pause = _SHORTEST_PAUSE
        while self._seconds_left():
            try:
                ids = list(self._grid.push_messages(batch))
                break
            except Exception as error:
                _raise_unless_away(error)
                pause = self._pause(pause)
        if len(ids) == len(batch):
            return ids
        # Flower's answer to a request that is too large is an empty list.
        return [None] if len(batch) == 1 else [id_ for message in batch for id_ in self._push([message])]

    def _count_late(self) -> None:
        """Ask once for what is owed: late replies are counted, and go from the SuperLink."""
        try:
            for reply in self._pull(self._backlog.clients):
                self._backlog.num_late += reply.has_content()
        except Exception as error:
            _raise_unless_away(error)

    def _collect(self) -> None:
        """Look for replies until all are there; the last look begins at the deadline."""
        pause = _SHORTEST_PAUSE
        while self._waiting and not self._is_over.is_set():
            is_last, before = not self._seconds_left(), len(self._waiting)
            try:
                for reply in self._pull(self._waiting):
                    self._hand_over(reply)
            except Exception as error:
                _raise_unless_away(error)
            if is_last:
                break
            pause = self._pause(pause if len(self._waiting) == before else _SHORTEST_PAUSE)

    def _pull(self, clients: dict[str, int]) -> Iterator[Message]:
        """Yield the replies that are there, and strike them off `clients`."""
        asked = list(clients)
        for first in range(0, len(asked), _BATCH):
            for reply in self._grid.pull_messages(asked[first : first + _BATCH]):
                # The SuperLink compares the metadata around a reply; these are within it, and its sender's own.
                client = clients.get(reply.metadata.reply_to_message_id)
                if client is None:
                    continue  # nobody asked for it
                if reply.metadata.src_node_id not in (client, SUPERLINK_NODE_ID):
                    log(WARNING, "a reply for client %d says that it is of %d", client, reply.metadata.src_node_id)
                    continue
                del clients[reply.metadata.reply_to_message_id]
                yield reply

    def _hand_over(self, reply: Message | Exception | None) -> None:
        """Wait until the reply is taken; once nobody takes any more, it is late."""
        while not self._is_over.is_set():
            with suppress(queue.Full):
                self._queue.put(reply, timeout=_LONGEST_PAUSE)
                return
        self._backlog.num_late += isinstance(reply, Message) and reply.has_content()

    def _pause(self, seconds: float) -> float:
        """Wait, no longer than until the deadline; return how long to wait next time."""
        self._is_over.wait(min(seconds, self._seconds_left()))
        return min(2 * seconds, _LONGEST_PAUSE)

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def _raise_unless_away(error: Exception) -> None:
    """Raise an error again unless it says that the SuperLink is away or busy: then the request is worth repeating."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        is_away = status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS
    else:
        is_away = isinstance(error, httpx.TransportError | ConnectionError | TimeoutError)
    if not is_away:
        raise error
    log(DEBUG, "the SuperLink is away: %r", error)
