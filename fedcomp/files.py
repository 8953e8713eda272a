"""Files: written whole or not at all, read with one clear error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.numpy import load

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.types import NDArray


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that a reader, or a crash, finds the old file or the new one and nothing between."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_tensors(path: Path) -> dict[str, NDArray]:
    """Read a safetensors file; raises `DataError` if it is damaged or none."""
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: {error}") from None
