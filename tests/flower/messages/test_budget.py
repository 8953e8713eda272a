"""Budgets over a federation: kept by every client, refused if not, and each client's own counts, too."""

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

import fedcomp
from fedcomp.errors import UsageError
from fedcomp.flower import CompressedStrategy, GrowingBudget, compression_mod, to_array_record, to_model
from fedcomp.flower.messages.budget import divide_by_weight
from tests.flower.toy import compressed, run_rounds, toy_inner

MODEL = {"w": np.zeros((60, 80), np.float32), "b": np.zeros(60, np.float32)}
CODEC = "deadzone(step=1)"


def client(*outer_mods, sizes=None, weigh=lambda partition: 1):
    """Build an app whose training adds noise, with so many examples, and that notes each partition's frame sizes."""

    def note(message, context, call_next):
        reply = call_next(message, context)
        if sizes is not None:
            (array,) = reply.content["arrays"].values()
            sizes.setdefault(context.node_config["partition-id"], []).append(len(array.data))
        return reply

    app = ClientApp(mods=[note, *outer_mods, compression_mod()])

    @app.train()
    def train(message, context):
        (arrays,) = message.content.array_records.values()
        rng = np.random.default_rng([context.node_config["partition-id"], message.content["config"]["server-round"]])
        model = {k: (v + rng.laplace(size=v.shape)).astype(np.float32) for k, v in to_model(arrays).items()}
        metrics = MetricRecord({"num-examples": weigh(context.node_config["partition-id"])})
        content = {"arrays": to_array_record(model), "metrics": metrics}
        return Message(RecordDict(content), reply_to=message)

    return app


def run(strategy, app, num_rounds=3):
    return run_rounds(strategy, app, num_rounds=num_rounds, model=MODEL)


def test_every_frame_lands_within_two_percent_under_the_budget():
    sizes = {}
    strategy, rounds = compressed(codec=CODEC, uplink_budget=900)
    run(strategy, client(sizes=sizes))
    assert all(0.98 * 900 <= size <= 900 for own in sizes.values() for size in own)
    assert [each.accepted for each in rounds] == [4, 4, 4]
    assert [each.uplink_bytes for each in rounds] == [sum(own[i] for own in sizes.values()) for i in range(3)]


def test_budgets_may_differ_by_round_and_client():
    asked, sizes = {}, {}

    def budget(server_round, node_id):
        return asked.setdefault((server_round, node_id), 600 + 200 * len({node for _, node in asked} | {node_id}))

    strategy, _ = compressed(codec=CODEC, uplink_budget=budget)
    run(strategy, client(sizes=sizes))
    found = sorted(size for own in sizes.values() for size in own)
    assert len(asked) == 12
    assert all(0.98 * most <= size <= most for size, most in zip(found, sorted(asked.values()), strict=True))


def test_clients_that_count_more_may_have_more_of_a_rounds_bytes():
    sizes = {}
    strategy, rounds = compressed(codec=CODEC, uplink_budget=900, budget_by_weight=1.0)
    run(strategy, client(sizes=sizes, weigh=lambda partition: 100 * (partition + 1)))
    for partition, own in sizes.items():
        assert 0.98 * 900 <= own[0] <= 900, "in the first round nobody's weight is known"
        granted = 4 * 900 * (partition + 1) / 10
        assert all(0.98 * granted - 1 <= size <= granted for size in own[1:])
    assert all(0.98 * 3600 <= each.uplink_bytes <= 3600 for each in rounds)


def test_a_resumed_server_still_knows_the_weights():
    before, _ = compressed(codec=CODEC, uplink_budget=900, budget_by_weight=1.0)
    run(before, client(weigh=lambda partition: 100 * (partition + 1)), num_rounds=1)
    after, _ = compressed(codec=CODEC, uplink_budget=900, budget_by_weight=1.0)
    after.restore_state(before.save_state())
    asked = list(before.save_state().part("weights").as_mapping())
    assert after._budgets(2, asked) == before._budgets(2, asked)
    assert len(set(after._budgets(2, asked).values())) == 4


@given(
    st.dictionaries(st.integers(0, 20), st.integers(50, 10**6), min_size=1),
    st.dictionaries(st.integers(0, 20), st.floats(5e-324, 1e9)),
    st.floats(0, 2),
)
def test_a_round_has_as_many_bytes_however_they_are_divided(budgets, weights, power):
    divided = divide_by_weight(budgets, weights, power)
    assert divided.keys() == budgets.keys()
    assert sum(budgets.values()) - len(budgets) - 1 <= sum(divided.values()) <= sum(budgets.values())
    assert all(divided[each] >= int(budgets[each] * 0.04) - 1 for each in budgets), "whatever somebody claims"


def test_a_limit_never_becomes_none():
    assert divide_by_weight({1: 20, 2: 20}, {1: 1e-3, 2: 1.0, 3: 1e9}, 2.0)[1] >= 1


def test_who_has_no_limit_keeps_none():
    assert divide_by_weight({1: 0, 2: 500, 3: 500}, {1: 9.0, 2: 1.0, 3: 3.0}, 1.0) == {1: 0, 2: 250, 3: 750}


def test_a_client_with_a_thin_link_sends_less():
    sizes = {}

    def thin_link(message, context, call_next):
        if context.node_config["partition-id"] == 2:
            context.node_config["uplink-budget-bytes"] = 300
        return call_next(message, context)

    strategy, _ = compressed(codec=CODEC, uplink_budget=900)
    run(strategy, client(thin_link, sizes=sizes))
    assert max(sizes.pop(2)) <= 300
    assert min(min(own) for own in sizes.values()) > 800


def test_a_frame_over_its_budget_is_refused():
    def ignore(message, context, call_next):
        if context.node_config["partition-id"] == 1:
            message.content["fedcomp"]["budget"] = 0
        return call_next(message, context)

    strategy, rounds = compressed(codec=CODEC, uplink_budget=900)
    run(strategy, client(ignore), num_rounds=1)
    assert dict(rounds[0].rejected) == {"too-large": 1}
    assert rounds[0].accepted == 3


def test_a_downlink_keeps_to_its_budget_once_a_client_holds_a_model():
    strategy, rounds = compressed(codec=CODEC, downlink=CODEC, downlink_budget=700)
    run(strategy, client(), num_rounds=4)
    assert all(0.98 * 4 * 700 <= each.downlink_bytes <= 4 * 700 for each in rounds[1:])


@pytest.mark.parametrize("arguments", [{"uplink_budget": 100}, {"downlink": "q4", "downlink_budget": 100}])
def test_a_codec_that_can_not_keep_a_budget_is_refused_at_once(arguments):
    with pytest.raises(UsageError, match="can't keep to a budget"):
        CompressedStrategy(toy_inner(), codec="q4", **arguments)


def test_an_unbiased_codec_stays_unbiased_whatever_the_budgets():
    rng, delta = np.random.default_rng(0), {"w": np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)}
    codec, spec = fedcomp.codec("randk(density=0.1, unbiased=true) | float32"), fedcomp.ModelSpec.of(delta)
    received = [
        fedcomp.decode(codec.encode(delta, rng=rng, budget=budget).frame, spec)["w"]
        for _ in range(400)
        for budget in (500, 1500)
    ]
    away = np.abs(np.mean(received, axis=0) - delta["w"]) / np.maximum(np.abs(delta["w"]), 0.1)
    assert away.mean() < 0.15


@given(st.integers(1000, 10**6), st.integers(1, 300), st.floats(0.05, 50))
def test_growth_leaves_the_mean_as_it_is(num_bytes, num_rounds, growth):
    budget = GrowingBudget(num_bytes, num_rounds, growth)
    granted = [budget(server_round, 0) for server_round in range(1, num_rounds + 1)]
    assert num_bytes - 1 <= np.mean(granted) <= num_bytes
    assert granted == sorted(granted, reverse=growth < 1)
    if num_rounds > 1:
        assert granted[-1] / granted[0] == pytest.approx(growth, rel=0.2)
    assert budget(num_rounds + 5, 0) == granted[-1]


@pytest.mark.parametrize(
    "arguments", [(0, 10), (100, 0), (100, 10, 0.0), (100, 10, -1.0), (100, 10, float("nan")), (100, 10, float("inf"))]
)
def test_growth_of_nothing_is_refused_at_once(arguments):
    with pytest.raises(UsageError, match="expected"):
        GrowingBudget(*arguments)
