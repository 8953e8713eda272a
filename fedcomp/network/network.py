"""A population of clients: their devices, when they are there, and what goes wrong with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.seeding import derive_rng

if TYPE_CHECKING:
    from fedcomp.network.availability import Availability
    from fedcomp.network.mix import Mix
    from fedcomp.network.profile import Profile

FORWARD_SHARE = 1 / 3
"""What evaluating an example costs of training it: the backward pass is about twice the forward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Everything that turns bytes and examples into simulated time.

    Whatever is drawn depends on the seed, the round and the client alone, so it is the same in whichever order
    replies come, and for each codec.

    Args:
        mix: Which client has which link and processor.
        seed: Of all draws.
        example_seconds: What the reference device needs to train one example once.
        local_epochs: How often a client trains each of its examples in a round.
        server_rate: Bits per second in each direction at the server, shared by all clients of a round.
        deadline: Seconds after which a round's missing replies are given up; infinite for none.
        dropout: Probability that a client gets a message and is never heard of again in that round.
        dropout_noticed: Seconds until the server learns of it.
        availability: When clients are reachable; None is always.
        min_available: The server waits until so many are.
    """

    mix: Mix
    seed: int = 0
    example_seconds: float = 0.001
    local_epochs: int = 1
    server_rate: float = math.inf
    deadline: float = math.inf
    dropout: float = 0.0
    dropout_noticed: float = 60.0
    availability: Availability | None = None
    min_available: int = 1

    def device(self, client: int) -> Profile:
        """Return a client's link and processor."""
        return self.mix.device(client, self.seed)

    def work_seconds(self, num_examples: float, *, is_training: bool) -> float:
        """Return what the reference device needs for a message."""
        return num_examples * self.example_seconds * (self.local_epochs if is_training else FORWARD_SHARE)

    def drops_out(self, client: int, *occasion: int | str) -> bool:
        """Draw whether a client is lost; `occasion` names the round."""
        return self.dropout > 0 and derive_rng(self.seed, *occasion, client, "dropout").random() < self.dropout

    def leaves_at(self, client: int, now: float) -> float:
        """Return until when a client stays reachable, seconds on the simulated clock; `now` if it is not."""
        return self.availability.leaves_at(client, now) if self.availability else math.inf

    def wait(self, now: float) -> float:
        """Return the first time at which enough clients are reachable to begin; raises `RunError` if there is none."""
        return self.availability.wait_for(self.min_available, now) if self.availability else now

    def num_unavailable(self, now: float) -> int:
        """Count the clients that are not reachable."""
        return int((~self.availability.reachable(now)).sum()) if self.availability else 0
