"""The model that a run begins with, where clients build it themselves; and which of them turned out to have another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.flower.server.held_models import HeldModel
from fedcomp.flower.state.snapshot import Snapshot
from fedcomp.types import check_model, fingerprint_model, have_same_tensors

if TYPE_CHECKING:
    from fedcomp.types import Model


class SharedInitial:
    """Tells which clients have the initial model.

    Args:
        model: What clients' mods build (`compression_mod(initial=...)`); None if they do not.

    Raises:
        UsageError: It is no model.
    """

    def __init__(self, model: Model | None = None) -> None:
        if model is not None:
            check_model("initial", model)
        self._held = HeldModel(fingerprint_model(model), model, as_of=1) if model is not None else None
        self._is_of_use = True
        self._without = set[int]()

    def begin(self, model: Model) -> None:
        """Begin a round, whose model may have other tensors: then this one is of no use in it."""
        self._is_of_use = self._held is not None and have_same_tensors(self._held.model, model)

    def at(self, client: int) -> HeldModel | None:
        """Return the model if it is of use, and a client is taken to have it."""
        return self._held if self._is_of_use and client not in self._without else None

    def lose(self, client: int) -> None:
        """Note that a client said that it does not have it."""
        self._without.add(client)

    def save_state(self) -> Snapshot:
        """Return who said that they do not have it; the model is the next process's own."""
        return Snapshot({}, {"without": np.array(sorted(self._without), np.uint64)})

    def restore_state(self, snapshot: Snapshot) -> None:
        """Go on from what `save_state` returned."""
        self._without = set(snapshot.tensors["without"].tolist())
