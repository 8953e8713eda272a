"""What the server can tell of its clients' data before the first round: in a simulation they share what it loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.data import check_num_clients

if TYPE_CHECKING:
    from fedcomp.config import RunConfig
    from fedcomp.data import HeldOut


def check_shared(config: RunConfig, held_out: HeldOut) -> None:
    """Refuse more clients than there are images for; clients of a deployed run have their own.

    Raises:
        ConfigError: There are more.
    """
    if not config.deployed:
        check_num_clients(config.num_clients, len(held_out.clients))
