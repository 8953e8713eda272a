"""Python's and NumPy's global generators: seeded for a while, then as they were."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def seeded_global_random(seed: int, *path: int | str) -> Iterator[None]:
    """Seed the global generators for one purpose, and restore them; see `derive_seed` for the arguments."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(derive_seed(seed, *path, "python"))
    np.random.seed(derive_seed(seed, *path, "numpy") % 2**32)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
