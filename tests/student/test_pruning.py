"""Pruning: how much goes, what stays, and that it stays gone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.distillation import DistillSettings, distill
from fedcomp.errors import DataError, UsageError
from fedcomp.models import build_model, get_weights, narrow_to, set_weights
from fedcomp.student import cubic_sparsity, prune_channels, prune_smallest, prune_weights, sparsity
from fedcomp.training import evaluate, keep_zeros


def student(seed=0, name="student-cnn(width=0.5)"):
    return build_model(name, image_shape=(1, 8, 8), num_classes=2, seed=seed)


@given(st.integers(1, 50), st.integers(0, 50), st.floats(0, 1))
def test_the_schedule_rises_to_its_end_and_stays(start, length, final):
    end = start + length
    shares = [cubic_sparsity(step, start=start, end=end, final=final) for step in range(end + 5)]
    assert shares == sorted(shares)
    assert shares[:start] == [0] * start
    assert shares[end:] == [final] * 5
    steps = np.diff(shares[start - 1 : end + 1])
    assert all(np.diff(steps) <= 1e-12)  # ever fewer


@given(st.floats(0, 1), st.integers(0, 5))
def test_the_smallest_of_the_whole_model_go(ratio, seed):
    rng = np.random.default_rng(seed)
    weights = {"a": rng.normal(size=(7, 9)), "bias": np.zeros(9), "b": 3 * rng.normal(size=(4, 2, 3)), "n": np.array(3)}
    pruned = prune_smallest(weights, ratio)
    assert sparsity(pruned) == pytest.approx(round(ratio * 87) / 87)
    gone = [abs(weights[name][pruned[name] == 0]) for name in "ab"]
    kept = [abs(pruned[name][pruned[name] != 0]) for name in "ab"]
    assert np.concatenate(gone).max(initial=0) <= np.concatenate(kept).min(initial=np.inf)
    assert all((pruned[name] == weights[name]).all() for name in ("bias", "n"))
    again = prune_smallest(pruned, ratio)
    assert all((again[name] == pruned[name]).all() for name in weights)


def test_a_share_beyond_all_is_refused():
    with pytest.raises(UsageError, match="0 to 1"):
        prune_smallest({}, 1.5)
    with pytest.raises(UsageError, match=r"0 to 0\.9"):
        prune_channels(student(), (1, 8, 8), 0.95, steps=1, fine_tune=lambda _: None)
    assert prune_smallest({}, 0.5) == {}
    assert sparsity({}) == 0


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_zeros_survive_training_bit_for_bit(optimizer):
    model = student()
    set_weights(model, prune_smallest(get_weights(model), 0.7))
    before = get_weights(model)
    keep_zeros(model)
    momentum = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    steps = optimizer(model.parameters(), 0.05, weight_decay=0.01, **momentum)
    for _ in range(3):
        steps.zero_grad()
        model(torch.rand(8, 1, 8, 8)).square().sum().backward()
        steps.step()
    for name, values in get_weights(model).items():
        if values.ndim > 1:
            assert ((values == 0) == (before[name] == 0)).all()
            assert (values != before[name]).any()


def test_a_weight_pruned_student_recovers(halves):
    model = student()
    logits = torch.nn.functional.one_hot(torch.from_numpy(halves.labels)).float() * 8

    def teach(model):
        distill(model, logits, halves.without_labels(), halves, DistillSettings(epochs=10), seed=0)

    teach(model)
    prune_weights(model, 0.8, steps=3, fine_tune=teach)
    assert sparsity(get_weights(model)) == pytest.approx(0.8, abs=0.01)
    assert evaluate(model, halves).accuracy > 0.9


@pytest.mark.parametrize("by_taylor", [False, True])
def test_a_student_without_half_of_its_channels_is_smaller_and_as_good(halves, by_taylor):
    model = student()
    labels = torch.from_numpy(halves.labels)
    logits = torch.nn.functional.one_hot(labels).float() * 8
    before = sum(parameter.numel() for parameter in model.parameters())

    def teach(model):
        distill(model, logits, halves.without_labels(), halves, DistillSettings(epochs=8), seed=0)

    def loss(model):
        return torch.nn.functional.cross_entropy(model(torch.from_numpy(halves.images).float() / 255), labels)

    teach(model)
    prune_channels(model, (1, 8, 8), 0.5, steps=2, fine_tune=teach, loss=loss if by_taylor else None)
    weights = get_weights(model)
    assert sum(parameter.numel() for parameter in model.parameters()) < 0.5 * before
    assert evaluate(model, halves).accuracy > 0.9

    rebuilt = student(seed=1)
    narrow_to(rebuilt, weights)
    set_weights(rebuilt, weights)
    assert evaluate(rebuilt, halves).accuracy == evaluate(model, halves).accuracy


def test_weights_of_another_architecture_do_not_narrow():
    weights = get_weights(student())
    with pytest.raises(DataError, match="lack"):
        narrow_to(student(), {name: values for name, values in weights.items() if name != "0.weight"})
    with pytest.raises(DataError, match="or less on each axis"):
        narrow_to(student(name="student-cnn(width=0.25)"), weights)
