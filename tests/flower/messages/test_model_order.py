"""What a client reads of the server's word about a model: nothing in it is believed before it is checked."""

import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error

from fedcomp.errors import FrameMalformed, InvalidValues
from fedcomp.flower.messages.model_order import LostModel, failure_of, pack_model, read_spec, to_error, unpack_model
from fedcomp.flower.messages.records import to_array_record
from fedcomp.types import ModelSpec
from tests.flower.toy import MODEL

KINDS = {kind: np.zeros((2, 0, 3), kind) for kind in ("bool", "uint8", "int64", "float16", "float32", "float64")}


@pytest.mark.parametrize("model", [MODEL, KINDS, {}], ids=["toy", "all types", "empty"])
def test_a_spec_comes_back(model):
    spec = ModelSpec.of(model)
    frame, text = unpack_model(pack_model(b"frame", spec), base=0)
    assert frame == b"frame"
    assert read_spec(text, 1 << 20) == spec


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}}",
        b"3",
        b"[3]",
        b"[[]]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'[["w","float32",[1]]' + b" " * (1 << 20) + b"]",
        json.dumps([["w", "float32", [2]], ["w", "float32", [2]]]).encode(),
        json.dumps([["w", "float32", [1 << 60, 1 << 60]]]).encode(),
        json.dumps([["w", "float32", [257]]]).encode(),
        json.dumps([["w", "float32", [2**70, 0]]]).encode(),
        json.dumps([["w", "float32", [0, 2**62]]]).encode(),
        json.dumps([["w", "float32", [2**31, 0, 2**31]]]).encode(),
        json.dumps([["w", "float32", [1] * 65]]).encode(),
        json.dumps([["w", "float32", [0] * 65]]).encode(),
        json.dumps([["w", "float32", [-1]]]).encode(),
        json.dumps([["w", "float32", [1.0]]]).encode(),
        json.dumps([["w", "float32", [True]]]).encode(),
        json.dumps([["w", "float32", 1]]).encode(),
        json.dumps([["w", "object", [1]]]).encode(),
        json.dumps([["w", "f4,(2,3)f4", [1]]]).encode(),
        json.dumps([["w", "U100000", [1]]]).encode(),
        json.dumps([["w", ["float32"], [1]]]).encode(),
        json.dumps([[["w"], "float32", [1]]]).encode(),
    ],
    ids=lambda text: text[:30],
)
def test_a_spec_that_can_not_be_used_is_refused_before_anything_is_allocated(text):
    with pytest.raises(FrameMalformed, match="can not be used"):
        read_spec(text, max_model_bytes=1024)


@pytest.mark.parametrize("shape", [[1] * 64, [0] * 64, [2**48, 0], [2**24, 0, 2**24], []])
def test_shapes_at_the_limits_can_be_made(shape):
    for kind in KINDS:
        (tensor,) = read_spec(json.dumps([["w", kind, shape]]).encode(), 1 << 20)
        assert np.zeros(tensor.shape, tensor.dtype).shape == tuple(shape)


@pytest.mark.parametrize(
    ("record", "base"),
    [
        (pack_model(b"frame", None), 0),
        (pack_model(b"frame", ModelSpec.of(MODEL)), 7),
        (to_array_record(MODEL), 7),
        (ArrayRecord(), 7),
        (ArrayRecord({"model": Array("uint8", (1,), "numpy.ndarray", b"x")}), 7),
    ],
)
def test_other_arrays_are_refused(record, base):
    with pytest.raises(FrameMalformed, match="as its model"):
        unpack_model(record, base)


def test_the_server_knows_why_a_client_has_no_model():
    assert failure_of(to_error(LostModel("gone"))) == "lost-model"
    assert failure_of(to_error(InvalidValues("NaN"))) == "refused-model"
    assert "invalid-values: NaN" in to_error(InvalidValues("NaN")).reason
    assert failure_of(Error(2, "lost-model: an app's own words")) is None
    assert failure_of(Error(1001, None)) is None
    assert failure_of(Error(1001, "something else: x")) is None
