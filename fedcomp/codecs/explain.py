"""What every byte of a frame is for, without the model that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fedcomp.codecs.coding.entropy import CODERS
from fedcomp.codecs.coding.rans import INTERVALS
from fedcomp.codecs.registry import STAGES
from fedcomp.wire import FrameLimits, SectionKind, measure_header, read_frame

if TYPE_CHECKING:
    from fedcomp.wire import Section


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
    stages = [f"{names.get(stage.id, f'stage {stage.id}')}{list(stage.args) or ''}" for stage in frame.stages]
    codec, binding = " | ".join(stages), frame.binding
    hows = {
        "magic, version, length": "plain",
        "round": str(binding.round),
        "origin": f"{binding.origin:08x}, of run and sender",
        "base model": f"{binding.base:08x}",
        "model spec": f"{frame.spec:08x}, of names, kinds and shapes",
        "stages": codec,
        "section table": f"{len(frame.sections)} of kind, coder and length",
        "checksum": "xxh3-64",
    }
    around = [Part(name, num_bytes, hows[name]) for name, num_bytes in measure_header(frame).items() if num_bytes]
    return ExplainedFrame(codec, len(data), (*around[:-1], *_explain_sections(frame.sections), around[-1]))


def _explain_sections(sections: tuple[Section, ...]) -> list[Part]:
    coders = {id_: type(coder).__name__ for id_, coder in CODERS.items()} | {INTERVALS: "Intervals"}
    num_groups = sum(section.kind == SectionKind.VALUES for section in sections)
    parts, group = [], 0
    for section in sections:
        name = section.kind.name.lower().replace("_", " ")
        if section.kind == SectionKind.VALUES and num_groups > 1:
            group += 1
            name = f"{name}, group {group} of {num_groups}"
        parts.append(Part(name, len(section.data), coders.get(section.coder, f"coder {section.coder}")))
    return parts
