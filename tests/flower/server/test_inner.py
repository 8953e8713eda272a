"""What the server makes of the aggregate is the round's model, for clients and for the strategy's next step."""

import numpy as np
import pytest
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAdam, FedAvg, FedAvgM

from fedcomp.flower import to_array_record, to_model
from fedcomp.flower.server.inner import begin_from
from tests.flower.toy import MODEL, assert_model, compressed, mean_update, run_rounds, toy_client, toy_inner


def add_tens(server_round, model):
    return {name: (values + 10 * server_round).astype(values.dtype) for name, values in model.items()}


@pytest.mark.parametrize("kind", [FedAvg, FedAvgM])
@pytest.mark.parametrize("downlink", ["none", "lossless"])
def test_each_round_goes_on_from_the_refined_model(kind, downlink):
    inner = toy_inner(kind, **({"server_learning_rate": 1.0 + 1e-12} if kind is FedAvgM else {}))
    strategy, _ = compressed(inner, codec="lossless", downlink=downlink, refine=add_tens)
    result = run_rounds(strategy, toy_client(), num_rounds=3)
    updates = [mean_update(range(4), server_round) for server_round in (1, 2, 3)]
    expected = {name: values + 60 + sum(update[name] for update in updates) for name, values in MODEL.items()}
    assert_model(result.arrays, expected, atol=1e-4)


def test_momentum_is_of_updates_and_not_of_refinements():
    strategy, _ = compressed(toy_inner(FedAvgM, server_momentum=0.5), codec="lossless", refine=add_tens)
    result = run_rounds(strategy, toy_client(), num_rounds=2)
    first, second = mean_update(range(4), 1), mean_update(range(4), 2)
    expected = MODEL["weight"] + 30 + 1.5 * first["weight"] + second["weight"]
    np.testing.assert_allclose(to_model(result.arrays)["weight"], expected, atol=1e-4)


def test_a_skipped_round_is_not_refined():
    refined = []

    def refine(server_round, model):
        refined.append(server_round)
        return model

    strategy, rounds = compressed(codec="lossless", refine=refine, min_replies=5)
    run_rounds(strategy, toy_client(), num_rounds=2)
    assert [traffic.skipped for traffic in rounds] == [True, True]
    assert not refined


def test_who_remembers_a_model_is_told():
    arrays, momentum = to_array_record(MODEL), FedAvgM(server_momentum=0.5)
    begin_from(DifferentialPrivacyServerSideFixedClipping(momentum, 1.0, 1.0, 2), arrays)
    assert momentum.current_arrays is arrays
    begin_from(FedAdam(), arrays)
