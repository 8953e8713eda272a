"""Real clients come when they come: the run waits for them, but not for ever for all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from fedcomp.config import RunConfig
    from fedcomp.reporting import Progress

_SECONDS_BETWEEN_LOOKS = 1.0


def wait_for_clients(grid: Grid, config: RunConfig, progress: Progress) -> None:
    """Wait until all clients are there; after `client_wait` seconds, until `min_replies` of them are."""
    started, shown = time.monotonic(), -1
    while (present := len(list(grid.get_node_ids()))) < config.num_clients:
        is_patient = time.monotonic() - started < config.client_wait
        if not is_patient and present >= config.min_replies:
            progress.note(f"begins with {present} of {config.num_clients} clients")
            return
        if present != shown:
            progress.note(f"waiting for clients: {present} of {config.num_clients} are there")
            shown = present
        time.sleep(_SECONDS_BETWEEN_LOOKS)
