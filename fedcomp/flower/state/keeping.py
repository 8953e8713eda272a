"""What an object keeps in its attributes, as facts and tensors, and back: for strategies that were not written for it.

Flower's strategies hold numbers, NumPy arrays, ArrayRecords, and lists and dictionaries of these. Each is written as
data under a tag, so that it comes back as the same type. Functions belong to how a strategy was built and stay as they
are. Anything else is refused by name: a run that silently lost a part of its state would go on as another run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from fedcomp.errors import CheckpointError
from fedcomp.flower.messages.records import to_array_record, to_model
from fedcomp.flower.state.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fedcomp.types import NDArray

_NUMERIC = "biuf"


def keep_strategy(strategy: Strategy) -> Snapshot:
    """Return a strategy's attributes, those of strategies inside it too.

    Raises:
        CheckpointError: One of them can not be kept.
    """
    tensors: dict[str, NDArray] = {}
    return Snapshot({"attributes": _pack(strategy, type(strategy).__name__, tensors)}, tensors)


def restore_strategy(strategy: Strategy, snapshot: Snapshot) -> None:
    """Give a strategy that was built in the same way the attributes that `keep_strategy` returned."""
    _unpack(snapshot.facts["attributes"], snapshot.tensors, strategy)


def _pack(value: object, name: str, tensors: dict[str, NDArray]) -> Any:
    """Return a JSON value for anything that can be kept; arrays go to `tensors`, under `name`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMERIC:
        tensors[name] = np.asarray(value)
        return {"is": "array" if isinstance(value, np.ndarray) else "number", "tensor": name}
    if isinstance(value, bytes):
        tensors[name] = np.frombuffer(value, np.uint8)
        return {"is": "bytes", "tensor": name}
    if isinstance(value, ArrayRecord):
        return {"is": "record", "items": _pack_items(to_model(value), name, tensors)}
    if type(value) is dict:
        return {"is": "dict", "items": _pack_items(value, name, tensors)}
    if type(value) in (list, tuple):
        values: Any = value
        packed = [_pack(each, f"{name}[{place}]", tensors) for place, each in enumerate(values)]
        return {"is": type(value).__name__, "items": packed}
    if isinstance(value, Strategy):
        return {"is": "strategy", "items": _pack_attributes(value, name, tensors)}
    raise CheckpointError(
        f"{name} is of type {type(value).__qualname__}, which a checkpoint can not keep: it keeps numbers, texts, "
        "bytes, numeric arrays, ArrayRecords, and lists, tuples and dictionaries of these"
    )


def _pack_attributes(strategy: Strategy, name: str, tensors: dict[str, NDArray]) -> dict[str, Any]:
    as_built = {"is": "as-built"}
    return {
        key: as_built if callable(value) else _pack(value, f"{name}.{key}", tensors)
        for key, value in vars(strategy).items()
    }


def _pack_items(items: Mapping[Any, object], name: str, tensors: dict[str, NDArray]) -> list[list[Any]]:
    if wrong := [key for key in items if type(key) not in (int, str)]:
        raise CheckpointError(f"{name} has the key {wrong[0]!r}: a checkpoint keeps dictionaries by texts and integers")
    return [[key, _pack(value, f"{name}[{key!r}]", tensors)] for key, value in items.items()]


def _unpack(packed: Any, tensors: Mapping[str, NDArray], built: object) -> Any:
    """Return the value that was packed; `built` is what stands in its place now."""
    if not isinstance(packed, dict):
        return packed
    unpackers: dict[str, Callable[[], Any]] = {
        "array": lambda: tensors[packed["tensor"]].copy(),
        "number": lambda: tensors[packed["tensor"]][()],
        "bytes": lambda: tensors[packed["tensor"]].tobytes(),
        "record": lambda: to_array_record({key: _unpack(each, tensors, None) for key, each in packed["items"]}),
        "dict": lambda: {key: _unpack(each, tensors, None) for key, each in packed["items"]},
        "list": lambda: [_unpack(each, tensors, None) for each in packed["items"]],
        "tuple": lambda: tuple(_unpack(each, tensors, None) for each in packed["items"]),
        "strategy": lambda: _restore_attributes(packed["items"], tensors, built),
        "as-built": lambda: built,
    }
    return unpackers[packed["is"]]()


def _restore_attributes(items: Mapping[str, Any], tensors: Mapping[str, NDArray], built: object) -> object:
    for key, packed in items.items():
        setattr(built, key, _unpack(packed, tensors, getattr(built, key, None)))
    return built
