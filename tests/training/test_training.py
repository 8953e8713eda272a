"""Augmentations, objectives, the local loop, evaluation."""

import copy
import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from fedcomp.data import ImageDataset, label_all, split_labelled
from fedcomp.errors import ConfigError, DataError
from fedcomp.models import build_model, get_weights
from fedcomp.training import (
    ImageViews,
    LocalSettings,
    ObjectiveSettings,
    StrongPolicy,
    evaluate,
    make_objective,
    measure_statistics,
    predict_logits,
    strong_augment,
    to_images,
    train_locally,
    weak_augment,
)

AUGMENTATIONS = pytest.mark.parametrize("augment", [weak_augment, strong_augment])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bars(count=90):
    """Three classes that a model can tell apart: a bright bar left, in the middle, right."""
    labels = np.arange(count) % 3
    images = np.random.default_rng(0).integers(0, 60, (count, 1, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, :, 3 * label : 3 * label + 2] = 255
    return ImageDataset("bars", images, labels, num_classes=3)


def client(label_fraction=0.5):
    return split_labelled(bars(), label_fraction=label_fraction, seed=0)


def model(seed=0):
    return build_model("cnn-gn", image_shape=(1, 8, 8), num_classes=3, seed=seed)


def train(data=None, name="fixmatch", seed=0, **settings):
    trained = model()
    objective = make_objective(ObjectiveSettings(objective=name, pseudo_threshold=0.6), ImageViews(flip_ok=False), 3)
    metrics = train_locally(trained, data or client(), LocalSettings(**settings), objective=objective, seed=seed)
    return trained, metrics


@AUGMENTATIONS
@pytest.mark.parametrize("shape", [(7, 1, 8, 8), (5, 3, 32, 32), (1, 1, 28, 28), (2, 1, 12, 20)])
def test_augmentations_keep_shape_and_range_and_are_seeded(augment, shape):
    images = torch.rand(shape, generator=generator(1))
    first, same, other = (augment(images, generator(seed), flip_ok=True) for seed in (2, 2, 3))
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@AUGMENTATIONS
def test_each_image_has_its_own_parameters(augment):
    views = augment(torch.rand(1, 1, 28, 28, generator=generator()).expand(32, -1, -1, -1), generator(), flip_ok=False)
    assert len({view.numpy().tobytes() for view in views}) > 20


@AUGMENTATIONS
def test_views_stay_on_the_images_device(augment):
    # "meta" is the one device besides the CPU that every machine has; operands on two devices fail there too.
    images = torch.zeros(4, 1, 8, 8, device="meta")
    assert augment(images, generator(), flip_ok=True).device == images.device


# Of the strong view what it does before its operations, which may move and invert what a mirrored image is told by.
@pytest.mark.parametrize("augment", [weak_augment, partial(strong_augment, policy=StrongPolicy(0, cutout=0.0))])
def test_digits_are_never_mirrored(augment):
    left_heavy = torch.zeros(200, 1, 16, 16)
    left_heavy[..., 2:5], left_heavy[..., 12:13] = 1.0, 0.4

    def share_mirrored(flip_ok):
        views = augment(left_heavy, generator(), flip_ok=flip_ok)
        return (views[..., :8].sum((1, 2, 3)) < views[..., 8:].sum((1, 2, 3))).float().mean().item()

    assert share_mirrored(flip_ok=False) == 0
    assert 0.3 < share_mirrored(flip_ok=True) < 0.7


def test_weak_views_are_shifts_and_flips_only_where_allowed():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 3, 3], image[0, 0, 3, 4] = 0.5, 1.0

    def orders(flip_ok):
        views = weak_augment(image.expand(200, -1, -1, -1), generator(), flip_ok=flip_ok)
        assert (views.sum(dim=(1, 2, 3)) == 1.5).all()
        return {view[view > 0].tolist()[0] for view in views}

    assert orders(flip_ok=False) == {0.5}
    assert orders(flip_ok=True) == {0.5, 1.0}


@pytest.mark.parametrize("name", ["supervised", "fixmatch"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_learns(name, optimizer):
    rate = 0.05 if optimizer == "sgd" else 0.005
    trained, metrics = train(name=name, epochs=15, optimizer=optimizer, learning_rate=rate)
    assert evaluate(trained, bars()).accuracy > 0.9
    assert metrics["num-examples"] == (90 if name == "fixmatch" else 45)
    assert ("pseudo-guessed" in metrics) == (name == "fixmatch")
    assert metrics["num-examples"] >= metrics["trusted-examples"] >= 45
    assert np.isfinite(metrics["train-loss"])


def test_same_seed_same_weights_bit_for_bit():
    first, same, other = (get_weights(train(seed=seed)[0]) for seed in (5, 5, 6))
    assert all((first[key] == same[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)


def test_threads_and_global_randomness_are_left_as_they_were():
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    train(threads=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_proximal_term_pulls_towards_the_global_model():
    start = get_weights(model())

    def distance(mu):
        weights = get_weights(train(name="supervised", epochs=5, proximal_mu=mu)[0])
        return sum(float(np.square(weights[key] - start[key]).sum()) for key in start)

    assert distance(10.0) < 0.5 * distance(0.0)


def test_clipping_bounds_a_step():
    start = get_weights(model())
    one_step = {"epochs": 1, "batch_size": 999, "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}
    weights = get_weights(train(name="supervised", max_grad_norm=0.01, **one_step)[0])
    moved = np.sqrt(sum(float(np.square(weights[key] - start[key]).sum()) for key in start))
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_clients_without_labels_or_without_anything():
    data = client()
    nothing = data.labelled.take(np.array([], np.int64))
    _, metrics = train(dataclasses.replace(data, labelled=nothing))
    assert metrics["num-examples"] == 45
    with pytest.raises(DataError, match="no labelled example"):
        train(dataclasses.replace(data, labelled=nothing), name="supervised")
    with pytest.raises(ConfigError, match="sgd, adam"):
        train(optimizer="lion")


def test_images_from_a_file_are_read_only():
    images = bars().images
    images.flags.writeable = False
    assert to_images(images).max() == 1
    assert to_images(images)[0, 0, 0, 0] == pytest.approx(images[0, 0, 0, 0] / 255)


def test_evaluation_measures():
    class Always1(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = torch.nn.Parameter(torch.tensor([0.0, 1.0, 0.0]))

        def forward(self, images):
            return self.scores.expand(len(images), 3)

    measured = evaluate(Always1().train(), bars(90))
    assert measured.accuracy == pytest.approx(1 / 3)
    assert measured.per_class_accuracy == (0.0, 1.0, 0.0)
    assert measured.num_examples == 90
    assert predict_logits(Always1(), bars(90).images).shape == (90, 3)
    with pytest.raises(DataError, match="no image"):
        evaluate(Always1(), bars().take(np.array([], np.int64)))
    with pytest.raises(DataError, match="90 of 90 images have no label"):
        evaluate(Always1(), bars().without_labels())


def test_static_batch_norm_leaves_statistics_to_the_server():
    start = build_model("student-cnn", image_shape=(1, 8, 8), num_classes=3, seed=0)
    objective = make_objective(ObjectiveSettings(objective="supervised"), ImageViews(flip_ok=False), 3)

    def statistics(static):
        trained = copy.deepcopy(start)
        settings = LocalSettings(epochs=2, static_batch_norm=static)
        train_locally(trained, client(), settings, objective=objective, seed=0)
        assert all(norm.track_running_stats for norm in trained.modules() if isinstance(norm, torch.nn.BatchNorm2d))
        return trained, {name: value for name, value in get_weights(trained).items() if "running" in name}

    before = {name: value for name, value in get_weights(start).items() if "running" in name}
    trained, kept = statistics(static=True)
    assert all((kept[name] == before[name]).all() for name in before)
    assert any((statistics(static=False)[1][name] != before[name]).any() for name in before)
    measure_statistics(trained.eval(), to_images(bars().images))
    assert not trained.training
    convolved = trained[0](to_images(bars().images))
    torch.testing.assert_close(trained[1].running_mean, convolved.mean(dim=(0, 2, 3)))
    assert evaluate(trained, bars()).accuracy > 0.5
    measure_statistics(model(), to_images(bars().images))  # nothing to measure


@pytest.mark.parametrize("count", [1, 17])
@pytest.mark.parametrize("static", [False, True])
def test_batch_norm_takes_a_lone_example(count, static):
    """Of one pixel: it has no variance. It is normalized by the running statistics, which do not count it."""
    norm = torch.nn.BatchNorm1d(64)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), norm, torch.nn.Linear(64, 3))
    data = label_all(bars(count))
    objective = make_objective(ObjectiveSettings(objective="supervised"), ImageViews(flip_ok=False), 3)
    settings = LocalSettings(batch_size=16, static_batch_norm=static)
    metrics = train_locally(module, data, settings, objective=objective, seed=0)
    assert metrics["num-examples"] == count
    assert norm.num_batches_tracked == (count == 17 and not static)
    assert norm.training
    assert torch.isfinite(norm.weight).all()
    with pytest.raises(ValueError, match="more than 1 value"):
        module(to_images(bars(1).images))  # outside a training nothing is changed
