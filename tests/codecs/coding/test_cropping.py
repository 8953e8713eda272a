"""Rows and columns of which nothing was selected leave the vector that positions point into."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedcomp
from fedcomp.codecs.coding import cropping
from fedcomp.codecs.coding.grouping import count_lines
from fedcomp.codecs.layout import layout_of
from fedcomp.errors import InvalidValues
from fedcomp.wire import FrameLimits, Section, SectionKind, read_frame, write_frame


def cuts_of(**shapes):
    return layout_of(fedcomp.ModelSpec.of({n: np.zeros(s, np.float32) for n, s in shapes.items()}), 0).coded.cuts


def delta_with_dead_lines(seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(128, 200)) * np.outer(rng.random(128) > 0.7, rng.random(200) > 0.7)
    return {"bias": rng.normal(size=128), "weight": weight, "head": rng.normal(size=(10, 128))}


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), density=st.floats(0, 0.2), rows=st.integers(2, 70), columns=st.integers(60, 300))
def test_positions_come_back(seed, density, rows, columns):
    cuts = cuts_of(a=3, b=(rows, columns), none=(0, 4), c=5, d=(90, 50), e=(4, 4))
    positions = np.flatnonzero(np.random.default_rng(seed).random(cuts.size) < density)
    alive = cropping.find_alive(positions, cuts)
    cropped = cropping.crop(positions, cuts, alive)
    assert (np.diff(cropped) > 0).all()
    assert not cropped.size or cropped[-1] < cropping.cropped_size(cuts, alive) <= cuts.size
    np.testing.assert_array_equal(cropping.uncrop(cropped, cuts, alive), positions)
    np.testing.assert_array_equal(cropping.unpack_alive(cropping.pack_alive(alive), cuts), alive)


def test_dead_lines_pay():
    delta = delta_with_dead_lines()
    codec = fedcomp.codec("topk(density=0.05) | float32")
    encoded = codec.encode(delta)
    assert encoded.ledger.activity > 0
    flat = {"w": np.concatenate([values.reshape(-1) for values in delta.values()])}
    plain = codec.encode(flat)
    assert encoded.ledger.positions + encoded.ledger.activity < 0.95 * plain.ledger.positions
    decoded = fedcomp.decode(encoded.frame, fedcomp.ModelSpec.of(delta))
    expected = fedcomp.decode(plain.frame, fedcomp.ModelSpec.of(flat))["w"]
    np.testing.assert_array_equal(np.concatenate([v.reshape(-1) for v in decoded.values()]), expected)


def test_any_mask_of_lines_is_safe():
    """A sender may claim what it likes: the positions that come out are increasing, and in the vector."""
    delta = delta_with_dead_lines()
    spec = fedcomp.ModelSpec.of(delta)
    frame = read_frame(fedcomp.codec("topk(density=0.05) | float32").encode(delta).frame, FrameLimits())
    lines = count_lines(cuts_of(**{name: values.shape for name, values in delta.items()}))
    rng = np.random.default_rng(0)
    refused = 0
    for share in (0.0, 0.2, 0.5, 0.9, 1.0):
        claim = np.packbits(rng.random(lines) < share).tobytes()
        sections = [Section(s.kind, 0, claim) if s.kind == SectionKind.ACTIVITY else s for s in frame.sections]
        forged = write_frame(frame.__class__(frame.binding, frame.spec, frame.stages, tuple(sections)))
        try:
            decoded = fedcomp.decode(forged, spec)
        except InvalidValues:
            refused += 1
        else:
            assert sum(np.count_nonzero(values) for values in decoded.values()) == frame.stages[0].args[0]
    assert refused >= 2


def test_padding_must_be_zero():
    cuts = cuts_of(b=(65, 64))
    with pytest.raises(InvalidValues, match="padding"):
        cropping.unpack_alive(np.full(cropping.packed_size(cuts), 255, np.uint8), cuts)
