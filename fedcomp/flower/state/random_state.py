"""Where the global generators of Python, NumPy and torch stand: Flower samples clients with Python's."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

from fedcomp.flower.state.snapshot import Snapshot


def keep_random_state() -> Snapshot:
    """Return the state of the generators; torch's, the CPU's, if something has imported it."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    facts = {
        "python_version": version,
        "python_gauss": gauss,
        "numpy_position": numpy_state["state"]["pos"],
        "numpy_has_gauss": numpy_state["has_gauss"],
        "numpy_gauss": numpy_state["gauss"],
    }
    tensors = {"python": np.array(words, np.uint32), "numpy": numpy_state["state"]["key"]}
    if torch := sys.modules.get("torch"):
        tensors["torch"] = torch.get_rng_state().numpy()
    return Snapshot(facts, tensors)


def restore_random_state(snapshot: Snapshot) -> None:
    """Set the generators to where they stood."""
    facts, tensors = snapshot
    random.setstate((facts["python_version"], tuple(tensors["python"].tolist()), facts["python_gauss"]))
    np.random.set_state(
        (
            "MT19937",
            tensors["numpy"],
            facts["numpy_position"],
            facts["numpy_has_gauss"],
            facts["numpy_gauss"],
        )
    )
    if (torch := sys.modules.get("torch")) and "torch" in tensors:
        torch.set_rng_state(torch.from_numpy(tensors["torch"].copy()))
