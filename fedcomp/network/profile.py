"""One client's link and processor, and how long they take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_MATHIS_CONSTANT = math.sqrt(1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A kind of client, or one client of that kind.

    A transfer of n bytes takes ::

        rtt + 8 * (n + ceil(n / packet_bytes) * header_bytes) / (min(rate, ceiling) * (1 - loss))

    One round trip asks for it; every packet has its header; every lost packet is sent again. TCP has a
    ceiling, for loss also shrinks the window: ``8 * packet_bytes / rtt * sqrt(3 / 2) / sqrt(loss)`` (Mathis, Semke,
    Mahdavi and Ott, "The macroscopic behavior of the TCP congestion avoidance algorithm", CCR 27(3), 1997).

    Args:
        name: What a configuration calls it.
        down: Bits per second to the client.
        up: Bits per second from the client.
        rtt: Round trip, seconds.
        loss: Probability that a packet is lost, below 1.
        packet_bytes: Payload of a packet.
        header_bytes: What each packet carries besides.
        over_tcp: Whether TCP's reaction to loss bounds the rate.
        speed: Of the processor, as a multiple of the reference device's.
    """

    name: str
    down: float
    up: float
    rtt: float
    loss: float
    packet_bytes: int = 1460
    header_bytes: int = 40
    over_tcp: bool = True
    speed: float = 1.0

    def scaled(self, *, link: float, speed: float) -> Profile:
        """Return a client of this kind whose rates and processor differ from the typical one by these factors."""
        return replace(self, down=self.down * link, up=self.up * link, speed=self.speed * speed)

    def transfer_seconds(self, num_bytes: int, rate: float) -> float:
        """Return how long a message takes in one direction.

        Args:
            num_bytes: Length of the message.
            rate: Bits per second that the link has for it: `down`, `up`, or less where the server's pipe is shared.
        """
        num_packets = math.ceil(num_bytes / self.packet_bytes)
        bits = 8 * (num_bytes + num_packets * self.header_bytes)
        return self.rtt + bits / (self.usable(rate) * (1 - self.loss))

    def usable(self, rate: float) -> float:
        """Return what a transfer gets out of a rate, bits per second: TCP may have a lower ceiling."""
        return min(rate, self._tcp_ceiling())

    def compute_seconds(self, reference_seconds: float) -> float:
        """Return how long this client works on what takes the reference device `reference_seconds`."""
        return reference_seconds / self.speed

    def _tcp_ceiling(self) -> float:
        if not (self.over_tcp and self.loss and self.rtt):
            return math.inf
        return 8 * self.packet_bytes / self.rtt * _MATHIS_CONSTANT / math.sqrt(self.loss)
