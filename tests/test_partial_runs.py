"""Runs in which clients train, keep and send parts of a model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
from flwr.app import RecordDict

import clients.training
import server.app
from clients.features import remembered_features
from clients.personal import personal_metrics
from fedcomp.config import RunConfig
from fedcomp.data import hold_out_own, load_dataset, split_labelled
from fedcomp.errors import RunError, UsageError
from fedcomp.models import BackboneClassifier, build_model, get_weights
from fedcomp.simulation.experiment import simulate
from fedcomp.student import FinishedRun
from fedcomp.training import train_locally
from server.measuring import global_model
from server.personal import PersonalAccuracy

SMALL = {
    "model": "perceptron",
    "num-clients": 3,
    "num-server-rounds": 2,
    "local-epochs": 1,
    "objective": "supervised",
    "teacher": "none",
}


def run(folder, **settings):
    keys = {key.replace("_", "-"): value for key, value in settings.items()}
    config = RunConfig.from_mapping({**SMALL, "out-dir": str(folder), **keys})
    summary = simulate(config, num_workers=0)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return summary, rows, safetensors.numpy.load_file(folder / "model.safetensors")


def fresh():
    return build_model("perceptron", image_shape=(1, 8, 8), num_classes=10, seed=0)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_images_are_mixed_and_not_what_a_frozen_backbone_makes_of_them(tmp_path, mixing):
    settings = {"model": "simplex:perceptron", "frozen": "backbone.*", "augment": False, "num_server_rounds": 1}
    kept, made_anew = (
        run(tmp_path / str(cached), mixing=mixing, cache_features=cached, **settings)[2] for cached in (True, False)
    )
    assert all((kept[name] == values).all() for name, values in made_anew.items())


@pytest.mark.parametrize("codec", ["none", "q8"])
def test_what_is_frozen_neither_changes_nor_travels(tmp_path, codec):
    summary, rows, model = run(tmp_path / "run", frozen="1.*,3.*", codec=codec, downlink=codec)
    before = get_weights(fresh())
    assert all((model[name] == before[name]).all() for name in ("1.weight", "1.bias", "3.weight", "3.bias"))
    assert (model["5.weight"] != before["5.weight"]).any()
    assert summary["num_sent_parameters"] == 200 * 10 + 10
    assert summary["num_parameters"] == sum(values.size for values in before.values())
    dense = (200 * 10 + 10) * 4 + 2 * 128  # the two arrays that travel, each with NumPy's header
    assert rows[0]["dense_uplink_bytes"] == rows[0]["dense_downlink_bytes"] == 3 * dense
    assert rows[-1]["accuracy"] > 0


def test_local_layers_stay_and_their_accuracy_is_the_clients(tmp_path):
    summary, rows, model = run(tmp_path / "run", local_layers="5.*", codec="none", partition="iid", label_fraction=1.0)
    assert set(model) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    assert all("accuracy" not in row for row in rows)
    assert all(0 <= row["personal_accuracy"] <= 1 and row["personal_examples"] > 0 for row in rows)
    assert summary["personal_accuracy"] == rows[-1]["personal_accuracy"]
    assert "accuracy" not in summary
    assert rows[-1]["personal_accuracy"] > rows[0]["personal_accuracy"]


def test_local_layers_begin_where_they_ended(tmp_path, monkeypatch):
    begun, ended = [], []

    def train(model, *arguments, **keywords):
        begun.append(get_weights(model, ["5.weight"])["5.weight"])
        metrics = train_locally(model, *arguments, **keywords)
        ended.append(get_weights(model, ["5.weight"])["5.weight"])
        return metrics

    monkeypatch.setattr(clients.training, "train_locally", train)
    run(tmp_path / "run", local_layers="5.*", num_clients=2)
    before = fresh().state_dict()["5.weight"].numpy()
    assert all((weights == before).all() for weights in begun[:2])
    # Two clients in two rounds, in any order: each goes on from its own.
    assert {weights.tobytes() for weights in begun[2:]} == {weights.tobytes() for weights in ended[:2]}
    assert len({weights.tobytes() for weights in ended}) == 4


def test_a_client_without_an_image_to_spare_has_no_say():
    data = split_labelled(load_dataset("digits")[0].take(np.arange(1)), label_fraction=1.0, seed=0)
    kept, own = hold_out_own(data, share=0.5, seed=0)
    assert (len(kept.labelled), len(own)) == (1, 0)
    assert personal_metrics(fresh(), own) == {"personal-accuracy": 0.0, "personal-examples": 0.0}
    tally = PersonalAccuracy()
    tally.add(personal_metrics(fresh(), own))
    assert tally.take() == {}


def test_a_client_with_other_frozen_tensors_refuses(tmp_path, monkeypatch):
    def other(config, data):
        return replace(global_model(config, data), frozen_fingerprint=12345)

    monkeypatch.setattr(server.app, "global_model", other)
    with pytest.raises(RunError, match="no update of any client could be used"):
        run(tmp_path / "run", frozen="1.*")


def test_features_are_made_once_for_the_same_images_and_backbone():
    calls = []

    class Counting(torch.nn.Linear):
        def forward(self, images):
            calls.append(len(images))
            return super().forward(images.flatten(1))

    model = BackboneClassifier(Counting(64, 5), torch.nn.Linear(5, 10))
    digits, _ = load_dataset("digits")
    some, state = digits.take(np.arange(20)), RecordDict()
    first, again = (remembered_features(model, 7, some, state) for _ in range(2))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(again.labels, torch.from_numpy(some.labels))
    assert calls == [20]
    remembered_features(model, 8, some, state)
    remembered_features(model, 8, digits.take(np.arange(1, 21)), state)
    assert calls == [20, 20, 20]
    assert len(state) == 1


def test_rotation_needs_no_label_at_all_and_learns(tmp_path):
    settings = {"objective": "rotation", "num_server_rounds": 3, "local_epochs": 2, "learning_rate": 0.1}
    summary, rows, model = run(tmp_path / "run", model="cnn-gn", **settings)
    assert rows[-1]["turn_accuracy"] > 0.5
    assert summary.get("accuracy") is None
    assert model["head.weight"].shape[0] == 4


def test_a_pretrained_run_is_no_classifier(tmp_path):
    run(tmp_path / "run", objective="rotation", num_server_rounds=1)
    with pytest.raises(UsageError, match=f"rotation trained no classifier; go on with model=run:{tmp_path / 'run'}"):
        FinishedRun.read(tmp_path / "run")


def test_rotation_is_probed_too_where_the_server_has_labels(tmp_path):
    _, rows, _ = run(tmp_path / "run", objective="rotation", server_labels=50, num_server_rounds=1)
    assert {"accuracy", "feature_spread", "turn_accuracy"} <= rows[-1].keys()


def test_simsiam_is_probed_and_does_not_collapse(tmp_path):
    _, rows, model = run(tmp_path / "run", model="cnn-gn", objective="simsiam", server_labels=50)
    assert rows[-1]["accuracy"] > 0.3
    assert rows[-1]["feature_spread"] > 0.05
    assert {name.split(".")[0] for name in model} == {"backbone", "projector", "predictor"}


@pytest.mark.parametrize(
    "claim",
    [{}, {"personal-accuracy": 7.0}, {"personal-examples": -1.0}, {"personal-examples": float("inf")}],
)
def test_impossible_claims_have_no_say(claim):
    tally = PersonalAccuracy()
    tally.add({"personal-accuracy": 0.5, "personal-examples": 3.0})
    tally.add({"personal-accuracy": 1.0, "personal-examples": 1.0} | claim if claim else {})
    assert tally.take() == {"personal_accuracy": 0.5, "personal_examples": 3.0}
    assert tally.take() == {}
    assert tally.last == 0.5


def test_what_was_pretrained_is_gone_on_from(tmp_path):
    pretraining = {"objective": "simsiam", "server_labels": 100, "num_server_rounds": 1, "codec": "none"}
    _, _, pretrained = run(tmp_path / "first", model="cnn-gn", **pretraining)
    frozen = {"model": f"run:{tmp_path / 'first'}", "frozen": "backbone.*", "augment": False}
    summary, rows, model = run(tmp_path / "second", **frozen, learning_rate=0.1, num_server_rounds=4)
    backbone = [name for name in model if name.startswith("backbone.")]
    assert backbone
    assert all((model[name] == pretrained[name]).all() for name in backbone)
    assert summary["num_sent_parameters"] == 4 * 64 * 10 + 10
    assert rows[-1]["accuracy"] > rows[0]["accuracy"]
