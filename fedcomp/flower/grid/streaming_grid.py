"""A Grid whose replies stream: each is handed on as it comes, and a round ends at its deadline with what came.

Flower's deployed Grid looks for replies every three seconds, and hands them on when all are there.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

from fedcomp.errors import UsageError
from fedcomp.flower.grid.courier import Backlog, Courier
from fedcomp.flower.grid.wrapping_grid import WrappingGrid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flwr.app import Message
    from flwr.proto.node_pb2 import NodeInfo
    from flwr.serverapp import Grid

_GRACE_SECONDS = 300.0
"""How long a message outlives its deadline: late replies are counted, and a client's clock may be wrong by that."""


class StreamingGrid(WrappingGrid):
    """Let the replies of another Grid stream.

    `send_and_receive` is a generator. It yields each reply as it is pulled, error replies too, and ends when all
    clients have answered, or at the deadline. Whoever has not answered by then is missing. A reply that comes after all
    is never taken for one of a later round: the next exchange asks once for what is still owed, which frees it at the
    SuperLink, and counts it in `num_late`.

    With a deadline messages expire five minutes after it, so that a client which was away does not work through
    yesterday's rounds first. A client whose clock is ahead by more than that can not reply; without a deadline
    Flower's twelve hours hold.

    A client that can not be asked (unknown to the SuperLink, or its message is too large) has an error reply. While
    the SuperLink is away, requests are repeated until the deadline.

    Args:
        inner: The Grid that does the work, such as the one that Flower gives a deployed ServerApp.
        deadline: Seconds until a round is closed; None for no limit but the timeout of `send_and_receive`.
        max_reply_bytes: Most bytes of one reply's arrays; a larger one counts as none.

    Raises:
        UsageError: The deadline is not positive.
    """

    def __init__(self, inner: Grid, *, deadline: float | None = None, max_reply_bytes: int = 1 << 32) -> None:
        if deadline is not None and not deadline > 0:
            raise UsageError(f"deadline is {deadline}, expected a positive number of seconds")
        super().__init__(inner)
        self._deadline, self._max_reply_bytes = deadline, max_reply_bytes
        self._backlog = Backlog()

    @property
    def num_late(self) -> int:
        """Replies that came after their exchange was over, so far."""
        return self._backlog.num_late

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Leave it to `inner`."""
        return self._inner.get_nodes()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Yield the replies in the order in which they come, until the deadline or the timeout, whichever is first.

        Args:
            messages: Any number; they are sent when the first reply is asked for.
            timeout: Seconds, None for no limit.
        """
        waiting = list(messages)
        if not waiting:  # what a strategy that does not evaluate sends
            return
        if self._deadline is not None:
            for message in waiting:
                message.metadata.ttl = min(message.metadata.ttl, self._deadline + _GRACE_SECONDS)
        seconds = min((limit for limit in (self._deadline, timeout) if limit is not None), default=math.inf)
        courier = Courier(self._inner, waiting, self._backlog, seconds, self._max_reply_bytes)
        del waiting  # the courier lets each message go when it is sent
        yield from courier.replies()


def streaming(grid: Grid, *, deadline: float | None = None, max_reply_bytes: int = 1 << 32) -> Grid:
    """Return a Grid that streams: the same one if its `send_and_receive` is a generator, else a `StreamingGrid`.

    Args:
        grid: Any.
        deadline: See `StreamingGrid`; a Grid that streams keeps to its timeout.
        max_reply_bytes: See `StreamingGrid`; one that streams is trusted.
    """
    if inspect.isgeneratorfunction(type(grid).send_and_receive):
        return grid
    return StreamingGrid(grid, deadline=deadline, max_reply_bytes=max_reply_bytes)
