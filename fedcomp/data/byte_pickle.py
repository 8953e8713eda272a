"""Pickled arrays of bytes, without ever running what a pickle says.

A pickle is a program, and it may name any function to call. Here every name but those of a NumPy array is refused,
and even these mean not NumPy's own functions, which trust their arguments, but plain containers that are checked.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.types import NDArray

_MAX_BYTES = 1 << 30
_MEMO_WRITES = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])


def read_byte_pickle(path: Path) -> dict[bytes, Any]:
    """Read a pickled dictionary of numbers, texts, lists and uint8 arrays, as the CIFAR batches are.

    Args:
        path: The file, written by Python 2 or 3.

    Returns:
        Its dictionary. Texts are bytes; arrays are uint8 and read-only.

    Raises:
        DataError: The file is missing, larger than 1 GiB, damaged, or holds anything else. Nothing that it names
            is imported or called.
    """
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise ValueError(f"{size} bytes, more than {_MAX_BYTES}")
        content = path.read_bytes()
        _check_memo(content)
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if type(found) is not dict:
            raise ValueError(f"holds a {type(found).__name__}, expected a dictionary")
        return {_to_bytes(key): value.array if isinstance(value, _Array) else value for key, value in found.items()}
    except Exception as error:  # damaged pickles raise whatever their instructions run into
        raise DataError(f"{path}: expected a pickled batch of images: {type(error).__name__}: {error}") from None


def _check_memo(content: bytes) -> None:
    """Refuse a number in the memo that no writer comes to: the unpickler allocates as many places."""
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name in _MEMO_WRITES and argument is not None and int(argument) > len(content):
            raise ValueError(f"writes to place {argument} of its memo")


def _to_bytes(key: object) -> bytes:
    if isinstance(key, str):
        return key.encode()
    if not isinstance(key, bytes):
        raise ValueError(f"has the key {key!r}, expected a text")
    return key


class _Array:
    """Stands for NumPy's ``ndarray`` and for ``_reconstruct``, which is called with it."""

    def __init__(self, *arguments: object) -> None:
        self.array: NDArray = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _ByteType) or not isinstance(data, bytes) or not isinstance(shape, tuple):
            raise ValueError("an array holds something else than bytes")
        if not all(type(length) is int and length >= 0 for length in shape) or prod(shape) != len(data):
            raise ValueError(f"an array of shape {shape} holds {len(data)} bytes")
        self.array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _ByteType:
    """Stands for NumPy's ``dtype``, of which bytes need no state."""

    def __init__(self, name: object, *flags: object) -> None:
        if name not in (b"u1", "u1"):
            raise ValueError(f"an array is of type {name!r}, expected u1")

    def __setstate__(self, state: object) -> None:
        pass


class _Encoded(bytes):
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes into a pickle of protocol 2."""

    def __new__(cls, text: object, encoding: object) -> _Encoded:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise ValueError(f"bytes in the encoding {encoding!r}, expected latin1")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: object) -> None:
        # Without this method an unpickler would set any attribute that it is told to.
        raise ValueError("bytes have no state")


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _ByteType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _Encoded,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for one of the few allowed names; every other one is refused, and not looked up."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"names {module}.{name}, which is not allowed")
        return _STAND_INS[module, name]
