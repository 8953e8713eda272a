"""Frames of every format version still decode to the same values."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedcomp
from fedcomp.codecs.layout import layout_of
from fedcomp.codecs.rans import INTERVALS
from fedcomp.codecs.sections import decode_positions, decode_signs
from fedcomp.wire import FrameLimits, SectionKind, read_frame
from tests.golden.make import contextual_context, contextual_positions, golden_frames

FOLDER = Path(__file__).parent / "v1"


@pytest.mark.parametrize(("name", "text", "delta"), golden_frames(), ids=lambda value: str(value)[:24])
def test_golden_frame_decodes_to_its_values(name, text, delta):
    context = fedcomp.CodingContext(run="golden", sender="client", round=5, base=0x1234)
    frame = (FOLDER / f"{name}.fcz").read_bytes()
    decoded = fedcomp.decode(frame, fedcomp.ModelSpec.of(delta), context=context)
    expected = load_file(FOLDER / f"{name}.safetensors")
    assert decoded.keys() == expected.keys()
    for tensor, values in expected.items():
        np.testing.assert_array_equal(decoded[tensor], values, strict=True)


def test_golden_intervals_decode_to_their_positions_and_signs():
    context = contextual_context()
    frame = read_frame((FOLDER / "contextual.fcz").read_bytes(), FrameLimits())
    context.check(frame.binding)
    sections = {section.kind: [section] for section in frame.sections}
    assert sections[SectionKind.POSITIONS][0].coder == sections[SectionKind.SIGNS][0].coder == INTERVALS
    expected, flat = contextual_positions()
    spec = fedcomp.ModelSpec.of(context.model)
    assert frame.spec == spec.fingerprint
    group = layout_of(spec, 0).coded
    positions = decode_positions(sections, frame.stages[0].args[0], group.cuts, context.known(group).moved[0])
    np.testing.assert_array_equal(positions, expected)
    packed = decode_signs(sections[SectionKind.SIGNS][0], group.cuts.at(positions))
    np.testing.assert_array_equal(packed, np.packbits(flat[positions] < 0))
