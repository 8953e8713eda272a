"""A head that nobody trains."""

import pytest
import torch

from fedcomp.errors import ConfigError
from fedcomp.files import pack_tensors
from fedcomp.models import build_model, get_weights, split_backbone
from fedcomp.models.simplex import simplex

SHAPE = (1, 8, 8)


def build(name, num_classes=10, seed=0):
    return build_model(name, image_shape=SHAPE, num_classes=num_classes, seed=seed)


@pytest.mark.parametrize(("num_classes", "num_features"), [(2, 2), (3, 7), (10, 128), (62, 64)])
def test_classes_are_as_far_apart_as_they_can_be(num_classes, num_features):
    corners = simplex(num_classes, num_features)
    assert corners.shape == (num_classes, num_features)
    cosines = corners @ corners.T / 16
    expected = torch.full((num_classes, num_classes), -1 / (num_classes - 1)).fill_diagonal_(1)
    torch.testing.assert_close(cosines, expected)


@pytest.mark.parametrize("name", ["perceptron", "resnet8-gn", "mobilenet-v2(width=0.25, side=32)"])
def test_the_backbone_is_the_models_and_the_head_is_the_same_for_all_seeds(name):
    plain, first, other = build(name), build(f"simplex:{name}"), build(f"simplex:{name}", seed=1)
    images = torch.rand(5, *SHAPE)
    backbone, _ = split_backbone(plain.eval())
    assert torch.equal(first.eval().backbone(images), backbone(images))
    assert not torch.equal(other.eval().backbone(images), backbone(images))
    assert torch.equal(first.head.weight, other.head.weight)
    assert [n for n in get_weights(first) if n.startswith("head.")] == ["head.weight"]


def test_it_goes_on_an_earlier_run_and_an_earlier_run_can_have_it(tmp_path):
    first = build("simplex:perceptron", seed=1)
    (tmp_path / "config.toml").write_text('model = "simplex:perceptron"\n')
    (tmp_path / "model.safetensors").write_bytes(pack_tensors(get_weights(first)))
    images = torch.rand(5, *SHAPE)
    for name in (f"run:{tmp_path}", f"simplex:run:{tmp_path}"):
        assert torch.equal(build(name).eval().backbone(images), first.eval().backbone(images))


def test_names_can_be_wrong_inside(tmp_path):
    with pytest.raises(ConfigError, match="no-such-model"):
        build("simplex:no-such-model")
    with pytest.raises(ConfigError, match="not the folder of a finished run"):
        build(f"simplex:run:{tmp_path}")
    with pytest.raises(ConfigError, match="takes no side"):
        build("simplex:perceptron(side=3)")


def test_what_has_no_linear_head_or_too_few_features_is_refused():
    with pytest.raises(ConfigError, match="head is a ReLU"):
        build(f"simplex:{__name__}:headless")
    with pytest.raises(ConfigError, match=r"1000 classes on .* features, expected 2"):
        build("simplex:perceptron", num_classes=1000)


def headless(image_shape, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU())
