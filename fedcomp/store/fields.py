"""How many fields a protobuf message has, before one of its objects is made.

Two bytes of a message are an object of hundreds, and a compressor finds a million of them in a few bytes: neither the
length of a message nor what it was compressed to bounds the memory that it takes. The number of its fields does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

_LENGTH_GIVEN = 2
_MAX_VARINT_BYTES = 10
_AS_LONG_AS_WRITTEN = frozenset(
    {
        FieldDescriptor.CPPTYPE_STRING,
        FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_DOUBLE,
        FieldDescriptor.CPPTYPE_MESSAGE,
    }
)
"""The others, whole numbers, take eight bytes for one if they are packed."""


def has_more_fields(content: bytes, kind: Descriptor, most: int) -> bool:
    """Tell whether a message has more fields than allowed, those of the messages within it included.

    Of whole numbers that are packed into one field, each byte counts as one.

    Args:
        content: The serialized message.
        kind: What it is.
        most: Fields that are allowed; no more are looked at.

    Raises:
        DecodeError: It is no message.
    """
    count, waiting = 0, [(kind, 0, len(content))]
    while waiting:
        kind, position, end = waiting.pop()
        while position < end:
            count += 1
            if count > most:
                return True
            tag, position = _varint(content, position)
            start, position = _value(content, position, tag & 7)
            if position > end:
                raise DecodeError(f"a field ends at byte {position}, its message at {end}")
            field = kind.fields_by_number.get(tag >> 3)
            if field is None or tag & 7 != _LENGTH_GIVEN:
                continue
            if field.message_type is not None:
                waiting.append((field.message_type, start, position))
            elif field.cpp_type not in _AS_LONG_AS_WRITTEN:
                count += position - start
    return count > most


def _value(content: bytes, position: int, wire_type: int) -> tuple[int, int]:
    """Return where a field's value begins and ends."""
    match wire_type:
        case 0:
            return position, _varint(content, position)[1]
        case 1:
            return position, position + 8
        case 2:
            length, start = _varint(content, position)
            return start, start + length
        case 5:
            return position, position + 4
        case _:
            raise DecodeError(f"a field is of wire type {wire_type}, expected 0, 1, 2 or 5")


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = 0
    for index, byte in enumerate(content[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    raise DecodeError(f"no number ends within {_MAX_VARINT_BYTES} bytes of byte {position}")
