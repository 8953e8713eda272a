"""Many clients at once, each with a connection of its own, each asking for one image after the other."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.benchmarks.serving.models import IMAGE_SHAPE
from fedcomp.seeding import derive_rng
from fedcomp.serving import CallFailed, ModelClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.address import Address


@dataclass
class Crowd:
    """What a crowd of clients met.

    Attributes:
        seconds: Of each answer.
        errors: Statuses of what was no answer.
        duration: Seconds until the last call had ended, which is after the time that was given: who asked then waited.
    """

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    duration: float = 0.0

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Median and 99th percentile of an answer's time; NaN of none."""
        p50, p99 = np.quantile(self.seconds or [np.nan], (0.5, 0.99)) * 1000
        return float(p50), float(p99)


def ask_at_once(address: Address, names: Sequence[str], *, clients: int, duration: float, seed: int) -> Crowd:
    """Let clients ask for some seconds; the k-th model is asked for 1/k times as often as the first."""
    crowd, begun = Crowd(), time.monotonic()
    until = begun + duration
    share = 1 / np.arange(1, len(names) + 1)

    def ask(number: int) -> None:
        rng = derive_rng(seed, number, "client")
        image = rng.integers(0, 256, (1, *IMAGE_SHAPE), dtype=np.uint8)
        with ModelClient(address, timeout=60) as client:
            while time.monotonic() < until:
                name = names[int(rng.choice(len(names), p=share / share.sum()))]
                asked = time.perf_counter()
                try:
                    client.predict(name, image)
                except CallFailed as error:
                    crowd.errors.append(error.code.name)
                else:
                    crowd.seconds.append(time.perf_counter() - asked)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))  # raises what ended a client: it would ask no more, and be no error
    crowd.duration = time.monotonic() - begun
    return crowd
