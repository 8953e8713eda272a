"""Which node ids SuperLinks gave to which keys: Flower's list of nodes has ids and no keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from fedcomp.errors import CredentialError
from fedcomp.private_files import read_private, replace_private

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path
    from typing import Self

_FILE = "registered.json"
_MAX_IDS_OF_A_KEY = 32  # a SuperLink without a database gives a new one each time that it starts
_CONTENT = TypeAdapter(dict[str, list[int]])


class RegistrationRecord:
    """The node ids of each key, newest last. Every change is on the disk before the method returns.

    Args:
        folder: Of the node keys.
        ids: By fingerprint of the key.
    """

    def __init__(self, folder: Path, ids: dict[str, list[int]]) -> None:
        self._path = folder / _FILE
        self._ids = ids

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record of a folder of node keys; without a file it is empty.

        Raises:
            CredentialError: The file is damaged.
        """
        path = folder / _FILE
        if not path.exists():
            return cls(folder, {})
        try:
            return cls(folder, _CONTENT.validate_json(read_private(path)))
        except ValidationError:
            raise CredentialError(f"{path} is damaged: expected lists of node ids by fingerprint, in JSON") from None

    def ids(self, fingerprint: str) -> list[int]:
        """Return the ids of a key, oldest first."""
        return self._ids.get(fingerprint, [])

    def owners(self) -> dict[int, str]:
        """Return the key's fingerprint for each id."""
        return {node_id: fingerprint for fingerprint, ids in self._ids.items() for node_id in ids}

    def add(self, fingerprint: str, node_id: int) -> None:
        """Note that a key was given an id.

        Raises:
            CredentialError: It can not be written.
        """
        self._ids[fingerprint] = [*self.ids(fingerprint), node_id][-_MAX_IDS_OF_A_KEY:]
        self._save()

    def forget(self, node_ids: Collection[int]) -> None:
        """Note that ids are unregistered, which is for good.

        Raises:
            CredentialError: It can not be written.
        """
        left = {key: [known for known in ids if known not in node_ids] for key, ids in self._ids.items()}
        if left != self._ids:
            self._ids = {key: ids for key, ids in left.items() if ids}
            self._save()

    def _save(self) -> None:
        replace_private(self._path, json.dumps(self._ids, indent=1).encode())
