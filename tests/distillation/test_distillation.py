"""Teachers and students."""

import numpy as np
import pytest
import torch

from fedcomp.data import ImageDataset
from fedcomp.distillation import (
    DistillSettings,
    EnsembleTeacher,
    GeneratorSettings,
    GlobalTeacher,
    distill,
    distillation_loss,
    features,
    generate_proxy,
    proxy_views,
)
from fedcomp.distillation.distill import _epochs
from fedcomp.distillation.hints import Hints
from fedcomp.errors import ConfigError, DataError, RunError, UsageError
from fedcomp.models import build_model, get_weights, set_weights
from fedcomp.training import evaluate, predict_logits, to_images


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


@pytest.mark.parametrize("augment", [False, True])
def test_views_are_the_images_and_then_others_with_a_part_of_another(augment):
    views = proxy_views(PROXY, 3, augment=augment, seed=1)
    own, *others = views.images.reshape(3, 65, 1, 8, 8)
    assert (own == PROXY.images).all()
    assert (views.labels == -1).all()
    for view in others:
        changed = (view != PROXY.images).any(axis=(1, 2, 3)).mean()
        assert 0.5 < changed <= 1
    if not augment:  # each pixel is the image's own or at its place in one and the same other image
        for image, seen in zip(PROXY.images, others[0], strict=True):
            assert ((seen == image) | (seen == PROXY.images)).all(axis=(1, 2, 3)).any()
    assert (proxy_views(PROXY, 3, augment=augment, seed=1).images == views.images).all()
    assert (proxy_views(PROXY, 1, augment=augment, seed=1).images == PROXY.images).all()


def test_half_of_an_epoch_are_the_images_themselves_and_all_views_come_equally_often():
    epochs = _epochs(4 * 65, 4, torch.Generator().manual_seed(0))
    shown = [next(epochs) for _ in range(12)]
    assert {len(indices) for indices in shown} == {65}
    assert {int((indices < 65).sum()) for indices in shown} == {33}
    times = torch.cat(shown).bincount(minlength=260)
    assert (times[:65].min(), times[:65].max(), times[65:].min(), times[65:].max()) == (6, 7, 1, 2)
    alone = _epochs(65, 1, torch.Generator().manual_seed(0))
    assert all(next(alone).sort().values.equal(torch.arange(65)) for _ in range(3))


def test_a_view_that_is_missing_is_refused():
    with pytest.raises(DataError, match="65 proxy images are not 2 views"):
        run(student(), views=2)


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


def test_probabilities_are_averaged_as_probabilities():
    good, other = student("perceptron", 0), student("perceptron", 1)
    run(good, epochs=30, learning_rate=0.01), run(other, epochs=30, learning_rate=0.01)
    ensemble = EnsembleTeacher(student("perceptron"), PROXY, VALIDATION, average="probabilities")
    for model in (good, other):
        ensemble.add(get_weights(model))
    expected = sum(predict_logits(model, PROXY.images).softmax(dim=1) for model in (good, other)) / 2
    assert torch.allclose(ensemble.logits().softmax(dim=1), expected, atol=1e-6)
    with pytest.raises(ConfigError, match="votes"):
        EnsembleTeacher(student("perceptron"), PROXY, VALIDATION, average="votes")


def test_temperature_goes_from_first_to_last_epoch():
    settings = DistillSettings(epochs=5, temperature=4.0, final_temperature=1.0)
    temperatures = [settings.temperature_in(epoch) for epoch in range(1, 6)]
    assert temperatures == pytest.approx([4 * 0.25 ** (i / 4) for i in range(5)])
    assert {DistillSettings(epochs=5, temperature=2.0).temperature_in(epoch) for epoch in range(1, 6)} == {2.0}
    assert DistillSettings(epochs=1, temperature=4.0, final_temperature=1.0).temperature_in(1) == 4.0


def test_soft_loss_is_least_at_the_teacher_and_hard_loss_is_cross_entropy():
    teacher = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    other = teacher.roll(1, 0)
    assert distillation_loss(teacher, teacher, 3.0) == pytest.approx(0, abs=1e-6)
    assert distillation_loss(other, teacher, 3.0) > 0.01
    hard = torch.nn.functional.cross_entropy(other, teacher.argmax(dim=1))
    assert distillation_loss(other, teacher, 3.0, hard_weight=1.0) == pytest.approx(hard.item())


@pytest.mark.parametrize(
    "changes", [{"optimizer": "sgd", "learning_rate": 0.02}, {"hard_weight": 0.5, "final_temperature": 1.0}]
)
def test_other_ways_to_learn(changes):
    model = student()
    assert run(model, **changes).best_accuracy > 0.9


def test_patience_ends_what_leads_nowhere():
    model = student()
    run(model)
    report = run(model, logits=-PERFECT, patience=3)
    assert (report.num_epochs, report.best_epoch) == (3, 0)


def test_unknown_optimizer_is_refused():
    with pytest.raises(ConfigError, match="lion"):
        DistillSettings(optimizer="lion")


def test_hints_draw_the_students_features_to_the_teachers():
    teacher = student("perceptron", 3)
    run(teacher, epochs=30, learning_rate=0.01)
    hints = features(teacher, PROXY.images)
    assert hints.shape == (65, 200)

    model, images = student("perceptron", 5), to_images(PROXY.images)
    with Hints(model, hints, images[:1], torch.Generator().manual_seed(0)) as hinted:
        optimizer = torch.optim.Adam([*model.parameters(), *hinted.parameters()], 1e-3)
        distances = []
        for _ in range(30):
            model(images)
            distance = hinted.distance(torch.arange(65))
            optimizer.zero_grad()
            distance.backward()
            optimizer.step()
            distances.append(distance.item())
    assert distances[-1] < 0.3 * distances[0]
    model(images)
    assert not _is_watched(model)
    assert run_with_hints(hints).num_epochs == 1


def _is_watched(model):
    return any(module._forward_pre_hooks for module in model.modules())


def run_with_hints(hints):
    settings = DistillSettings(hint_weight=1.0, epochs=1)
    return distill(student(), PERFECT, PROXY, VALIDATION, settings, seed=0, hints=hints)


def test_hints_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="64 rows of hints for 65"):
        run_with_hints(torch.zeros(64, 3))
    with pytest.raises(DataError, match="65 rows"):
        run_with_hints(torch.zeros(65))
    headless = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 8), torch.nn.Flatten())
    with pytest.raises(UsageError, match="linear layer"):
        features(headless, PROXY.images)


def test_generated_images_are_what_the_model_takes_for_its_classes():
    model = student("perceptron")
    run(model, epochs=30, learning_rate=0.01)
    before = get_weights(model)
    make = {"image_shape": (1, 8, 8), "num_classes": 2, "settings": GeneratorSettings(steps=30), "seed": 1}
    proxy = generate_proxy(model, 41, **make)
    assert proxy.images.shape == (41, 1, 8, 8)
    assert (proxy.labels == -1).all()
    guesses = predict_logits(model, proxy.images).argmax(dim=1)
    assert (guesses == torch.arange(41) % 2).float().mean() > 0.9
    of_one_class = proxy.images[::2].astype(float)
    assert of_one_class.std(axis=0).mean() > 5  # not one image again and again
    assert all((before[key] == values).all() for key, values in get_weights(model).items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (generate_proxy(model, 41, **make).images == proxy.images).all()
