"""Models beside a checkpoint, in files that are named by their fingerprints and never changed.

A file that no model needs any longer goes when the next checkpoint is begun: the one that still needs it is then
replaced already. So a kill at any moment leaves one whole checkpoint, and at most some files that belong to none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from fedcomp.errors import CheckpointError, DataError
from fedcomp.files import FileWriter, pack_tensors, read_tensors
from fedcomp.flower.state.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fedcomp.types import Model

_FOLDER = "models"


class ModelFiles:
    """Reads and writes the files of one checkpoint's folder."""

    def __init__(self) -> None:
        self._checksums: dict[int, int] = {}
        self._needed: set[int] = set()

    def save(self, folder: Path, models: Mapping[int, Model]) -> Snapshot:
        """Write what no earlier call has written, whose checkpoint is complete by now; return which files there are.

        Args:
            folder: The checkpoint's.
            models: By fingerprint.
        """
        for fingerprint in self._checksums.keys() - self._needed - models.keys():
            _path(folder, fingerprint).unlink(missing_ok=True)
            del self._checksums[fingerprint]
        with FileWriter() as writer:
            for fingerprint in models.keys() - self._checksums.keys():
                content = pack_tensors(models[fingerprint])
                writer.write(_path(folder, fingerprint), content)
                self._checksums[fingerprint] = xxhash.xxh3_64_intdigest(content)
        self._needed = set(models)
        listed = sorted(self._needed)
        checksums = np.array([self._checksums[fingerprint] for fingerprint in listed], np.uint64)
        return Snapshot({"fingerprints": listed}, {"checksums": checksums})

    def restore(self, folder: Path, snapshot: Snapshot) -> dict[int, Model]:
        """Return the models by fingerprint; then remove files that belong to no checkpoint.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        listed, checksums = snapshot.facts["fingerprints"], snapshot.tensors["checksums"].tolist()
        self._checksums = dict(zip(listed, checksums, strict=True))
        self._needed = set(listed)
        models = {each: _read(_path(folder, each), checksum) for each, checksum in self._checksums.items()}
        for path in set((folder / _FOLDER).glob("*")) - {_path(folder, fingerprint) for fingerprint in listed}:
            path.unlink()
        return models


def _path(folder: Path, fingerprint: int) -> Path:
    return folder / _FOLDER / f"{fingerprint:08x}.safetensors"


def _read(path: Path, checksum: int) -> Model:
    try:
        found = xxhash.xxh3_64_intdigest(path.read_bytes())
        model = read_tensors(path)
    except (OSError, DataError) as error:
        raise CheckpointError(f"a client's model is missing from the checkpoint: {error}") from None
    if found != checksum:
        raise CheckpointError(f"{path} is damaged: its checksum is {found:016x}, expected {checksum:016x}")
    return model
