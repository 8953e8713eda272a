"""The backbone of an earlier run, under a new head."""

import pytest
import torch

from fedcomp.errors import ConfigError, DataError
from fedcomp.files import pack_tensors
from fedcomp.models import (
    PRETRAINING_NETWORKS,
    BackboneClassifier,
    build_model,
    get_weights,
    pretraining_network,
    split_backbone,
)

SHAPE = (1, 8, 8)


def build(name, image_shape=SHAPE, num_classes=10, seed=0):
    return build_model(name, image_shape=image_shape, num_classes=num_classes, seed=seed)


def save_run(folder, name, weights):
    folder.mkdir()
    (folder / "config.toml").write_text(f'name = "earlier"\nmodel = "{name}"\n')
    (folder / "model.safetensors").write_bytes(pack_tensors(weights))
    return folder


@pytest.mark.parametrize("name", ["perceptron", "cnn-gn", "mobilenet-v2(width=0.25, side=32)"])
@pytest.mark.parametrize("objective", ["", *PRETRAINING_NETWORKS])
def test_the_backbone_is_the_runs_and_the_head_is_the_seeds(tmp_path, name, objective):
    trained = build(name, seed=1).eval()
    saved = pretraining_network(objective, trained, SHAPE, seed=1).eval() if objective else trained
    folder = save_run(tmp_path / "earlier", name, get_weights(saved))
    first, same, other = (build(f"run:{folder}", num_classes=3, seed=seed).eval() for seed in (0, 0, 2))
    assert isinstance(first, BackboneClassifier)
    images = torch.rand(5, *SHAPE)
    features = split_backbone(trained)[0](images)
    assert torch.equal(first.backbone(images), features)
    assert torch.equal(other.backbone(images), features)
    assert first(images).shape == (5, 3)
    assert torch.equal(first.head.weight, same.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_run_on_an_earlier_run_can_be_gone_on_from_too(tmp_path):
    first = save_run(tmp_path / "first", "cnn-gn", get_weights(build("cnn-gn", seed=1)))
    second = save_run(tmp_path / "second", f"run:{first}", get_weights(build(f"run:{first}", seed=2)))
    third = build(f"run:{second}")
    assert all(
        (values == get_weights(third)[f"backbone.{name}"]).all()
        for name, values in get_weights(split_backbone(build("cnn-gn", seed=1))[0]).items()
    )


@pytest.mark.parametrize("missing", ["config.toml", "model.safetensors"])
def test_a_folder_that_is_not_a_finished_runs_is_named(tmp_path, missing):
    folder = save_run(tmp_path / "earlier", "perceptron", get_weights(build("perceptron")))
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=f"{folder}: .* no {missing}"):
        build(f"run:{folder}")


@pytest.mark.parametrize(
    ("config", "error", "match"),
    [
        ("model = ", ConfigError, "expected a run's configuration"),
        ('name = "no model"', ConfigError, "expected a run's configuration"),
        ('model = "no-such-model"', ConfigError, "no-such-model"),
        ('model = "cnn-gn"', DataError, "do not fit"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, config, error, match):
    folder = save_run(tmp_path / "earlier", "perceptron", get_weights(build("perceptron")))
    (folder / "config.toml").write_text(config)
    with pytest.raises(error, match=match):
        build(f"run:{folder}")


def test_other_images_and_damaged_weights_are_refused(tmp_path):
    folder = save_run(tmp_path / "earlier", "perceptron", get_weights(build("perceptron")))
    with pytest.raises(DataError, match="do not fit"):
        build(f"run:{folder}", image_shape=(1, 9, 9))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"model\.safetensors"):
        build(f"run:{folder}")


def test_runs_that_lead_to_each_other_are_refused(tmp_path):
    save_run(tmp_path / "first", f"run:{tmp_path / 'second'}", {})
    save_run(tmp_path / "second", f"run:{tmp_path / 'first'}", {})
    with pytest.raises(ConfigError, match="leads back to itself"):
        build(f"run:{tmp_path / 'first'}")


def test_a_model_without_a_linear_head_is_refused(tmp_path):
    folder = save_run(tmp_path / "earlier", "tests.models.test_earlier_run:headless", {})
    with pytest.raises(ConfigError, match="ends in a Flatten"):
        build(f"run:{folder}")


def headless(image_shape, num_classes):
    return torch.nn.Sequential(torch.nn.Linear(image_shape[2], num_classes), torch.nn.Flatten())
