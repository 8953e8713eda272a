"""Orders as Flower's records: a dataclass of numbers, texts and tuples of numbers, field by field."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from flwr.app import ConfigRecord

from fedcomp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


def write_order(order: DataclassInstance) -> ConfigRecord:
    """Return an order as a record; an empty tuple is left out, since Flower can not count an empty list."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(order).items()}
    return ConfigRecord({name: value for name, value in values.items() if value != []})


def read_order(kind: type[T], record: ConfigRecord) -> T:
    """Read an order; raises `UsageError` if the server speaks another version of it."""
    known = {field.name for field in fields(kind)}
    required = {field.name for field in fields(kind) if field.default != ()}
    if not required <= record.keys() <= known:
        raise UsageError(
            f"the server's {kind.__name__} has fields {sorted(record)}, expected {sorted(known)}: other versions?"
        )
    values: Mapping[str, Any] = record
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
