"""What parent and workers say to each other: packets of a few kilobytes, and files in memory for what is larger.

A packet arrives whole or not at all, so a process that is killed in mid-sentence leaves nothing half read. A file's
descriptor travels beside the packet, and nobody else can open the file: the kernel frees it when its last holder
ends, however that happens.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from fedcomp.parcel import join_parcel, parcel_bytes, read_parcel, split_parcel, write_parcel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_INLINE_BYTES = 2**15
_MAX_PACKET_BYTES = 2**16
_MAX_FILES = 2
_PREFIX = struct.Struct("<?I")


class Packet(NamedTuple):
    """A packet that has arrived.

    Args:
        facts: A few named numbers and texts.
        parts: Bytes.
        file: A descriptor that came along, the receiver's to close.
    """

    facts: dict[str, Any]
    parts: list[bytes]
    file: int | None


class Outbox:
    """Files in memory for parts that are too long for a packet, used in turn.

    New memory costs five times as much as copying into it, so files are used again: the sender must never have more
    than `num_files` packets under way that nobody has read.
    """

    def __init__(self, num_files: int) -> None:
        self._files: list[int | None] = [None] * num_files
        self._next = 0

    def put(self, parts: Sequence[bytes]) -> int:
        """Write parts into the file that is next, and return its descriptor."""
        self._next = (self._next + 1) % len(self._files)
        file = self._files[self._next]
        if file is None:
            file = self._files[self._next] = make_memory_file()
        write_parcel(file, parts)
        return file

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            if file is not None:
                os.close(file)
        self._files = [None] * len(self._files)


def make_memory_file() -> int:
    """Return the descriptor of a new file that lives in memory until nobody has it open."""
    return os.memfd_create("fedcomp", os.MFD_CLOEXEC)


def make_channel() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a channel for packets."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_packet(
    channel: socket.socket, facts: dict[str, Any], parts: Sequence[bytes], outbox: Outbox, file: int | None = None
) -> None:
    """Send a packet.

    Args:
        channel: One end.
        facts: What JSON can say, in a few hundred bytes.
        parts: Any number of bytes.
        outbox: Takes the parts if they are long.
        file: A descriptor for the receiver; the sender keeps its own.

    Raises:
        OSError: The other end is closed, or there is no memory for the parts.
    """
    head = json.dumps(facts).encode()
    in_file = len(head) + parcel_bytes(parts) > _MAX_INLINE_BYTES
    files = [outbox.put(parts)] if in_file else []
    body = b"" if in_file else join_parcel(parts)
    if file is not None:
        files.append(file)
    socket.send_fds(channel, [_PREFIX.pack(in_file, len(head)), head, body], files)


def receive_packet(channel: socket.socket) -> Packet | None:
    """Wait for a packet; None if the other end is closed."""
    try:
        data, files, _, _ = socket.recv_fds(channel, _MAX_PACKET_BYTES, _MAX_FILES, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    if not data:
        return None
    in_file, head_length = _PREFIX.unpack_from(data)
    head_end = _PREFIX.size + head_length
    facts = json.loads(data[_PREFIX.size : head_end])
    parts = read_and_close(files.pop(0)) if in_file else split_parcel(data, head_end)
    return Packet(facts, parts, files.pop() if files else None)


def wait_readable(descriptors: Iterable[int], seconds: float | None) -> set[int]:
    """Wait until something can be read or has been closed, at most `seconds` (None: for ever); return where."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else math.ceil(seconds * 1000))}


def read_and_close(file: int) -> list[bytes]:
    """Return the parts that a file holds."""
    try:
        return read_parcel(file)
    finally:
        os.close(file)
