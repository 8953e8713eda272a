"""One thread that runs one job at a time, and can be left behind with a job that never ends."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Worker(Generic[T]):
    """A daemon thread with a queue.

    Unlike an executor's threads it does not keep the process alive, and it is the same thread for every job, so
    libraries with thread pools of their own (torch) do not make new ones each time.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], T], Future[T]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="fedcomp-client", daemon=True).start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job."""
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def stop(self) -> None:
        """Let the thread end after the jobs that it has; does not wait."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                future.set_result(job())
            except BaseException as error:  # the caller decides what to do about it, SystemExit included
                future.set_exception(error)
