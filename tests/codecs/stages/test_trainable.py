"""Frozen tensors: they cost a bit each, and nothing of the others is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedcomp
from fedcomp.codecs.stages.trainable import Trainable
from fedcomp.errors import EncodeError, FrameMalformed
from fedcomp.wire import Binding, Frame, Section, SectionKind, StageHeader, write_frame


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_the_mask_reads_back(frozen):
    assert Trainable.parse_wire(Trainable.wire_args(frozen)) == frozen


@pytest.mark.parametrize("args", [(), (0,), (5, 0), (1 << 56,), (1, 1 << 60)])
def test_a_mask_that_no_encoder_writes_is_refused(args):
    with pytest.raises(ValueError, match="mask"):
        Trainable.parse_wire(args)


def adapter(num_frozen=200):
    """Return an update of which only the last two tensors changed."""
    rng = np.random.default_rng(0)
    delta = {f"frozen{i}": np.zeros((50, 50), np.float32) for i in range(num_frozen)}
    delta["frozen.counter"] = np.array(0)
    return delta | {"left": rng.normal(size=(50, 2)).astype(np.float32), "counter": np.array(3)}


@pytest.mark.parametrize("rest", ["uniform(bits=8)", "topk(density=0.5) | ternary", "lowrank(rank=1) | float32"])
def test_an_adapter_costs_what_it_weighs(rest):
    delta = adapter()
    small = {name: delta[name] for name in ("left", "counter")}
    frame = fedcomp.codec(f"trainable | {rest}").encode(delta).frame
    alone = fedcomp.codec(rest).encode(small).frame
    assert len(frame) <= len(alone) + 40
    received = fedcomp.decode(frame, fedcomp.ModelSpec.of(delta))
    expected = fedcomp.decode(alone, fedcomp.ModelSpec.of(small))
    for name, values in received.items():
        np.testing.assert_array_equal(values, expected.get(name, np.zeros_like(delta[name])))


def test_where_everything_changed_no_byte_is_spent():
    delta = {"a": np.float32([1, 2]), "b": np.float32([3])}
    plain, marked = (fedcomp.codec(text).encode(delta).frame for text in ("float32", "trainable | float32"))
    assert plain == marked


def test_a_frozen_tensor_that_is_not_a_number_is_refused():
    with pytest.raises(EncodeError, match="frozen1"):
        fedcomp.codec("trainable | float32").encode(adapter(3) | {"frozen1": np.float32([0, np.nan])})


def test_a_mask_beyond_the_model_is_refused():
    spec = fedcomp.ModelSpec.of({"w": np.zeros(3, np.float32)})
    values = (Section(SectionKind.VALUES, 0, np.zeros(3, np.float32).tobytes()),)
    frame = write_frame(Frame(Binding(), spec.fingerprint, (StageHeader(2, (2,)), StageHeader(32)), values))
    with pytest.raises(FrameMalformed, match="has 1"):
        fedcomp.decode(frame, spec)
