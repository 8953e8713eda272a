"""Flower's NumPyClient behind the mod: it replies with a list of arrays, which have numbers for names."""

import numpy as np
import pytest
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedMedian

from fedcomp.flower import compression_mod, to_model
from tests.flower.toy import MODEL, assert_model, compressed, mean_update, run_rounds, toy_inner
from tests.flower.toy import local_update as update_of

KEYS = {"arrayrecord_key": "fitins.parameters", "configrecord_key": "fitins.config", "weighted_by_key": "num_examples"}


class Adding(NumPyClient):
    """Adds what the toy client adds, in float64 throughout."""

    def __init__(self, partition):
        self.partition = partition

    def fit(self, parameters, config):
        update = update_of(self.partition, config["server-round"]).values()
        local = [np.float64(before) + change for before, change in zip(parameters, update, strict=True)]
        return self.change([np.asarray(values) for values in local]), self.partition + 1, {}

    def change(self, local):
        return local


def app_of(kind):
    return ClientApp(lambda context: kind(context.node_config["partition-id"]).to_client(), mods=[compression_mod()])


@pytest.mark.parametrize("downlink", ["none", "lossless"])
@pytest.mark.parametrize("codec", ["lossless", "thin", "none"])
@pytest.mark.parametrize("strategy", [None, FedMedian])
def test_it_trains_a_model_whose_tensors_have_names(codec, downlink, strategy):
    inner = toy_inner(strategy, **KEYS) if strategy else toy_inner(**KEYS)
    wrapped, rounds = compressed(inner, codec=codec, downlink=downlink)
    result = run_rounds(wrapped, app_of(Adding), num_rounds=2)
    assert [(r.accepted, r.complaints) for r in rounds] == [(4, [])] * 2
    assert list(to_model(result.arrays)) == list(MODEL)
    if strategy is None and codec != "thin":
        updates = [mean_update(range(4), server_round) for server_round in (1, 2)]
        assert_model(result.arrays, {name: MODEL[name] + updates[0][name] + updates[1][name] for name in MODEL}, 1e-5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda local: local[:2], "has other tensors than the global one: missing"),
        (lambda local: [local[0].T, *local[1:]], "tensor 'weight' has shape (5, 8), the global model has (8, 5)"),
        (lambda local: [*local[:2], local[2] + 0.5], "tensor 'counter' came back as float64 and not all whole"),
    ],
)
def test_a_list_that_does_not_fit_says_where(change, complaint):
    class Wrong(Adding):
        def change(self, local):
            return change(local)

    wrapped, rounds = compressed(toy_inner(**KEYS))
    run_rounds(wrapped, app_of(Wrong))
    assert rounds[0].accepted == 0
    assert all(complaint in line for line in rounds[0].complaints)
