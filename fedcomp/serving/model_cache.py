"""Loaded models within a budget of memory: the least recently used goes first, and none that is in use.

Everything here runs in one event loop, so nothing needs a lock; loading itself happens in a thread.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from fedcomp.errors import OverLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Model = TypeVar("_Model")
_Made = TypeVar("_Made", covariant=True)


class Loadable(Protocol[_Made]):
    """What can become a model in memory."""

    @property
    def num_bytes(self) -> int:
        """How much memory that takes."""
        ...

    def load(self) -> _Made:
        """Return the model; called in a thread."""
        ...


class CacheFigures(NamedTuple):
    """What a cache holds and did: bytes and models now; loads and unloads since it began."""

    num_bytes: int
    models: int
    loads: int
    unloads: int


@dataclass(slots=True, eq=False)
class Lease(Generic[_Model]):
    """A model that stays loaded until it is released."""

    model: _Model
    _give_back: Callable[[], None]
    _is_released: bool = False

    def release(self) -> None:
        """Give the model back; a second time does nothing."""
        if not self._is_released:
            self._is_released = True
            self._give_back()


@dataclass(slots=True, eq=False)
class _Entry(Generic[_Model]):
    task: asyncio.Task[_Model]
    users: int = 0
    num_bytes: int = 0

    @property
    def is_idle(self) -> bool:
        return not self.users and self.task.done()


class ModelCache(Generic[_Model]):
    """Models by key, loaded when they are first asked for; whoever asks for one that is being loaded waits for it.

    Args:
        budget: Bytes of all loaded models.
        fetch: Returns what can be loaded, by key. Its errors reach all who wait for that key, and the next who asks
            tries again.
    """

    def __init__(self, budget: int, fetch: Callable[[str], Awaitable[Loadable[_Model]]]) -> None:
        self._budget, self._fetch = budget, fetch
        self._entries: OrderedDict[str, _Entry[_Model]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()
        self._released = asyncio.Event()
        self._num_bytes, self._loads, self._unloads = 0, 0, 0

    @property
    def figures(self) -> CacheFigures:
        """What it holds and did."""
        loaded = sum(bool(entry.num_bytes) for entry in self._entries.values())
        return CacheFigures(self._num_bytes, loaded, self._loads, self._unloads)

    async def acquire(self, key: str) -> Lease[_Model]:
        """Return a model that stays loaded until its lease is released.

        Raises:
            OverLimit: It alone is over the budget.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(asyncio.ensure_future(self._load(key)))
            entry.task.add_done_callback(_retrieve)
        self._entries.move_to_end(key)
        entry.users += 1
        try:
            # Shielded: who gives up waiting does not take the model from others.
            return Lease(await asyncio.shield(entry.task), lambda: self._give_back(entry))
        except BaseException:
            self._give_back(entry)
            raise

    async def _load(self, key: str) -> _Model:
        try:
            async with self._one_at_a_time:
                found = await self._fetch(key)
                await self._make_room(found.num_bytes)
                entry = self._entries[key]
                self._num_bytes += found.num_bytes
                entry.num_bytes = found.num_bytes
                model = await asyncio.to_thread(found.load)
                self._loads += 1
                return model
        except BaseException:
            self._num_bytes -= self._entries.pop(key).num_bytes
            raise

    async def _make_room(self, num_bytes: int) -> None:
        if num_bytes > self._budget:
            raise OverLimit(f"model needs {num_bytes} bytes of memory, this service has {self._budget}")
        while self._num_bytes + num_bytes > self._budget:
            idle = next((key for key, entry in self._entries.items() if entry.is_idle), None)
            if idle is not None:
                self._num_bytes -= self._entries.pop(idle).num_bytes
                self._unloads += 1
            else:
                self._released.clear()
                await self._released.wait()

    def _give_back(self, entry: _Entry[_Model]) -> None:
        entry.users -= 1
        self._released.set()


def _retrieve(task: asyncio.Task[_Model]) -> None:
    """Look at a load's error: asyncio complains of those that nobody looks at, and all who waited may be gone."""
    if not task.cancelled():
        task.exception()
