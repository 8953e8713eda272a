"""Teachers and students."""

import numpy as np
import pytest
import torch

from fedcomp.data import ImageDataset
from fedcomp.distillation import DistillSettings, EnsembleTeacher, GlobalTeacher, distill
from fedcomp.errors import DataError, RunError
from fedcomp.models import build_model, get_weights, set_weights
from fedcomp.training import evaluate, predict_logits


def images(count, seed):
    """Two classes: bright above or bright below."""
    labels = np.arange(count) % 2
    pixels = np.random.default_rng(seed).integers(0, 90, (count, 1, 8, 8), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[0, 4 * label : 4 * label + 4] += 150
    return ImageDataset("halves", pixels, labels, num_classes=2)


PROXY, VALIDATION = images(65, 0).without_labels(), images(40, 1)
PERFECT = torch.nn.functional.one_hot(torch.arange(65) % 2).float() * 8


def student(name="student-cnn", seed=0):
    return build_model(name, image_shape=(1, 8, 8), num_classes=2, seed=seed)


def run(model, logits=PERFECT, **settings):
    return distill(model, logits, PROXY, VALIDATION, DistillSettings(**{"epochs": 15} | settings), seed=0)


@pytest.mark.parametrize("batch_size", [2, 64, 500])
def test_a_student_learns_from_logits_alone(batch_size):
    model = student()
    report = run(model, batch_size=batch_size)
    assert report.best_accuracy == pytest.approx(evaluate(model, VALIDATION).accuracy) == pytest.approx(1.0, abs=0.1)
    assert report.best_accuracy >= report.start_accuracy


def test_a_bad_teacher_is_not_followed():
    model = student()
    run(model)
    before = get_weights(model)
    report = run(model, logits=-PERFECT)
    assert report.best_epoch == 0
    assert all((before[key] == values).all() for key, values in get_weights(model).items())


@pytest.mark.parametrize("rows", [0, 64, 66])
def test_logits_that_are_not_the_proxy_images_are_refused(rows):
    with pytest.raises(DataError, match="65 proxy images"):
        run(student(), logits=torch.zeros(rows, 2))


def test_no_proxy_image_is_refused():
    nothing = PROXY.take(np.array([], np.int64))
    with pytest.raises(DataError, match="expected shape"):
        distill(student(), torch.zeros(0, 2), nothing, VALIDATION, DistillSettings(), seed=0)


def test_same_seed_same_student():
    first, second = student(), student()
    run(first, epochs=2), run(second, epochs=2)
    assert all((a == b).all() for a, b in zip(get_weights(first).values(), get_weights(second).values(), strict=True))


def test_global_teacher_is_the_model():
    model = student("cnn-gn")
    assert torch.equal(GlobalTeacher(model, PROXY).logits(), predict_logits(model, PROXY.images))


def test_ensemble_averages_those_who_are_better_than_chance():
    good, other = student("perceptron", 0), student("perceptron", 1)
    run(good, epochs=30, learning_rate=0.01), run(other, epochs=30, learning_rate=0.01)
    ensemble = EnsembleTeacher(student("perceptron"), PROXY, VALIDATION)
    ensemble.add(get_weights(good))
    ensemble.add(get_weights(other))
    bad = {key: np.zeros_like(values) for key, values in get_weights(good).items()}
    ensemble.add(bad)
    ensemble.add({key: values * np.float32(1e38) for key, values in get_weights(good).items()})
    assert (ensemble.num_teachers, ensemble.num_dropped) == (2, 2)
    expected = (predict_logits(good, PROXY.images) + predict_logits(other, PROXY.images)) / 2
    assert torch.allclose(ensemble.logits(), expected)


def test_nobody_can_teach_if_all_are_at_chance():
    ensemble = EnsembleTeacher(student("perceptron"), PROXY, VALIDATION)
    ensemble.add({key: np.zeros_like(values) for key, values in get_weights(student("perceptron")).items()})
    with pytest.raises(RunError, match="nobody can teach"):
        ensemble.logits()


def test_set_weights_into_scratch_leaves_the_clients_arrays_alone():
    model = student("perceptron")
    weights = get_weights(model)
    kept = {key: values.copy() for key, values in weights.items()}
    set_weights(model, weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all((weights[key] == kept[key]).all() for key in weights)
