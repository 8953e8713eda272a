"""What the grid asks of whoever runs the clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from flwr.app import Message

    from fedcomp.simulation.states import StateChange


class Answer(NamedTuple):
    """What came of one message.

    Args:
        message_id: Of the message.
        reply: The client's reply, or an error reply.
        change: What became of the client's state; None if it is as before, or not the engine's to keep.
    """

    message_id: str
    reply: Message
    change: StateChange | None = None


class Engine(Protocol):
    """Runs clients. Messages of one client are worked on one after the other."""

    window: int
    """How many messages the grid may hand out beyond the oldest unanswered one."""

    def submit(self, message: Message) -> None:
        """Take a message; its id must be set."""

    def collect(self, limit: float | None) -> list[Answer]:
        """Return what is finished; if nothing is, wait up to `limit` seconds (None: for ever) for something."""

    def forget(self, message_ids: Collection[str]) -> None:
        """Give no answer to messages; a client that is at work on one keeps the state that it had before."""

    def expire(self, message_ids: Collection[str], seconds: float) -> list[Answer]:
        """Stop the clients that are at work on one of these messages, after `seconds`, and forget the others."""

    def keep(self, answer: Answer) -> None:
        """Take an answer for good: the client's state of before is let go."""

    def undo(self, answer: Answer) -> None:
        """Give the client the state that it had before an answer; the latest answer first."""

    def take_changed(self) -> Iterable[tuple[int, list[bytes]]]:
        """Return the partitions whose clients' states have changed since the last call, and the states' parts."""

    def restore(self, partition: int, parts: list[bytes]) -> None:
        """Give a client the state that it had in an earlier process; before its first message."""

    def close(self) -> None:
        """Stop everything; may be called more than once."""
