from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PixelType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIXEL_TYPE_UNSPECIFIED: _ClassVar[PixelType]
    PIXEL_TYPE_UINT8: _ClassVar[PixelType]
    PIXEL_TYPE_FLOAT32: _ClassVar[PixelType]
PIXEL_TYPE_UNSPECIFIED: PixelType
PIXEL_TYPE_UINT8: PixelType
PIXEL_TYPE_FLOAT32: PixelType

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ("name", "artifact", "artifact_bytes", "image_shape", "num_classes", "num_versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    NUM_CLASSES_FIELD_NUMBER: _ClassVar[int]
    NUM_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    artifact: str
    artifact_bytes: int
    image_shape: _containers.RepeatedScalarFieldContainer[int]
    num_classes: int
    num_versions: int
    def __init__(self, name: _Optional[str] = ..., artifact: _Optional[str] = ..., artifact_bytes: _Optional[int] = ..., image_shape: _Optional[_Iterable[int]] = ..., num_classes: _Optional[int] = ..., num_versions: _Optional[int] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ...) -> None: ...

class GetManifestRequest(_message.Message):
    __slots__ = ("name", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class GetManifestResponse(_message.Message):
    __slots__ = ("manifest", "digest")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    digest: str
    def __init__(self, manifest: _Optional[bytes] = ..., digest: _Optional[str] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("name", "digest", "offset")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    offset: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class DownloadResponse(_message.Message):
    __slots__ = ("start", "chunk")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    start: DownloadStart
    chunk: bytes
    def __init__(self, start: _Optional[_Union[DownloadStart, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class DownloadStart(_message.Message):
    __slots__ = ("artifact", "artifact_bytes")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_BYTES_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    artifact_bytes: int
    def __init__(self, artifact: _Optional[str] = ..., artifact_bytes: _Optional[int] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("name", "digest", "images", "shape", "pixel_type", "probabilities")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PIXEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    images: bytes
    shape: _containers.RepeatedScalarFieldContainer[int]
    pixel_type: PixelType
    probabilities: bool
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., images: _Optional[bytes] = ..., shape: _Optional[_Iterable[int]] = ..., pixel_type: _Optional[_Union[PixelType, str]] = ..., probabilities: bool = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("logits", "probabilities", "classes", "num_classes", "artifact")
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    NUM_CLASSES_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    logits: _containers.RepeatedScalarFieldContainer[float]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    classes: _containers.RepeatedScalarFieldContainer[int]
    num_classes: int
    artifact: str
    def __init__(self, logits: _Optional[_Iterable[float]] = ..., probabilities: _Optional[_Iterable[float]] = ..., classes: _Optional[_Iterable[int]] = ..., num_classes: _Optional[int] = ..., artifact: _Optional[str] = ...) -> None: ...
