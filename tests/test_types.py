"""Specs, fingerprints and the sign of a delta."""

import numpy as np
import pytest

import fedcomp
from fedcomp.errors import EncodeError, UsageError
from fedcomp.types import ModelSpec, add_delta, cast_within, fingerprint_model, range_of, subtract_models

MODEL = {"w": np.ones((2, 3), np.float32), "n": np.array(4), "h": np.zeros(2, np.float16)}


def test_a_delta_is_local_minus_global_and_adds_back():
    local = {"w": MODEL["w"] + 2, "n": np.array(9), "h": np.ones(2, np.float16)}
    delta = subtract_models(local, MODEL)
    assert (delta["w"] == 2).all()
    assert delta["n"] == 5
    assert [values.dtype.name for values in delta.values()] == ["float32", "int64", "float32"]
    back = add_delta(MODEL, delta)
    assert all((back[name] == local[name]).all() and back[name].dtype == MODEL[name].dtype for name in MODEL)


@pytest.mark.parametrize(
    ("dtype", "before", "after"),
    [
        ("bool", True, False),
        ("int8", -128, 127),
        ("uint8", 255, 0),
        ("int64", 2**63 - 1, -(2**63)),
        ("int64", 5, -(2**63)),
        ("uint64", 0, 2**64 - 1),
        ("uint64", 2**63 + 1, 2**63),
        ("float16", -65504, 65504),
    ],
)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_the_ends_of_a_type_come_back(dtype, before, after, shape):
    base, local = {"n": np.full(shape, before, dtype)}, {"n": np.full(shape, after, dtype)}
    found = add_delta(base, subtract_models(local, base))["n"]
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, local["n"], strict=True)


@pytest.mark.parametrize(
    ("dtype", "before", "step", "after"),
    [
        ("bool", True, 7, True),
        ("bool", True, -7, False),
        ("uint8", 1, 300, 255),
        ("uint8", 1, -300, 0),
        ("int32", 1, 2**40, 2**31 - 1),
        ("int32", 1, -(2**63), -(2**31)),
        ("float16", 1, 1e6, 65504),
        ("float16", 1, -1e30, -65504),
    ],
)
def test_a_sum_beyond_a_type_ends_at_its_range(dtype, before, step, after):
    steps = np.full(2, step, "float32" if dtype == "float16" else "int64")
    found = add_delta({"n": np.full(2, before, dtype)}, {"n": steps})["n"]
    np.testing.assert_array_equal(found, np.full(2, after, dtype), strict=True)


@pytest.mark.parametrize("dtype", ["int8", "uint32", "int64", "uint64", "float16", "float32"])
def test_floats_beyond_a_type_end_at_its_range(dtype):
    low, high = range_of(np.dtype(dtype))
    found = cast_within(np.array([-1e300, 0, 1e300]), np.dtype(dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(float), [low, 0, high], rtol=1e-15)


def test_models_that_do_not_match_are_refused():
    with pytest.raises(EncodeError, match=r"missing \['h'\]"):
        subtract_models({"w": MODEL["w"], "n": MODEL["n"]}, MODEL)
    with pytest.raises(EncodeError, match=r"'w' has shape \(6,\)"):
        subtract_models(MODEL | {"w": np.ones(6, np.float32)}, MODEL)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8])
def test_whatever_a_client_computes_in_a_delta_has_the_kinds_of_the_global_model(dtype):
    local = {name: (values + 2).astype(dtype) for name, values in MODEL.items()}
    delta = subtract_models(local, MODEL)
    assert [values.dtype.name for values in delta.values()] == ["float32", "int64", "float32"]
    assert all((values == 2).all() for values in delta.values())


def test_counters_that_were_averaged_are_rounded():
    for counter in (9 + 1e-9, np.float32(8.999999), 9 - 1e-9):
        assert subtract_models(MODEL | {"n": np.array(counter)}, MODEL)["n"] == 5


@pytest.mark.parametrize("counter", [4.5, np.nan, np.inf, 1e30])
def test_integers_that_come_back_as_no_integers_are_refused(counter):
    with pytest.raises(UsageError, match=r"'n' came back as float64 and not all whole numbers, .* has int64"):
        subtract_models(MODEL | {"n": np.array(counter)}, MODEL)


def test_what_is_no_number_is_refused():
    with pytest.raises(UsageError, match=r"'w' came back as complex64, the global model has float32"):
        subtract_models(MODEL | {"w": np.ones((2, 3), np.complex64)}, MODEL)


def test_spec_fingerprint_sees_names_shapes_order_and_kind_but_not_float_width():
    spec = ModelSpec.of(MODEL).fingerprint
    assert ModelSpec.of(MODEL | {"h": np.zeros(2, np.float32)}).fingerprint == spec
    others = [
        {"v": MODEL["w"], "n": MODEL["n"], "h": MODEL["h"]},
        MODEL | {"w": np.ones((3, 2), np.float32)},
        MODEL | {"n": np.array(4.0)},
        dict(reversed(MODEL.items())),
    ]
    assert spec not in {ModelSpec.of(other).fingerprint for other in others}
    assert ModelSpec.of(MODEL).num_parameters == 9


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.ones(3, np.complex128), "has type complex128, expected floats"),
        (np.array(["a"]), "has type <U1, expected floats"),
        (0.5, "is a float, expected a NumPy array"),
        ([0.5, 1.0], "is a list, expected a NumPy array"),
    ],
)
def test_what_is_no_array_of_numbers_has_no_spec_and_is_not_encoded(values, found):
    with pytest.raises(EncodeError, match=f"'n' {found}"):
        ModelSpec.of(MODEL | {"n": values})
    with pytest.raises(EncodeError, match=f"'n' {found}"):
        fedcomp.codec("lossless").encode({"w": MODEL["w"], "n": values})


def test_model_fingerprint_sees_every_bit():
    other = MODEL | {"w": MODEL["w"].copy()}
    assert fingerprint_model(other) == fingerprint_model(MODEL)
    other["w"][1, 2] = np.nextafter(np.float32(1), np.float32(2))
    assert fingerprint_model(other) != fingerprint_model(MODEL)


def test_float64_moves_by_small_steps_of_large_numbers():
    base = {"w": np.array([1e9, 1 / 3])}
    steps = subtract_models({"w": base["w"] + [1, 1e-9]}, base)["w"]
    assert steps.dtype == np.float32
    np.testing.assert_allclose(steps, [1, 1e-9], rtol=1e-6)
    # Who trains in float32 has not moved what it only rounded.
    assert not subtract_models({"w": base["w"].astype(np.float32)}, base)["w"].any()
