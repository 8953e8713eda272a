"""The global generators of Python, NumPy and torch: seeded for a while, then as they were."""

from __future__ import annotations

import contextlib
import random
import sys
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def seeded_global_random(seed: int, *path: int | str) -> Iterator[None]:
    """Seed the global generators for one purpose, and restore them; see `derive_seed` for the arguments.

    torch's is among them if something has imported it; of its generators the CPU's is restored.
    """
    torch = sys.modules.get("torch")
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state() if torch else None
    seed_global_random(seed, *path)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if torch:
            torch.set_rng_state(torch_state)


def seed_global_random(seed: int, *path: int | str) -> None:
    """Seed the global generators for one purpose."""
    random.seed(derive_seed(seed, *path, "python"))
    np.random.seed(derive_seed(seed, *path, "numpy") % 2**32)
    if torch := sys.modules.get("torch"):
        # manual_seed notes a traceback for devices even where the build has none: 90 microseconds instead of one.
        has_devices = torch.backends.cuda.is_built() or torch.backends.mps.is_built()
        seed_torch = torch.manual_seed if has_devices else torch.default_generator.manual_seed
        seed_torch(derive_seed(seed, *path, "torch"))
