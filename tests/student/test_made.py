"""A student's files, and whether the card tells the truth about them."""

import json
from dataclasses import asdict

import numpy as np
import onnx
import pytest
import torch
from onnx.numpy_helper import to_array

from fedcomp.data import load_dataset
from fedcomp.errors import DataError
from fedcomp.files import read_tensors
from fedcomp.models import build_model, narrow_to
from fedcomp.student import OnnxModel, load_student
from fedcomp.training import evaluate, predict_logits


@pytest.fixture(scope="module")
def test_set():
    return load_dataset("digits", "")[1]


def stored(out):
    student = build_model("student-pyramid(width=0.5)", image_shape=(1, 8, 8), num_classes=10, seed=1)
    narrow_to(student, read_tensors(out / "student.safetensors"))
    load_student(out, student)
    return student


def test_the_card_says_what_was_measured(made, test_set):
    card, out, _ = made
    assert json.loads((out / "card.json").read_text()) == json.loads(json.dumps(asdict(card)))
    for name, file in (("float32", "student.onnx"), ("int8", "student-int8.onnx")):
        content = (out / file).read_bytes()
        logits = OnnxModel(content).logits(test_set.images)
        assert card.variants[name].num_bytes == len(content)
        assert card.variants[name].accuracy == pytest.approx((logits.argmax(1) == test_set.labels).mean())
    assert card.num_parameters == sum(parameter.numel() for parameter in stored(out).parameters())
    assert card.run == {"name": "tiny", "rounds": 3, "uplink_bytes": 12345}
    shown = (out / "README.md").read_text()
    for form in card.variants.values():
        assert f"{form.num_bytes:,}" in shown
        assert f"{form.accuracy:.2%}" in shown
    assert "12,345" in shown
    assert "Apache-2.0" in shown


def test_torch_and_onnx_runtime_answer_alike(made, test_set):
    card, out, _ = made
    ours, theirs = predict_logits(stored(out), test_set.images), OnnxModel((out / "student.onnx").read_bytes())
    assert np.abs(ours.numpy() - theirs.logits(test_set.images)).max() < 0.1  # the stored weights are float16
    assert card.parity["float32"].same_class == 1
    assert card.parity["float32"].largest_difference < 1e-3
    assert card.parity["int8"].same_class > 0.99
    assert card.parity["float32"].num_images == len(test_set)


def test_int8_is_as_good_and_smaller(made, test_set):
    card, out, _ = made
    assert card.variants["int8"].num_bytes < card.variants["float32"].num_bytes
    assert card.variants["int8"].accuracy > evaluate(stored(out), test_set).accuracy - 0.05 > 0.5


def test_the_int8_graph_has_int8_weights_and_no_norm(made):
    _, out, _ = made
    graph = onnx.load(out / "student-int8.onnx").graph
    operators = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators
    assert "BatchNormalization" not in operators | {node.op_type for node in onnx.load(out / "student.onnx").graph.node}
    kernels = [weight for weight in graph.initializer if len(weight.dims) > 1]
    assert len(kernels) == 5
    assert sorted(weight.data_type for weight in kernels) == [onnx.TensorProto.INT8] * 4 + [onnx.TensorProto.INT4]
    assert all(np.abs(to_array(weight).astype(int)).max() <= 64 for weight in kernels)


def test_the_card_names_layers_of_fewer_bits(made):
    card, out, _ = made
    assert card.layer_bits == {"8.weight": 4}
    assert "| weights of fewer bits | `8.weight` 4 |" in (out / "README.md").read_text()


def test_files_say_what_they_are_and_nothing_of_this_machine(made):
    _, out, _ = made
    content = (out / "student.onnx").read_bytes()
    model = onnx.load_from_string(content)
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert model.producer_name == "fedcomp"
    assert json.loads(facts["classes"]) == [str(digit) for digit in range(10)]
    assert b".py" not in content
    batch, *shape = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [axis.dim_value for axis in shape] == [1, 8, 8]


def test_channels_are_really_gone(made):
    card, out, notes = made
    whole = build_model("student-pyramid(width=0.5)", image_shape=(1, 8, 8), num_classes=10, seed=0)
    assert card.num_parameters < 0.8 * sum(parameter.numel() for parameter in whole.parameters())
    assert stored(out)(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert any("quantize" in note for note in notes)


def test_what_is_no_onnx_is_refused():
    with pytest.raises(DataError, match="ONNX Runtime refuses"):
        OnnxModel(b"no model")
