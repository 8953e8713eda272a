"""The running mean in types that are narrower than its sums: at the end of their range, never beyond."""

import warnings

import numpy as np
import pytest

from fedcomp.codecs import DecodedUpdate
from fedcomp.flower.server.fold import WeightedMean


def mean_of(base, *steps):
    """Return the mean of clients whose one tensor has moved by these steps."""
    values = np.full(4, base)
    kind = np.float32 if values.dtype.kind == "f" else np.int64
    mean = WeightedMean({"n": values})
    for step in steps:
        mean.add(DecodedUpdate.from_delta({"n": np.full(4, step, kind)}), 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return mean.model()["n"]


@pytest.mark.parametrize(
    ("base", "steps", "expected"),
    [
        (np.float16(1), [0.01] * 9 + [1e6], 65504),
        (np.float16(1), [-1e30], -65504),
        (np.float32(3e38), [3e38], np.finfo(np.float32).max),
        (np.int32(1), [10] * 9 + [2**40], 2**31 - 1),
        (np.uint8(1), [10, 9000], 255),
        (np.uint8(1), [-10, -9000], 0),
        (np.int64(2**62), [2**63 - 1], 2**63 - 1024),
        (np.uint64(2**63), [2**63 - 1], 2**64 - 2048),
    ],
)
def test_no_update_makes_a_mean_that_its_type_does_not_have(base, steps, expected):
    np.testing.assert_array_equal(mean_of(base, *steps), np.full(4, expected, base.dtype), strict=True)


@pytest.mark.parametrize(("steps", "expected"), [([0, 0, 1], False), ([0, 1, 1], True), ([0, 0, 7], True)])
def test_the_mean_of_booleans_is_what_most_have(steps, expected):
    assert mean_of(np.False_, *steps).tolist() == [expected] * 4
