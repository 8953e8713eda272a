"""The IDX format of the MNIST family, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.data.dataset import MAX_IMAGE_BYTES
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.types import NDArray

_UINT8 = 8


def read_idx(path: Path, num_dims: int) -> NDArray:
    """Read an array of unsigned bytes; a plain file is mapped, so that only what is used is read.

    The header is four bytes (0, 0, element type, number of dimensions), then each dimension as a big-endian uint32.

    Args:
        path: The file; gzipped if its name ends in ``.gz``.
        num_dims: Expected number of dimensions: 3 for images, 1 for labels.

    Returns:
        uint8, read-only.

    Raises:
        DataError: The file is missing or is anything else than it should be; at most one byte more than the header
            declares is ever decompressed.
    """
    is_gzipped = path.suffix == ".gz"
    opened = gzip.open if is_gzipped else open
    try:
        with opened(path, "rb") as file:
            magic = file.read(4)
            if magic != bytes((0, 0, _UINT8, num_dims)):
                raise DataError(f"{path}: begins with {magic.hex()}, expected IDX bytes of {num_dims} dimensions")
            sizes = file.read(4 * num_dims)
            if len(sizes) != 4 * num_dims:
                raise DataError(f"{path}: ends within its header")
            shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
            if prod(shape) > MAX_IMAGE_BYTES:
                raise DataError(f"{path}: declares shape {shape}, more than {MAX_IMAGE_BYTES} bytes")
            content = file.read(prod(shape) + 1) if is_gzipped else map_bytes(path, file.tell())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {error}") from None
    if len(content) != prod(shape):
        raise DataError(f"{path}: holds {len(content)} bytes or more, its header declares {prod(shape)}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def map_bytes(path: Path, start: int = 0) -> NDArray:
    """Map a file into memory, read-only: uint8, from byte `start` to its end. Raises `OSError`."""
    size = path.stat().st_size - start
    if size <= 0:  # nothing can not be mapped
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, "r", offset=start, shape=(size,)))


def find_idx(folder: Path, stem: str) -> Path:
    """Return the path of ``stem`` or ``stem.gz`` in `folder`; raises `DataError` if there is neither."""
    for name in (stem, f"{stem}.gz"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no file {stem} or {stem}.gz")
