"""What every byte of a frame is for, without the model that it belongs to."""

from __future__ import annotations

from typing import NamedTuple

from fedcomp.codecs.entropy import CODERS
from fedcomp.codecs.registry import STAGES
from fedcomp.wire import FrameLimits, SectionKind, read_frame

_CHECKSUM_BYTES = 8


class Part(NamedTuple):
    """A run of bytes: its name, its length, and how it is coded."""

    name: str
    num_bytes: int
    how: str


class ExplainedFrame(NamedTuple):
    """A frame's parts, in their order; their bytes sum to `num_bytes`."""

    codec: str
    num_bytes: int
    parts: tuple[Part, ...]


def explain_frame(data: bytes, limits: FrameLimits | None = None) -> ExplainedFrame:
    """Take a frame apart.

    Raises:
        FrameError: It is none, or is damaged.
    """
    frame = read_frame(data, limits or FrameLimits())
    names = {stage.wire_id: stage.name for stage in STAGES.values() if hasattr(stage, "wire_id")}
    coders = {id_: type(coder).__name__ for id_, coder in CODERS.items()}
    sections = [
        Part(SectionKind(s.kind).name.lower().replace("_", " "), len(s.data), coders.get(s.coder, f"coder {s.coder}"))
        for s in frame.sections
    ]
    head = len(data) - sum(part.num_bytes for part in sections) - _CHECKSUM_BYTES
    binding = frame.binding
    context = f"round {binding.round}, origin {binding.origin:08x}, base {binding.base:08x}, model {frame.spec:08x}"
    stages = [f"{names.get(stage.id, f'stage {stage.id}')}{list(stage.args) or ''}" for stage in frame.stages]
    return ExplainedFrame(
        codec=" | ".join(stages),
        num_bytes=len(data),
        parts=(Part("header", head, context), *sections, Part("checksum", _CHECKSUM_BYTES, "xxh3-64")),
    )
