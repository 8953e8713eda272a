"""Balance: each tensor at a precision of its own, exactly undone."""

import numpy as np
import pytest

import fedcomp
from fedcomp.errors import FrameMalformed, FrameTooLarge
from fedcomp.wire import FrameLimits, StageHeader, read_frame, write_frame

RNG = np.random.default_rng(0)
DELTA = {
    "large": RNG.normal(size=(40, 30)).astype(np.float32),
    "small": (1e-3 * RNG.normal(size=(20, 25))).astype(np.float32),
    "zero": np.zeros((5, 4), np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "counter": np.array(7),
}
SPEC = fedcomp.ModelSpec.of(DELTA)


def relative_errors(text):
    codec = fedcomp.codec(text)
    received = fedcomp.decode(codec.encode(DELTA).frame, SPEC, codec=codec)
    assert received["counter"] == 7
    return {k: float(np.square(received[k] - DELTA[k]).sum() / np.square(DELTA[k]).sum()) for k in ("large", "small")}


def test_gains_are_undone_exactly():
    codec = fedcomp.codec("balance | float32")
    received = fedcomp.decode(codec.encode(DELTA).frame, SPEC, codec=codec)
    for name, values in DELTA.items():
        np.testing.assert_array_equal(received[name], values)


@pytest.mark.parametrize("rest", ["deadzone(step=1)", "lowrank(rank=20) | deadzone(step=1)"])
def test_a_small_tensor_is_no_longer_lost(rest):
    assert relative_errors(rest)["small"] == pytest.approx(1)
    balanced = relative_errors("balance | " + rest)
    assert balanced["small"] == pytest.approx(balanced["large"], rel=0.6)
    assert balanced["small"] < 0.5


def test_power_lies_between():
    errors = [relative_errors(f"balance(power={power}) | deadzone(step=1)")["small"] for power in (0, 0.7, 1)]
    assert errors == sorted(errors, reverse=True)


def test_a_selection_compares_what_is_multiplied():
    received = fedcomp.decode(fedcomp.codec("balance | topk(density=0.1) | float32").encode(DELTA).frame, SPEC)
    shares = [np.count_nonzero(received[name]) / DELTA[name].size for name in ("large", "small")]
    assert shares[0] == pytest.approx(shares[1], rel=0.5)


def test_extremes_do_not_leave_the_range():
    delta = {"a": np.full((3, 3), 3e38, np.float32), "b": np.full((3, 3), 1e-44, np.float32)}
    received = fedcomp.decode(fedcomp.codec("balance | float32").encode(delta).frame, fedcomp.ModelSpec.of(delta))
    assert all(np.isfinite(values).all() for values in received.values())
    np.testing.assert_array_equal(received["a"], delta["a"])


def test_an_unbalanced_frame_is_not_what_was_asked_for():
    codec = fedcomp.codec("balance | deadzone(step=1)")
    with pytest.raises(fedcomp.FrameError, match="expected those of"):
        fedcomp.decode(fedcomp.codec("deadzone(step=1)").encode(DELTA).frame, SPEC, codec=codec)


@pytest.mark.parametrize("octaves", [(), (0,), (0, 0, 0, 0, 0), (0, 41, 0, 0), (1 << 60, 0, 0, 0)])
def test_impossible_gains_are_refused(octaves):
    frame = read_frame(fedcomp.codec("balance | float16").encode(DELTA).frame, FrameLimits())
    stages = (StageHeader(3, octaves), *frame.stages[1:])
    with pytest.raises(FrameMalformed, match="gains"):
        fedcomp.decode(write_frame(frame.__class__(frame.binding, frame.spec, stages, frame.sections)), SPEC)


def test_a_frame_of_more_tensors_than_a_stranger_is_believed_is_encoded_and_read_with_wider_limits():
    model = {f"{i}": np.random.default_rng(i).normal(size=4).astype(np.float32) for i in range(5000)}
    frame = fedcomp.codec("balance | deadzone(step=1.0)").encode(model).frame
    spec = fedcomp.ModelSpec.of(model)
    with pytest.raises(FrameTooLarge, match="header"):
        fedcomp.decode(frame, spec)
    assert fedcomp.decode(frame, spec, limits=fedcomp.FrameLimits(max_header_bytes=65_535)).keys() == model.keys()
