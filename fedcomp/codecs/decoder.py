"""From a frame back to an update: nothing in it is believed before it is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.coding.entropy import decompress
from fedcomp.codecs.coding.positions import draw_positions
from fedcomp.codecs.coding.sections import decode_positions, decode_signs, decode_values
from fedcomp.codecs.decoded import DecodedUpdate
from fedcomp.codecs.groups import Cuts
from fedcomp.codecs.layout import layout_of
from fedcomp.codecs.products import Factored
from fedcomp.codecs.registry import QUANTIZERS, SPARSIFIERS, TRANSFORMS
from fedcomp.codecs.stage import ArraySpec, Factoring
from fedcomp.codecs.stages.balance import Balance, multiply_tensors
from fedcomp.codecs.stages.keep import Keep
from fedcomp.codecs.stages.trainable import Trainable
from fedcomp.errors import FrameMalformed, InvalidValues, SpecMismatch
from fedcomp.wire import OWN_FRAMES, FrameLimits, SectionKind, read_frame

if TYPE_CHECKING:
    from fedcomp.codecs.context import CodingContext
    from fedcomp.codecs.known import Known
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
    sections = _check_kinds(frame.sections, stages, layout)
    known = context.known(layout.coded) if context else None
    positions, cuts = _positions(sections, stages, layout, known), layout.coded.cuts
    if positions is not None:
        cuts = cuts.at(positions)
    arrays = _decode_arrays(sections, stages, layout, cuts)
    kept = arrays[SectionKind.KEPT_FLOATS].astype(np.float32)
    if not np.isfinite(kept).all():
        raise InvalidValues("kept floats hold NaN or infinity")
    coded = _dequantize(stages, arrays, cuts, known)
    if stages.octaves is not None:
        if len(stages.octaves) != len(layout.coded.tensors):
            raise FrameMalformed(f"{len(stages.octaves)} gains for {len(layout.coded.tensors)} tensors")
        values = coded.expand() if isinstance(coded, Factored) else coded
        coded = multiply_tensors(values, cuts.tensors, stages.octaves, sign=-1)
    update = DecodedUpdate(
        layout=layout,
        positions=positions,
        coded=coded,
        bounds=cuts.tensors,
        kept=kept,
        integers=arrays[SectionKind.KEPT_INTS],
    )
    update.check_norm(limits.max_norm)
    return update


def decode_transformed(data: bytes, spec: ModelSpec) -> NDArray | None:
    """Return what a transform made of an update, from one's own frame; None if there is none, or of another model."""
    frame = read_frame(data, OWN_FRAMES)
    stages = _read_stages(frame.stages)
    if frame.spec != spec.fingerprint or stages.transform is None or stages.num_selected is not None:
        return None
    layout = _layout(stages, spec)
    arrays = _decode_arrays(_check_kinds(frame.sections, stages, layout), stages, layout, layout.coded.cuts)
    return stages.quantizer.dequantize(arrays, stages.transform.cuts_after(layout.coded.cuts, stages.key))


def _dequantize(stages: _Stages, arrays: Arrays, cuts: Cuts, known: Known | None) -> NDArray | Factored:
    """Return the values, every one finite; as products, where they came as such and add up as such."""
    if stages.transform is None:
        return stages.quantizer.dequantize(arrays, cuts)
    transformed = stages.quantizer.dequantize(arrays, stages.transform.cuts_after(cuts, stages.key))
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(stages.transform, Factoring):
            factored = stages.transform.factor(transformed, cuts, stages.key, known)
            if factored.adds_up:
                return factored
            values = factored.expand()
        else:
            values = stages.transform.invert(transformed, cuts, stages.key, known)
    if not np.isfinite(values).all():
        raise InvalidValues(f"values become infinite behind {stages.transform.name}")
    return values


def _layout(stages: _Stages, spec: ModelSpec) -> Layout:
    if stages.frozen and max(stages.frozen) >= len(spec.tensors):
        raise FrameMalformed(f"tensor {max(stages.frozen)} is frozen, the model has {len(spec.tensors)}")
    return layout_of(spec, stages.keep_below, stages.frozen)


def _check_kinds(found: tuple[Section, ...], stages: _Stages, layout: Layout) -> dict[SectionKind, list[Section]]:
    """Return the sections by kind, which are those that the stages ask for."""
    expected = _expected_sections(stages, layout)
    sections: dict[SectionKind, list[Section]] = {}
    for section in found:
        sections.setdefault(section.kind, []).append(section)
    if not all(section.data for section in found):
        raise FrameMalformed("a section is empty: no encoder writes those")
    wanted = {kind for kind, spec in expected.items() if spec.length}
    # These are the encoder's choice, where they are of use.
    optional = set()
    if SectionKind.POSITIONS in wanted or (stages.num_selected is None and SectionKind.VALUES in wanted):
        optional.add(SectionKind.ACTIVITY)
    if stages.quantizer.centre is not None and SectionKind.VALUES in wanted:
        optional.add(SectionKind.SIGNS)
        if stages.num_selected is None and SectionKind.COUNT in sections:
            return _check_scattered(sections, wanted)
    if wanted != sections.keys() - optional:
        raise FrameMalformed(
            f"frame has sections {sorted(kind.name for kind in sections)}, expected {sorted(k.name for k in wanted)}"
        )
    return sections


def _check_scattered(
    sections: dict[SectionKind, list[Section]], wanted: set[SectionKind]
) -> dict[SectionKind, list[Section]]:
    """Check that symbols which mean zero are left out altogether: with them, their values' places and signs."""
    scattered = {SectionKind.POSITIONS, SectionKind.SIGNS, SectionKind.VALUES}
    if sections.keys() - {SectionKind.COUNT} not in (wanted | scattered, wanted - scattered):
        raise FrameMalformed(f"frame of scattered symbols has sections {sorted(kind.name for kind in sections)}")
    return sections


def _decode_arrays(
    sections: dict[SectionKind, list[Section]], stages: _Stages, layout: Layout, selected: Cuts
) -> dict[SectionKind, NDArray]:
    """Decode all sections but the positions; `selected` is where what they selected is cut."""
    expected = _expected_sections(stages, layout)
    del expected[SectionKind.POSITIONS]
    values = expected.pop(SectionKind.VALUES, ArraySpec("uint8", 0))
    is_selection = stages.num_selected is not None
    arrays = {}
    for kind, spec in expected.items():
        if not spec.length:
            arrays[kind] = _nothing(spec)
        elif kind == SectionKind.SIGNS and is_selection and not stages.transform:
            arrays[kind] = decode_signs(sections[kind][0], selected)
        else:
            arrays[kind] = decompress(sections[kind][0].coder, sections[kind][0].data, spec)
    cuts, centre = None if is_selection else stages.cuts_of_values(layout), stages.quantizer.centre
    arrays[SectionKind.VALUES] = decode_values(sections, values, cuts, centre) if values.length else _nothing(values)
    return arrays


def _nothing(spec: ArraySpec) -> NDArray:
    return np.empty(0, spec.dtype)


def _positions(
    sections: dict[SectionKind, list[Section]], stages: _Stages, layout: Layout, known: Known | None
) -> NDArray | None:
    """Return the selected coordinates; None for all."""
    if stages.num_selected is None:
        return None
    if stages.seed is not None:
        return draw_positions(stages.seed, stages.num_selected, layout.coded.size)
    if not stages.num_selected:
        return np.empty(0, np.int64)
    moved = known.since_first if known else None
    return decode_positions(sections, stages.num_selected, layout.coded.cuts, moved)


class _Stages(NamedTuple):
    """What a frame's stages say.

    Args:
        frozen: Indices of tensors that do not travel.
        keep_below: Element count below which a tensor is kept.
        kept_dtype: Type of what is kept.
        octaves: Binary logarithms of the gains of the coded tensors; None if they have none.
        num_selected: Number of coordinates that travel; None for all.
        seed: From which their positions are drawn; None if they are sent.
        transform: What the values went through before they were quantized; None if nothing.
        key: The transform's key.
        quantizer: The quantizer.
    """

    frozen: frozenset[int]
    keep_below: int
    kept_dtype: str
    octaves: tuple[int, ...] | None
    num_selected: int | None
    seed: int | None
    transform: type[Transform] | None
    key: tuple[int, ...]
    quantizer: Quantizer

    def cuts_of_values(self, layout: Layout) -> Cuts:
        """Return where the quantizer's values are cut; without a sparsifier only."""
        cuts = layout.coded.cuts
        return self.transform.cuts_after(cuts, self.key) if self.transform else cuts


def _read_stages(headers: tuple[StageHeader, ...]) -> _Stages:
    remaining = list(headers)
    frozen, keep_below, kept_dtype = frozenset[int](), 0, "float32"
    octaves: tuple[int, ...] | None = None
    num_selected, seed, transform, key = None, None, None, tuple[int, ...]()
    try:
        if remaining and remaining[0].id == Trainable.wire_id:
            frozen = Trainable.parse_wire(remaining.pop(0).args)
        if remaining and remaining[0].id == Keep.wire_id:
            keep_below, kept_dtype = Keep.parse_wire(remaining.pop(0).args)
        if remaining and remaining[0].id == Balance.wire_id:
            octaves = Balance.parse_wire(remaining.pop(0).args)
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
            raise ValueError("expected trainable, keep, balance, sparsifier, transform, quantizer in this order")
        quantizer = QUANTIZERS[remaining[0].id].from_wire(remaining[0].args)
    except ValueError as error:
        raise FrameMalformed(f"codec stages {[(s.id, *s.args) for s in headers]}: {error}") from None
    if quantizer.needs_sparsifier and num_selected is None:
        raise FrameMalformed(f"{quantizer.name} without a sparsifier before it")
    return _Stages(frozen, keep_below, kept_dtype, octaves, num_selected, seed, transform, key, quantizer)


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
