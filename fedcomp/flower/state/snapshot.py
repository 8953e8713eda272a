"""Named facts and tensors in one file that is there whole or not at all: what a checkpoint is made of.

The file is safetensors: tensors as they are, and two notes in its metadata, the facts as JSON and a checksum over
both. Nothing in it is code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash
from safetensors import safe_open
from safetensors.numpy import save

from fedcomp.errors import CheckpointError
from fedcomp.files import UNREADABLE, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import DTypeLike

    from fedcomp.types import NDArray

_FACTS, _CHECKSUM = "fedcomp.facts", "fedcomp.checksum"
_BETWEEN = "/"


class Snapshot(NamedTuple):
    """The state of something at one moment.

    Args:
        facts: What JSON can say.
        tensors: Arrays of numbers, by names that need not be sorted: safetensors has no order, so nothing relies on it.
    """

    facts: Mapping[str, Any]
    tensors: Mapping[str, NDArray]

    @classmethod
    def join(cls, parts: Mapping[str, Snapshot]) -> Snapshot:
        """Put snapshots of several things into one."""
        return cls(
            {name: part.facts for name, part in parts.items()},
            {f"{name}{_BETWEEN}{key}": t for name, part in parts.items() for key, t in part.tensors.items()},
        )

    @classmethod
    def of_mapping(cls, values: Mapping[int, float], dtype: DTypeLike) -> Snapshot:
        """Keep numbers by unsigned keys of 64 bits, such as node ids."""
        keys = np.array(list(values), np.uint64)
        return cls({}, {"keys": keys, "values": np.array(list(values.values()), dtype)})

    def as_mapping(self) -> dict[int, Any]:
        """Return what `of_mapping` kept."""
        return dict(zip(self.tensors["keys"].tolist(), self.tensors["values"].tolist(), strict=True))

    def part(self, name: str) -> Snapshot:
        """Return one of the snapshots that were joined."""
        start = name + _BETWEEN
        tensors = {key.removeprefix(start): t for key, t in self.tensors.items() if key.startswith(start)}
        return Snapshot(self.facts[name], tensors)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace a file; a kill at any moment leaves the earlier one or this one."""
    facts = json.dumps(snapshot.facts)
    tensors = {name: np.ascontiguousarray(t).reshape(t.shape) for name, t in snapshot.tensors.items()}
    write_atomically(path, save(tensors, metadata={_FACTS: facts, _CHECKSUM: _checksum(facts, tensors)}))


def read_snapshot(path: Path) -> Snapshot:
    """Read a file that `write_snapshot` wrote.

    Raises:
        CheckpointError: The file is damaged, or something else.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        facts, expected = notes[_FACTS], notes[_CHECKSUM]
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is no checkpoint: {error}") from None
    if (found := _checksum(facts, tensors)) != expected:
        raise CheckpointError(f"{path} is damaged: its checksum is {found}, expected {expected}")
    return Snapshot(_read_facts(path, facts), tensors)


def _read_facts(path: Path, facts: str) -> dict[str, Any]:
    try:
        read = json.loads(facts)
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{path} has facts that are no JSON: {error}") from None
    if not isinstance(read, dict):
        raise CheckpointError(f"{path} has facts that are a {type(read).__name__}, expected an object")
    return read


def _checksum(facts: str, tensors: Mapping[str, NDArray]) -> str:
    digest = xxhash.xxh3_64(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
