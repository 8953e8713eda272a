"""One update as bytes: magic, version, header, sections, checksum. FORMAT.md is the prose of this file."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import xxhash
from google.protobuf.message import DecodeError

from fedcomp.errors import ChecksumMismatch, EncodeError, FrameMalformed, FrameTooLarge
from fedcomp.wire import frame_pb2

if TYPE_CHECKING:
    from fedcomp.wire.limits import FrameLimits

MAGIC = b"fcz"
VERSION = 2
_PREFIX_BYTES = len(MAGIC) + 1 + 2
_CHECKSUM_BYTES = 8
_MOST_HEADER_BYTES = 0xFFFF


class SectionKind(enum.IntEnum):
    """What a section holds. Sections stand in this order, each kind at most once; values may stand in several."""

    KEPT_FLOATS = 1
    KEPT_INTS = 2
    POSITIONS = 3
    TABLES = 4
    VALUES = 5
    SIGNS = 6
    ACTIVITY = 7
    COUNT = 8


@dataclass(frozen=True, slots=True)
class Section:
    """A coded run of bytes: what it holds, which entropy coder made it, and the coded bytes."""

    kind: SectionKind
    coder: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StageHeader:
    """What the decoder must know of one codec stage: its id and its arguments (unsigned integers)."""

    id: int
    args: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Binding:
    """Which moment a frame belongs to; two 32-bit fingerprints and the round, 0 where unknown."""

    round: int = 0
    origin: int = 0
    base: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A parsed frame: shapes are not in it, they come from the receiver's own model spec."""

    binding: Binding
    spec: int
    stages: tuple[StageHeader, ...]
    sections: tuple[Section, ...]


def write_frame(frame: Frame) -> bytes:
    """Serialize a frame. The same frame always gives the same bytes.

    Raises:
        EncodeError: The header is longer than the format's 65,535 bytes.
    """
    header = _header_message(frame).SerializeToString(deterministic=True)
    if len(header) > _MOST_HEADER_BYTES:
        raise EncodeError(f"header has {len(header)} bytes, a frame holds {_MOST_HEADER_BYTES}: too many tensors")
    prefix = MAGIC + bytes([VERSION]) + len(header).to_bytes(2, "little")
    parts = [prefix, header, *(section.data for section in frame.sections)]
    return b"".join([*parts, _checksum(*parts)])


def measure_header(frame: Frame) -> dict[str, int]:
    """Return the bytes of everything in a frame but its sections, by purpose: they add up."""
    message = _header_message(frame)
    fields = {
        "round": frame_pb2.Header(round=message.round),
        "origin": frame_pb2.Header(origin=message.origin),
        "base model": frame_pb2.Header(base=message.base),
        "model spec": frame_pb2.Header(spec=message.spec),
        "stages": frame_pb2.Header(stages=message.stages),
        "section table": frame_pb2.Header(sections=message.sections),
    }
    sizes = {name: field.ByteSize() for name, field in fields.items()}
    return {"magic, version, length": _PREFIX_BYTES, **sizes, "checksum": _CHECKSUM_BYTES}


def read_frame(data: bytes, limits: FrameLimits) -> Frame:
    """Parse and check a frame; nothing is decompressed yet.

    Args:
        data: The frame, as received.
        limits: The receiver's caps.

    Raises:
        FrameTooLarge: `data`, its header or its number of sections is over a cap.
        ChecksumMismatch: The bytes were damaged.
        FrameMalformed: Anything else that a fedcomp encoder never writes.
    """
    if len(data) > limits.max_frame_bytes:
        raise FrameTooLarge(f"frame has {len(data)} bytes, at most {limits.max_frame_bytes} are allowed")
    if len(data) < _PREFIX_BYTES + _CHECKSUM_BYTES:
        raise FrameMalformed(f"frame has {len(data)} bytes, even an empty one has more")
    if data[: len(MAGIC)] != MAGIC:
        raise FrameMalformed(f"frame begins with {data[: len(MAGIC)]!r}, expected {MAGIC!r}")
    if data[len(MAGIC)] != VERSION:
        raise FrameMalformed(f"frame has format version {data[len(MAGIC)]}, this fedcomp reads {VERSION}")
    if _checksum(memoryview(data)[:-_CHECKSUM_BYTES]) != data[-_CHECKSUM_BYTES:]:
        raise ChecksumMismatch(f"checksum of a frame of {len(data)} bytes does not match its content")
    header_end = _PREFIX_BYTES + int.from_bytes(data[_PREFIX_BYTES - 2 : _PREFIX_BYTES], "little")
    if header_end - _PREFIX_BYTES > limits.max_header_bytes:
        raise FrameTooLarge(
            f"header has {header_end - _PREFIX_BYTES} bytes, at most {limits.max_header_bytes} are allowed"
        )
    body = memoryview(data)[header_end : len(data) - _CHECKSUM_BYTES]
    if header_end > len(data) - _CHECKSUM_BYTES:
        raise FrameMalformed("header reaches beyond the end of the frame")
    header = _parse_header(data[_PREFIX_BYTES:header_end])
    return Frame(
        binding=Binding(header.round, header.origin, header.base),
        spec=header.spec,
        stages=tuple(StageHeader(stage.id, tuple(stage.args)) for stage in header.stages),
        sections=_cut_sections(list(header.sections), body, limits),
    )


def _header_message(frame: Frame) -> frame_pb2.Header:
    return frame_pb2.Header(
        round=frame.binding.round,
        origin=frame.binding.origin,
        base=frame.binding.base,
        spec=frame.spec,
        stages=[frame_pb2.Stage(id=stage.id, args=stage.args) for stage in frame.stages],
        sections=[n for s in frame.sections for n in (s.kind, s.coder, len(s.data))],
    )


def _parse_header(raw: bytes) -> frame_pb2.Header:
    try:
        header = frame_pb2.Header.FromString(raw)
    except DecodeError as error:
        raise FrameMalformed(f"header does not parse: {error}") from None
    # One header, one spelling: unknown fields, odd varints and reordered fields are refused here.
    header.DiscardUnknownFields()
    for stage in header.stages:
        stage.DiscardUnknownFields()
    if header.SerializeToString(deterministic=True) != raw:
        raise FrameMalformed("header is not in its canonical form")
    return header


def _cut_sections(fields: list[int], body: memoryview, limits: FrameLimits) -> tuple[Section, ...]:
    if len(fields) % 3:
        raise FrameMalformed(f"section table has {len(fields)} numbers, expected triples")
    if len(fields) // 3 > limits.max_sections:
        raise FrameTooLarge(f"frame has {len(fields) // 3} sections, at most {limits.max_sections} are allowed")
    triples = list(zip(fields[0::3], fields[1::3], fields[2::3], strict=True))
    kinds = [kind for kind, _, _ in triples]
    if not all(kind < after or kind == after == SectionKind.VALUES for kind, after in pairwise(kinds)):
        raise FrameMalformed("sections are not in order, or one kind stands twice")
    if sum(length for _, _, length in triples) != len(body):
        raise FrameMalformed(
            f"sections declare {sum(length for _, _, length in triples)} bytes, the frame holds {len(body)}"
        )
    sections, start = [], 0
    for kind, coder, length in triples:
        try:
            sections.append(Section(SectionKind(kind), coder, bytes(body[start : start + length])))
        except ValueError:
            raise FrameMalformed(f"section kind {kind} is unknown") from None
        start += length
    return tuple(sections)


def _checksum(*parts: bytes | memoryview) -> bytes:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.digest()
