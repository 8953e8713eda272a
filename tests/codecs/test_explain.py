"""What `fedcomp inspect` says of a frame."""

from pathlib import Path

import numpy as np
import pytest

import fedcomp
from fedcomp.codecs.explain import explain_frame
from tests.codecs.coding.test_grouping import structured_delta


@pytest.mark.parametrize("text", ["uniform(bits=6)", "thin", "keep(below=64) | rotate | sign", "trainable | q"])
@pytest.mark.parametrize("bound", [False, True])
def test_every_byte_has_one_purpose(text, bound):
    context = fedcomp.CodingContext(run="r", sender="a", round=300, base=7) if bound else None
    codec = fedcomp.codec(text.replace("trainable | q", "trainable | topk(density=0.1) | uniform(bits=4)"))
    encoded = codec.encode(structured_delta(), rng=np.random.default_rng(0), context=context)
    explained = explain_frame(encoded.frame)
    assert sum(part.num_bytes for part in explained.parts) == len(encoded.frame) == explained.num_bytes
    assert all(part.num_bytes for part in explained.parts)
    assert ("round" in {part.name for part in explained.parts}) == bound


def test_groups_are_counted():
    names = [
        part.name for part in explain_frame(fedcomp.codec("uniform(bits=6)").encode(structured_delta()).frame).parts
    ]
    groups = [name for name in names if name.startswith("values")]
    assert groups[0] == f"values, group 1 of {len(groups)}"
    assert "activity" in names
    assert "signs" in names


def test_intervals_have_a_name():
    frame = (Path(__file__).parents[1] / "golden" / "v2" / "known-topk-ternary.fcz").read_bytes()
    assert {part.name: part.how for part in explain_frame(frame).parts}["positions"] == "Intervals"
