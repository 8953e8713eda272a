"""The server's own training: a function of seed, round and model; better than before."""

import numpy as np
import pytest

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.models import PartialModel, get_weights, set_weights
from fedcomp.training import evaluate
from server.refinement import Refinement

LABELS = {"server-labels": 100, "fine-tune-epochs": 40, "fine-tune-learning-rate": 0.1, "labels-at": "server"}


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def refinement(digits, settings, model="perceptron"):
    config = RunConfig.from_mapping({"model": model, **settings})
    held_out = hold_out(digits[0], validation_size=100, proxy_size=300, server_labels=config.server_labels, seed=0)
    whole = PartialModel.build(model, image_shape=(1, 8, 8), num_classes=10, seed=0)
    return Refinement.of(config, whole, held_out), whole.module


def test_it_learns_and_is_a_function_of_its_arguments(digits):
    refine, module = refinement(digits, LABELS)
    start = get_weights(module)
    refined = refine(0, start)
    other_round = refine(1, start)
    same = refinement(digits, LABELS)[0](0, start)
    assert all((refined[name] == same[name]).all() for name in start)
    assert any((refined[name] != other_round[name]).any() for name in start)
    assert all((get_weights(module)[name] == start[name]).all() for name in start)
    set_weights(module, refined)
    assert evaluate(module, digits[1]).accuracy > 0.4


def test_a_warm_up_is_of_round_zero_alone_and_learns_more(digits):
    plain, _ = refinement(digits, LABELS)
    notes = []
    settings = LABELS | {"warm-up-epochs": 200, "warm-up-learning-rate": 0.1}
    warm, module = refinement(digits, settings)
    start = get_weights(module)
    assert all((plain(1, start)[name] == warm(1, start)[name]).all() for name in start)

    def accuracy(refined):
        set_weights(module, refined)
        return evaluate(module, digits[1]).accuracy

    assert accuracy(warm(0, start, notes.append)) > accuracy(plain(0, start))
    assert [note.split(", loss")[0] for note in notes] == [
        f"server's labels: {n} of 200 epochs" for n in range(20, 201, 20)
    ]


def test_static_batch_norm_is_measured_at_the_server(digits):
    refine, module = refinement(digits, {"static-batch-norm": True}, model="student-cnn")
    start = get_weights(module)
    refined = refine(3, start)
    changed = {name for name in start if (refined[name] != start[name]).any()}
    assert any(name.endswith("running_mean") for name in changed)
    assert all("running" in name or "num_batches" in name for name in changed)
    assert np.isfinite(refined["1.running_var"]).all()


def test_without_labels_there_is_none(digits):
    assert refinement(digits, {})[0] is None


def test_pruned_weights_are_zero_after_the_last_round_that_prunes(digits):
    refine, module = refinement(digits, {"prune-ratio": 0.8, "num-server-rounds": 4, "prune-until": 3})
    start = get_weights(module)

    def zeros(server_round):
        weights = [values for values in refine(server_round, start).values() if values.ndim > 1]
        return 1 - sum(np.count_nonzero(values) for values in weights) / sum(values.size for values in weights)

    shares = [zeros(server_round) for server_round in range(1, 5)]
    assert shares == sorted(shares)
    assert shares[2:] == pytest.approx([0.8, 0.8], abs=1e-3)
