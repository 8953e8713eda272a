"""Clients' states in a checkpoint: one file a client, written only when the state has changed.

A file is never changed. A client's next state gets a file of another name, and the one before stays until a checkpoint
that does not need it is complete. So a kill between two checkpoints leaves the earlier one as it was, and at most some
files that belong to none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from fedcomp.errors import CheckpointError
from fedcomp.files import FileWriter
from fedcomp.flower import Snapshot
from fedcomp.parcel import join_parcel, split_parcel
from fedcomp.simulation.states import NO_STATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_CLIENTS_A_FOLDER = 1000
"""Folders with a million entries are slow on some file systems."""


class _Stored(NamedTuple):
    """Which save wrote a client's file, and what is in it."""

    save: int
    checksum: int


class StateStore:
    """Reads and writes the clients' files beside a checkpoint.

    Args:
        folder: Where they are; it is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stored: dict[int, _Stored] = {}
        self._superseded: list[Path] = []
        self._saves = 0

    def save(self, changed: Iterable[tuple[int, list[bytes]]]) -> Snapshot:
        """Write what has changed since the last save, whose checkpoint is complete by now.

        Args:
            changed: Partitions and the parts of their states.

        Returns:
            Which file holds whose state.
        """
        for path in self._superseded:
            path.unlink(missing_ok=True)
        self._superseded = []
        self._saves += 1
        with FileWriter() as writer:
            for partition, parts in changed:
                if before := self._stored.pop(partition, None):
                    self._superseded.append(self._path(partition, before.save))
                if parts != NO_STATE:
                    parcel = join_parcel(parts)
                    writer.write(self._path(partition, self._saves), parcel)
                    self._stored[partition] = _Stored(self._saves, xxhash.xxh3_64_intdigest(parcel))
        return Snapshot(
            {"saves": self._saves},
            {
                "partitions": np.array(list(self._stored), np.int64),
                "saves": np.array([stored.save for stored in self._stored.values()], np.int64),
                "checksums": np.array([stored.checksum for stored in self._stored.values()], np.uint64),
            },
        )

    def restore(self, snapshot: Snapshot) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the partitions that have a state, and its parts; then remove files that belong to no checkpoint.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        self._saves = snapshot.facts["saves"]
        columns = (snapshot.tensors[name].tolist() for name in ("partitions", "saves", "checksums"))
        self._stored = {partition: _Stored(*stored) for partition, *stored in zip(*columns, strict=True)}
        for partition, stored in self._stored.items():
            yield partition, split_parcel(_read(self._path(partition, stored.save), stored.checksum))
        needed = {self._path(partition, stored.save) for partition, stored in self._stored.items()}
        for path in set(self._folder.glob("*/*")) - needed:
            path.unlink()

    def _path(self, partition: int, save: int) -> Path:
        return self._folder / str(partition // _CLIENTS_A_FOLDER) / f"{partition}-{save}"


def _read(path: Path, checksum: int) -> bytes:
    try:
        parcel = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"a client's state is missing from the checkpoint: {error}") from None
    if (found := xxhash.xxh3_64_intdigest(parcel)) != checksum:
        raise CheckpointError(f"{path} is damaged: its checksum is {found:016x}, expected {checksum:016x}")
    return parcel
