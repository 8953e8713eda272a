"""Augmentations, objectives, the local loop, evaluation."""

import dataclasses

import numpy as np
import pytest
import torch

from fedcomp.data import UNLABELLED, ImageDataset, split_labelled
from fedcomp.errors import ConfigError, DataError
from fedcomp.models import build_model, get_weights
from fedcomp.training import (
    Batch,
    LocalSettings,
    evaluate,
    make_objective,
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
    objective = make_objective(name, threshold=0.6, flip_ok=False)
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


@AUGMENTATIONS
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


def test_fixmatch_counts_only_confident_guesses():
    class Sure(torch.nn.Module):
        def forward(self, images):
            scores = torch.zeros(len(images), 3)
            scores[: len(images) // 2, 1] = 9.0
            return scores

    batch = Batch(torch.rand(8, 1, 8, 8), torch.tensor([1, 1, 0, 1, 2, 2, 2, 2]))
    step = make_objective("fixmatch", threshold=0.9, flip_ok=False)(Sure(), None, batch, generator())
    assert (step.candidates, step.confident, step.correct) == (8, 4, 3)
    assert step.loss.item() == pytest.approx(0.5 * np.log(1 + 2 * np.exp(-9.0)), rel=1e-3)


def test_unsure_fixmatch_is_supervised():
    black = Batch(torch.zeros(4, 1, 8, 8), torch.arange(4) % 3)  # every view of a black image is the same
    objective = make_objective("fixmatch", threshold=1.0, flip_ok=False)
    with_unlabelled = objective(model(), black, black, generator())
    assert with_unlabelled.loss.item() == objective(model(), black, None, generator()).loss.item()
    assert (with_unlabelled.candidates, with_unlabelled.confident) == (4, 0)
    with pytest.raises(ConfigError, match="supervised, fixmatch"):
        make_objective("simclr", flip_ok=False)


@pytest.mark.parametrize("name", ["supervised", "fixmatch"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_learns(name, optimizer):
    rate = 0.05 if optimizer == "sgd" else 0.005
    trained, metrics = train(name=name, epochs=15, optimizer=optimizer, learning_rate=rate)
    assert evaluate(trained, bars()).accuracy > 0.9
    assert metrics["num-examples"] == (90 if name == "fixmatch" else 45)
    assert ("pseudo-coverage" in metrics) == (name == "fixmatch")
    assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())


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


def test_pseudo_labels_are_measured_only_against_the_truth():
    data = client()
    unknown = dataclasses.replace(data, hidden_labels=np.full_like(data.hidden_labels, UNLABELLED))
    _, measured = train(data)
    _, unmeasured = train(unknown)
    assert measured.keys() - unmeasured.keys() == {"pseudo-accuracy"}
    assert measured["pseudo-coverage"] == unmeasured["pseudo-coverage"]
