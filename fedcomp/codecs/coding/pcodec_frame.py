"""pcodec's standalone format, read strictly: every chunk in its place, and nothing behind the last one.

The library's own reader takes what follows the end for granted, and lets a sender choose among modes whose working
memory the sender also chooses (a window of up to 2^24 numbers). What no encoder here writes is refused here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pcodec import wrapped

from fedcomp.errors import FrameMalformed

if TYPE_CHECKING:
    from fedcomp.codecs.stage import ArraySpec
    from fedcomp.types import NDArray

_MAGIC = b"pco!\x03\x00"
"""Standalone version 3, numbers of any type."""

_TYPES: dict[str, tuple[str, int]] = {
    "uint16": ("u16", 7),
    "uint32": ("u32", 1),
    "float16": ("f16", 9),
    "float32": ("f32", 5),
    "int64": ("i64", 4),
}
"""The library's name of a type, and the format's number of it."""

_SMALLEST_CHUNK = 1 << 17
"""The encoder cuts an array into as few equal chunks of at most 2^18 numbers as it can."""


def read_pcodec_frame(data: bytes, expected: ArraySpec) -> NDArray:
    """Decompress exactly `expected`.

    Raises:
        FrameMalformed: Another count or type, a mode that no encoder here writes, trailing bytes.
        RuntimeError: The library refuses a chunk.
    """
    preamble = _MAGIC + _varint(expected.length)
    if not data.startswith(preamble):
        raise FrameMalformed(f"pcodec section does not declare {expected.length} numbers")
    name, number = _TYPES[expected.dtype]
    file, header_size = wrapped.FileDecompressor.new(data[len(preamble) : len(preamble) + 16])
    position, filled = len(preamble) + header_size, 0
    array = np.empty(expected.length, expected.dtype)
    while filled < array.size:
        kind, count = data[position : position + 1], int.from_bytes(data[position + 1 : position + 4], "little") + 1
        if kind != bytes([number]) or not min(array.size, _SMALLEST_CHUNK) <= count <= array.size - filled:
            raise FrameMalformed(f"pcodec section has a chunk of {count} numbers after {filled} of {array.size}")
        position += 4
        if data[position : position + 1] != b"\x00":
            raise FrameMalformed("pcodec section is not of classic mode without deltas")
        # No chunk is larger than its numbers as they are, but for its header: what is copied does not follow the frame.
        most = 2 * count * array.itemsize + (1 << 16)
        chunk, meta_size = file.chunk_decompressor(data[position : position + most], name)
        position += meta_size
        page = data[position : position + most]
        progress, page_size = chunk.read_page_into(page, count, array[filled : filled + count])
        if progress.n_processed != count:
            raise FrameMalformed(f"pcodec section has a chunk of {progress.n_processed} numbers, expected {count}")
        position, filled = position + page_size, filled + count
    if data[position:] != b"\x00":
        raise FrameMalformed("pcodec section does not end behind its last chunk")
    return array


def _varint(number: int) -> bytes:
    """Return six bits for the number of bits less one, then the bits, lowest first."""
    num_bits = max(number.bit_length(), 1)
    return (number << 6 | num_bits - 1).to_bytes(-(-(6 + num_bits) // 8), "little")
