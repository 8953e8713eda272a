"""Flower's messages and records as parts: one of protobuf, and the bytes of each array as they are.

Flower's own protobuf describes everything small. Array bytes stay out of it, because protobuf copies them twice on
each side; as parts of their own they go from the array into shared memory and from there into the other process's
array, one copy each. No pickle: what a client can make its process send is read as data, never as code.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.recorddict_pb2 import Array as ArrayProto
from flwr.proto.recorddict_pb2 import ArrayRecord as ArrayRecordProto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def encode_records(records: RecordDict) -> list[bytes]:
    """Return the parts of records; array bytes are not copied."""
    return [_to_proto(records).SerializeToString(), *_array_bytes(records)]


def decode_records(parts: Sequence[bytes]) -> RecordDict:
    """Return the records of parts that `encode_records` made; array bytes are not copied."""
    return _from_proto(RecordDictProto.FromString(parts[0]), iter(parts[1:]))


def encode_message(message: Message) -> list[bytes]:
    """Return the parts of a message with content or an error; array bytes are not copied."""
    if not message.has_content():
        return [message_to_proto(message).SerializeToString()]
    proto = message_to_proto(with_content(message, RecordDict()))
    proto.content.CopyFrom(_to_proto(message.content))
    return [proto.SerializeToString(), *_array_bytes(message.content)]


def decode_message(parts: Sequence[bytes]) -> Message:
    """Return the message of parts that `encode_message` made; array bytes are not copied."""
    proto = MessageProto.FromString(parts[0])
    if not proto.HasField("content"):
        return message_from_proto(proto)
    content = _from_proto(proto.content, iter(parts[1:]))
    proto.content.Clear()
    return with_content(message_from_proto(proto), content)


def with_content(message: Message, content: RecordDict) -> Message:
    """Return a message with the same metadata and other content."""
    return Message(metadata=message.metadata, content=content)  # type: ignore[call-overload, no-any-return]


def copy_arrays(record: ArrayRecord) -> ArrayRecord:
    """Copy a record and its arrays; their bytes are the same objects, which nobody can change."""
    copied = ArrayRecord()  # given a dictionary it would make every Array anew, six times as slow
    for name, array in record.items():
        copied[name] = copy.copy(array)
    return copied


def _to_proto(records: RecordDict) -> RecordDictProto:
    """Describe records, without the bytes of their arrays."""
    proto = RecordDictProto()
    for key, record in records.items():
        if isinstance(record, ArrayRecord):
            items = [ArrayRecordProto.Item(key=name, value=_describe(array)) for name, array in record.items()]
            proto.items.add(key=key, array_record=ArrayRecordProto(items=items))
        else:
            proto.items.extend(recorddict_to_proto(RecordDict({key: record})).items)
    return proto


def _from_proto(proto: RecordDictProto, array_bytes: Iterator[bytes]) -> RecordDict:
    records = RecordDict()
    for item in proto.items:
        if item.HasField("array_record"):
            records[item.key] = record = ArrayRecord()
            for each in item.array_record.items:
                described = each.value
                array = Array(described.dtype, tuple(described.shape), described.stype, next(array_bytes))
                record[each.key] = array
        else:
            records[item.key] = recorddict_from_proto(RecordDictProto(items=[item]))[item.key]
    return records


def _describe(array: Array) -> ArrayProto:
    return ArrayProto(dtype=array.dtype, shape=array.shape, stype=array.stype)


def _array_bytes(records: RecordDict) -> Iterable[bytes]:
    for record in records.values():
        if isinstance(record, ArrayRecord):
            yield from (bytes(array.data) for array in record.values())  # of bytes it is the same object
