"""What this app's clients remember between rounds, in ``context.state``: beside what `compression_mod` keeps there.

Keys begin with ``fedcomp.``, so that the mod forgets them when another training begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import ArrayRecord

from fedcomp.flower import to_array_record, to_model

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from fedcomp.types import Model

LOCAL_LAYERS_KEY = "fedcomp.local-layers"
"""Tensors of the model that never leave the client."""
GRADIENT_KEY = "fedcomp.dyn-gradient"
"""FedDyn's linear term."""
FEATURES_KEY = "fedcomp.features"
"""What a frozen backbone made of the client's images."""


def recall(state: RecordDict, key: str) -> Model:
    """Return arrays by name; none if nothing is remembered under `key`."""
    record = state.get(key)
    return to_model(record) if isinstance(record, ArrayRecord) else {}


def remember(state: RecordDict, key: str, arrays: Model) -> None:
    """Keep arrays in the place of those that are there."""
    state[key] = to_array_record(arrays)
