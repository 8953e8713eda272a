"""Caps that hold before anything is allocated."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from fedcomp.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLimits:
    """What a receiver is willing to look at.

    What a frame may decode to needs no cap of its own: every size follows from the receiver's own model spec.

    Args:
        max_frame_bytes: Longest frame that is parsed at all, in bytes.
        max_header_bytes: Longest header within it, in bytes; at most 65,535 fit the format.
        max_sections: Most sections in a frame.
        max_norm: Largest Euclidean norm of the decoded floating-point update; infinity switches it off.

    Raises:
        ConfigError: A limit is not positive.
    """

    max_frame_bytes: int = 1 << 28
    max_header_bytes: int = 4096
    max_sections: int = 160
    max_norm: float = float("inf")

    def __post_init__(self) -> None:
        for name in ("max_frame_bytes", "max_header_bytes", "max_sections", "max_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"FrameLimits.{name} is {getattr(self, name)}, expected a positive number")


OWN_FRAMES = FrameLimits(max_frame_bytes=sys.maxsize, max_header_bytes=0xFFFF, max_sections=0xFFFF)
"""For frames that one has written oneself: whatever the format holds."""
