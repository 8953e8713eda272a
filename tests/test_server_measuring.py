"""What the server measures of a global model, however bad that is."""

import pytest
import torch

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.models import BackboneClassifier, ModelParts, PartialModel, freeze
from fedcomp.training import evaluate, predict_logits
from server.measuring import Accuracy, LinearProbe, global_model, is_measured


@pytest.fixture
def probe():
    train, test = load_dataset("digits")
    settings = {"model": "cnn-gn", "objective": "simsiam", "teacher": "none", "server-labels": 50}
    model = global_model(RunConfig.from_mapping(settings), train)
    held_out = hold_out(train, validation_size=100, proxy_size=100, server_labels=50, seed=0)
    return LinearProbe(model, held_out.labelled, test)


@pytest.mark.parametrize("bias", [0.0, 1e38])
def test_a_probe_measures_finite_features(probe, bias, monkeypatch):
    spoil(monkeypatch, lambda features: features + bias)
    found = probe.measure()
    assert found.keys() == {"accuracy", "feature_spread"}
    assert all(0 <= value <= 1 for value in found.values())


@pytest.mark.parametrize("bias", [float("inf"), float("nan")])
def test_a_probe_leaves_out_what_it_can_not_measure(probe, bias, monkeypatch):
    spoil(monkeypatch, lambda features: features + bias)
    assert probe.measure() == {}
    spoil(monkeypatch, lambda features: features + bias if len(features) > 50 else features)  # of the test images alone
    assert probe.measure().keys() == {"feature_spread"}


def test_a_head_on_kept_features_drops_nothing_out():
    _, test = load_dataset("digits")
    head = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(64, 10))
    module = BackboneClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(64)), head)
    parts = ModelParts.of(module, frozen="backbone.*")
    freeze(module, parts.frozen)
    model = PartialModel(module, parts, 0)
    assert model.has_frozen_backbone
    assert Accuracy(model, test).measure()["loss"] == pytest.approx(evaluate(module, test).loss)


def test_few_rounds_are_measured_and_always_the_last_ten():
    def measured(**changes):
        config = RunConfig.from_mapping({"num-server-rounds": 30, "evaluate-every": 8}).model_copy(update=changes)
        return [server_round for server_round in range(31) if is_measured(config, server_round)]

    assert measured() == [0, 8, 16, *range(21, 31)]
    assert measured(local_layers="5.*") == []  # there is no global model


def spoil(monkeypatch, change):
    monkeypatch.setattr("server.measuring.predict_logits", lambda model, images: change(predict_logits(model, images)))
