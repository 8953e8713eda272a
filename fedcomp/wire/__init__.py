"""The frame: how one update is laid out as bytes, and every check before a byte of it is believed."""

from fedcomp.wire.frame import (
    MAGIC,
    VERSION,
    Binding,
    Frame,
    Section,
    SectionKind,
    StageHeader,
    measure_header,
    read_frame,
    write_frame,
)
from fedcomp.wire.limits import OWN_FRAMES, FrameLimits

__all__ = [
    "MAGIC",
    "OWN_FRAMES",
    "VERSION",
    "Binding",
    "Frame",
    "FrameLimits",
    "Section",
    "SectionKind",
    "StageHeader",
    "measure_header",
    "read_frame",
    "write_frame",
]
