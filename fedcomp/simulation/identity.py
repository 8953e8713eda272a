"""The one place that writes to Flower's private parts: whose messages a process makes, and their ids."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from flwr.supercore.task_identity import TaskIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flwr.app import Message

_FIELDS = ("_task_id", "_run_id", "_node_id")


@contextlib.contextmanager
def task_identity(*, run_id: int, node_id: int) -> Iterator[None]:
    """Be the ServerApp of a run: ``Message(...)`` reads a process-wide identity, which is restored afterwards."""
    before = {name: getattr(TaskIdentity, name) for name in _FIELDS}
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, node_id
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that Flower's SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = message_id
