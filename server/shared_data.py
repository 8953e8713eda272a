"""What the server can tell of its clients' data before the first round: in a simulation they share what it loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.data import partition_labels

if TYPE_CHECKING:
    from fedcomp.config import RunConfig
    from fedcomp.data import HeldOut


def check_shared(config: RunConfig, held_out: HeldOut) -> None:
    """Make the partition that all clients will make, for what it raises; those of a deployed run have their own data.

    Raises:
        ConfigError: There are more clients than images.
        DataError: A client would get nothing.
    """
    if config.deployed:
        return
    partition_labels(
        held_out.clients.labels,
        num_clients=config.num_clients,
        scheme=config.partition,
        alpha=config.dirichlet_alpha,
        seed=config.seed,
    )
