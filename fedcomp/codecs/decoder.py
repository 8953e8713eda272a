"""From a frame back to an update: nothing in it is believed before it is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.decoded import DecodedUpdate
from fedcomp.codecs.entropy import decompress
from fedcomp.codecs.groups import Cuts
from fedcomp.codecs.keep import Keep
from fedcomp.codecs.layout import layout_of
from fedcomp.codecs.positions import draw_positions, gaps_to_positions
from fedcomp.codecs.registry import QUANTIZERS, SPARSIFIERS, TRANSFORMS
from fedcomp.codecs.stage import ArraySpec
from fedcomp.codecs.trainable import Trainable
from fedcomp.errors import FrameMalformed, InvalidValues, SpecMismatch
from fedcomp.wire import FrameLimits, SectionKind, read_frame

if TYPE_CHECKING:
    from fedcomp.codecs.context import CodingContext
    from fedcomp.codecs.layout import Layout
    from fedcomp.codecs.pipeline import Codec
    from fedcomp.codecs.stage import Arrays, Quantizer, Transform
    from fedcomp.types import ModelDelta, ModelSpec, NDArray
    from fedcomp.wire import Section, StageHeader


def decode(
    frame: bytes,
    spec: ModelSpec,
    *,
    context: CodingContext | None = None,
    limits: FrameLimits | None = None,
    codec: Codec | None = None,
) -> ModelDelta:
    """Check and decode a frame.

    Args:
        frame: The bytes, as received; trusted in nothing.
        spec: The receiver's own model.
        context: If given, the frame must have been made in this very context.
        limits: The receiver's caps.
        codec: If given, the frame must have been written by this very codec.

    Raises:
        FrameError: The frame was refused; the subclass and its `reason` say why.
    """
    return decode_update(frame, spec, context=context, limits=limits, codec=codec).to_delta()


def decode_update(
    data: bytes,
    spec: ModelSpec,
    *,
    context: CodingContext | None = None,
    limits: FrameLimits | None = None,
    codec: Codec | None = None,
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
    if codec:
        codec.check_stages(frame.stages)
    stages = _read_stages(frame.stages)
    layout = _layout(stages, spec)
    arrays = _decode_sections(frame.sections, _expected_sections(stages, layout))
    kept = arrays[SectionKind.KEPT_FLOATS].astype(np.float32)
    if not np.isfinite(kept).all():
        raise InvalidValues("kept floats hold NaN or infinity")
    positions, cuts = None, layout.coded.cuts
    if stages.num_selected is not None:
        if stages.seed is None:
            positions = gaps_to_positions(arrays[SectionKind.POSITIONS], layout.coded.size)
        else:
            positions = draw_positions(stages.seed, stages.num_selected, layout.coded.size)
        cuts = cuts.at(positions)
    update = DecodedUpdate(
        layout=layout,
        positions=positions,
        values=_dequantize(stages, arrays, cuts),
        bounds=cuts.tensors,
        kept=kept,
        integers=arrays[SectionKind.KEPT_INTS],
    )
    update.check_norm(limits.max_norm)
    return update


def decode_transformed(data: bytes, spec: ModelSpec) -> NDArray | None:
    """Return what a transform made of an update, from one's own frame; None if there is none, or of another model."""
    frame = read_frame(data, FrameLimits())
    stages = _read_stages(frame.stages)
    if frame.spec != spec.fingerprint or stages.transform is None or stages.num_selected is not None:
        return None
    layout = _layout(stages, spec)
    arrays = _decode_sections(frame.sections, _expected_sections(stages, layout))
    return stages.quantizer.dequantize(arrays, stages.transform.cuts_after(layout.coded.cuts, stages.key))


def _dequantize(stages: _Stages, arrays: Arrays, cuts: Cuts) -> NDArray:
    if stages.transform is None:
        return stages.quantizer.dequantize(arrays, cuts)
    transformed = stages.quantizer.dequantize(arrays, stages.transform.cuts_after(cuts, stages.key))
    with np.errstate(over="ignore", invalid="ignore"):
        values = stages.transform.invert(transformed, cuts, stages.key)
    if not np.isfinite(values).all():
        raise InvalidValues(f"values become infinite behind {stages.transform.name}")
    return values


def _layout(stages: _Stages, spec: ModelSpec) -> Layout:
    if stages.frozen and max(stages.frozen) >= len(spec.tensors):
        raise FrameMalformed(f"tensor {max(stages.frozen)} is frozen, the model has {len(spec.tensors)}")
    return layout_of(spec, stages.keep_below, stages.frozen)


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


class _Stages(NamedTuple):
    """What a frame's stages say.

    Args:
        frozen: Indices of tensors that do not travel.
        keep_below: Element count below which a tensor is kept.
        kept_dtype: Type of what is kept.
        num_selected: Number of coordinates that travel; None for all.
        seed: From which their positions are drawn; None if they are sent.
        transform: What the values went through before they were quantized; None if nothing.
        key: The transform's key.
        quantizer: The quantizer.
    """

    frozen: frozenset[int]
    keep_below: int
    kept_dtype: str
    num_selected: int | None
    seed: int | None
    transform: type[Transform] | None
    key: int
    quantizer: Quantizer


def _read_stages(headers: tuple[StageHeader, ...]) -> _Stages:
    remaining = list(headers)
    frozen, keep_below, kept_dtype = frozenset[int](), 0, "float32"
    num_selected, seed, transform, key = None, None, None, 0
    try:
        if remaining and remaining[0].id == Trainable.wire_id:
            frozen = Trainable.parse_wire(remaining.pop(0).args)
        if remaining and remaining[0].id == Keep.wire_id:
            keep_below, kept_dtype = Keep.parse_wire(remaining.pop(0).args)
        if remaining and remaining[0].id in SPARSIFIERS:
            header = remaining.pop(0)
            if SPARSIFIERS[header.id].sends_positions:
                (num_selected,) = header.args
            else:
                num_selected, seed = header.args
        if remaining and remaining[0].id in TRANSFORMS:
            transform = TRANSFORMS[remaining[0].id]
            key = transform.parse_wire(remaining.pop(0).args)
            if transform.needs_whole_tensors and num_selected is not None:
                raise ValueError(f"{transform.name} behind a sparsifier")
        if len(remaining) != 1 or remaining[0].id not in QUANTIZERS:
            raise ValueError("expected trainable, keep, sparsifier, transform, quantizer in this order")
        quantizer = QUANTIZERS[remaining[0].id].from_wire(remaining[0].args)
    except ValueError as error:
        raise FrameMalformed(f"codec stages {[(s.id, *s.args) for s in headers]}: {error}") from None
    if quantizer.needs_sparsifier and num_selected is None:
        raise FrameMalformed(f"{quantizer.name} without a sparsifier before it")
    return _Stages(frozen, keep_below, kept_dtype, num_selected, seed, transform, key, quantizer)


def _expected_sections(stages: _Stages, layout: Layout) -> dict[SectionKind, ArraySpec]:
    size, num_selected = layout.coded.size, stages.num_selected
    if num_selected is not None and num_selected > size:
        raise FrameMalformed(f"{num_selected} coordinates selected of {size}")
    count, cuts = size if num_selected is None else num_selected, layout.coded.cuts
    if stages.transform:
        # Which coordinates are selected is not known yet; a transform behind a sparsifier asks for their number only.
        cuts = stages.transform.cuts_after(cuts if num_selected is None else Cuts.of_one(count), stages.key)
        count = cuts.size
    return {
        SectionKind.KEPT_FLOATS: ArraySpec(stages.kept_dtype, layout.kept.size),
        SectionKind.KEPT_INTS: ArraySpec("int64", layout.integers.size),
        SectionKind.POSITIONS: ArraySpec("uint32", num_selected or 0 if stages.seed is None else 0),
        **stages.quantizer.expected(count, cuts),
    }
