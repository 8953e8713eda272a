"""Take a strategy's step back: what it remembers of rounds must not be that of a round that is thrown away."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LOOKED_INTO = (dict, ArrayRecord, list, deque, set, np.ndarray, tuple, Strategy)


def remember_attributes(strategy: Strategy) -> Callable[[], None]:
    """Remember the attributes of a strategy, and of those that it holds.

    What a step can write into is filled again with what it held: dictionaries, lists, deques, sets, ArrayRecords, and
    arrays that are not read-only. It stays the same object, since others may hold it, too. Objects of other classes,
    such as torch's tensors, are not looked into: one that is replaced comes back, what is written into one stays.

    Returns:
        What brings all of them back, once.
    """
    seen: dict[int, object] = {}
    refill: list[Callable[[], None]] = []
    waiting: list[Any] = [strategy]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Strategy):
            value = vars(value)
        if id(value) in seen:
            continue
        seen[id(value)] = value  # holds it: the id stays its own
        held, again = _contents(value)
        waiting += (each for each in held if isinstance(each, _LOOKED_INTO))
        if again:
            refill.append(again)

    def restore() -> None:
        for each in refill:
            each()

    return restore


def _contents(value: Any) -> tuple[Iterable[Any], Callable[[], None] | None]:
    """Return what a value holds, and what fills it with that again; None where nothing can be written into it."""
    if isinstance(value, (dict, ArrayRecord)):
        items = list(value.items())
        return [each for _, each in items], partial(_refill_mapping, value, items)
    if isinstance(value, (list, deque)):
        members = list(value)
        return members, partial(_refill_sequence, value, members)
    if isinstance(value, set):
        return (), partial(_refill_set, value, list(value))
    if isinstance(value, np.ndarray):
        return (), partial(np.copyto, value, value.copy()) if value.flags.writeable else None
    return value, None


def _refill_mapping(mapping: Any, items: list[tuple[Any, Any]]) -> None:
    mapping.clear()
    for key, each in items:
        mapping[key] = each


def _refill_sequence(sequence: list[Any] | deque[Any], members: list[Any]) -> None:
    sequence.clear()
    sequence.extend(members)


def _refill_set(values: set[Any], members: list[Any]) -> None:
    values.clear()
    values.update(members)
