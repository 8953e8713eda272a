"""Take a strategy's step back: what it remembers of rounds must not be that of a round that is thrown away."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def remember_attributes(strategy: Strategy) -> Callable[[], None]:
    """Remember the attributes of a strategy, and of those inside it.

    Arrays, ArrayRecords and containers are copied, since a step may change them where they are. All else belongs to how
    a strategy was built, and is not looked into.

    Returns:
        What brings all of them back, once.
    """
    kept = [(each, {name: _copied(value) for name, value in vars(each).items()}) for each in _with_inner(strategy)]

    def restore() -> None:
        for each, attributes in kept:
            vars(each).clear()
            vars(each).update(attributes)

    return restore


def _with_inner(strategy: Strategy) -> Iterator[Strategy]:
    yield strategy
    for value in vars(strategy).values():
        if isinstance(value, Strategy):
            yield from _with_inner(value)


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray | ArrayRecord | set):
        return value.copy()
    if isinstance(value, dict | list):
        copied: Any = copy(value)
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            copied[key] = _copied(each)
        return copied
    return tuple(map(_copied, value)) if type(value) is tuple else value
