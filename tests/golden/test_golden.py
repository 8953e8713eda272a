"""Frames of every format version still decode to the same values."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedcomp
from tests.golden.make import golden_frames

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
