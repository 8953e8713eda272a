"""The books of a run: what a round's clients say is heard, and written down with what was measured."""

from types import SimpleNamespace

import numpy as np
import pytest

from fedcomp.config import PERSONAL_ACCURACY_KEY, PERSONAL_EXAMPLES_KEY, RunConfig
from fedcomp.flower import RoundTraffic, to_array_record
from server.hearing import Hearing
from server.round_book import RoundBook

CONFIG = RunConfig.from_mapping({"num-server-rounds": 2})
ARRAYS = to_array_record({"w": np.ones(3, np.float32)})


def listener():
    heard = []
    return heard, SimpleNamespace(hear=lambda *said: heard.append(said), add=lambda *said: heard.append(said))


def update(client, accuracy=0.5):
    metrics = {PERSONAL_ACCURACY_KEY: accuracy, PERSONAL_EXAMPLES_KEY: 10.0}
    reply = SimpleNamespace(metadata=SimpleNamespace(src_node_id=client))
    return SimpleNamespace(metrics=metrics, reply=reply, client_model=lambda: f"model {client}")


def book(config=CONFIG, measured=None):
    hearing, rows, notes = Hearing(config, 10, listener()[1], None), [], []
    recorder = SimpleNamespace(record=lambda traffic, metrics: rows.append((traffic.round, metrics)))
    return hearing, RoundBook(config, lambda *_: dict(measured or {}), hearing, recorder, notes.append), rows, notes


def test_all_are_heard_and_the_last_rounds_models_kept():
    (heard, teaching), (models, kept) = listener(), listener()
    hearing = Hearing(CONFIG, 10, teaching, kept)
    updates = [update(client) for client in (3, 4)]
    for server_round in (1, 2):
        for each in updates:
            hearing.hear(server_round, each)
    assert heard == [(server_round, each) for server_round in (1, 2) for each in updates]
    assert models == [(3, "model 3"), (4, "model 4")]


def test_claims_are_of_one_round():
    hearing = book()[0]
    for server_round, accuracy in ((1, 0.25), (2, 0.75)):
        hearing.hear(server_round, update(3, accuracy))
        hearing.end(traffic := RoundTraffic(round=server_round))
        assert hearing.take() == (traffic, {"personal_accuracy": accuracy, "personal_examples": 10.0})
    hearing.end(RoundTraffic(round=3))
    assert hearing.take().claims == {}
    assert hearing.personal_accuracy == 0.75


def test_a_row_holds_what_was_measured_and_what_clients_say():
    hearing, rounds, rows, notes = book(measured={"accuracy": 0.9})
    hearing.hear(1, update(3))
    hearing.end(RoundTraffic(round=1))
    assert dict(rounds.enter(1, ARRAYS)) == {"accuracy": 0.9}
    assert rows == [(1, {"accuracy": 0.9, "personal_accuracy": 0.5, "personal_examples": 10.0})]
    assert notes == []


def test_a_round_in_which_nothing_was_measured_has_a_row_all_the_same():
    hearing, rounds, rows, _ = book()
    hearing.end(RoundTraffic(round=1))
    assert rounds.enter(1, ARRAYS) is None
    assert rows == [(1, {})]


@pytest.mark.parametrize(("epochs", "told"), [(0, []), (1, ["server's labels alone: accuracy 90.0%"])])
def test_before_the_first_round_there_is_no_row(epochs, told):
    _, rounds, rows, notes = book(CONFIG.model_copy(update={"fine_tune_epochs": epochs}), {"accuracy": 0.9})
    assert dict(rounds.enter(0, ARRAYS)) == {"accuracy": 0.9}
    assert (rows, notes) == ([], told)
