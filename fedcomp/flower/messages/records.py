"""Between Flower's records and fedcomp's types."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.common.constant import SType

from fedcomp.errors import FrameMalformed, FrameTooLarge, InvalidValues, SpecMismatch, UsageError
from fedcomp.printable import printable
from fedcomp.types import round_within, to_integers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flwr.app import RecordDict

    from fedcomp.types import Model, NDArray

T = TypeVar("T")

FRAME_TYPE = "fedcomp"
"""The serialization type of an Array that is no array but bytes of fedcomp."""
_NPY_HEADER_BYTES = 1024
NUMBERS = (
    *("float16", "float32", "float64", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
"""NumPy's names of what clients compute in, whatever the model is: a plain reply may be of any of these."""
_SHOWN = 100
"""Characters of what an Array says of itself that are shown."""


def only_array_record(content: RecordDict) -> tuple[str, ArrayRecord]:
    """Return key and value of a message's one ArrayRecord; raises `UsageError` if there is not exactly one."""
    if len(content.array_records) != 1:
        raise UsageError(f"message has {len(content.array_records)} ArrayRecords, compression needs exactly one")
    return next(iter(content.array_records.items()))


def to_model(record: ArrayRecord) -> Model:
    """Return the arrays of a trusted record, read-only: they are views of its bytes where these are as expected.

    Raises:
        UsageError: An array is of a type that NumPy's files do not know, such as bfloat16, or holds no numbers.
    """
    return {name: _view(name, array) for name, array in record.items()}


def named_as(base: Iterable[str], tensors: Mapping[str, T]) -> Mapping[str, T]:
    """Give numbered tensors ("0", "1", and so on) the names of `base` by position, if they are as many.

    So Flower names the arrays of a list, which is what a NumPyClient replies with. All others stay as they are.
    """
    names = list(base)
    numbers = [str(position) for position in range(len(names))]
    if set(tensors) != set(numbers) or set(tensors) == set(names):
        return tensors
    return {name: tensors[number] for name, number in zip(names, numbers, strict=True)}


def to_array_record(model: Model) -> ArrayRecord:
    """Serialize a model, one Array a tensor."""
    record = ArrayRecord()  # given a dictionary it would make every Array anew
    for name, values in model.items():
        record[name] = _to_array(np.asarray(values))
    return record


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
    return ArrayRecord({"update": Array(dtype="uint8", shape=(len(frame),), stype=FRAME_TYPE, data=frame)})


def frame_from_record(record: ArrayRecord) -> bytes:
    """Return the frame that a reply carries.

    Raises:
        FrameMalformed: It carries something else.
    """
    arrays = list(record.values())
    if len(arrays) != 1 or arrays[0].stype != FRAME_TYPE:
        raise FrameMalformed(
            f"reply carries {len(arrays)} plain arrays and no frame; is compression_mod() among the ClientApp's mods?"
        )
    return arrays[0].data


def plain_model_from_record(record: ArrayRecord, base: Model) -> Model:
    """Read a client's uncompressed model, trusting nothing in it.

    Tensors have the names of `base`, in any order, or are numbered in its order. Each has the type of `base` or is of
    any other of NumPy's floats, integers and booleans.

    Returns:
        The client's model with the names, types and shapes of `base`.

    Raises:
        SpecMismatch: Other names, types or shapes.
        FrameTooLarge: An array is longer than its shape needs.
        FrameMalformed: An array is not in NumPy's format.
        InvalidValues: NaN, infinity, or what `base`'s type can not hold: too large, or no whole number.
    """
    arrays = named_as(base, dict(record))
    if arrays.keys() != base.keys():
        raise SpecMismatch(f"reply has tensors {list(record)[:5]}..., expected {list(base)[:5]}...")
    return {name: _plain_array(name, arrays[name], base[name]) for name in base}


def with_types_of(base: Model, arrays: ArrayRecord) -> ArrayRecord:
    """Undo Flower's averaging of integers into float64, and any other change of type or order.

    Tensors that `base` does not have come last, as they are.
    """
    names = [*(name for name in base if name in arrays), *(name for name in arrays if name not in base)]
    if names == list(arrays) and all(arrays[n].dtype == base[n].dtype.name for n in names if n in base):
        return arrays
    model = to_model(arrays)
    return to_array_record({n: round_within(model[n], base[n].dtype) if n in base else model[n] for n in names})


def _plain_array(name: str, array: Array, base: NDArray) -> NDArray:
    dtypes = [base.dtype, *(np.dtype(other) for other in NUMBERS if other != base.dtype.name)]
    largest = base.size * max(dtype.itemsize for dtype in dtypes)
    if len(array.data) > largest + _NPY_HEADER_BYTES:
        raise FrameTooLarge(f"tensor {name!r} has {len(array.data)} bytes, its shape needs at most {largest}")
    orders: tuple[Literal["C"], Literal["F"]] = ("C", "F")
    for dtype, order in product(dtypes, orders):
        # The header is compared, never parsed: NumPy's parser evaluates it, and allocates whatever shape it claims.
        header = _npy_header(dtype, base.shape, order)
        if array.data.startswith(header):
            break
    else:
        raise SpecMismatch(
            f"tensor {name!r} says that it is {_describe(array)}; "
            f"expected a NumPy array of type {base.dtype}, or of other numbers, and shape {base.shape}"
        )
    if len(array.data) - len(header) != (expected := base.size * dtype.itemsize):
        raise FrameMalformed(f"tensor {name!r} holds {len(array.data) - len(header)} bytes, expected {expected}")
    values = np.frombuffer(array.data, dtype, offset=len(header)).reshape(base.shape, order=order)
    return _as_type(name, values, base.dtype)


def _as_type(name: str, values: NDArray, dtype: np.dtype[Any]) -> NDArray:
    """Return a client's values as what the model holds; raises `InvalidValues` where they are none of its values."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused just below
            values = values.astype(dtype, copy=False)
        if not np.isfinite(values).all():
            raise InvalidValues(f"tensor {name!r} holds NaN, infinity or a value beyond {dtype}")
        return values
    if values.dtype == dtype:
        return values
    integers = to_integers(values)
    if integers is None or (integers.astype(dtype) != integers).any():
        raise InvalidValues(f"tensor {name!r} holds values of type {values.dtype} that are no {dtype}")
    return integers.astype(dtype)


def _describe(array: Array) -> str:
    """Return what an Array of a stranger says of itself, fit to be shown; a NumPyClient's say nothing."""
    return printable(f"{array.stype!r} of type {array.dtype!r} and shape {array.shape}", _SHOWN)


def _view(name: str, array: Array) -> NDArray:
    """Read an array without copying it; NumPy's reader takes five times as long and copies twice."""
    if array.stype == SType.NUMPY and (dtype := _plain_dtype(array.dtype)):
        header = _npy_header(dtype, array.shape, "C")
        if len(array.data) == len(header) + dtype.itemsize * prod(array.shape) and array.data.startswith(header):
            return np.frombuffer(array.data, dtype, offset=len(header)).reshape(array.shape)
    values = array.numpy()
    if values.dtype.kind not in "biuf":
        found = printable(array.dtype or str(values.dtype), _SHOWN)
        raise UsageError(f"tensor {name!r} has type {found}, expected NumPy's own floats, integers or booleans")
    values.flags.writeable = False
    return values


def _to_array(values: NDArray) -> Array:
    """Write an array as NumPy's `save` does, with one copy instead of three."""
    if values.dtype.hasobject:
        return Array(values)  # raises
    header = _npy_header(values.dtype, values.shape, "C")
    data = b"".join((header, np.asarray(values, order="C").data))
    return Array(str(values.dtype), values.shape, SType.NUMPY, data)


def _plain_dtype(name: str) -> np.dtype[Any] | None:
    try:
        dtype = np.dtype(name)
    except TypeError:
        return None
    return dtype if dtype.kind in "biuf" and dtype.name == name else None


@lru_cache(maxsize=4096)
def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> bytes:
    stream = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": description, "fortran_order": order == "F", "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()
