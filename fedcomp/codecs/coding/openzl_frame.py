"""What an OpenZL frame would allocate, read off before it is decoded.

Such a frame carries its own program: a graph of codecs, each of which turns streams into larger ones. The declared size
of the output says nothing about the streams in between, so 3 kB can hold 400 MB that never reach the output. Here
the graph is read, codecs that finite-state entropy coding never writes are refused, and the rest is added up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.errors import FrameMalformed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC_OF_VERSION_27 = bytes.fromhex("dba5b1d7")
_NO_CHECKSUMS_ONE_SERIAL_OUTPUT = b"\x00\x01"
_BLOCK, _PARTS = 1 << 15, 3
"""The encoder's blocks, all in one chunk; each is at most two codecs and three streams."""


class _Codec(NamedTuple):
    """How many streams it takes, besides those that a frame adds, and how many bytes it may write.

    The latter follows from its private header and from how many bytes it reads.
    """

    inputs: int
    written: Callable[[bytes, int], int]


_CODECS: dict[int, _Codec] = {
    10: _Codec(1, lambda header, read: read),  # numbers as bytes
    27: _Codec(1, lambda header, read: 8 * read),  # symbols of few bits
    29: _Codec(2, lambda header, read: 8 * read),  # the same, with an alphabet
    40: _Codec(0, lambda header, read: read),  # blocks put together
    44: _Codec(1, lambda header, read: _Reader(header).varint()),  # one byte, repeated
    49: _Codec(2, lambda header, read: int.from_bytes(header[1:], "little")),  # finite-state entropy
    52: _Codec(1, lambda header, read: 512),  # its table
}


def check_openzl_frame(data: bytes, size: int) -> None:
    """Check that a frame is one that the encoder writes for `size` bytes, as far as memory is concerned.

    Raises:
        FrameMalformed: Another size, another codec, more chunks, codecs and streams than there are blocks for, streams
            of more than some multiples of `size`, trailing bytes.
    """
    reader = _Reader(data)
    if reader.take(6) != _MAGIC_OF_VERSION_27 + _NO_CHECKSUMS_ONE_SERIAL_OUTPUT:
        raise FrameMalformed("openzl section is not of one serial output, format version 27, without checksums")
    if (declared := reader.varint() - 1) != size:
        raise FrameMalformed(f"openzl section declares {declared} bytes, expected {size}")
    allowed, parts = 16 * size + _BLOCK, _PARTS * (size // _BLOCK + 1) + 1
    while reader.peek():
        num_codecs, num_stored = reader.varint() - 1, reader.varint()
        parts -= max(num_codecs, num_stored, 1)  # an empty chunk takes time, too
        if num_codecs < 0 or parts < 0:
            raise FrameMalformed(f"openzl section has too many chunks, codecs or streams for {size} bytes")
        for written in _sizes_in_chunk(reader, num_codecs, num_stored):
            allowed -= written
            if allowed < 0:
                raise FrameMalformed(f"openzl section writes more than {16 * size + _BLOCK} bytes to give {size}")
    if reader.take(1) and reader.remaining:
        raise FrameMalformed(f"{reader.remaining} bytes after the end of an openzl section")


class _Reader:
    """A cursor in the frame; raises `FrameMalformed` beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._start = data, 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self._start

    def take(self, count: int) -> bytes:
        if count > self.remaining:
            raise FrameMalformed("openzl section ends within its header")
        self._start += count
        return self._data[self._start - count : self._start]

    def peek(self) -> int:
        value = self.take(1)[0]
        self._start -= 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.take(1)[0]) >= 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise FrameMalformed("openzl section has a number of more than 64 bits")
        return value | byte << shift

    def packed(self, count: int, width: int) -> list[int]:
        """Read `count` numbers of `width` bits."""
        raw = np.frombuffer(self.take(-(-count * width // 8)), np.uint8)
        bits = np.unpackbits(raw, count=count * width, bitorder="little").reshape(count, width)
        numbers: list[int] = (bits @ (1 << np.arange(width))).tolist()
        return numbers

    def flagged(self, count: int) -> list[int]:
        """Read `count` numbers of which most are 0: a bit each, then a varint for each that is more."""
        return [self.varint() + 1 if flag else 0 for flag in self.packed(count, 1)]


def _sizes_in_chunk(reader: _Reader, num_codecs: int, num_stored: int) -> Iterator[int]:
    """Yield how many bytes each codec of a chunk may write; the reader goes from behind these counts to its end.

    Streams are numbered in the order in which codecs take them. A codec says how far behind its own inputs its output
    is; the numbers that are left over belong to the streams that the chunk stores.
    """
    are_custom, ids = reader.packed(num_codecs, 1), reader.packed(num_codecs, 7)
    if any(are_custom) or not _CODECS.keys() >= set(ids):
        raise FrameMalformed(f"openzl section has codecs {sorted(set(ids))}, expected some of {sorted(_CODECS)}")
    header_sizes, num_added = reader.flagged(num_codecs), reader.flagged(num_codecs)
    if any(reader.packed(num_codecs, 1)):
        raise FrameMalformed("openzl section has a codec with several outputs")
    num_streams = num_codecs + num_stored
    distances = reader.packed(num_codecs, max(num_streams - 1, 0).bit_length())
    stored_sizes = [reader.varint() for _ in range(num_stored)]
    headers = [reader.take(header_size) for header_size in header_sizes]
    for stored in stored_sizes:
        reader.take(stored)

    ends = np.cumsum([_CODECS[id_].inputs + added for id_, added in zip(ids, num_added, strict=True)]).tolist()
    outputs = [end + distance for end, distance in zip(ends, distances, strict=True)]
    left_over = sorted(set(range(num_streams)) - set(outputs))
    if len(left_over) != num_stored or max([*outputs, *ends], default=0) > num_streams:
        raise FrameMalformed("openzl section has streams that do not fit together")
    sizes = dict(zip(left_over, stored_sizes, strict=True))
    for id_, header, start, end, output in zip(ids, headers, [0, *ends], ends, outputs, strict=False):
        # An input that comes from a codec further on is an error that the library sees.
        sizes[output] = _CODECS[id_].written(header, sum(sizes.get(stream, 0) for stream in range(start, end)))
        yield sizes[output]
