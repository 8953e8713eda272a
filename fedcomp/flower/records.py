"""Between Flower's records and fedcomp's types."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import numpy as np
from flwr.app import Array, ArrayRecord

from fedcomp.errors import FrameMalformed, FrameTooLarge, InvalidValues, SpecMismatch, UsageError

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from fedcomp.types import Model, NDArray

_FRAME_TYPE = "fedcomp"
_NPY_HEADER_BYTES = 1024


def only_array_record(content: RecordDict) -> tuple[str, ArrayRecord]:
    """Return key and value of a message's one ArrayRecord; raises `UsageError` if there is not exactly one."""
    if len(content.array_records) != 1:
        raise UsageError(f"message has {len(content.array_records)} ArrayRecords, compression needs exactly one")
    return next(iter(content.array_records.items()))


def to_model(record: ArrayRecord) -> Model:
    """Return the arrays of a trusted record."""
    return {name: array.numpy() for name, array in record.items()}


def to_array_record(model: Model) -> ArrayRecord:
    """Serialize a model, one Array a tensor."""
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in model.items()})


def num_bytes(record: ArrayRecord) -> int:
    """Count the bytes of a record's arrays, as they travel."""
    return sum(len(array.data) for array in record.values())


def content_bytes(content: RecordDict) -> int:
    """Count the bytes of a message's content, as they travel: its arrays' data and its other records, serialized."""
    others = (*content.config_records.values(), *content.metric_records.values())
    arrays = sum(num_bytes(record) for record in content.array_records.values())
    return arrays + sum(len(record.deflate()) for record in others)


def frame_to_record(frame: bytes) -> ArrayRecord:
    """Pack a frame into one Array: each Array of a message costs a request of its own on every hop."""
    return ArrayRecord({"update": Array(dtype="uint8", shape=(len(frame),), stype=_FRAME_TYPE, data=frame)})


def frame_from_record(record: ArrayRecord) -> bytes:
    """Return the frame that a reply carries.

    Raises:
        FrameMalformed: It carries something else.
    """
    arrays = list(record.values())
    if len(arrays) != 1 or arrays[0].stype != _FRAME_TYPE:
        raise FrameMalformed(
            f"reply carries {len(arrays)} plain arrays and no frame; is compression_mod() among the ClientApp's mods?"
        )
    return arrays[0].data


def plain_model_from_record(record: ArrayRecord, base: Model) -> Model:
    """Read a client's uncompressed model, trusting nothing in it.

    Raises:
        SpecMismatch: Other names, types or shapes than `base`.
        FrameTooLarge: An array is longer than its shape needs.
        FrameMalformed: An array is not in NumPy's format.
        InvalidValues: NaN or infinity.
    """
    if list(record) != list(base):
        raise SpecMismatch(f"reply has tensors {list(record)[:5]}..., expected {list(base)[:5]}...")
    return {name: _plain_array(name, record[name], base[name]) for name in base}


def _plain_array(name: str, array: Array, base: NDArray) -> NDArray:
    if len(array.data) > base.nbytes + _NPY_HEADER_BYTES:
        raise FrameTooLarge(f"tensor {name!r} has {len(array.data)} bytes, its shape needs {base.nbytes}")
    orders: tuple[Literal["C"], Literal["F"]] = ("C", "F")
    for order in orders:
        # The header is compared, never parsed: NumPy's parser evaluates it, and allocates whatever shape it claims.
        header = _npy_header(base, order)
        if array.data.startswith(header):
            break
    else:
        raise SpecMismatch(f"tensor {name!r} is no NumPy array of type {base.dtype} and shape {base.shape}")
    raw = array.data[len(header) :]
    if len(raw) != base.nbytes:
        raise FrameMalformed(f"tensor {name!r} holds {len(raw)} bytes, expected {base.nbytes}")
    values = np.frombuffer(raw, base.dtype).reshape(base.shape, order=order)
    if base.dtype.kind == "f" and not np.isfinite(values).all():
        raise InvalidValues(f"tensor {name!r} holds NaN or infinity")
    return values


def _npy_header(like: NDArray, order: Literal["C", "F"]) -> bytes:
    stream = io.BytesIO()
    description = np.lib.format.dtype_to_descr(like.dtype)
    header = {"descr": description, "fortran_order": order == "F", "shape": like.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()
