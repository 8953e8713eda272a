"""Every random stream is derived from (seed, what it is for), so no stream depends on another's use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

if TYPE_CHECKING:
    from numpy.random import Generator


def derive_seed(seed: int, *path: int | str) -> int:
    """Derive a 63-bit seed for one purpose.

    Args:
        seed: The run's seed, any integer.
        *path: What the stream is for, for example ``round, client, "augment"``. Order and type matter.

    Returns:
        An integer in ``[0, 2**63)`` (it fits ``torch.Generator.manual_seed``).

    Example:
        >>> derive_seed(0, 3, "augment") == derive_seed(0, 3, "augment")
        True
        >>> derive_seed(0, 3, "augment") == derive_seed(0, "3", "augment")
        False
    """
    return xxhash.xxh3_64_intdigest(repr((seed, *path)).encode()) >> 1


def derive_rng(seed: int, *path: int | str) -> Generator:
    """Make the NumPy generator of one purpose; see `derive_seed` for the arguments."""
    return np.random.default_rng(derive_seed(seed, *path))
