"""The server's part in teaching: who votes when, on which images, and what becomes of the global model."""

import weakref
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.distillation import fit_images
from fedcomp.errors import ConfigError, UsageError
from fedcomp.models import PartialModel, build_model, get_weights
from fedcomp.training import (
    LocalSettings,
    ObjectiveSettings,
    evaluate,
    image_views,
    make_objective,
    train_locally,
)
from server.refinement import in_turn
from server.student import check_student, choose_teacher
from server.teaching import Teaching

CONFIG = RunConfig.from_mapping({"name": "t", "model": "perceptron", "num-server-rounds": 4, "objective": "supervised"})


def changed(**changes):
    return CONFIG.model_copy(update=changes)


def model(seed=0):
    return build_model("perceptron", image_shape=(1, 8, 8), num_classes=10, seed=seed)


def teacher_of(config, held_out):
    whole = PartialModel.build("perceptron", image_shape=(1, 8, 8), num_classes=10, seed=0)
    return Teaching(config, whole, held_out)


@pytest.fixture(scope="module")
def held_out():
    train, _ = load_dataset("digits")
    return hold_out(train, **CONFIG.held_out_sizes, seed=0)


@pytest.fixture(scope="module")
def clients(held_out):
    """Three clients of one initial model, each trained on a few images of its own."""
    from fedcomp.data import label_all

    trained = []
    for number in range(3):
        own, client = label_all(held_out.clients.take(np.arange(number * 150, number * 150 + 100))), model()
        objective = make_objective(ObjectiveSettings(objective="supervised"), image_views(CONFIG, False), 10)
        settings = LocalSettings.of(CONFIG.model_copy(update={"local_epochs": 6}))
        train_locally(client, own, settings, objective=objective, seed=number)
        trained.append(get_weights(client))
    return trained


def updates(clients):
    base = get_weights(model())
    return [SimpleNamespace(base=base, client_model=lambda weights=weights: weights) for weights in clients]


def average(clients):
    return {name: np.mean([weights[name] for weights in clients], axis=0, dtype=np.float32) for name in clients[0]}


def accuracy(weights, dataset):
    scratch = model()
    scratch.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in weights.items()})
    return evaluate(scratch, dataset).accuracy


@pytest.mark.parametrize(
    ("teacher", "fusion_every", "rounds"), [("ensemble", 0, [4]), ("none", 2, [2, 4]), ("none", 0, [])]
)
def test_clients_vote_in_the_rounds_that_teach(held_out, clients, teacher, fusion_every, rounds):
    teaching = teacher_of(changed(teacher=teacher, fusion_every=fusion_every), held_out)
    voted = []
    for server_round in range(1, 5):
        for update in updates(clients):
            teaching.hear(server_round, update)
        if heard := teaching.heard(server_round):
            voted.append(server_round)
            assert heard[0].num_teachers == 3
    assert voted == rounds


def test_fusion_makes_the_average_better_and_never_worse_on_validation(held_out, clients):
    teaching = teacher_of(changed(fusion_every=2, fusion_epochs=10), held_out)
    for update in updates(clients):
        teaching.hear(2, update)
    mean = average(clients)
    fused = teaching.fuse(2, mean)
    assert accuracy(fused, held_out.validation) >= accuracy(mean, held_out.validation)
    assert accuracy(fused, held_out.clients) > accuracy(mean, held_out.clients) - 0.02
    again = teacher_of(changed(fusion_every=2, fusion_epochs=10), held_out)
    for update in updates(clients):
        again.hear(2, update)
    assert all((again.fuse(2, mean)[name] == values).all() for name, values in fused.items())


def test_fifty_teachers_leave_no_model_behind(held_out, clients):
    teaching, seen, most = teacher_of(changed(teacher="ensemble"), held_out), [], 0
    base = get_weights(model())

    def client_model():
        weights = {name: values.copy() for name, values in clients[0].items()}
        seen.append(weakref.ref(next(iter(weights.values()))))
        return weights

    for _ in range(50):
        teaching.hear(4, SimpleNamespace(base=base, client_model=client_model))
        most = max(most, sum(ref() is not None for ref in seen))
    assert teaching.heard(4)[0].num_teachers == 50
    assert most == 0


def test_who_voted_in_an_earlier_round_does_not_teach_the_student(held_out, clients):
    """Nobody was accepted in the last one; a run that was resumed before it knows nobody of round 2."""
    config = changed(teacher="ensemble", fusion_every=2, fusion_epochs=1)
    whole = PartialModel.build("perceptron", image_shape=(1, 8, 8), num_classes=10, seed=0)
    teaching = teacher_of(config, held_out)
    for update in updates(clients):
        teaching.hear(2, update)
    assert choose_teacher(config, whole, teaching)[0] == "global"
    for update in updates(clients):
        teaching.hear(4, update)
    assert choose_teacher(config, whole, teaching)[0] == "ensemble"


def test_nothing_is_fused_where_nobody_voted_or_nothing_is_due(held_out, clients):
    teaching = teacher_of(changed(fusion_every=2), held_out)
    mean = average(clients)
    assert teaching.fuse(2, mean) is mean
    teaching.hear(2, updates(clients)[0])
    assert teaching.fuse(3, mean) is mean
    assert teaching.fuse(4, mean) is mean  # the votes are of another round


def test_proxy_images_may_be_of_another_data_set_or_of_none(held_out, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 3, 16, 12), dtype=np.uint8)
    np.savez(tmp_path / "other.npz", x_train=pixels, y_train=np.arange(40) % 4, x_test=pixels, y_test=np.arange(40) % 4)
    other = changed(proxy_dataset="npz", proxy_dir=str(tmp_path / "other.npz"), proxy_size=30, proxy_views=2)
    proxy = teacher_of(other, held_out).make_proxy(get_weights(model()))
    assert proxy.images.shape == (60, 1, 8, 8)
    assert (proxy.labels == -1).all()
    assert (proxy.num_classes, proxy.flip_ok) == (10, False)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 12, 6), (3, 4, 20)])
def test_images_are_fitted_to_a_shape(shape):
    images = np.full((2, 3, 9, 9), 77, np.uint8)
    fitted = fit_images(images, shape)
    assert fitted.shape == (2, *shape)
    assert (fitted == 77).all()


def test_steps_are_done_in_turn():
    def add(number):
        return lambda server_round, weights: {"w": weights["w"] * 10 + number + server_round}

    assert in_turn(None, None) is None
    assert in_turn(add(1), None, add(2))(3, {"w": 0}) == {"w": 45}


def test_fusion_needs_a_gate():
    with pytest.raises(ConfigError, match="fusion-every needs"):
        RunConfig.from_mapping({"name": "t", "teacher": "none", "fusion-every": 2, "validation-size": 0})


def test_a_student_that_can_not_be_is_refused_before_the_first_round():
    build = partial(build_model, image_shape=(1, 8, 8), num_classes=10, seed=0)
    check_student(changed(student_bits="*=4, 0.weight=8"), build)
    check_student(changed(student_bits="9.weight=4", teacher="none"), build)
    with pytest.raises(ConfigError, match=r"student-bits has the pattern '9\.weight'"):
        check_student(changed(student_bits="9.weight=4"), build)
    with pytest.raises(UsageError, match="nothing"):
        check_student(changed(student_model="nothing"), build)
