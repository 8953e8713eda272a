"""A Flower Grid that calls the ClientApp directly."""

from __future__ import annotations

import copy
import itertools
import logging
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedcomp.seeding import derive_seed
from fedcomp.simulation.global_random import seeded_global_random
from fedcomp.simulation.identity import set_message_id
from fedcomp.simulation.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from flwr.clientapp import ClientApp

_log = logging.getLogger(__name__)


class LocalGrid(Grid):
    """Many clients in this process, one after the other.

    Every client keeps its own `Context` over the rounds, with ``partition-id`` and ``num-partitions`` in its node
    config. A client gets its own copy of what the server sends (array bytes are shared: they are immutable), and the
    server its own copy of what a client answers; neither sees what the other does to Python's and NumPy's global
    generators. Replies come as a generator: each as it is finished, so a strategy that folds them in holds one at a
    time.

    A client that raises becomes an error reply. So does one that takes longer than `client_timeout`; it is left
    behind, and until it comes back, further messages to it are answered with an error at once.

    Args:
        client_app: Any ClientApp.
        num_nodes: Number of clients.
        run_config: What clients find in ``context.run_config``.
        client_timeout: Seconds for one message, None for no limit.
        run_id: Any positive integer.
        seed: Node ids are derived from it, and what the global generators give a client.
    """

    def __init__(
        self,
        client_app: ClientApp,
        *,
        num_nodes: int,
        run_config: Mapping[str, bool | int | float | str] | None = None,
        client_timeout: float | None = None,
        run_id: int = 1,
        seed: int = 0,
    ) -> None:
        self._client_app, self._client_timeout, self._seed = client_app, client_timeout, seed
        self._contexts = {
            node_id: Context(
                run_id=run_id,
                node_id=node_id,
                node_config={"partition-id": partition, "num-partitions": num_nodes},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for partition, node_id in enumerate(derive_seed(seed, "node", i) for i in range(num_nodes))
        }
        self._worker: Worker[Message] = Worker()
        self._stuck: dict[int, Future[Message]] = {}
        self._pushed: dict[str, Message] = {}
        self._message_ids = map(str, itertools.count(1))
        self._run = Run.create_empty(run_id)

    def set_run(self, run: Run) -> None:
        """Replace the run's description, for ServerApps that ask for it."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description: its id, unless `set_run` said more."""
        return self._run

    def get_node_ids(self) -> Iterable[int]:
        """Return all clients' node ids."""
        return list(self._contexts)

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Refuse: deprecated by Flower."""
        raise NotImplementedError("make a flwr.app.Message instead")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages for the clients; they are worked on when their replies are pulled."""
        ids = []
        for message in messages:
            ids.append(self._name(message))
            self._pushed[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to pushed messages; unknown and already answered ids are passed over."""
        return [self._answer(self._pushed.pop(id_)) for id_ in message_ids if id_ in self._pushed]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Yield each reply as it is finished; a client is called when its reply is asked for.

        Args:
            messages: One for each client.
            timeout: Seconds. The client that is at work when they are over becomes an error reply; those that were
                not reached have none.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        waiting = list(messages)
        for num_reached, message in enumerate(waiting):
            self._name(message)
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                unreached = len(waiting) - num_reached
                _log.warning("the round's time is over: %d of %d clients were not reached", unreached, len(waiting))
                return
            yield self._answer(message, remaining)

    def close(self) -> None:
        """Let the worker thread end."""
        self._worker.stop()

    def _name(self, message: Message) -> str:
        message_id = next(self._message_ids)
        set_message_id(message, message_id)
        return message_id

    def _answer(self, message: Message, remaining: float | None = None) -> Message:
        node_id = message.metadata.dst_node_id
        context = self._contexts.get(node_id)
        if context is None:
            return _error_reply(message, ErrorCode.NODE_UNAVAILABLE, f"no node has the id {node_id}")
        if node_id in self._stuck and not self._stuck[node_id].done():
            return _error_reply(message, ErrorCode.NODE_UNAVAILABLE, "still busy with an earlier message")
        limit = min((limit for limit in (self._client_timeout, remaining) if limit is not None), default=None)
        # A client that seeds or draws from the global generators must not decide whom the server samples next.
        with seeded_global_random(self._seed, "client", node_id, message.metadata.message_id):
            future = self._worker.submit(lambda: self._call(message, context))
            wait([future], limit)
        if future.done():  # not `future.result(limit)`: a reply may come between its TimeoutError and this line
            return future.result()
        self._stuck[node_id] = future
        self._worker.stop()
        self._worker = Worker()
        return _error_reply(message, ErrorCode.NODE_UNAVAILABLE, f"no answer within {limit:.3g} s")

    def _call(self, message: Message, context: Context) -> Message:
        try:
            reply = self._client_app(_own_copy(message), context)
            if not isinstance(reply, Message):
                raise TypeError(f"answered with {type(reply).__name__}, not a Message")
            return _own_copy(reply)
        except BaseException as error:  # a client's SystemExit is the client's failure, not the simulation's
            _log.debug("client %d raised", context.node_id, exc_info=True)
            return _error_reply(message, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(error).__name__}: {error}")


def _error_reply(message: Message, code: int, reason: str) -> Message:
    return Message(Error(code, reason), reply_to=message)


def _own_copy(message: Message) -> Message:
    """Copy a message's records, so that neither side can change what the other holds; array bytes are shared."""
    if not message.has_content():
        return message
    copied = copy.copy(message)
    copied.content = RecordDict({key: _copy_record(record) for key, record in message.content.items()})
    return copied


def _copy_record(record: ArrayRecord | ConfigRecord | MetricRecord) -> ArrayRecord | ConfigRecord | MetricRecord:
    if isinstance(record, ArrayRecord):
        return ArrayRecord({key: Array(a.dtype, a.shape, a.stype, a.data) for key, a in record.items()})
    return copy.deepcopy(record)  # scalars and short lists
