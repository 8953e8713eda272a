"""Clients in this process, one after the other: for debugging, and where processes can not be forked."""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode

from fedcomp.flower.messages.encoding import copy_arrays, decode_records, encode_records
from fedcomp.simulation.call import call_client, error_reply, no_answer_within, raised
from fedcomp.simulation.engine import Answer
from fedcomp.simulation.global_random import seeded_global_random

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from flwr.clientapp import ClientApp

    from fedcomp.simulation.population import Population

T = TypeVar("T")


class InProcess:
    """An engine without processes: a client runs when its answer is asked for, in one thread beside the caller's.

    A client gets its own copy of what the server sends (array bytes are shared: they are immutable), and the server
    its own copy of what a client answers. A client that takes too long is left behind: until it comes back, further
    messages to it are answered with an error at once.

    Args:
        client_app: Any ClientApp.
        population: Whom messages may be sent to.
        client_timeout: Seconds for one message, None for no limit.
    """

    window = 1

    def __init__(self, client_app: ClientApp, population: Population, *, client_timeout: float | None) -> None:
        self._client_app, self._population, self._client_timeout = client_app, population, client_timeout
        self._messages: deque[Message] = deque()
        self._contexts: dict[int, Context] = {}
        self._called: set[int] = set()
        self._thread: JobThread[Message] = JobThread()
        self._stuck: dict[int, Future[Message]] = {}

    def submit(self, message: Message) -> None:
        """Queue a message."""
        self._messages.append(message)

    def collect(self, limit: float | None) -> list[Answer]:
        """Run the client that is next; after `limit` seconds its answer is an error."""
        if not self._messages:
            return []
        message = self._messages.popleft()
        return [Answer(message.metadata.message_id, self._answer(message, limit))]

    def forget(self, message_ids: Collection[str]) -> None:
        """Drop queued messages; between two calls of `collect` no client is at work."""
        self._messages = deque(m for m in self._messages if m.metadata.message_id not in message_ids)

    def expire(self, message_ids: Collection[str], seconds: float) -> list[Answer]:
        """Drop queued messages."""
        self.forget(message_ids)
        return []

    def keep(self, answer: Answer) -> None:
        """Do nothing: no client runs ahead."""

    def undo(self, answer: Answer) -> None:
        """Do nothing: no client runs ahead."""

    def take_changed(self) -> Iterator[tuple[int, list[bytes]]]:
        """Return the partitions whose clients were called since the last call, and their states' parts."""
        called, self._called = sorted(self._called), set()
        for partition in called:
            yield partition, encode_records(self._contexts[partition].state)

    def restore(self, partition: int, parts: list[bytes]) -> None:
        """Give a client the state that it had in an earlier process; before its first message."""
        self._contexts[partition] = self._population.context(partition, decode_records(parts))

    def close(self) -> None:
        """End the thread."""
        self._thread.stop()
        self._thread.wait_for_end()

    def _answer(self, message: Message, remaining: float | None) -> Message:
        node_id = message.metadata.dst_node_id
        partition = self._population.partition(node_id)
        if partition is None:
            return error_reply(message, ErrorCode.NODE_UNAVAILABLE, f"no node has the id {node_id}")
        if node_id in self._stuck and not self._stuck[node_id].done():
            return error_reply(message, ErrorCode.NODE_UNAVAILABLE, "still busy with an earlier message")
        if partition not in self._contexts:
            self._contexts[partition] = self._population.context(partition, RecordDict())
        context = self._contexts[partition]
        self._called.add(partition)
        limit = min((limit for limit in (self._client_timeout, remaining) if limit is not None), default=None)
        # A client that seeds or draws from the global generators must not decide whom the server samples next.
        with seeded_global_random(self._population.seed, "client", node_id, message.metadata.message_id):
            future = self._thread.submit(lambda: self._call(message, context))
            wait([future], limit)
        if future.done():  # not `future.result(limit)`: a reply may come between its TimeoutError and this line
            return future.result()
        self._stuck[node_id] = future
        self._thread.stop()
        self._thread = JobThread()
        return no_answer_within(message, limit or 0)

    def _call(self, message: Message, context: Context) -> Message:
        try:
            return _own_copy(call_client(self._client_app, _own_copy(message), context))
        except Exception as error:
            return raised(error, message)


class JobThread(Generic[T]):
    """A daemon thread that runs one job at a time, and can be left behind with a job that never ends.

    Unlike an executor's threads it does not keep the process alive, and it is the same thread for every job, so
    libraries with thread pools of their own (torch) do not make new ones each time.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], T], Future[T]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fedcomp-client", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job."""
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def stop(self) -> None:
        """Let the thread end after the jobs that it has; does not wait."""
        self._jobs.put(None)

    def wait_for_end(self) -> None:
        """Wait for a stopped thread, to its very end.

        Python calls it ended a little earlier. In the last moment MKL frees what it kept for the thread, under a lock
        that a process forked in this moment would find taken for ever.
        """
        self._thread.join()
        while Path(f"/proc/self/task/{self._thread.native_id}").exists():
            time.sleep(1e-4)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                future.set_result(job())
            except BaseException as error:  # the caller decides what to do about it, SystemExit included
                future.set_exception(error)


def _own_copy(message: Message) -> Message:
    """Copy a message's records, so that neither side can change what the other holds; array bytes are shared."""
    if not message.has_content():
        return message
    copied = copy.copy(message)
    copied.content = RecordDict({key: _copy_record(record) for key, record in message.content.items()})
    return copied


def _copy_record(record: ArrayRecord | ConfigRecord | MetricRecord) -> ArrayRecord | ConfigRecord | MetricRecord:
    if isinstance(record, ArrayRecord):
        return copy_arrays(record)
    return copy.deepcopy(record)  # scalars and short lists
