"""Arrays of an .npz file: nothing is inflated before its size is known and allowed."""

from __future__ import annotations

import zipfile
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.data.dataset import MAX_IMAGE_BYTES
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from fedcomp.types import NDArray

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: str | Path, keys: Collection[str]) -> dict[str, NDArray]:
    """Read those of some arrays that are in a file; others are not looked at.

    Args:
        path: The file.
        keys: Names of arrays.

    Raises:
        DataError: The file is missing or damaged, an array holds objects, or those wanted have more bytes in all than
            `MAX_IMAGE_BYTES`: what the archive declares is compared, and never more than that is inflated.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            members = {key: archive.getinfo(f"{key}.npy") for key in keys if f"{key}.npy" in names}
            if (declared := sum(member.file_size for member in members.values())) > MAX_IMAGE_BYTES:
                raise ValueError(f"{', '.join(members)} declare {declared} bytes, more than {MAX_IMAGE_BYTES}")
            return {key: _read_member(archive, member) for key, member in members.items()}
    except Exception as error:  # damaged archives raise a dozen kinds out of NumPy, zipfile and zlib
        raise DataError(f"{path}: expected a .npz with {', '.join(keys)}: {error}") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READ_HEADER:
            raise ValueError(f"{member.filename} is of format {version}, expected one of {list(_READ_HEADER)}")
        shape, _, dtype = _READ_HEADER[version](file)
        # NumPy would allocate whatever the shape claims.
        if (size := prod(shape) * dtype.itemsize) != member.file_size - file.tell():
            raise ValueError(f"{member.filename} holds {member.file_size - file.tell()} bytes, its shape needs {size}")
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
