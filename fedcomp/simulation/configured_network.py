"""From a configuration to the simulated links and devices of its clients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fedcomp.network import Network, make_availability, parse_mix

if TYPE_CHECKING:
    from fedcomp.config import RunConfig


def configured_network(config: RunConfig) -> Network | None:
    """Build the network that a configuration describes, None if it has none.

    Raises:
        ConfigError: The availability trace can't be used.
    """
    if not config.network:
        return None
    return Network(
        mix=parse_mix(config.network, config.network_spread),
        seed=config.seed,
        example_seconds=config.example_seconds,
        local_epochs=config.local_epochs,
        server_rate=config.server_bandwidth or math.inf,
        deadline=config.round_deadline or math.inf,
        dropout=config.dropout,
        availability=make_availability(
            config.availability,
            num_clients=config.num_clients,
            period=config.availability_period,
            seed=config.seed,
        ),
        min_available=config.min_replies,
    )
