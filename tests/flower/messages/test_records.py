"""Between Flower's records and models: what can be read, and what is said where it can not."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fedcomp.errors import InvalidValues, UsageError
from fedcomp.flower import to_array_record, to_model
from fedcomp.flower.messages.records import named_as, plain_model_from_record, with_types_of
from tests.flower.toy import MODEL


def array_of_bfloat16():
    """Return what NumPy writes for bfloat16 of the package ml_dtypes: void of two bytes."""
    written = Array(np.zeros(3, "V2"))
    return Array("bfloat16", (3,), written.stype, written.data)


def test_a_model_comes_back_as_it_was():
    back = to_model(to_array_record(MODEL))
    assert list(back) == list(MODEL)
    for name, values in MODEL.items():
        assert back[name].dtype == values.dtype
        np.testing.assert_array_equal(back[name], values)


@pytest.mark.parametrize(
    ("array", "found"), [(array_of_bfloat16(), "bfloat16"), (Array(np.ones(2, np.complex64)), "complex64")]
)
def test_types_that_are_none_of_numpys_numbers_are_named(array, found):
    with pytest.raises(UsageError, match=f"'odd' has type {found}, expected NumPy's own floats, integers or booleans"):
        to_model(ArrayRecord({"fine": Array(np.zeros(2)), "odd": array}))


def test_numbered_tensors_get_the_names_of_the_model_by_position():
    names = [f"layer{position}" for position in range(12)]
    numbered = {str(position): position for position in range(12)}
    named = named_as(names, dict(sorted(numbered.items())))  # "10" before "2"
    assert list(named.items()) == [(name, position) for position, name in enumerate(names)]


@pytest.mark.parametrize("tensors", [{"b": 1, "a": 2}, {"0": 1}, {"0": 1, "2": 2}, {"0": 1, "b": 2}, {}])
def test_other_names_stay_as_they_are(tensors):
    assert named_as(["a", "b"], tensors) == tensors


def test_a_model_whose_own_names_are_numbers_keeps_its_order():
    assert named_as(["1", "0"], {"0": "zero", "1": "one"}) == {"0": "zero", "1": "one"}


def test_a_plain_reply_may_be_integers_and_booleans_of_any_width():
    base = {"counter": np.array(7), "weight": np.zeros(2, np.float32)}
    reply = {"counter": np.array(9, np.int32), "weight": np.array([True, False])}
    model = plain_model_from_record(to_array_record(reply), base)
    assert [(values.dtype, values.tolist()) for values in model.values()] == [("int64", 9), ("float32", [1, 0])]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_plain_reply_may_be_floats_of_any_width_in_any_order(dtype, order):
    reply = {name: np.asarray(values, dtype, order=order) for name, values in reversed(MODEL.items())}
    model = plain_model_from_record(ArrayRecord({name: Array(values) for name, values in reply.items()}), MODEL)
    assert list(model) == list(MODEL)
    for name, values in MODEL.items():
        assert model[name].dtype == values.dtype
        np.testing.assert_allclose(model[name], values, atol=1e-3)


def test_flags_and_bytes_that_come_back_as_floats_are_what_they_were():
    base = {"flags": np.array([True, False]), "bytes": np.arange(3, dtype=np.uint8)}
    model = plain_model_from_record(to_array_record({n: values.astype(float) for n, values in base.items()}), base)
    for name, values in base.items():
        assert model[name].dtype == values.dtype
        np.testing.assert_array_equal(model[name], values)
    for wrong in ({"bytes": np.float64([0, 1, 256])}, {"bytes": np.float64([-1, 0, 1])}, {"flags": np.float64([2, 0])}):
        with pytest.raises(InvalidValues, match="values of type float64 that are no"):
            plain_model_from_record(to_array_record(base | wrong), base)


def test_what_a_strategy_makes_of_a_model_has_its_order_and_types():
    made = {"new": np.zeros(2, np.float16), "counter": np.array(8.0), "weight": np.ones((8, 5), np.float32)}
    model = to_model(with_types_of(MODEL, to_array_record(made)))  # as one that drops a layer, and adds one
    expected = [("weight", "float32"), ("counter", MODEL["counter"].dtype), ("new", "float16")]
    assert [(name, values.dtype) for name, values in model.items()] == expected
