"""The server's pipe, shared by clients that use it at the same time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def fair_shares(rates: Sequence[float], capacity: float) -> list[float]:
    """Divide a pipe max-min fairly: nobody gets more than it can use, and nobody can get more without a poorer loser.

    The definition is Bertsekas and Gallager's (Data Networks, 1992, section 6.5.2), here with one shared pipe.

    Args:
        rates: What each link could carry alone, bits per second.
        capacity: What all of them may carry together; infinite if nothing is shared.

    Returns:
        What each one carries, in the order of `rates`.

    Example:
        >>> fair_shares([1.0, 10.0, 10.0], 9.0)
        [1.0, 4.0, 4.0]
    """
    if math.isinf(capacity):
        return list(rates)
    shares, left = [0.0] * len(rates), capacity
    slowest_first = sorted(range(len(rates)), key=rates.__getitem__)
    for num_served, index in enumerate(slowest_first):
        shares[index] = min(rates[index], left / (len(rates) - num_served))
        left -= shares[index]
    return shares
