"""Clients in worker processes: who gets which message, and what becomes of a worker that ends or hangs."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import RecordDict
from flwr.common.constant import ErrorCode

from fedcomp.flower.messages.encoding import decode_message, encode_message, with_content
from fedcomp.forking import describe_end, import_what_torch_puts_off, use_one_thread
from fedcomp.simulation.broadcast import BroadcastSender, only_arrays
from fedcomp.simulation.call import error_reply
from fedcomp.simulation.engine import Answer
from fedcomp.simulation.packets import Outbox, receive_packet, send_packet, wait_readable
from fedcomp.simulation.states import StateFiles, StateLedger
from fedcomp.simulation.worker import MAX_TASKS, ClientRunner
from fedcomp.simulation.zygote import Zygote

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Iterator, Sequence

    from flwr.app import Message
    from flwr.clientapp import ClientApp

    from fedcomp.simulation.packets import Packet
    from fedcomp.simulation.population import Population

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """A message on its way to a client.

    Args:
        message: The message.
        partition: The client's.
        free: Number of the file that its new state is written to.
    """

    message: Message
    partition: int
    free: int

    @property
    def message_id(self) -> str:
        """The message's id."""
        return self.message.metadata.message_id


@dataclass(slots=True)
class WorkerHandle:
    """A worker, as the parent sees it.

    Args:
        number: From 0.
        channel: To the process.
        outbox: For what is too long for the channel.
        tasks: What it was given and has not answered, oldest first: that one is at work.
        since: Since when, in seconds of the monotonic clock; None while the process is still getting ready.
    """

    number: int
    channel: socket.socket
    outbox: Outbox = field(default_factory=partial(Outbox, MAX_TASKS))
    tasks: deque[Task] = field(default_factory=deque)
    since: float | None = None


class WorkerPool:
    """An engine of worker processes.

    Messages are handed out in their order, each to the worker that is free first; clients belong to no worker,
    because their states lie in files that all workers read and write (see `states`). While workers have something to
    do, each has one more task waiting, so that it goes on while the caller is busy.

    Args:
        client_app: Any ClientApp.
        population: Whom messages may be sent to.
        num_workers: 1 or more.
        client_timeout: Seconds for one message, None for no limit.
        warm_up: Called once, before the workers are forked, so that what it loads is shared by all.
    """

    def __init__(
        self,
        client_app: ClientApp,
        population: Population,
        *,
        num_workers: int,
        client_timeout: float | None,
        warm_up: Callable[[], object] | None,
    ) -> None:
        self.window = 8 * num_workers
        self._population, self._client_timeout = population, client_timeout
        self._folder = Path(tempfile.mkdtemp(prefix="fedcomp-states-"))
        self._remove_folder = partial(shutil.rmtree, self._folder, ignore_errors=True)
        self._zygote = Zygote(
            prepare=partial(_prepare, warm_up),
            serve=ClientRunner(client_app, population, self._folder).serve,
            clean_up=self._remove_folder,
        )
        self._workers = [WorkerHandle(i, self._zygote.start_worker(i)) for i in range(num_workers)]
        self._waiting: deque[tuple[int, Message]] = deque()
        self._finished: list[Answer] = []
        self._forgotten: set[str] = set()
        self._states, self._files = StateLedger(), StateFiles(self._folder)
        self._broadcasts = BroadcastSender()

    def submit(self, message: Message) -> None:
        """Queue a message, and give it to a worker if one is free."""
        partition = self._population.partition(message.metadata.dst_node_id)
        if partition is None:
            reason = f"no node has the id {message.metadata.dst_node_id}"
            reply = error_reply(message, ErrorCode.NODE_UNAVAILABLE, reason)
            self._finished.append(Answer(message.metadata.message_id, reply))
        else:
            self._waiting.append((partition, message))
            self._hand_out()

    def collect(self, limit: float | None) -> list[Answer]:
        """Return what is finished; if nothing is, wait up to `limit` seconds (None: for ever) for something."""
        deadline = None if limit is None else time.monotonic() + limit
        self._hand_out()
        while not self._finished and any(worker.tasks for worker in self._workers):
            self._receive(deadline)
            self._stop_slow_clients()
            self._hand_out()
            if deadline is not None and time.monotonic() >= deadline:
                break
        answers, self._finished = self._finished, []
        return answers

    def forget(self, message_ids: Collection[str]) -> None:
        """Give no answer to messages; a client that is at work on one keeps the state that it had before."""
        ids = set(message_ids)
        self._waiting = deque((p, m) for p, m in self._waiting if m.metadata.message_id not in ids)
        self._forgotten |= ids & {task.message_id for worker in self._workers for task in worker.tasks}
        for answer in reversed(self._take_finished(ids)):
            self.undo(answer)

    def expire(self, message_ids: Collection[str], seconds: float) -> list[Answer]:
        """Stop the clients that are at work on one of these messages, after `seconds`, and forget the others."""
        ids = set(message_ids)
        for worker in self._workers:
            if worker.tasks and worker.tasks[0].message_id in ids and not _has_said(worker):
                self._stop(worker, seconds)
        expired = self._take_finished(ids)
        self.forget(ids)
        return expired

    def keep(self, answer: Answer) -> None:
        """Take an answer for good: the client's state of before is let go."""
        if answer.change:
            self._states.keep(answer.change)

    def undo(self, answer: Answer) -> None:
        """Give the client the state that it had before an answer; the latest answer first."""
        if answer.change:
            self._states.undo(answer.change)

    def take_changed(self) -> Iterator[tuple[int, list[bytes]]]:
        """Return the partitions whose clients' states have changed since the last call, and the states' parts."""
        for partition in self._states.take_changed():
            yield partition, self._files.read_parts(self._states.current(partition))

    def restore(self, partition: int, parts: list[bytes]) -> None:
        """Give a client the state that it had in an earlier process; before its first message."""
        self._files.write(self._states.restore(partition), parts)

    def close(self) -> None:
        """End all processes and let all memory and files go; may be called more than once."""
        self._zygote.close()
        for worker in self._workers:
            worker.channel.close()
            worker.outbox.close()
        self._broadcasts.close()
        self._remove_folder()  # the zygote has done it, unless somebody killed it

    def _take_finished(self, message_ids: set[str]) -> list[Answer]:
        taken = [answer for answer in self._finished if answer.message_id in message_ids]
        self._finished = [answer for answer in self._finished if answer.message_id not in message_ids]
        return taken

    def _hand_out(self) -> None:
        """Give messages to workers; the last ones wait for whoever is free first."""
        while self._waiting:
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            room = MAX_TASKS if len(self._waiting) > len(self._workers) else 1
            if len(worker.tasks) >= room:
                return
            at_work = {task.partition for worker in self._workers for task in worker.tasks}
            chosen = next((item for item in self._waiting if item[0] not in at_work), None)
            if chosen is None:
                return
            if not self._give(worker, *chosen):
                return
            self._waiting.remove(chosen)

    def _give(self, worker: WorkerHandle, partition: int, message: Message) -> bool:
        """Send a worker a message; False if the worker has ended over another one, which `_receive` will find."""
        task = Task(message, partition, self._states.take_free())
        facts: dict[str, object] = {
            "partition": partition,
            "state": self._states.current(partition),
            "free": task.free,
        }
        file = None
        if message.has_content() and (arrays := only_arrays(message.content)):
            number, file, _ = self._broadcasts.share(arrays)
            facts |= {"broadcast": number, "order": list(message.content)}
            small = {key: record for key, record in message.content.items() if key not in arrays}
            message = with_content(message, RecordDict(small))
        send = partial(send_packet, facts=facts, parts=encode_message(message), file=file)
        try:
            send(worker.channel, outbox=worker.outbox)
        except (BrokenPipeError, ConnectionResetError):
            if worker.tasks:
                self._states.release(task.free)
                return False
            self._replace(worker, kill=False)  # it ended while it had nothing to do
            send(worker.channel, outbox=worker.outbox)
        if not worker.tasks and worker.since is not None:
            worker.since = time.monotonic()
        worker.tasks.append(task)
        return True

    def _receive(self, deadline: float | None) -> None:
        """Wait until a worker has said something, a client's time is over or the deadline has come."""
        moments = [moment for worker in self._workers if (moment := self._timeout(worker)) is not None]
        until = min([*moments, *([] if deadline is None else [deadline])], default=None)
        seconds = None if until is None else max(0.0, until - time.monotonic())
        for worker in _who_has_said([worker for worker in self._workers if worker.tasks], seconds):
            packet = receive_packet(worker.channel)
            if packet is None:
                status = self._replace(worker, kill=False)
                self._fail(worker, ErrorCode.CLIENT_APP_CRASHED, describe_end(status))
            elif "ready" in packet.facts:
                worker.since = time.monotonic()
            else:
                self._finish(worker, packet)

    def _finish(self, worker: WorkerHandle, packet: Packet) -> None:
        """Take a reply, and the client's new state with it."""
        task = worker.tasks.popleft()
        worker.since = time.monotonic()
        wanted = task.message_id not in self._forgotten
        self._forgotten.discard(task.message_id)
        is_kept = wanted and packet.facts["changed"] and not packet.facts["empty"]
        if not is_kept:
            self._states.release(task.free)
        if wanted:
            after = task.free if is_kept else None
            change = self._states.change(task.partition, after) if packet.facts["changed"] else None
            self._finished.append(Answer(task.message_id, decode_message(packet.parts), change))

    def _stop_slow_clients(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            moment = self._timeout(worker)
            if moment is not None and now >= moment and not _has_said(worker):
                self._stop(worker, self._client_timeout or 0.0)

    def _timeout(self, worker: WorkerHandle) -> float | None:
        """Return when a worker's client will have taken too long, None if it has none or all the time it likes."""
        if self._client_timeout is None or worker.since is None or not worker.tasks:
            return None
        return worker.since + self._client_timeout

    def _stop(self, worker: WorkerHandle, seconds: float) -> None:
        """Kill a worker whose client takes too long."""
        self._replace(worker, kill=True)
        self._fail(worker, ErrorCode.NODE_UNAVAILABLE, f"no answer within {seconds:.3g} s")

    def _replace(self, worker: WorkerHandle, *, kill: bool) -> int | None:
        status = self._zygote.end_worker(worker.number, kill=kill)
        worker.channel.close()
        worker.channel, worker.since = self._zygote.start_worker(worker.number), None
        return status

    def _fail(self, worker: WorkerHandle, code: int, reason: str) -> None:
        """Answer what an ended worker was at with an error, and queue again what it had not begun."""
        failed, *not_begun = worker.tasks
        worker.tasks.clear()
        for task in (failed, *not_begun):
            self._states.release(task.free)
        again = [task for task in not_begun if task.message_id not in self._forgotten]
        self._waiting.extendleft((task.partition, task.message) for task in reversed(again))
        if failed.message_id not in self._forgotten:
            self._finished.append(Answer(failed.message_id, error_reply(failed.message, code, reason)))
        self._forgotten -= {task.message_id for task in (failed, *not_begun)}


def _prepare(warm_up: Callable[[], object] | None) -> None:
    """Make ready what all workers share."""
    use_one_thread()
    import_what_torch_puts_off()
    if warm_up:
        try:
            warm_up()
        except Exception:  # the clients will meet it again, and answer with it
            _log.debug("the warm-up failed", exc_info=True)


def _who_has_said(workers: Sequence[WorkerHandle], seconds: float | None) -> list[WorkerHandle]:
    """Return the workers from which there is something to read, after waiting for one."""
    readable = wait_readable([worker.channel.fileno() for worker in workers], seconds)
    return [worker for worker in workers if worker.channel.fileno() in readable]


def _has_said(worker: WorkerHandle) -> bool:
    return bool(_who_has_said([worker], 0))
