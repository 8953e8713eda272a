"""Flower's messages and records as parts: one of protobuf, and the bytes of each array as they are.

Flower's own protobuf describes everything small. Array bytes stay out of it, because protobuf copies them twice on
each side; as parts of their own they go from the array into shared memory and from there into the other process's
array, one copy each. No pickle: what a client can make its process send is read as data, never as code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def encode_records(records: RecordDict) -> list[bytes]:
    """Return the parts of records; array bytes are not copied."""
    return [recorddict_to_proto(_without_bytes(records)).SerializeToString(), *_array_bytes(records)]


def decode_records(parts: Sequence[bytes]) -> RecordDict:
    """Return the records of parts that `encode_records` made; array bytes are not copied."""
    records = recorddict_from_proto(RecordDictProto.FromString(parts[0]))
    _give_bytes(records, parts[1:])
    return records


def encode_message(message: Message) -> list[bytes]:
    """Return the parts of a message with content or an error; array bytes are not copied."""
    if not message.has_content():
        return [message_to_proto(message).SerializeToString()]
    small = with_content(message, _without_bytes(message.content))
    return [message_to_proto(small).SerializeToString(), *_array_bytes(message.content)]


def decode_message(parts: Sequence[bytes]) -> Message:
    """Return the message of parts that `encode_message` made; array bytes are not copied."""
    message = message_from_proto(MessageProto.FromString(parts[0]))
    if message.has_content():
        _give_bytes(message.content, parts[1:])
    return message


def with_content(message: Message, content: RecordDict) -> Message:
    """Return a message with the same metadata and other content."""
    return Message(metadata=message.metadata, content=content)  # type: ignore[call-overload, no-any-return]


def _without_bytes(records: RecordDict) -> RecordDict:
    return RecordDict(
        {
            key: ArrayRecord({name: Array(a.dtype, a.shape, a.stype, b"") for name, a in record.items()})
            if isinstance(record, ArrayRecord)
            else record
            for key, record in records.items()
        }
    )


def _array_bytes(records: RecordDict) -> list[bytes]:
    return [bytes(array.data) for array in _arrays(records)]  # of bytes it is the same object


def _give_bytes(records: RecordDict, parts: Sequence[bytes]) -> None:
    for array, part in zip(_arrays(records), parts, strict=True):
        array.data = part


def _arrays(records: RecordDict) -> Iterator[Array]:
    for record in records.values():
        if isinstance(record, ArrayRecord):
            yield from record.values()
