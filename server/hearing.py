"""What a round's clients say: heard while their updates come, asked for when the round is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from server.personal import PersonalAccuracy
from server.pseudo_labels import PseudoLabelTally

if TYPE_CHECKING:
    from fedcomp.config import RunConfig
    from fedcomp.distillation import KeptClients
    from fedcomp.flower import AcceptedUpdate, RoundTraffic
    from server.teaching import Teaching


class HeardRound(NamedTuple):
    """A round that is over.

    Args:
        traffic: What it moved.
        claims: What its clients say of themselves, all together, in the names of the round's row.
    """

    traffic: RoundTraffic
    claims: dict[str, Any]


class Hearing:
    """Gives each accepted update to all who listen, before it is forgotten.

    Args:
        config: The run.
        num_classes: Of its data.
        teaching: Hears the clients as teachers.
        kept: Where the models of the last round are kept; None where they are not.
    """

    def __init__(self, config: RunConfig, num_classes: int, teaching: Teaching, kept: KeptClients | None) -> None:
        self._last_round = config.num_server_rounds
        self._teaching, self._kept = teaching, kept
        self._personal, self._pseudo_labels = PersonalAccuracy(), PseudoLabelTally(num_classes)
        self._ended: list[RoundTraffic] = []

    @property
    def personal_accuracy(self) -> float | None:
        """Of the last round that is over and had any."""
        return self._personal.last

    def hear(self, server_round: int, update: AcceptedUpdate) -> None:
        """Hear a client; what a strategy calls `on_update`."""
        self._personal.add(update.metrics)
        self._pseudo_labels.add(update.metrics)
        self._teaching.hear(server_round, update)
        if self._kept and server_round == self._last_round:
            self._kept.add(update.reply.metadata.src_node_id, update.client_model())

    def end(self, traffic: RoundTraffic) -> None:
        """Hear that a round is over; what a strategy calls `on_round`."""
        self._ended.append(traffic)

    def take(self) -> HeardRound:
        """Return the round that is over, and begin with the next one."""
        return HeardRound(self._ended.pop(), self._personal.take() | self._pseudo_labels.take())
