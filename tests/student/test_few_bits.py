"""Weights of four and two bits: rounded well, stored in so many, and computed like any others."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from fedcomp.data import load_dataset
from fedcomp.distillation import DistillSettings
from fedcomp.errors import ConfigError, UsageError
from fedcomp.models import build_model
from fedcomp.student import OnnxModel, export_onnx, layer_bits, quantize, quantize_after_training, train_quantized
from fedcomp.student.pack_weights import pack_weights
from fedcomp.student.round_weights import round_weights

BITS = {"8.weight": 2, "11.weight": 4}
TYPES = {2: TensorProto.INT2, 4: TensorProto.INT4, 8: TensorProto.INT8}


@pytest.fixture(scope="module")
def images():
    return load_dataset("digits", "")[0].images[:300]


@pytest.fixture(scope="module")
def float_content():
    """A student whose weights are seeded and not trained: nothing here depends on how good it is."""
    model = build_model("student-pyramid(width=0.5)", image_shape=(1, 8, 8), num_classes=10, seed=0)
    return export_onnx(model.eval(), (1, 8, 8), {"name": "untrained"})


def weights_of(content):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(content).graph.initializer}


def test_rounded_weights_are_few_levels_and_the_others_stay(float_content, images):
    before = weights_of(float_content)
    rounded, steps = round_weights(float_content, images, BITS)
    after = weights_of(rounded)
    assert steps.keys() == BITS.keys()
    for name, values in after.items():
        if name not in BITS:
            np.testing.assert_array_equal(values, before[name])
            continue
        levels = values.reshape(len(values), -1) / steps[name][:, None]
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
        assert np.abs(np.rint(levels)).max() <= 2 ** (BITS[name] - 1) - 1


def test_rounding_keeps_more_of_the_logits_than_the_nearest_level_does(float_content, images):
    exact = OnnxModel(float_content).logits(images)
    for bits, largest in ((4, 7), (2, 1)):
        rounded = round_weights(float_content, images, {"8.weight": bits}).content
        model = onnx.load_from_string(float_content)
        tensor = next(each for each in model.graph.initializer if each.name == "8.weight")
        values = numpy_helper.to_array(tensor)
        step = np.abs(values).max(axis=(1, 2, 3), keepdims=True) / largest
        tensor.CopyFrom(numpy_helper.from_array((np.rint(values / step) * step).astype(np.float32), tensor.name))
        errors = [np.square(OnnxModel(c).logits(images) - exact).sum() for c in (rounded, model.SerializeToString())]
        assert errors[0] < 0.7 * errors[1]


def test_layers_with_groups_are_rounded_to_the_nearest_level(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 10)).eval()
    content = export_onnx(model, (1, 8, 8), {})
    rounded, steps = round_weights(content, images, {"1.weight": 4})
    before, step = weights_of(content)["1.weight"], steps["1.weight"].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(weights_of(rounded)["1.weight"], np.rint(before / step).clip(-7, 7) * step, rtol=1e-6)


def test_packed_weights_are_smaller_and_answer_the_same(float_content, images, monkeypatch):
    packed = quantize_after_training(float_content, images, BITS)
    monkeypatch.setattr(quantize, "pack_weights", lambda content: content)
    unpacked = quantize_after_training(float_content, images, BITS)
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(packed).graph.initializer}
    for name in ("4.weight", *BITS):
        assert kinds[f"{name}_quantized"] == TYPES[BITS.get(name, 8)]
    saved = sum(weights_of(float_content)[name].size * (8 - bits) / 8 for name, bits in BITS.items())
    assert len(unpacked) - len(packed) > 0.8 * saved
    for is_optimized in (True, False):
        answers = [OnnxModel(content, optimized=is_optimized).logits(images) for content in (packed, unpacked)]
        np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(("bits", "opset"), [(4, 21), (2, 25)])
def test_the_file_needs_no_newer_runtime_than_its_weights_do(float_content, images, bits, opset):
    float_model = onnx.load_from_string(float_content)
    model = onnx.load_from_string(quantize_after_training(float_content, images, {"8.weight": bits}))
    onnx.checker.check_model(model)
    assert [each.version for each in model.opset_import if not each.domain] == [opset]
    before, after = ({fact.key: fact.value for fact in each.metadata_props} for each in (float_model, model))
    assert after.items() >= before.items()


def test_what_gains_nothing_stays_as_it_is(float_content, images):
    plain = quantize_after_training(float_content, images)
    assert pack_weights(plain) == plain
    small = onnx.load_from_string(quantize_after_training(float_content, images, {"0.weight": 4}))
    assert TensorProto.INT4 not in {tensor.data_type for tensor in small.graph.initializer}


def test_training_with_quantizers_knows_the_bits(halves):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
    )
    logits = torch.nn.functional.one_hot(torch.from_numpy(halves.labels)).float()
    settings = DistillSettings(epochs=1, batch_size=60, learning_rate=1e-3)
    trained = train_quantized(model, logits, halves, halves, settings, seed=0, bits={"2.weight": 4, "5.weight": 2})
    content = pack_weights(export_onnx(trained, (1, 8, 8), {}))
    kernels = [tensor for tensor in onnx.load_from_string(content).graph.initializer if len(tensor.dims) > 1]
    assert {int(np.prod(t.dims)): t.data_type for t in kernels} == {144: TYPES[8], 2304: TYPES[4], 512: TYPES[2]}
    assert OnnxModel(content).logits(halves.images).shape == (len(halves), 2)


def test_the_last_pattern_counts():
    student = build_model("student-cnn", image_shape=(1, 8, 8), num_classes=10, seed=0)
    assert layer_bits(student, {}) == {}
    assert layer_bits(student, {"*": 4, "0.weight": 8, "1*": 2}) == {"3.weight": 4, "7.weight": 4, "12.weight": 2}
    assert layer_bits(student, {"0.weight": 2, "*": 8}) == {}


def test_unknown_layers_are_named(float_content, images):
    student = build_model("student-cnn", image_shape=(1, 8, 8), num_classes=10, seed=0)
    with pytest.raises(ConfigError, match=r"student-bits has the pattern '0\.bias', which fits none of 0\.weight"):
        layer_bits(student, {"0.bias": 4})
    with pytest.raises(UsageError, match="no weights nowhere"):
        round_weights(float_content, images, {"nowhere": 4})
