"""The codec: keep | sparsify | quantize | entropy-code, and back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.decoded import DecodedUpdate
from fedcomp.codecs.entropy import compress, decompress
from fedcomp.codecs.keep import Keep
from fedcomp.codecs.layout import flatten_finite, layout_of
from fedcomp.codecs.ledger import ByteLedger
from fedcomp.codecs.positions import gaps_to_positions, positions_to_gaps
from fedcomp.codecs.registry import QUANTIZERS, SPARSIFIERS
from fedcomp.codecs.stage import ArraySpec
from fedcomp.errors import FrameMalformed, InvalidValues, SpecMismatch, UsageError
from fedcomp.types import ModelSpec
from fedcomp.wire import (
    Binding,
    Frame,
    FrameLimits,
    Section,
    SectionKind,
    StageHeader,
    read_frame,
    write_frame,
)

if TYPE_CHECKING:
    from numpy.random import Generator

    from fedcomp.codecs.context import CodingContext
    from fedcomp.codecs.stage import Arrays, Quantizer, Sparsifier, Stage
    from fedcomp.types import ModelDelta, NDArray


class EncodedUpdate(NamedTuple):
    """One update, ready to send: the frame's bytes, and what each of them is for."""

    frame: bytes
    ledger: ByteLedger


@dataclass(frozen=True)
class Codec:
    """How an update becomes bytes. Immutable and stateless: randomness and context come in as arguments.

    Args:
        quantizer: Turns values into symbols.
        sparsifier: Chooses coordinates; None sends all.
        keep: Which small tensors stay plain floats.

    Raises:
        UsageError: The quantizer needs a sparsifier and there is none.
    """

    quantizer: Quantizer
    sparsifier: Sparsifier | None = None
    keep: Keep = field(default_factory=lambda: Keep(below=0))

    def __post_init__(self) -> None:
        if self.quantizer.needs_sparsifier and self.sparsifier is None:
            raise UsageError(f"{self.quantizer.name} needs a sparsifier before it")

    def __str__(self) -> str:
        """The codec's text: `parse_codec` reads it back."""
        keep = [self.keep] if self.keep.below else []
        sparsifier = [self.sparsifier] if self.sparsifier else []
        return " | ".join(map(_stage_text, [*keep, *sparsifier, self.quantizer]))

    def encode(
        self, delta: ModelDelta, *, rng: Generator | None = None, context: CodingContext | None = None
    ) -> EncodedUpdate:
        """Encode one update.

        Args:
            delta: Local minus global, every value finite.
            rng: For stochastic stages only.
            context: The moment the update belongs to; without it the frame is bound to none.

        Raises:
            EncodeError: A value is not finite, or an integer tensor does not fit 64 bits.
            UsageError: A stochastic stage has no rng.
        """
        spec = ModelSpec.of(delta)
        layout = layout_of(spec, self.keep.below)
        kept = self.keep.narrow(flatten_finite(layout.kept, delta))
        arrays: dict[SectionKind, NDArray] = {
            SectionKind.KEPT_FLOATS: kept,
            SectionKind.KEPT_INTS: layout.integers.flatten(delta, "int64"),
        }
        values, bounds, stages = flatten_finite(layout.coded, delta), layout.coded.bounds, []
        if self.keep.below:
            stages.append(StageHeader(self.keep.wire_id, (self.keep.below, kept.itemsize * 8)))
        if self.sparsifier:
            positions = self.sparsifier.select(values)
            values, bounds = values[positions], np.searchsorted(positions, bounds)
            arrays[SectionKind.POSITIONS] = positions_to_gaps(positions)
            stages.append(StageHeader(self.sparsifier.wire_id, (positions.size,)))
        arrays |= self.quantizer.quantize(values, bounds, rng)
        stages.append(StageHeader(self.quantizer.wire_id, self.quantizer.wire_args()))
        binding = context.binding if context else Binding()
        frame = Frame(binding, spec.fingerprint, tuple(stages), _code_sections(arrays))
        data = write_frame(frame)
        return EncodedUpdate(data, ByteLedger.of(frame, len(data)))


def decode(
    frame: bytes, spec: ModelSpec, *, context: CodingContext | None = None, limits: FrameLimits | None = None
) -> ModelDelta:
    """Check and decode a frame.

    Args:
        frame: The bytes, as received; trusted in nothing.
        spec: The receiver's own model.
        context: If given, the frame must have been made in this very context.
        limits: The receiver's caps.

    Raises:
        FrameError: The frame was refused; the subclass and its `reason` say why.
    """
    return decode_update(frame, spec, context=context, limits=limits).to_delta()


def decode_update(
    data: bytes, spec: ModelSpec, *, context: CodingContext | None = None, limits: FrameLimits | None = None
) -> DecodedUpdate:
    """Check and decode a frame, but leave a sparse update sparse; arguments and errors as `decode`."""
    limits = limits or FrameLimits()
    frame = read_frame(data, limits)
    if frame.spec != spec.fingerprint:
        raise SpecMismatch(
            f"frame is for model {frame.spec:08x}, expected {spec.fingerprint:08x}: other names or shapes"
        )
    if context:
        context.check(frame.binding)
    keep_below, kept_dtype, num_selected, quantizer = _read_stages(frame.stages)
    layout = layout_of(spec, keep_below)
    if num_selected is not None and num_selected > layout.coded.size:
        raise FrameMalformed(f"{num_selected} coordinates selected of {layout.coded.size}")
    count = layout.coded.size if num_selected is None else num_selected
    expected = {
        SectionKind.KEPT_FLOATS: ArraySpec(kept_dtype, layout.kept.size),
        SectionKind.KEPT_INTS: ArraySpec("int64", layout.integers.size),
        SectionKind.POSITIONS: ArraySpec("uint32", num_selected or 0),
        **quantizer.expected(count, len(layout.coded.tensors)),
    }
    arrays = _decode_sections(frame.sections, expected)
    kept = arrays[SectionKind.KEPT_FLOATS].astype(np.float32)
    if not np.isfinite(kept).all():
        raise InvalidValues("kept floats hold NaN or infinity")
    positions, bounds = None, layout.coded.bounds
    if num_selected is not None:
        positions = gaps_to_positions(arrays[SectionKind.POSITIONS], layout.coded.size)
        bounds = np.searchsorted(positions, bounds)
    update = DecodedUpdate(
        layout=layout,
        positions=positions,
        values=quantizer.dequantize(arrays, bounds),
        bounds=bounds,
        kept=kept,
        integers=arrays[SectionKind.KEPT_INTS],
    )
    update.check_norm(limits.max_norm)
    return update


def _code_sections(arrays: Arrays) -> tuple[Section, ...]:
    return tuple(Section(kind, *compress(arrays[kind])) for kind in sorted(arrays) if arrays[kind].size)


def _decode_sections(
    sections: tuple[Section, ...], expected: dict[SectionKind, ArraySpec]
) -> dict[SectionKind, NDArray]:
    wanted = {kind for kind, spec in expected.items() if spec.length}
    found = {section.kind for section in sections}
    if wanted != found:
        raise FrameMalformed(
            f"frame has sections {sorted(kind.name for kind in found)}, expected {sorted(kind.name for kind in wanted)}"
        )
    arrays = {kind: np.empty(0, spec.dtype) for kind, spec in expected.items() if not spec.length}
    return arrays | {s.kind: decompress(s.coder, s.data, expected[s.kind]) for s in sections}


def _read_stages(stages: tuple[StageHeader, ...]) -> tuple[int, str, int | None, Quantizer]:
    """Return (keep_below, kept dtype, number of selected coordinates or None if dense, quantizer)."""
    remaining = list(stages)
    keep_below, kept_dtype, num_selected = 0, "float32", None
    try:
        if remaining and remaining[0].id == Keep.wire_id:
            keep_below, kept_dtype = Keep.parse_wire(remaining.pop(0).args)
        if remaining and remaining[0].id in SPARSIFIERS:
            (num_selected,) = remaining.pop(0).args
        if len(remaining) != 1 or remaining[0].id not in QUANTIZERS:
            raise ValueError("expected keep, sparsifier, quantizer in this order")
        quantizer = QUANTIZERS[remaining[0].id].from_wire(remaining[0].args)
    except ValueError as error:
        raise FrameMalformed(f"codec stages {[(s.id, *s.args) for s in stages]}: {error}") from None
    if quantizer.needs_sparsifier and num_selected is None:
        raise FrameMalformed(f"{quantizer.name} without a sparsifier before it")
    return keep_below, kept_dtype, num_selected, quantizer


def _stage_text(stage: Stage) -> str:
    changed = [f for f in fields(stage) if getattr(stage, f.name) != f.default]
    arguments = ", ".join(f"{f.name}={str(getattr(stage, f.name)).lower()}" for f in changed)
    return f"{stage.name}({arguments})" if arguments else stage.name
