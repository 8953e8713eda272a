"""FedDyn: server and client together reach the optimum of all data, where FedAvg stops beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from torch import nn

from fedcomp.config import PARTICIPANTS_KEY
from fedcomp.flower import CompressedStrategy, to_array_record, to_model
from fedcomp.flower.server.feed import needs_only_the_mean
from fedcomp.flower.state.keeping import keep_strategy, restore_strategy
from fedcomp.models import get_weights, set_weights
from fedcomp.seeding import derive_rng
from fedcomp.simulation.identity import task_identity
from fedcomp.training import Batch, Dynamic, LocalSettings, Step, train_on_batches
from fedcomp.training.objectives import Begun
from server.feddyn import FedDyn
from tests.flower.toy import compressed, run_rounds, toy_client

NUM_CLIENTS, ALPHA = 4, 1.0
NOTHING = torch.empty(0, dtype=torch.long)
SETTINGS = LocalSettings(epochs=8, batch_size=100, learning_rate=0.15, momentum=0.0, weight_decay=0.0)


class LeastSquares:
    def begin(self, received):
        return Begun(received.unlabelled, None)

    def __call__(self, predict, labelled, unlabelled, generator, state):
        return Step((predict(labelled.inputs).squeeze(1) - labelled.labels).square().mean() / 2, None)


def clients_data():
    """Clients whose inputs have other scales and whose targets follow other lines: each wants other weights."""
    data = []
    for client in range(NUM_CLIENTS):
        rng = derive_rng(0, "skewed", client)
        scale = np.where(np.arange(3) == client % 3, 2.0, 0.7)
        inputs = rng.normal(size=(40, 3)) * scale
        data.append(Batch(torch.tensor(inputs).float(), torch.tensor(inputs @ rng.normal(size=3) * 2).float()))
    return data


def optimum(data):
    hessian = sum(batch.inputs.T @ batch.inputs / len(batch.inputs) for batch in data)
    return torch.linalg.solve(hessian, sum(batch.inputs.T @ batch.labels / len(batch.inputs) for batch in data))


def strategy():
    return FedDyn(num_clients=NUM_CLIENTS, fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)


@pytest.fixture(autouse=True)
def identity():
    with task_identity(run_id=5, node_id=1):
        yield


def reply(model, client, weight=1.0):
    message = Message(RecordDict({"arrays": to_array_record(model)}), dst_node_id=client, message_type="train")
    metrics = MetricRecord({PARTICIPANTS_KEY: weight})
    return Message(RecordDict({"arrays": to_array_record(model), "metrics": metrics}), reply_to=message)


class Everybody:
    def get_node_ids(self):
        return range(NUM_CLIENTS)


def run(inner, *, is_dynamic=True, num_rounds=80, share=1.0, swap_at=None):
    """Return the distance to the optimum after the last round; `swap_at` goes on with a restored strategy."""
    data, module = clients_data(), nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
    model, gradients = get_weights(module), [{} for _ in data]
    for server_round in range(1, num_rounds + 1):
        if server_round == swap_at:
            snapshot, inner = keep_strategy(inner), strategy()
            restore_strategy(inner, snapshot)
        chosen = derive_rng(1, server_round).permutation(NUM_CLIENTS)[: round(share * NUM_CLIENTS)]
        list(inner.configure_train(server_round, to_array_record(model), ConfigRecord({}), Everybody()))
        replies = []
        for client in chosen.tolist():
            set_weights(module, model)
            term = Dynamic(dict(module.named_parameters()), ALPHA, gradients[client]) if is_dynamic else None
            train_on_batches(
                module,
                data[client],
                data[client].take(NOTHING),
                SETTINGS,
                objective=LeastSquares(),
                seed=server_round,
                regularizer=term,
            )
            if term:
                gradients[client] = term.next_gradient()
            replies.append(reply(get_weights(module), client))
        if is_dynamic:
            arrays, _ = inner.aggregate_train(server_round, replies)
            model = to_model(arrays)
        else:
            models = [to_model(each.content["arrays"]) for each in replies]
            model = {"weight": np.mean([each["weight"] for each in models], axis=0)}
    return float(np.linalg.norm(model["weight"][0] - optimum(data).numpy())), model


def test_it_reaches_the_optimum_where_fedavg_stops_beside_it():
    dynamic, _ = run(strategy(), num_rounds=40)
    average, _ = run(strategy(), num_rounds=40, is_dynamic=False)
    assert dynamic < 1e-3
    assert average > 0.1


def test_with_half_of_the_clients_in_a_round_too():
    assert run(strategy(), share=0.5)[0] < 0.01


def test_a_restored_strategy_goes_on_bit_for_bit():
    _, straight = run(strategy(), num_rounds=8, share=0.5)
    _, restored = run(strategy(), num_rounds=8, share=0.5, swap_at=5)
    np.testing.assert_array_equal(straight["weight"], restored["weight"])


def test_one_reply_that_stands_for_all_is_the_same_as_all():
    def model(value, count):
        values = np.full((1, 3), value, np.float32)
        return {"weight": values, "norm.running_var": values[0], "count": np.array(count)}

    base, mean = model(0.0, 3), model(2.0, 5)
    models = [model(value, 5) for value in (1.0, 3.0)]
    results = []
    for replies in ([reply(models[0], 0), reply(models[1], 1)], [reply(mean, 0, weight=2.0)]):
        inner = strategy()
        list(inner.configure_train(1, to_array_record(base), ConfigRecord({}), Everybody()))
        results.append(to_model(inner.aggregate_train(1, replies)[0]))
    for result in results:
        # Two of four clients moved by 2: the correction is half of that.
        np.testing.assert_array_equal(result["weight"], np.full((1, 3), 3.0))
        np.testing.assert_array_equal(result["norm.running_var"], np.full(3, 2.0))  # what is measured is the mean
        assert result["count"] == 5


def test_a_client_can_not_stand_for_many():
    def weigh(partition):
        def mod(message, context, call_next):
            reply = call_next(message, context)
            number = 1e9 if context.node_config["partition-id"] == partition else 1.0
            reply.content["metrics"] = MetricRecord({PARTICIPANTS_KEY: number})
            return reply

        return mod

    inner = FedDyn(num_clients=4, fraction_evaluate=0.0, min_train_nodes=4, min_available_nodes=4, min_evaluate_nodes=0)
    wrapped, rounds = compressed(inner, codec="lossless")
    run_rounds(wrapped, toy_client(inner_mods=[weigh(2)]))
    assert (rounds[0].accepted, dict(rounds[0].rejected)) == (3, {"invalid-values": 1})


def test_it_streams_and_its_subclasses_do_not_unless_they_say_so():
    assert needs_only_the_mean(strategy())
    assert CompressedStrategy(strategy()).inner.weighted_by_key == PARTICIPANTS_KEY

    class Other(FedDyn):
        def aggregate_train(self, server_round, replies):
            return None, None

    assert not needs_only_the_mean(Other(num_clients=2))


def test_the_client_remembers_the_gradient_where_it_ended():
    """At the end of an exact local training ``grad L(w) = g``: the paper's first-order condition."""
    data, module = clients_data()[0], nn.Linear(3, 1, bias=False)
    term = Dynamic(dict(module.named_parameters()), ALPHA, {"weight": np.ones((1, 3), np.float32)})
    exact = replace(SETTINGS, epochs=200)
    train_on_batches(module, data, data.take(NOTHING), exact, objective=LeastSquares(), seed=0, regularizer=term)
    module.zero_grad()
    LeastSquares()(module, data, None, None, None).loss.backward()
    np.testing.assert_allclose(term.next_gradient()["weight"], module.weight.grad.numpy(), atol=1e-3)
