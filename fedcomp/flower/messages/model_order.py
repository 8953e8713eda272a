"""What the server tells a client about the model in a message: what it is relative to, and what must come out.

Both travel beside the frame. A client that holds no model knows no shapes either, and gets them with its first one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod

import numpy as np
from flwr.app import Array, ArrayRecord, Error

from fedcomp.errors import FrameError, FrameMalformed
from fedcomp.flower.messages.records import FRAME_TYPE, NUMBERS
from fedcomp.types import ModelSpec, TensorSpec

MODEL_KEY = "fedcomp.model"
"""The key of a `ModelOrder` in a message; without it the message's arrays are the model itself."""

NOTHING = 0
"""The base of a frame that is a whole model: relative to zeros. No model has this fingerprint."""

SERVER = "server"
"""The sender in the binding of a model's frame: no client's id, so no client's frame can be passed for one."""

MOST_REFERENCES = 2
"""Of a frame: the model that a client's was relative to, and the initial one."""

LOST, LOST_REFERENCE, REFUSED = "lost-model", "lost-reference", "refused-model"
"""Why a client could not make its model: the words under which the server counts it."""

_FRAME, _SPEC = "model", "spec"
_ERROR_CODE = 1001  # far from Flower's own
_MAX_SPEC_BYTES = 1 << 20
_MOST_AXES, _MOST_ELEMENTS = 64, 1 << 48


class LostModel(FrameError):
    """A model that is relative to one which this client does not hold, or that came out as another one."""

    reason = LOST


class LostReference(FrameError):
    """An update that should be coded with a model which this client does not hold."""

    reason = LOST_REFERENCE


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """How a client shall make this round's model.

    Args:
        base: Fingerprint of the model that the frame is relative to, or `NOTHING`.
        model: Fingerprint of the model that must come out.
        references: Fingerprints of earlier models that the frame is coded with.
    """

    base: int
    model: int
    references: tuple[int, ...] = ()


def pack_model(frame: bytes, spec: ModelSpec | None) -> ArrayRecord:
    """Put a model's frame, and what its tensors are if the client may not know it, in the place of its arrays."""
    parts = {_FRAME: frame}
    if spec is not None:
        parts[_SPEC] = json.dumps([[t.name, t.dtype, t.shape] for t in spec], separators=(",", ":")).encode()
    arrays = {
        name: Array(dtype="uint8", shape=(len(data),), stype=FRAME_TYPE, data=data) for name, data in parts.items()
    }
    return ArrayRecord(arrays)


def unpack_model(record: ArrayRecord, base: int) -> tuple[bytes, bytes]:
    """Return what `pack_model` packed: the frame, and the spec's text, which is empty unless the base is `NOTHING`.

    Raises:
        FrameMalformed: The record holds something else.
    """
    expected = [_FRAME, _SPEC] if base == NOTHING else [_FRAME]
    if list(record) != expected or any(array.stype != FRAME_TYPE for array in record.values()):
        raise FrameMalformed(f"message carries arrays {list(record)[:5]} as its model, expected {expected}")
    return record[_FRAME].data, record[_SPEC].data if _SPEC in record else b""


def read_spec(text: bytes, max_model_bytes: int) -> ModelSpec:
    """Read what a model's tensors are, before anything of their size is allocated.

    Raises:
        FrameMalformed: The text is no spec, or one of a larger model than `max_model_bytes`.
    """
    try:
        if len(text) > _MAX_SPEC_BYTES:
            raise ValueError(f"{len(text)} bytes long")
        tensors = tuple(_read_tensor(*each) for each in json.loads(text))
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise ValueError("a name occurs twice")
        if (needed := sum(tensor.size * np.dtype(tensor.dtype).itemsize for tensor in tensors)) > max_model_bytes:
            raise ValueError(f"a model of {needed} bytes, at most {max_model_bytes} are allowed")
    except (ValueError, TypeError, RecursionError) as error:
        raise FrameMalformed(f"what the server says of the model's tensors can not be used: {error}") from None
    return ModelSpec(tensors)


def to_error(error: FrameError) -> Error:
    """Return the reply of a client that could not make its model."""
    is_lost = isinstance(error, LostModel | LostReference)
    return Error(_ERROR_CODE, f"{error.reason}: {error}" if is_lost else f"{REFUSED}: {error.reason}: {error}")


def failure_of(error: Error) -> str | None:
    """Return which of the three reasons a client gives for sending no update, None if it failed otherwise."""
    reason = str(error.reason).partition(":")[0]
    return reason if error.code == _ERROR_CODE and reason in (LOST, LOST_REFERENCE, REFUSED) else None


def explain(error: Error) -> str:
    """Return what a client says, and what it means where an app was given a frame: Flower's own text does not tell."""
    reason = str(error.reason)
    is_of_a_frame = repr(FRAME_TYPE) in reason
    return f"{reason}; is compression_mod() the first of the ClientApp's mods?" if is_of_a_frame else reason


def _read_tensor(name: object, dtype: object, shape: object) -> TensorSpec:
    if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(shape, list):
        raise ValueError("expected name, type and shape of each tensor")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"tensor {name!r} has shape {shape}")
    # What NumPy could not make: it counts the elements of an empty tensor without the lengths that are 0.
    if len(shape) > _MOST_AXES:
        raise ValueError(f"tensor {name!r} has {len(shape)} axes, at most {_MOST_AXES} are allowed")
    if prod(length or 1 for length in shape) > _MOST_ELEMENTS:
        raise ValueError(f"tensor {name!r} has shape {shape}, at most {_MOST_ELEMENTS} elements are allowed")
    if dtype not in NUMBERS:  # looked up, never parsed: NumPy's parser of types is none for strangers
        raise ValueError(f"tensor {name!r} has type {dtype!r}")
    return TensorSpec(name, dtype, tuple(shape))
