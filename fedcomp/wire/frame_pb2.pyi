from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stage(_message.Message):
    __slots__ = ("id", "args")
    ID_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    id: int
    args: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, id: _Optional[int] = ..., args: _Optional[_Iterable[int]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("round", "origin", "base", "spec", "stages", "sections")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    round: int
    origin: int
    base: int
    spec: int
    stages: _containers.RepeatedCompositeFieldContainer[Stage]
    sections: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., origin: _Optional[int] = ..., base: _Optional[int] = ..., spec: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[Stage, _Mapping]]] = ..., sections: _Optional[_Iterable[int]] = ...) -> None: ...
