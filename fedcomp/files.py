"""Files: written whole or not at all, read with one clear error."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.types import Model, NDArray

_ORDER = "fedcomp.order"


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that a reader, or a crash, finds the old file or the new one and nothing between."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def pack_tensors(tensors: Model) -> bytes:
    """Serialize tensors as safetensors, with their order: the format itself has none, and a model's spec needs it."""
    return save(dict(tensors), metadata={_ORDER: json.dumps(list(tensors))})


def read_tensors(path: Path) -> dict[str, NDArray]:
    """Read a safetensors file, in the order that `pack_tensors` noted, or else by name.

    Raises:
        DataError: The file is damaged, or none.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = json.loads((file.metadata() or {}).get(_ORDER, "null"))
            if names is None or sorted(names) != sorted(file.keys()):
                names = sorted(file.keys())
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
