"""Orders as Flower's records: a dataclass of numbers, texts and tuples of numbers, field by field."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from flwr.app import ConfigRecord

from fedcomp.errors import UsageError
from fedcomp.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


def write_order(order: DataclassInstance) -> ConfigRecord:
    """Return an order as a record; an empty tuple is left out, since Flower can not count an empty list.

    Raises:
        UsageError: A value is of another type than its field: no client would take it.
    """
    values = {field.name: getattr(order, field.name) for field in fields(order)}
    _check_types(type(order), values)
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return ConfigRecord({name: value for name, value in listed.items() if not isinstance(value, list) or value})


def read_order(kind: type[T], record: object) -> T:
    """Read an order, trusting nothing in it.

    Raises:
        UsageError: It is of another version or no record of its kind, or a value is of another type or out of range.
    """
    if not isinstance(record, ConfigRecord):
        raise UsageError(f"the server's {kind.__name__} is a {type(record).__name__}, expected a ConfigRecord")
    known = {field.name for field in fields(kind)}
    required = {field.name for field in fields(kind) if field.default != ()}
    if not required <= record.keys() <= known:
        found = printable(str(sorted(record)))
        raise UsageError(f"the server's {kind.__name__} has fields {found}, expected {sorted(known)}: other versions?")
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    _check_types(kind, values)
    return kind(**values)


def _check_types(kind: type[DataclassInstance], values: Mapping[str, object]) -> None:
    types = _types(kind)
    for name, value in values.items():
        if not _is_a(types[name], value):
            found, expected = type(value).__name__, kind.__annotations__[name]
            raise UsageError(f"the server's {kind.__name__} has {name} of type {found}, expected {expected}")


@functools.cache
def _types(kind: type[DataclassInstance]) -> dict[str, Any]:
    return get_type_hints(kind)


def _is_a(expected: Any, value: object) -> bool:
    """Tell whether a value is of a field's type; a whole number is a float as well, but True is no number."""
    if get_origin(expected) is tuple:
        return isinstance(value, tuple) and all(_is_a(get_args(expected)[0], each) for each in value)
    if isinstance(value, bool):
        return expected is bool
    return isinstance(value, (int, float) if expected is float else expected)
