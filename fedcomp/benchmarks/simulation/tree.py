"""Memory and processor time of a process and of all that it has started."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

_PROC = Path("/proc")


class PeakMemory:
    """Samples the memory of a process tree while it is entered (Linux).

    It is the sum of the proportional set sizes (PSS): resident pages, those that n processes share counted as 1/n in
    each. So what a fork shares, or a mapped library, counts once.

    Args:
        process_id: Of the tree's root.
        interval: Seconds between two samples.
    """

    def __init__(self, process_id: int, interval: float = 0.02) -> None:
        self._process_id, self._interval = process_id, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.num_bytes: int | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            if found := sum(_proportional_bytes(process_id) for process_id in process_tree(self._process_id)):
                self.num_bytes = max(self.num_bytes or 0, found)
            if self._stop.wait(self._interval):
                return


def processor_seconds(process_id: int) -> float:
    """Return what all threads of a process tree have used of processors so far; 0 if the system does not tell."""
    nanoseconds = 0
    for process in process_tree(process_id):
        with contextlib.suppress(OSError):
            for thread in (_PROC / str(process) / "task").iterdir():
                with contextlib.suppress(OSError):
                    nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def process_tree(process_id: int) -> Iterator[int]:
    """Yield a process and its descendants; those that end meanwhile may be missing."""
    yield process_id
    with contextlib.suppress(OSError):
        for thread in (_PROC / str(process_id) / "task").iterdir():
            with contextlib.suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield from process_tree(int(child))


def _proportional_bytes(process_id: int) -> int:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(process_id) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
