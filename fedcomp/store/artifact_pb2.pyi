from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Artifact(_message.Message):
    __slots__ = ("skeleton", "gains", "frame")
    SKELETON_FIELD_NUMBER: _ClassVar[int]
    GAINS_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    skeleton: bytes
    gains: _containers.RepeatedScalarFieldContainer[int]
    frame: bytes
    def __init__(self, skeleton: _Optional[bytes] = ..., gains: _Optional[_Iterable[int]] = ..., frame: _Optional[bytes] = ...) -> None: ...
