"""Several byte strings as one: how many, how long each, then they themselves; in memory or in a file."""

from __future__ import annotations

import os
import struct
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_COUNT = struct.Struct("<Q")
_MAX_PARTS_A_CALL = 1024  # IOV_MAX
_MAX_BYTES_A_CALL = 2**30  # Linux moves at most 2 GiB - 4 KiB


def parcel_bytes(parts: Sequence[bytes]) -> int:
    """Return the length of a parcel."""
    return _COUNT.size * (1 + len(parts)) + sum(map(len, parts))


def join_parcel(parts: Sequence[bytes]) -> bytes:
    """Return a parcel."""
    return b"".join([_table(parts), *parts])


def split_parcel(parcel: bytes, start: int = 0) -> list[bytes]:
    """Return the parts of a parcel that begins at `start`."""
    (count,) = _COUNT.unpack_from(parcel, start)
    lengths = struct.unpack_from(f"<{count}Q", parcel, start + _COUNT.size)
    ends = list(accumulate(lengths, initial=start + _COUNT.size * (1 + count)))
    return [parcel[begin:end] for begin, end in pairwise(ends)]


def write_parcel(descriptor: int, parts: Sequence[bytes]) -> None:
    """Make a file hold a parcel and nothing else; pages that it has are overwritten, which is cheaper than new ones."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    waiting = iter([memoryview(part) for part in (_table(parts), *parts) if part])
    while batch := list(islice(waiting, _MAX_PARTS_A_CALL)):
        while batch:
            _drop(batch, os.writev(descriptor, batch))
    os.ftruncate(descriptor, parcel_bytes(parts))


def read_parcel(descriptor: int) -> list[bytes]:
    """Return the parts of a file's parcel, each copied once; raises `EOFError` if the file is too short."""
    (count,) = _COUNT.unpack(_read(descriptor, _COUNT.size, 0))
    lengths = struct.unpack(f"<{count}Q", _read(descriptor, _COUNT.size * count, _COUNT.size))
    starts = accumulate(lengths, initial=_COUNT.size * (1 + count))
    return [_read(descriptor, length, start) for length, start in zip(lengths, starts, strict=False)]


def _table(parts: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{1 + len(parts)}Q", len(parts), *map(len, parts))


def _read(descriptor: int, length: int, position: int) -> bytes:
    part = os.pread(descriptor, min(length, _MAX_BYTES_A_CALL), position)
    while len(part) < length:
        more = os.pread(descriptor, min(length - len(part), _MAX_BYTES_A_CALL), position + len(part))
        if not more:
            raise EOFError(f"file ends after {position + len(part)} bytes, expected {position + length}")
        part += more
    return part


def _drop(batch: list[memoryview], count: int) -> None:
    """Take the first `count` bytes off a list of views."""
    while batch and count >= len(batch[0]):
        count -= len(batch.pop(0))
    if count:
        batch[0] = batch[0][count:]
