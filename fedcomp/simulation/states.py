"""Clients' states outside of every process: in files, so that any worker can run any client and no kill loses one.

A worker reads a client's state before a call and writes the new one into another file after it. The parent alone
knows which file holds whose state; it takes the new one when the answer arrives, so a client that was killed still
has the state of before.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, NamedTuple

from flwr.app import RecordDict

from fedcomp.flower.messages.encoding import decode_records, encode_records
from fedcomp.parcel import read_parcel, write_parcel

if TYPE_CHECKING:
    from pathlib import Path

NO_STATE = encode_records(RecordDict())
"""The parts of an empty state; no file is written for it."""


class StateChange(NamedTuple):
    """A client's state before and after a message: numbers of files, None for an empty state."""

    partition: int
    before: int | None
    after: int | None


class StateLedger:
    """The parent's side: which file belongs to which client; files without an owner are used again."""

    def __init__(self) -> None:
        self._current: dict[int, int] = {}
        self._changed: set[int] = set()
        self._free: list[int] = []
        self._unused = itertools.count()

    def current(self, partition: int) -> int | None:
        """Return the number of the file with a client's state, None if its state is empty."""
        return self._current.get(partition)

    def take_free(self) -> int:
        """Return the number of a file that nobody needs."""
        return self._free.pop() if self._free else next(self._unused)

    def release(self, number: int | None) -> None:
        """Let a file be used again."""
        if number is not None:
            self._free.append(number)

    def change(self, partition: int, after: int | None) -> StateChange:
        """Give a client its new state; the file of the one before stays until `keep` or `undo`."""
        change = StateChange(partition, self.current(partition), after)
        self._set(partition, after)
        return change

    def keep(self, change: StateChange) -> None:
        """Let the state of before go."""
        self.release(change.before)

    def undo(self, change: StateChange) -> None:
        """Go back to the state of before, unless the client has gone on since."""
        if self.current(change.partition) == change.after:
            self._set(change.partition, change.before)
            self.release(change.after)
        else:
            self.release(change.before)

    def restore(self, partition: int) -> int:
        """Return the number of the file that a client's state of an earlier process is to be written to."""
        self._current[partition] = number = self.take_free()
        return number

    def take_changed(self) -> list[int]:
        """Return the clients whose state may have changed since the last call."""
        changed, self._changed = sorted(self._changed), set()
        return changed

    def _set(self, partition: int, number: int | None) -> None:
        self._changed.add(partition)
        if number is None:
            self._current.pop(partition, None)
        else:
            self._current[partition] = number


class StateFiles:
    """Reading and writing, the worker's side above all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, number: int | None) -> tuple[RecordDict, list[bytes]]:
        """Return a state, and the parts it was read from."""
        if number is None:
            return RecordDict(), NO_STATE
        parts = self.read_parts(number)
        return decode_records(parts), parts

    def read_parts(self, number: int | None) -> list[bytes]:
        """Return the parts of a state."""
        if number is None:
            return NO_STATE
        with self._path(number).open("rb", buffering=0) as file:
            return read_parcel(file.fileno())

    def write(self, number: int, parts: list[bytes]) -> None:
        """Write the parts of a state."""
        descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            write_parcel(descriptor, parts)
        finally:
            os.close(descriptor)

    def _path(self, number: int) -> Path:
        # Folders with a million entries are slow on some file systems.
        folder = self._folder / str(number // 1000)
        folder.mkdir(exist_ok=True)
        return folder / str(number % 1000)
