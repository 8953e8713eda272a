"""What a model service bears."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fedcomp.errors import ConfigError

CHUNK_BYTES = 1 << 16
"""Most bytes of an artifact in one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingLimits:
    """Caps of a model service; what is beyond one is refused with ``RESOURCE_EXHAUSTED``, or what it says here.

    Args:
        memory_bytes: Of loaded models, as `LoadedModel.num_bytes` counts them; others wait until those are not in use.
        max_request_bytes: Longest message that is received.
        max_images: Most images in one request.
        max_waiting: Most predictions that wait or run.
        max_calls: Most calls at once, of every kind.
        max_downloads: Most downloads at once; others wait.
        seconds_per_chunk: How long a caller may take to read `CHUNK_BYTES` of a download; one that takes longer gives
            its place to others, and may come back for the rest.
        workers: Threads that predict; each uses one core.

    Raises:
        ConfigError: A limit is not positive.
    """

    memory_bytes: int = 256 << 20
    max_request_bytes: int = 4 << 20
    max_images: int = 256
    max_waiting: int = 512
    max_calls: int = 1024
    max_downloads: int = 16
    seconds_per_chunk: float = 60.0
    workers: int = os.cpu_count() or 1

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ConfigError(f"ServingLimits.{name} is {getattr(self, name)}, expected 1 or more")
