"""A stored model as bytes: the graph's skeleton, the weights as a frame of fedcomp's codecs.

``fcm``, a byte of version, then the message of ``artifact.proto``. Each tensor was multiplied by ``2 ** (gain / 4)``
before it was encoded, so that one step for the model is a step of its own for each tensor; `compress` chooses them.
Shapes are the skeleton's. The artifact's SHA-256 is its name in a store, and is checked before anything here runs;
what is checked here keeps a stranger's artifact from more than being refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import zstandard
from google.protobuf.message import DecodeError

from fedcomp.codecs import decode, parse_codec
from fedcomp.errors import ArtifactError, FrameError
from fedcomp.store import artifact_pb2
from fedcomp.store.graph import join_model, parse_onnx, weight_shapes
from fedcomp.types import ModelSpec, TensorSpec
from fedcomp.wire import FrameLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.store.graph import SplitModel
    from fedcomp.types import Model

MAX_ARTIFACT_BYTES = 1 << 26
"""Longest artifact that is read."""
MAX_GAIN = 160
"""Largest size of a gain, in quarters of an octave."""

_MAGIC = b"fcm\x01"
_MAX_SKELETON_BYTES = 1 << 24
_LEVEL = 19
_TYPICAL = (
    b"LayerNormalizationGlobalAveragePoolConcatTransposeHardSwishHardSigmoidSigmoidMulAddClip\x12\ngroup"
    b"ReluMaxPool\x12\x11count_include_pad\x18\x01\x12\tceil_mode\x12\x0bAveragePool*\x00Gemm*\r\n\x06transB\x18\x01\xa0\x01\x02"
    b'*\x10\n\tallowzero\x18\x01\xa0\x01\x02"\x07Reshape\x12\nmain_graphB\x04\n\x00\x10\x14'
    b'*\x16\n\x0cauto_pad"\x06NOTSET\xa0\x01\x03*\x10\n\x07strides@\x02@\x02\xa0\x01\x07*\x15\n\x0ckernel_shape@\x03@\x03'
    b'\xa0\x01\x07"\x04Conv*\x11\n\x04pads@\x01@\x01@\x01@\x01\xa0\x01\x07*\x10\n\x07strides@\x01@\x01\xa0\x01\x07'
    b"*\x12\n\tdilations@\x01@\x01\xa0\x01\x07*\x15\n\x0ckernel_shape@\x03@\x03\xa0\x01\x07"
    b"\x12\x1b\n\x19\x08\x01\x12\x15\n\x07\x12\x05batch\n\x02\x08\x01\n\x02\x08\x1c\n\x02\x08\x1cZ%\n\x06images"
    b"b\x1d\n\x06logits\x12\x13\n\x11\x08\x01\x12\r\n\x07\x12\x05batch\n\x02\x08\n"
)
"""What skeletons of small networks look like: a third of one is found here. Part of the format: never to be changed."""


def pack_artifact(model: SplitModel, codec: str, gains: Mapping[str, int]) -> bytes:
    """Write a model as an artifact.

    Args:
        model: Skeleton and weights.
        codec: Text or preset name; deterministic.
        gains: By weight, in quarters of an octave; those that are not there have 0.

    Raises:
        EncodeError: A weight is not finite.
    """
    listed = [gains.get(name, 0) for name in model.weights]
    scaled = {name: values * _factor(gain) for (name, values), gain in zip(model.weights.items(), listed, strict=True)}
    message = artifact_pb2.Artifact(
        skeleton=zstandard.ZstdCompressor(
            level=_LEVEL, dict_data=_dictionary(), write_checksum=True, write_dict_id=False
        ).compress(model.skeleton),
        gains=listed if any(listed) else [],
        frame=parse_codec(codec).encode(scaled).frame,
    )
    return _MAGIC + message.SerializeToString(deterministic=True)


def unpack_artifact(artifact: bytes) -> bytes:
    """Return the ONNX model that an artifact holds.

    Raises:
        ArtifactError: It is damaged, too large, or none.
    """
    if len(artifact) > MAX_ARTIFACT_BYTES:
        raise ArtifactError(f"artifact has {len(artifact)} bytes, at most {MAX_ARTIFACT_BYTES} are allowed")
    if not artifact.startswith(_MAGIC):
        raise ArtifactError(f"artifact begins with {artifact[: len(_MAGIC)]!r}, expected {_MAGIC!r}")
    try:
        message = artifact_pb2.Artifact.FromString(artifact[len(_MAGIC) :])
        skeleton = parse_onnx(_decompress(message.skeleton))
        shapes = weight_shapes(skeleton)
        spec = ModelSpec(tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items()))
        weights = decode(message.frame, spec, limits=FrameLimits(max_frame_bytes=MAX_ARTIFACT_BYTES))
    except DecodeError as error:
        raise ArtifactError(f"artifact does not parse: {error}") from None
    except FrameError as error:
        raise ArtifactError(f"artifact's weights are refused ({error.reason}): {error}") from None
    return join_model(skeleton, _divide(weights, list(message.gains)))


def _divide(weights: Model, gains: list[int]) -> Model:
    if not gains:
        return weights
    if len(gains) != len(weights) or max(map(abs, gains)) > MAX_GAIN:
        raise ArtifactError(f"artifact has {len(gains)} gains for {len(weights)} tensors, or one beyond {MAX_GAIN}")
    with np.errstate(over="ignore"):
        divided = {name: values / _factor(gain) for (name, values), gain in zip(weights.items(), gains, strict=True)}
    if not all(np.isfinite(values).all() for values in divided.values()):
        raise ArtifactError("artifact's weights become infinite by their gains")
    return divided


def _factor(gain: int) -> np.float32:
    return np.float32(2 ** (gain / 4))


def _decompress(skeleton: bytes) -> bytes:
    try:
        declared = zstandard.get_frame_parameters(skeleton).content_size
        if not 0 < declared <= _MAX_SKELETON_BYTES:
            raise ArtifactError(f"skeleton declares {declared} bytes, at most {_MAX_SKELETON_BYTES} are allowed")
        return zstandard.ZstdDecompressor(dict_data=_dictionary()).decompress(
            skeleton, max_output_size=declared, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise ArtifactError(f"skeleton does not decompress: {error}") from None


def _dictionary() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(_TYPICAL, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
