"""Frames of this format version still decode to the same values."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedcomp
from fedcomp.codecs.coding.rans import INTERVALS
from fedcomp.wire import VERSION, FrameLimits, SectionKind, read_frame
from tests.golden.make import golden_frames

FOLDER = Path(__file__).parent / f"v{VERSION}"


@pytest.mark.parametrize(("name", "text", "delta", "context"), golden_frames(), ids=lambda value: str(value)[:24])
def test_golden_frame_decodes_to_its_values(name, text, delta, context):
    frame = (FOLDER / f"{name}.fcz").read_bytes()
    decoded = fedcomp.decode(frame, fedcomp.ModelSpec.of(delta), context=context)
    expected = load_file(FOLDER / f"{name}.safetensors")
    assert decoded.keys() == expected.keys()
    for tensor, values in expected.items():
        np.testing.assert_array_equal(decoded[tensor], values, strict=True)


def test_the_frames_hold_every_way_to_write_a_section():
    frames = [read_frame(path.read_bytes(), FrameLimits()) for path in FOLDER.glob("*.fcz")]
    found = {(section.kind, section.coder) for frame in frames for section in frame.sections}
    assert {kind for kind, _ in found} == set(SectionKind)
    assert {(SectionKind.POSITIONS, INTERVALS), (SectionKind.SIGNS, INTERVALS)} <= found
    assert {len(stage.args) for frame in frames for stage in frame.stages if stage.id == 27} == {1, 3}
