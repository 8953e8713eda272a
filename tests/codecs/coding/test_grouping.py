"""Symbols of structured matrices take fewer bytes when rows and columns that are alike share statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedcomp
from fedcomp.codecs.coding import grouping
from fedcomp.codecs.layout import layout_of
from fedcomp.errors import FrameError, InvalidValues
from fedcomp.wire import FrameLimits, Section, SectionKind, read_frame, write_frame


def structured_delta(seed=0, rows=96, columns=160):
    """Return an update whose rows and columns differ in scale over orders of magnitude, some of them dead."""
    rng = np.random.default_rng(seed)
    scales = [np.exp2(rng.uniform(-7, 0, n)) * (rng.random(n) > 0.3) for n in (rows, columns)]
    weight = rng.laplace(size=(rows, columns)) * np.outer(*scales)
    return {
        "empty": np.zeros((0, 3), np.float32),
        "weight": weight.astype(np.float32),
        "bias": rng.normal(size=rows).astype(np.float32),
        "small": rng.normal(size=(5, 6)).astype(np.float32),
        "conv": (rng.normal(size=(40, 8, 3, 5)) * 1e-2).astype(np.float32),
    }


def cuts_of(delta):
    return layout_of(fedcomp.ModelSpec.of(delta), 0).coded.cuts


@pytest.mark.parametrize(
    "text", ["uniform(bits=8)", "uniform(bits=6)", "deadzone(step=0.1)", "uniform(bits=11)", "log"]
)
def test_structure_pays_and_comes_back(text):
    delta = structured_delta()
    codec, spec = fedcomp.codec(text), fedcomp.ModelSpec.of(delta)
    frame = codec.encode(delta).frame
    kinds = [section.kind for section in read_frame(frame, FrameLimits()).sections]
    if text != "log":  # its blocks have scales of their own, and leave less to gain
        assert kinds.count(SectionKind.VALUES) > 2
    shuffled = np.random.default_rng(1).permutation(delta["weight"].reshape(-1)).reshape(delta["weight"].shape)
    if "log" not in text:
        assert len(frame) < 0.9 * len(codec.encode(delta | {"weight": shuffled}).frame)
    alone = codec.encode({"w": np.concatenate([v.reshape(-1) for v in delta.values()])})
    assert fedcomp.decode(frame, spec).keys() == delta.keys()
    for name, values in fedcomp.decode(frame, spec).items():
        assert values.shape == delta[name].shape
    assert alone.ledger.activity == 0


def test_grouped_values_are_those_of_the_quantizer():
    """A codec whose scale is the model's quantizes a flat copy alike: there is nothing to group in that."""
    delta = structured_delta()
    codec = fedcomp.codec("uniform(bits=6, scale=model)")
    flat = {"w": np.concatenate([values.reshape(-1) for values in delta.values()])}
    grouped = codec.encode(delta)
    assert grouped.ledger.activity > 0
    decoded = fedcomp.decode(grouped.frame, fedcomp.ModelSpec.of(delta))
    expected = fedcomp.decode(codec.encode(flat).frame, fedcomp.ModelSpec.of(flat))["w"]
    np.testing.assert_array_equal(np.concatenate([v.reshape(-1) for v in decoded.values()]), expected)


def test_nothing_is_grouped_where_nothing_differs():
    rng = np.random.default_rng(0)
    delta = {"w": rng.laplace(size=(200, 300)).astype(np.float32)}
    assert fedcomp.codec("uniform(bits=4)").encode(delta).ledger.activity == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(2, 90), columns=st.integers(46, 400), wide=st.booleans())
def test_any_classes_come_back(seed, rows, columns, wide):
    """Whatever classes an encoder may choose, and however little they fit."""
    rng = np.random.default_rng(seed)
    cuts = cuts_of({"a": np.zeros((rows, columns), np.float32), "b": np.zeros(7), "c": np.zeros((80, 70))})
    symbols = rng.integers(0, 65_535 if wide else 255, cuts.size).astype(np.uint16 if wide else np.uint8)
    for classes in (
        rng.integers(0, rng.integers(1, 33), grouping.count_lines(cuts)).astype(np.uint8),
        grouping.classify_lines(symbols, cuts),
    ):
        groups = grouping.group(symbols, cuts, classes)
        assert grouping.group_sizes(cuts, classes) == [symbols.size for symbols in groups]
        np.testing.assert_array_equal(grouping.ungroup(groups, cuts, classes), symbols)


def test_dead_lines_have_class_zero():
    symbols = np.full((64, 128), 7, np.uint8)
    symbols[3:9, 10:60] = 9
    cuts = cuts_of({"w": np.zeros((64, 128), np.float32)})
    classes = grouping.classify_lines(symbols.reshape(-1), cuts)
    assert (classes[:64] > 0).tolist() == [3 <= row < 9 for row in range(64)]
    assert (classes[64:] > 0).tolist() == [10 <= column < 60 for column in range(128)]


def test_a_class_out_of_range_is_refused():
    cuts = cuts_of({"w": np.zeros((64, 128), np.float32)})
    with pytest.raises(InvalidValues, match="class 32"):
        grouping.group_sizes(cuts, np.full(64 + 128, 32, np.uint8))


def test_groups_that_do_not_fit_the_classes_are_refused():
    delta = structured_delta()
    spec = fedcomp.ModelSpec.of(delta)
    frame = read_frame(fedcomp.codec("uniform(bits=6)").encode(delta).frame, FrameLimits())
    values = [s for s in frame.sections if s.kind == SectionKind.VALUES]
    others = [s for s in frame.sections if s.kind < SectionKind.VALUES]
    (activity,) = [s for s in frame.sections if s.kind == SectionKind.ACTIVITY]
    changed = Section(activity.kind, 0, bytes(grouping.count_lines(cuts_of(delta))))
    for sections in (
        [*others, *values[1:], activity],
        [*others, *values, values[0], activity],
        [*others, *reversed(values), activity],
        [*others, *values, changed],
        [*others, *values],
        [*others, values[0]],
        [*others, activity],
    ):
        with pytest.raises(FrameError):
            fedcomp.decode(write_frame(frame.__class__(frame.binding, frame.spec, frame.stages, tuple(sections))), spec)
