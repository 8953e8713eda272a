"""What each stage promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedcomp
from fedcomp.codecs.coding.positions import draw_positions, gaps_to_positions, positions_to_gaps
from fedcomp.codecs.groups import Cuts
from fedcomp.codecs.stages.deadzone import DeadZone
from fedcomp.codecs.stages.topk import TopK
from fedcomp.codecs.stages.uniform import Uniform
from fedcomp.errors import InvalidValues, UsageError
from fedcomp.wire import SectionKind


def roundtrip(text, values, seed=0):
    delta = {"w": values}
    frame = fedcomp.codec(text).encode(delta, rng=np.random.default_rng(seed)).frame
    return fedcomp.decode(frame, fedcomp.ModelSpec.of(delta))["w"]


def whole(values):
    """Cuts of a single tensor."""
    return Cuts(np.array([0, values.size]), np.array([0, values.size]))


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
    decoded = roundtrip("uniform(bits=3, stochastic=true)", np.tile(values, (4000, 1)))
    np.testing.assert_allclose(decoded.mean(axis=0), values, atol=4 * (1 / 3) / 2 / np.sqrt(4000))


def test_stochastic_uniform_needs_a_generator():
    with pytest.raises(UsageError, match="rng"):
        fedcomp.codec("uniform(bits=4, stochastic=true)").encode({"w": np.ones(3, np.float32)})


def test_affine_uniform_rounds_to_the_nearest_level_far_from_zero():
    values = np.float32(1000.1) + np.random.default_rng(0).random(1000, np.float32)
    arrays = Uniform(bits=16, affine=True).quantize(values, whole(values), None)
    offset, step = arrays[SectionKind.TABLES].astype(np.float64)
    errors = arrays[SectionKind.VALUES] - (values - offset) / step
    assert np.abs(errors).max() <= 0.51


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
    chosen, kept, _ = TopK(density=density).select(values, whole(values), None)
    np.testing.assert_array_equal(kept, values[chosen])
    count = min(values.size, max(1, round(density * values.size)))
    assert (np.diff(chosen) > 0).all()
    assert chosen.size == min(count, np.count_nonzero(values))
    left_out = np.delete(np.abs(values), chosen)
    if chosen.size and left_out.size:
        assert np.abs(values[chosen]).min() >= left_out.max()


def test_topk_breaks_ties_towards_the_front():
    values = np.float32([1, -1, 1, 1, 2, 1])
    assert TopK(density=0.5).select(values, whole(values), None).positions.tolist() == [0, 1, 4]


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
    encoded = fedcomp.codec("topk(density=0.01) | ternary").encode(delta, context=context)
    assert encoded.ledger.header <= 64


def test_a_sparse_ternary_update_is_near_the_entropy_of_its_positions():
    values = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    encoded = fedcomp.codec("topk(density=0.01) | ternary").encode({"w": values})
    entropy_bits = -(0.01 * np.log2(0.01) + 0.99 * np.log2(0.99)) * 1_000_000
    assert encoded.ledger.positions <= 1.02 * entropy_bits / 8
    assert encoded.ledger.signs == 1250


def nmse(text, values, seed=0):
    error = roundtrip(text, values, seed).astype(np.float64) - values
    return float(np.square(error).sum() / np.square(values, dtype=np.float64).sum())


GAUSS = np.random.default_rng(7).normal(size=60_000).astype(np.float32)
LAPLACE = np.random.default_rng(8).laplace(size=60_000).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sign", 1 - 2 / np.pi),  # the best one-bit quantizer of a normal source
        ("codebook(levels=2)", 1 - 2 / np.pi),
        ("codebook(levels=4)", 0.1175),  # Max 1960, table I
        ("codebook(levels=8)", 0.03454),
        ("codebook(levels=16)", 0.009497),
    ],
)
def test_errors_on_a_normal_source_are_those_of_the_literature(text, expected):
    assert nmse(text, GAUSS) == pytest.approx(expected, rel=0.03)


@given(finite)
def test_lloyd_is_exact_where_there_are_enough_levels(values):
    few = values[:2]
    np.testing.assert_allclose(roundtrip("codebook(levels=2)", few), few, rtol=1e-6, atol=1e-30)


def test_quantile_levels_are_used_equally():
    frame = fedcomp.codec("codebook(levels=8, fit=quantile)").encode({"w": GAUSS})
    assert frame.ledger.values == pytest.approx(3 / 8 * GAUSS.size, rel=0.02)


@given(finite)
def test_log_levels_are_powers_of_two_of_the_largest(values):
    decoded = roundtrip("log(bits=5, scale=model)", values)
    largest = np.abs(values).max()
    kept = decoded != 0
    powers = np.log2(np.abs(decoded[kept]) / largest) if largest else np.empty(0)
    np.testing.assert_allclose(powers, np.rint(powers), atol=1e-5)
    in_range = np.abs(values) >= largest * 2.0**-14 * 0.75
    assert (np.abs(decoded - values)[in_range] <= np.abs(values)[in_range] * (1 / 3 + 1e-4) + 1e-37).all()


def test_dead_zone_spends_less_than_nf4_at_the_same_error():
    nf4 = fedcomp.codec("nf4").encode({"w": LAPLACE})
    dead_zone = fedcomp.codec("deadzone(step=0.32)").encode({"w": LAPLACE})
    assert nmse("deadzone(step=0.32)", LAPLACE) <= nmse("nf4", LAPLACE)
    assert len(dead_zone.frame) < 0.9 * len(nf4.frame)


def test_dead_zone_decodes_to_centroids():
    decoded = roundtrip("deadzone(step=1.0)", LAPLACE)
    rounding = 1.5 / 255 / 2 * np.sqrt(np.square(LAPLACE).mean())
    for level in np.unique(np.abs(decoded[decoded != 0])):
        found = float(np.abs(LAPLACE[np.abs(decoded) == level]).mean())
        assert found == pytest.approx(float(level), abs=float(rounding) * 1.01)


def test_blocks_and_channels_have_their_own_step():
    matrix = np.float32([[1e-3, -5e-4, 2e-4], [100, -50, 7]])
    for text in (
        "uniform(bits=8, scale=channel)",
        "log(bits=6, scale=channel)",
        "nf4(scale=channel)",
        "sign(scale=channel)",
    ):
        small = roundtrip(text, matrix)[0]
        assert np.abs(small).max() < 2e-3
        assert small.any()
    rows = np.repeat(np.float32([1e-3, 100]), 8)
    np.testing.assert_allclose(roundtrip("uniform(bits=4, scale=block, block=8)", rows), rows, rtol=1e-5)


@given(finite, st.integers(1, 16))
def test_affine_uniform_is_within_half_a_step_of_its_range(values, bits):
    values = values + np.float32(2000)
    step = (float(values.max()) - float(values.min())) / (2**bits - 1)
    error = np.abs(roundtrip(f"uniform(bits={bits}, affine=true)", values).astype(np.float64) - values)
    assert error.max() <= step / 2 + 5e-4


def test_randk_is_unbiased_where_it_says_so():
    values = np.float32([1, -2, 3, 0.5, 0, 4, -1, 2])
    decoded = roundtrip("randk(density=0.25, unbiased=true) | float32", np.tile(values, (4000, 1)))
    np.testing.assert_allclose(decoded.mean(axis=0), values, atol=4 * 4 * np.sqrt(3 / 4000))


def test_randk_sends_no_positions_and_both_ends_draw_the_same():
    encoded = fedcomp.codec("randk(density=0.01) | float32").encode({"w": GAUSS}, rng=np.random.default_rng(0))
    assert encoded.ledger.positions == 0
    decoded = fedcomp.decode(encoded.frame, fedcomp.ModelSpec.of({"w": GAUSS}))["w"]
    assert np.count_nonzero(decoded) == 600
    np.testing.assert_array_equal(decoded[decoded != 0], GAUSS[decoded != 0])


@given(st.integers(0, 2**64 - 1), st.integers(0, 50), st.integers(50, 1000))
def test_drawn_positions_are_a_set_of_the_right_size(seed, count, size):
    positions = draw_positions(seed, count, size)
    assert positions.size == count
    assert (np.diff(positions) > 0).all()
    assert not count or 0 <= positions[0] <= positions[-1] < size
    assert draw_positions(seed, size, size).tolist() == list(range(size))


def test_drawn_positions_stay_what_they_were():
    """They are part of the format: a change here needs a new format version."""
    assert draw_positions(1, 5, 1000).tolist() == [31, 156, 303, 848, 900]
    assert draw_positions(1, 5, 12).tolist() == [1, 5, 7, 10, 11]


def test_threshold_follows_the_rms():
    values = np.float32([0.1] * 99 + [5])
    assert np.count_nonzero(roundtrip("threshold(sigmas=2) | float32", values)) == 1
    assert np.count_nonzero(roundtrip("threshold(sigmas=0) | float32", np.float32([0, 1, 0, 2]))) == 2


def test_rows_keeps_whole_filters():
    kernel = np.ones((8, 3, 3), np.float32) * np.arange(8, dtype=np.float32)[:, None, None]
    decoded = roundtrip("rows(density=0.25) | float32", kernel)
    assert [bool(row.any()) for row in decoded] == [False] * 6 + [True] * 2


def test_topk_within_each_tensor():
    delta = {"small": np.float32([1e-3, 2e-3]), "large": np.float32([1, 2, 3, 4])}
    codec = fedcomp.codec("topk(density=0.5, scope=tensor) | float32")
    decoded = fedcomp.decode(codec.encode(delta).frame, fedcomp.ModelSpec.of(delta))
    assert decoded["small"].tolist() == [0, np.float32(2e-3)]
    assert decoded["large"].tolist() == [0, 0, 3, 4]


def test_a_dead_zone_fitted_to_values_keeps_its_step():
    """Also where the largest value decides about it, and rounding makes the last level one less."""
    rng = np.random.default_rng(0)
    stage = DeadZone(step=1e-6, zone=0.5)
    for exponent in rng.uniform(4, 9, 50):
        values = np.float32([10**exponent, 0.6 * 10**exponent, *rng.normal(size=100)])
        tables = [s.quantize(values, whole(values), None)[SectionKind.TABLES] for s in (stage, stage.fitted(values))]
        assert tables[0][:4].tolist() == tables[1][:4].tolist()


def test_unbiased_randk_stays_within_float32():
    values = np.full(86, np.finfo(np.float32).max)
    decoded = roundtrip("randk(density=0.3, unbiased=true) | float32", values)
    assert np.isfinite(decoded).all()
    assert decoded.any()
