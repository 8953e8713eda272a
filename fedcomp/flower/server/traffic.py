"""What one round moved: bytes counted on what was really sent, and what became of each reply."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from flwr.common.logger import log

from fedcomp.printable import printable

if TYPE_CHECKING:
    from fedcomp.network import RoundTiming

_MAX_COMPLAINTS = 3


@runtime_checkable
class TimedGrid(Protocol):
    """A Grid that keeps a simulated clock."""

    @property
    def timing(self) -> RoundTiming:
        """The clock after the latest exchange of messages, and whom it cost."""


@runtime_checkable
class DeadlineGrid(Protocol):
    """A Grid that goes on without the clients that have not answered in time, and counts what comes after all."""

    @property
    def num_late(self) -> int:
        """Replies that came after their exchange was over, so far."""


@dataclass
class RoundTraffic:
    """Counts of one training round.

    Attributes:
        round: Server round, from 1.
        sent: Clients that were asked.
        downlink_bytes: Bytes of the arrays sent to them.
        dense_downlink_bytes: The same messages with the model as plain arrays.
        uplink_bytes: Bytes of the arrays that came back, refused ones too.
        dense_uplink_bytes: The same replies with the model as plain arrays.
        accepted: Updates that count.
        rejected: Updates that were refused, by reason.
        complaints: What went wrong with the first few clients, a printable line each.
        timing: The simulated clock after the round, where the Grid keeps one.
        clipped: Accepted updates that were scaled down.
        late: Replies to messages of earlier rounds, which came after those rounds were closed.
        skipped: Whether too few updates were accepted, so that the round changed nothing.
    """

    round: int
    sent: int = 0
    downlink_bytes: int = 0
    dense_downlink_bytes: int = 0
    uplink_bytes: int = 0
    dense_uplink_bytes: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    timing: RoundTiming | None = None
    clipped: int = 0
    late: int = 0
    skipped: bool = False

    @property
    def failed(self) -> int:
        """Clients that answered with an error, or not at all."""
        answered = self.accepted + self.rejected.total() - self.rejected["replayed"] - self.rejected["uninvited"]
        return max(0, self.sent - answered)

    def log(self) -> None:
        """Log what the round moved."""
        log(
            INFO,
            "round %d: %d of %d updates, %d bytes up instead of %d, %d down instead of %d",
            self.round,
            self.accepted,
            self.sent,
            self.uplink_bytes,
            self.dense_uplink_bytes,
            self.downlink_bytes,
            self.dense_downlink_bytes,
        )

    def complain(self, text: str, *, client: int | None = None, reason: str | None = None) -> None:
        """Log what went wrong with a client, and remember the first few.

        Args:
            text: May hold what the client itself says, which is escaped and cut.
            client: Its node id, for structured logs.
            reason: The word that the refusal is counted under, for structured logs.
        """
        shown = printable(text)
        log(WARNING, "%s", shown, extra={"round": self.round, "client": client, "reason": reason})
        if len(self.complaints) < _MAX_COMPLAINTS:
            self.complaints.append(shown)
