"""A Flower Grid whose clients are on this machine."""

from __future__ import annotations

import logging
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedcomp.errors import UsageError
from fedcomp.flower import Snapshot
from fedcomp.forking import can_fork, usable_cores
from fedcomp.simulation.identity import set_message_id
from fedcomp.simulation.in_process import InProcess
from fedcomp.simulation.pool import WorkerPool
from fedcomp.simulation.population import Population
from fedcomp.simulation.state_store import StateStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from flwr.app import Message
    from flwr.clientapp import ClientApp

    from fedcomp.simulation.engine import Answer, Engine

_log = logging.getLogger(__name__)

_STATES = "clients"


class LocalGrid(Grid):
    """Many clients in a few worker processes, or in this one.

    Every client keeps its own `Context` over the rounds, with ``partition-id`` and ``num-partitions`` in its node
    config; one that has not been asked yet costs nothing. Neither side sees what the other does to its messages, and
    every call of a client finds the global generators of Python, NumPy and torch (if the app imports it at the top of
    a module) seeded for it. Replies come as a generator in the order of the messages, and at most eight a worker wait
    in it, so a strategy that folds them in holds one at a time. Hence the same seed gives the same results, whatever
    the number of workers.

    The workers are forked when the grid is made, so the ClientApp need not be importable or picklable: make the grid
    before the program starts threads or uses a GPU. They have one thread for numeric libraries each; an app may set
    another number. What an app keeps outside of its `Context`, a worker keeps for all clients that it runs.

    A client that raises becomes an error reply. So does one that takes longer than `client_timeout`, and one that
    ends its process; its state is then that of before the message, and the process is replaced.

    Where processes can not be forked safely (macOS, Windows), clients run in this process. There a client that takes
    too long is left behind, and until it comes back, further messages to it are answered with an error at once.

    Args:
        client_app: Any ClientApp.
        num_nodes: Number of clients.
        num_workers: Processes; None is one for each usable core, 0 calls the clients in this process.
        run_config: What clients find in ``context.run_config``.
        client_timeout: Seconds for one message, None for no limit.
        run_id: Any positive integer.
        seed: Node ids are derived from it, and what the global generators give a client.
        warm_up: Called once before workers are forked, so that all share what it loads (an ``lru_cache`` holds it).
            What it raises is left for the clients to find.

    Raises:
        UsageError: Workers were asked for where they can not be had.
    """

    def __init__(
        self,
        client_app: ClientApp,
        *,
        num_nodes: int,
        num_workers: int | None = None,
        run_config: Mapping[str, bool | int | float | str] | None = None,
        client_timeout: float | None = None,
        run_id: int = 1,
        seed: int = 0,
        warm_up: Callable[[], object] | None = None,
    ) -> None:
        self._population = Population(num_nodes, run_id, dict(run_config or {}), seed)
        self._engine: Engine
        if num_workers := _count_workers(num_workers, num_nodes):
            self._engine = WorkerPool(
                client_app,
                self._population,
                num_workers=num_workers,
                client_timeout=client_timeout,
                warm_up=warm_up,
            )
        else:
            self._engine = InProcess(client_app, self._population, client_timeout=client_timeout)
        self.num_workers = num_workers
        self._close = weakref.finalize(self, self._engine.close)
        self._finished: dict[str, Answer] = {}
        self._pushed: set[str] = set()
        self._num_messages = 0
        self._states: StateStore | None = None
        self._run = Run.create_empty(run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def set_run(self, run: Run) -> None:
        """Replace the run's description, for ServerApps that ask for it."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description: its id, unless `set_run` said more."""
        return self._run

    def get_node_ids(self) -> Iterable[int]:
        """Return all clients' node ids."""
        return self._population.node_ids()

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Refuse: deprecated by Flower."""
        raise NotImplementedError("make a flwr.app.Message instead")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages for the clients; without workers they are worked on when their replies are pulled."""
        ids = []
        for message in messages:
            ids.append(self._name(message))
            self._pushed.add(ids[-1])
            self._engine.submit(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to pushed messages that are finished; if none is, wait for one.

        Unknown and already answered ids are passed over. Which replies are finished first depends on the workers'
        speed: a run that shall repeat itself bit for bit uses `send_and_receive`.
        """
        asked = [id_ for id_ in message_ids if id_ in self._pushed]
        while asked and not any(id_ in self._finished for id_ in asked):
            self._collect(None)
        finished = [id_ for id_ in asked if id_ in self._finished]
        self._pushed.difference_update(finished)
        return [self._finished.pop(id_).reply for id_ in finished]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Yield the replies in the order of the messages; clients are called from the first one asked for on.

        Clients whose replies have not been yielded when the generator is closed keep the state that they had.

        Args:
            messages: Any number.
            timeout: Seconds. Clients that are at work when they are over become error replies; those that were not
                reached have none.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        unsent = deque(messages)
        unanswered = deque([self._name(message) for message in unsent])
        num_sent = len(unsent)
        try:
            while unanswered:
                while unsent and len(unanswered) - len(unsent) < self._engine.window:
                    self._engine.submit(unsent.popleft())
                if unanswered[0] in self._finished:
                    yield self._take(unanswered.popleft())
                elif deadline is None:
                    self._collect(None)
                elif (remaining := deadline - time.monotonic()) > 0:
                    self._collect(remaining)
                else:
                    break
            self._store_answers(self._engine.expire(unanswered, timeout or 0.0))
            for message_id in [id_ for id_ in unanswered if id_ in self._finished]:
                unanswered.remove(message_id)
                yield self._take(message_id)
            if unanswered:
                _log.warning("the round's time is over: %d of %d clients were not reached", len(unanswered), num_sent)
        finally:
            self._abandon(unanswered)

    def save_state(self, folder: Path) -> Snapshot:
        """Write the states of the clients that have changed since the last call; see `StateStore`.

        For a checkpoint between two rounds: no message may be on its way.
        """
        self._states = self._states or StateStore(folder / _STATES)
        saved = self._states.save(self._engine.take_changed())
        return Snapshot.join({"messages": Snapshot({"number": self._num_messages}, {}), "clients": saved})

    def restore_state(self, folder: Path, snapshot: Snapshot) -> None:
        """Go on as the grid that saved this would, with any number of workers; before the first message.

        Raises:
            CheckpointError: A client's state is missing or damaged.
        """
        self._states = StateStore(folder / _STATES)
        # What a client draws is seeded by its message's id.
        self._num_messages = snapshot.part("messages").facts["number"]
        for partition, parts in self._states.restore(snapshot.part("clients")):
            self._engine.restore(partition, parts)

    def close(self) -> None:
        """End the workers and let everything go; may be called more than once."""
        self._close()

    def _name(self, message: Message) -> str:
        self._num_messages += 1
        message_id = str(self._num_messages)
        set_message_id(message, message_id)
        return message_id

    def _collect(self, limit: float | None) -> None:
        self._store_answers(self._engine.collect(limit))

    def _store_answers(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self._finished[answer.message_id] = answer
            if answer.message_id in self._pushed:
                self._engine.keep(answer)

    def _take(self, message_id: str) -> Message:
        answer = self._finished.pop(message_id)
        self._engine.keep(answer)
        return answer.reply

    def _abandon(self, message_ids: Collection[str]) -> None:
        """Undo what clients have done ahead of the replies that were asked for."""
        self._engine.forget(message_ids)
        for message_id in [id_ for id_ in reversed(self._finished) if id_ in message_ids]:
            self._engine.undo(self._finished.pop(message_id))


def _count_workers(asked: int | None, num_nodes: int) -> int:
    if asked is None:
        asked = usable_cores() if can_fork() else 0
    if asked < 0:
        raise UsageError(f"num_workers is {asked}, expected 0 or more")
    if asked and not can_fork():
        raise UsageError(f"num_workers is {asked}, but worker processes need Linux: leave it out, or set it to 0")
    return min(asked, num_nodes)
