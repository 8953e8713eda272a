"""What each stage promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedcomp
from fedcomp.codecs.positions import gaps_to_positions, positions_to_gaps
from fedcomp.codecs.topk import TopK
from fedcomp.errors import InvalidValues, UsageError


def roundtrip(text, values, seed=0):
    delta = {"w": values}
    frame = fedcomp.codec(text).encode(delta, rng=np.random.default_rng(seed)).frame
    return fedcomp.decode(frame, fedcomp.ModelSpec.of(delta))["w"]


finite = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32))


@given(finite)
def test_float32_is_lossless(values):
    np.testing.assert_array_equal(roundtrip("float32", values), values)


@given(finite, st.integers(2, 16))
def test_uniform_is_within_half_a_step(values, bits):
    step = np.abs(values).max() / (2 ** (bits - 1) - 1)
    error = np.abs(roundtrip(f"uniform(bits={bits})", values).astype(np.float64) - values)
    assert error.max() <= step * (0.5 + 1e-3) + 1e-37


def test_stochastic_uniform_is_unbiased():
    values = np.float32([0.013, -0.4, 1.0, 0.7, -0.01])
    mean = np.mean([roundtrip("uniform(bits=3, stochastic=true)", values, seed) for seed in range(4000)], axis=0)
    np.testing.assert_allclose(mean, values, atol=4 * (1 / 3) / 2 / np.sqrt(4000))


def test_stochastic_uniform_needs_a_generator():
    with pytest.raises(UsageError, match="rng"):
        fedcomp.codec("uniform(bits=4, stochastic=true)").encode({"w": np.ones(3, np.float32)})


def test_uniform_scales_each_tensor_or_the_model():
    delta = {"small": np.float32([0.001, -0.001]), "large": np.float32([1, -1])}
    spec = fedcomp.ModelSpec.of(delta)
    by_tensor = fedcomp.decode(fedcomp.codec("uniform(bits=4)").encode(delta).frame, spec)
    by_model = fedcomp.decode(fedcomp.codec("uniform(bits=4, scale=model)").encode(delta).frame, spec)
    np.testing.assert_allclose(by_tensor["small"], delta["small"], rtol=1e-6)
    assert not by_model["small"].any()


def test_ternary_sends_signs_and_the_mean_magnitude():
    decoded = roundtrip("topk(density=0.5) | ternary", np.float32([3, -1, 0.5, 0.1]))
    np.testing.assert_array_equal(decoded, np.float32([2, -2, 0, 0]))


@given(finite, st.floats(0.01, 1.0))
def test_topk_keeps_the_largest(values, density):
    chosen, kept, _ = TopK(density=density).select(values, np.array([0, values.size]), None)
    np.testing.assert_array_equal(kept, values[chosen])
    count = min(values.size, max(1, round(density * values.size)))
    assert (np.diff(chosen) > 0).all()
    assert chosen.size == min(count, np.count_nonzero(values))
    left_out = np.delete(np.abs(values), chosen)
    if chosen.size and left_out.size:
        assert np.abs(values[chosen]).min() >= left_out.max()


def test_topk_breaks_ties_towards_the_front():
    values = np.float32([1, -1, 1, 1, 2, 1])
    assert TopK(density=0.5).select(values, np.array([0, 6]), None).positions.tolist() == [0, 1, 4]


@given(st.sets(st.integers(0, 1 << 31)))
def test_gaps_invert(positions):
    positions = np.sort(np.fromiter(positions, np.int64))
    np.testing.assert_array_equal(gaps_to_positions(positions_to_gaps(positions), (1 << 31) + 1), positions)


def test_gaps_that_run_over_the_end_are_refused():
    with pytest.raises(InvalidValues, match="vector has 10"):
        gaps_to_positions(np.array([0, 0, 8], np.uint32), 10)
    with pytest.raises(InvalidValues):
        gaps_to_positions(np.full(3, 2**32 - 1, np.uint32), 10)


def test_keep_leaves_small_tensors_alone_and_widens_where_float16_is_too_narrow():
    delta = {"bias": np.float32([0.5, -0.25]), "weight": np.ones(100, np.float32)}
    spec = fedcomp.ModelSpec.of(delta)
    codec = fedcomp.codec("keep(below=10) | topk(density=0.01) | ternary")
    np.testing.assert_array_equal(fedcomp.decode(codec.encode(delta).frame, spec)["bias"], delta["bias"])
    delta["bias"] = np.float32([1e6, 1e-6])
    np.testing.assert_array_equal(fedcomp.decode(codec.encode(delta).frame, spec)["bias"], delta["bias"])


def test_header_and_checks_of_a_small_update_stay_small():
    delta = {"w": np.random.default_rng(0).normal(size=300_000).astype(np.float32)}
    context = fedcomp.CodingContext(run="123456789", sender="987654321", round=200, base=2**32 - 1)
    encoded = fedcomp.codec("thin").encode(delta, context=context)
    assert encoded.ledger.header <= 64


def test_a_sparse_ternary_update_is_near_the_entropy_of_its_positions():
    values = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    encoded = fedcomp.codec("topk(density=0.01) | ternary").encode({"w": values})
    entropy_bits = -(0.01 * np.log2(0.01) + 0.99 * np.log2(0.99)) * 1_000_000
    assert encoded.ledger.positions <= 1.02 * entropy_bits / 8
    assert encoded.ledger.signs == 1250
