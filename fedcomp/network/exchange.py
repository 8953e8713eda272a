"""One message to each of several clients and back, on the simulated clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from fedcomp.network.sharing import fair_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.network.network import Network
    from fedcomp.network.profile import Profile


Occasion = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class RoundTiming:
    """What a round cost in simulated time, and whom.

    Args:
        simulated_seconds: The clock when the round was over.
        stragglers: Clients whose reply came after the deadline.
        dropouts: Clients that were lost on the way.
        unavailable: Clients of the population that were not reachable when the round began.
    """

    simulated_seconds: float
    stragglers: int = 0
    dropouts: int = 0
    unavailable: int = 0


class Fate(Enum):
    """What became of a client's part in an exchange; the value is told to the server."""

    ARRIVED = "its reply is there"
    LATE = "its reply came after the round's deadline"
    DROPPED_OUT = "it dropped out of the round"
    UNAVAILABLE = "it is not reachable now"


class Exchange:
    """Who of the asked is there, how long each one takes, and when the server goes on.

    The server goes on when the last one that it waits for has answered, or at the deadline. It waits for a client
    that dropped out until it notices. The times of one client do not depend on another's, but for the shares of the
    server's pipe, which are fixed when the exchange begins; so replies may be given in any order.

    Args:
        network: The population.
        clients: Who is asked.
        began: Seconds on the simulated clock.
        occasion: Names the round, for draws.
    """

    def __init__(self, network: Network, clients: Sequence[int], *, began: float, occasion: Occasion) -> None:
        self._network, self._began, self._ends = network, began, began
        self._deadline = began + network.deadline
        self._stragglers = self._dropouts = 0
        self._lost = {client: fate for client in clients if (fate := self._lost_at_once(client, occasion))}
        self._devices = {client: network.device(client) for client in clients if client not in self._lost}
        self._down = self._share([device.usable(device.down) for device in self._devices.values()])
        self._up = self._share([device.usable(device.up) for device in self._devices.values()])
        self._unanswered = set(self._devices)

    def lost(self, client: int) -> Fate | None:
        """Return why a client does not even begin, None if it does."""
        return self._lost.get(client)

    def answer(self, client: int, *, bytes_down: int, bytes_up: int, work_seconds: float) -> Fate:
        """Take one client's reply and say whether it reaches the server.

        Args:
            client: One that began.
            bytes_down: Length of what it was sent.
            bytes_up: Length of its reply.
            work_seconds: What the reference device needs in between.
        """
        self._unanswered.discard(client)
        device: Profile = self._devices[client]
        arrives = (
            self._began
            + device.transfer_seconds(bytes_down, self._down[client])
            + device.compute_seconds(work_seconds)
            + device.transfer_seconds(bytes_up, self._up[client])
        )
        leaves = self._network.leaves_at(client, self._began)
        if leaves < min(arrives, self._deadline):
            self._drop_out(leaves)
            return Fate.DROPPED_OUT
        self._wait_until(arrives)
        if arrives <= self._deadline:
            return Fate.ARRIVED
        self._stragglers += 1
        return Fate.LATE

    def timing(self) -> RoundTiming:
        """End the exchange; for those who never answered, the server waits until the deadline if there is one."""
        if self._unanswered and math.isfinite(self._deadline):
            self._wait_until(self._deadline)
        unavailable = self._network.num_unavailable(self._began)
        return RoundTiming(self._ends, self._stragglers, self._dropouts, unavailable)

    def _lost_at_once(self, client: int, occasion: Occasion) -> Fate | None:
        if self._network.leaves_at(client, self._began) <= self._began:
            return Fate.UNAVAILABLE
        if self._network.drops_out(client, *occasion):
            self._drop_out(self._began)
            return Fate.DROPPED_OUT
        return None

    def _drop_out(self, moment: float) -> None:
        self._dropouts += 1
        self._wait_until(moment + self._network.dropout_noticed)

    def _wait_until(self, moment: float) -> None:
        self._ends = max(self._ends, min(moment, self._deadline))

    def _share(self, rates: list[float]) -> dict[int, float]:
        return dict(zip(self._devices, fair_shares(rates, self._network.server_rate), strict=True))
