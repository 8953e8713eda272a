"""A Grid around another one: what it does not do in its own way, it leaves to that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.serverapp import Grid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import Message
    from flwr.supercore.run import Run


class WrappingGrid(Grid):
    """Leave all but `send_and_receive` to another Grid.

    Args:
        inner: The Grid that does the work.
    """

    def __init__(self, inner: Grid) -> None:
        self._inner = inner

    def set_run(self, run: Run) -> None:
        """Leave it to `inner`."""
        self._inner.set_run(run)

    @property
    def run(self) -> Run:
        """The run of `inner`."""
        return self._inner.run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Refuse: deprecated by Flower."""
        raise NotImplementedError("make a flwr.app.Message instead")

    def get_node_ids(self) -> Iterable[int]:
        """Leave it to `inner`."""
        return self._inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Leave it to `inner`."""
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Leave it to `inner`."""
        return self._inner.pull_messages(message_ids)
