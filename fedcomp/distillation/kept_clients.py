"""The clients' models of a run's last round, in its folder: an ensemble can be asked again after the run.

Models are kept as they were decoded, float32, a file a client. Frames would be smaller, but many can not be read later:
they were made with the help of models that both ends held in that round. What is kept is what the server saw, to the
last bit, whatever the codec was.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import xxhash

from fedcomp.errors import DataError, UsageError
from fedcomp.files import pack_tensors, read_tensors, write_atomically, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fedcomp.types import Model

_INDEX = "index.json"
_MAX_INDEX_BYTES, _MAX_HEADER_BYTES = 1 << 24, 1 << 20


class KeptClients:
    """Writes them; a round that is begun anew replaces what an earlier attempt at it left.

    Args:
        folder: The clients' own; made when the first model comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checksums: dict[int, str] = {}

    def add(self, client: int, weights: Model) -> None:
        """Write one client's model.

        Args:
            client: Its id, 0 or more; each comes once.
            weights: What it trained and sent.
        """
        if not self._checksums:
            self._clear()
        content = pack_tensors(weights)
        write_atomically(_path(self._folder, client), content)
        self._checksums[client] = xxhash.xxh3_64_hexdigest(content)

    def seal(self) -> None:
        """Say that the round is complete: only now can the models be read."""
        self._folder.mkdir(exist_ok=True)
        index = {"clients": {str(client): checksum for client, checksum in self._checksums.items()}}
        write_json(self._folder / _INDEX, index)

    def _clear(self) -> None:
        self._folder.mkdir(exist_ok=True)
        (self._folder / _INDEX).unlink(missing_ok=True)  # first, so that what is left after a kill counts for nothing
        for path in (*self._folder.glob("*.safetensors"), *self._folder.glob(".*.partial")):
            path.unlink()


def read_clients(folder: Path, model_bytes: int) -> Iterator[Model]:
    """Return the kept models in the order in which they came: each is read when it is asked for, and held by nobody.

    Args:
        folder: The clients' own.
        model_bytes: What the tensors of a client's model take: no larger file is opened. Names and shapes are for the
            caller to compare.

    Raises:
        UsageError: Nothing was kept.
        DataError: The index is damaged; on the way, a file is missing, damaged or too large.
    """
    checksums, most = _read_index(folder), model_bytes + _MAX_HEADER_BYTES
    return (_read(_path(folder, client), checksum, most) for client, checksum in checksums.items())


def _read_index(folder: Path) -> dict[int, str]:
    path = folder / _INDEX
    if not path.is_file():
        raise UsageError(f"{folder} keeps no clients' models: an ensemble needs a run with keep-clients = true")
    try:
        if (size := path.stat().st_size) > _MAX_INDEX_BYTES:
            raise ValueError(f"it has {size:,} bytes, expected at most {_MAX_INDEX_BYTES:,}")
        clients: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["clients"]
        return {_number(client): str(checksum) for client, checksum in clients.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is no index of clients' models: {type(error).__name__}: {error}") from None


def _number(client: str) -> int:
    """Return an id, which becomes a file's name: digits and nothing else."""
    if not (client.isascii() and client.isdigit() and len(client) <= 20):
        raise ValueError(f"a client is {client[:40]!r}, expected its number")
    return int(client)


def _read(path: Path, checksum: str, most: int) -> Model:
    try:
        if (size := path.stat().st_size) > most:
            raise DataError(f"{path} has {size:,} bytes, a client's model of this run has {most:,} at most")
        with path.open("rb") as file:  # in pieces: the model that is read next shall be the only one
            found = hashlib.file_digest(file, xxhash.xxh3_64).hexdigest()
    except OSError as error:
        raise DataError(f"a client's model is missing: {error}") from None
    if found != checksum:
        raise DataError(f"{path} is damaged: its checksum is {found}, expected {checksum}")
    return read_tensors(path)


def _path(folder: Path, client: int) -> Path:
    return folder / f"{client}.safetensors"
