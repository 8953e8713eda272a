"""The search for the smallest artifact, and the rounding under it."""

import numpy as np
import pytest
from onnx import numpy_helper

from fedcomp.errors import UsageError
from fedcomp.seeding import derive_rng
from fedcomp.store import LoadedModel, Measure, compress, digest_of, unpack_artifact
from fedcomp.store.graph import parse_onnx, split_model
from fedcomp.store.layers import find_layers
from fedcomp.store.rounding import round_compensated
from tests.store.tiny import edited, tiny_images, tiny_model


def undecided_model(images):
    """Move the tiny model's bias until its answers differ from image to image."""

    def move(model):
        bias = numpy_helper.to_array(model.graph.initializer[-1])
        moved = bias - LoadedModel(tiny_model()).logits(images).mean(axis=0)
        model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(moved, "bias"))

    return edited(move)


def test_rounding_stays_on_the_grid_and_beats_the_nearest_values():
    rng = derive_rng(0, "rounding")
    inputs = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 24)) + 0.05 * rng.normal(size=(500, 24))
    weights, step = rng.normal(size=(5, 24)).astype(np.float32), 0.5
    rounded = round_compensated(weights, inputs.T @ inputs, step, zone=0.0)
    np.testing.assert_allclose(rounded / step, np.rint(rounded / step))
    errors = [np.square(inputs @ (weights - each).T).sum() for each in (rounded, np.rint(weights / step) * step)]
    assert errors[0] < 0.5 * errors[1]


def test_unused_inputs_and_no_inputs_do_no_harm():
    weights = np.ones((2, 3), np.float32)
    for gram in (np.zeros((3, 3)), np.diag([1.0, 0.0, 1.0])):
        np.testing.assert_array_equal(round_compensated(weights, gram, 1.0, zone=0.1), weights)


def test_a_layers_gram_is_that_of_what_its_weights_are_multiplied_with():
    model = split_model(tiny_model())
    layers = find_layers(parse_onnx(model.skeleton), model.weights)
    assert len(layers) == 3
    images = tiny_images(3).astype(np.float32) / 255
    first, patches = layers[0], layers[0].kernel.unfold(images)
    outputs = patches @ model.weights[first.weight].reshape(8, -1).T
    traced = LoadedModel(tiny_model(), also=["a"]).trace(images)["a"]
    bias = next(v for v in model.weights.values() if v.shape == (8,))
    np.testing.assert_allclose(outputs + bias, traced.transpose(0, 2, 3, 1).reshape(-1, 8), atol=1e-4)


def test_more_tolerance_makes_smaller_artifacts_that_keep_to_it():
    images = tiny_images(200)
    content = undecided_model(images)
    validation = Measure(images, LoadedModel(content).logits(images).argmax(axis=1))
    found = [compress(content, validation, tiny_images(64, seed=1), tolerance=t) for t in (0.02, 0.3)]
    for result, tolerance in zip(found, (0.02, 0.3), strict=True):
        assert result.float_accuracy == 1.0
        assert result.accuracy == validation.accuracy(unpack_artifact(result.artifact)) >= 1 - tolerance
    assert len(found[1].artifact) < len(found[0].artifact) < len(content) / 4
    again = compress(content, validation, tiny_images(64, seed=1), tolerance=0.3)
    assert digest_of(again.artifact) == digest_of(found[1].artifact)


def test_what_can_not_be_is_said():
    content, images = tiny_model(), tiny_images(20)
    wrong = Measure(images, 1 - LoadedModel(content).logits(images).argmax(axis=1).clip(0, 1))
    with pytest.raises(UsageError, match="no float32 weights of 64 values or more"):
        compress(tiny_model(channels=1), wrong, images)
    with pytest.raises(UsageError, match="no step keeps"):
        compress(content, Measure(images, LoadedModel(content).logits(images).argmax(axis=1)), images, steps=[40.0])
    for validation, calibration in (
        (wrong, images[:0]),
        (wrong, images[:, :, :4]),
        (Measure(images[:0], images), images),
    ):
        with pytest.raises(UsageError, match="images are of shape"):
            compress(content, validation, calibration)
