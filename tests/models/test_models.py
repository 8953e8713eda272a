"""Models by name and their weights."""

import sys

import numpy as np
import pytest
import torch

from fedcomp.errors import ConfigError, DataError
from fedcomp.models import MODELS, build_model, get_weights, set_weights


def build(name, seed=0, image_shape=(1, 28, 28)):
    return build_model(name, image_shape=image_shape, num_classes=10, seed=seed)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("image_shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_models_take_images_of_any_size(name, image_shape):
    assert build(name, image_shape=image_shape)(torch.zeros(2, *image_shape)).shape == (2, 10)


@pytest.mark.parametrize(("name", "count"), [("perceptron", 199_210), ("cnn", 1_663_370)])
def test_published_sizes(name, count):
    assert sum(p.numel() for p in build(name).parameters()) == count


@pytest.mark.parametrize("name", MODELS)
def test_seed_decides_and_the_global_generator_stays(name):
    before = torch.random.get_rng_state()
    first, same, other = (get_weights(build(name, seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all((first[key] == same[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)


@pytest.mark.parametrize("name", MODELS)
def test_weights_go_out_and_in(name):
    weights = get_weights(build(name, 1))
    model = build(name, 2)
    set_weights(model, weights)
    after = get_weights(model)
    assert list(after) == list(weights)
    assert all((after[key] == weights[key]).all() and after[key].dtype == weights[key].dtype for key in weights)


@pytest.mark.parametrize("name", ["student-cnn", "student-pyramid"])
def test_a_width_multiplies_the_channels(name):
    def count(width):
        return sum(parameter.numel() for parameter in build(f"{name}(width={width})").parameters())

    assert count(0.5) < count(1) == sum(parameter.numel() for parameter in build(name).parameters()) < count(2.0)
    assert build(f"{name}(width=0.05)")(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def no_arguments():
    return torch.nn.Identity()


def one_more(image_shape, num_classes, *, width):
    return torch.nn.Linear(width, num_classes)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_arguments", r"takes \(\), expected \(image_shape, num_classes\)"),
        ("one_more", "expected .*: missing a required.*'width'"),
        ("one_more(height=2)", "takes no height, only width"),
    ],
)
def test_a_builder_of_ones_own_must_take_shape_and_classes(monkeypatch, name, says):
    monkeypatch.setitem(sys.modules, "mynet", sys.modules[__name__])
    with pytest.raises(ConfigError, match=says):
        build(f"mynet:{name}")
    assert build("mynet:one_more(width=3)").in_features == 3


def test_weights_are_copies():
    model = build("perceptron")
    weights = get_weights(model)
    before = weights["1.bias"].copy()
    with torch.no_grad():
        model[1].bias.add_(1)
    np.testing.assert_array_equal(weights["1.bias"], before)


def test_weights_that_do_not_fit_are_refused():
    model = build("perceptron")
    weights = get_weights(model)
    with pytest.raises(DataError, match=r"1\.bias.*found none"):
        set_weights(model, {k: v for k, v in weights.items() if k != "1.bias"})
    with pytest.raises(DataError, match=r"extra.*expected none"):
        set_weights(model, weights | {"extra": np.zeros(1)})
    with pytest.raises(DataError, match=r"found \(3,\)"):
        set_weights(model, weights | {"1.bias": np.zeros(3)})


def test_a_model_of_ones_own_and_names_that_are_none():
    assert build("tests.models.test_models:tiny")(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    own = ("tests.models.test_models:missing", "tests.models.test_models:no_model")
    for name in ("resnet", "no.such.module:model", ":model", ".relative:model", "os:", "math:pi", *own):
        with pytest.raises(ConfigError, match="model"):
            build(name)


def no_model(image_shape, num_classes):
    return "weights"


def tiny(image_shape, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, num_classes))
