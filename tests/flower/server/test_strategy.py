"""Any strategy inside: the wrapped run does what the plain one does, on far fewer bytes."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.server.strategy import FedAvg as OldFedAvg
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedXgbBagging,
    FedYogi,
    Krum,
    MultiKrum,
    Result,
)

from fedcomp.errors import CodecSpecError, UsageError
from fedcomp.flower import CheckpointFolder, CompressedStrategy, ResumableStrategy, to_array_record, to_model
from fedcomp.flower.grid.wrapping_grid import WrappingGrid
from fedcomp.flower.server.feed import needs_only_the_mean
from tests.flower.toy import MODEL, assert_model, compressed, mean_update, run_rounds, toy_client, toy_inner

STRATEGIES = {
    "FedAvg": lambda: toy_inner(FedAvg),
    "FedAvgM": lambda: toy_inner(FedAvgM, server_momentum=0.9),
    "FedAdam": lambda: toy_inner(FedAdam),
    "FedYogi": lambda: toy_inner(FedYogi),
    "FedMedian": lambda: toy_inner(FedMedian),
    "FedTrimmedAvg": lambda: toy_inner(FedTrimmedAvg, beta=0.25),
    "Krum": lambda: toy_inner(Krum, num_malicious_nodes=1),
    "MultiKrum": lambda: toy_inner(MultiKrum, num_malicious_nodes=1, num_nodes_to_select=2),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("codec", ["lossless", "none"])
def test_lossless_run_equals_the_plain_one(name, codec):
    plain = run_rounds(STRATEGIES[name](), toy_client(), num_rounds=3)
    wrapped = run_rounds(compressed(STRATEGIES[name](), codec=codec)[0], toy_client(), num_rounds=3)
    expected = to_model(plain.arrays)
    assert_model(wrapped.arrays, {n: np.rint(v) if n == "counter" else v for n, v in expected.items()}, atol=1e-5)
    for server_round, metrics in plain.train_metrics_clientapp.items():
        for key, value in metrics.items():
            assert wrapped.train_metrics_clientapp[server_round][key] == pytest.approx(value)


def test_stock_means_are_streamed_and_other_strategies_get_every_reply():
    class Mine(FedAvg):
        def aggregate_train(self, server_round, replies):
            return super().aggregate_train(server_round, replies)

    class OnlyConfigures(FedAdam):
        pass

    assert needs_only_the_mean(toy_inner(FedAvg))
    assert needs_only_the_mean(toy_inner(OnlyConfigures))
    assert not needs_only_the_mean(toy_inner(Mine))
    assert not needs_only_the_mean(toy_inner(FedMedian))


def test_refine_has_the_last_word_on_a_round():
    rounds = []

    def refine(server_round, model):
        rounds.append(server_round)
        return {**model, "weight": np.full_like(model["weight"], server_round)}

    result = run_rounds(compressed(toy_inner(), codec="lossless", refine=refine)[0], toy_client(), num_rounds=3)
    assert rounds == [1, 2, 3]
    assert (to_model(result.arrays)["weight"] == 3).all()
    assert to_model(result.arrays)["counter"] == 13


def test_a_round_that_changes_nothing_is_not_refined():
    rounds = []
    strategy = compressed(
        toy_inner(), codec="lossless", min_replies=99, refine=lambda server_round, model: rounds.append(server_round)
    )[0]
    run_rounds(strategy, toy_client(), num_rounds=1)
    assert not rounds


def test_differential_privacy_strategies_work_inside():
    floats = {name: MODEL[name] for name in ("weight", "bias")}
    private = DifferentialPrivacyServerSideFixedClipping(
        toy_inner(), noise_multiplier=0.0, clipping_norm=1e6, num_sampled_clients=4
    )
    result = run_rounds(compressed(private, codec="lossless")[0], toy_client(), model=floats)
    assert np.isfinite(to_model(result.arrays)["weight"]).all()


def test_replies_are_folded_as_they_arrive():
    events = []

    class WatchedGrid:
        def __init__(self, grid):
            self._grid = grid

        def __getattr__(self, name):
            return getattr(self._grid, name)

        def send_and_receive(self, messages, *, timeout=None):
            for reply in self._grid.send_and_receive(messages, timeout=timeout):
                events.append("arrived")
                yield reply

    strategy = CompressedStrategy(toy_inner(), on_update=lambda _round, _update: events.append("folded"))
    run_rounds(strategy, toy_client(), on_grid=WatchedGrid)
    assert events == ["arrived", "folded"] * 4


def test_own_metrics_function_sees_every_client():
    seen = []

    def aggregate(records, weighted_by):
        seen.append(sorted(next(iter(r.metric_records.values()))["loss"] for r in records))
        return MetricRecord({"clients": len(records)})

    inner = toy_inner(train_metrics_aggr_fn=aggregate)
    result = run_rounds(compressed(inner)[0], toy_client())
    assert seen == [[0.0, 1.0, 2.0, 3.0]]
    assert result.train_metrics_clientapp[1]["clients"] == 4
    assert inner.train_metrics_aggr_fn is aggregate


def with_settings(message, context, call_next):
    """Name a reply's records as no other app does, and add one."""
    reply = call_next(message, context)
    settings = ConfigRecord({"device": f"phone-{context.node_config['partition-id']}", "tags": []})
    reply.content = RecordDict(
        {"weights": reply.content["arrays"], "said": reply.content["metrics"], "settings": settings}
    )
    return reply


def devices_of(records):
    assert all(record["said"]["num-examples"] for record in records)
    return sorted(record["settings"]["device"] for record in records)


def test_replies_keep_their_records_for_a_strategy_that_reads_them():
    class Reading(FedAvg):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            seen.extend(devices_of([reply.content for reply in replies]))
            assert all(list(reply.content["weights"]) == list(MODEL) for reply in replies)
            return super().aggregate_train(server_round, replies)

    seen = []
    result = run_rounds(compressed(toy_inner(Reading), codec="lossless")[0], toy_client(inner_mods=[with_settings]))
    assert seen == [f"phone-{partition}" for partition in range(4)]
    assert_model(result.arrays, {name: MODEL[name] + update for name, update in mean_update(range(4)).items()})


def test_so_they_do_for_a_metrics_function():
    seen = []

    def aggregate(records, weighted_by):
        seen.extend(devices_of(records))
        return MetricRecord()

    inner = toy_inner(train_metrics_aggr_fn=aggregate)
    run_rounds(compressed(inner)[0], toy_client(inner_mods=[with_settings]))
    assert seen == [f"phone-{partition}" for partition in range(4)]


def test_bytes_are_those_of_the_arrays_that_travelled():
    strategy, rounds = compressed(codec="thin")
    run_rounds(strategy, toy_client())
    plain, plain_rounds = compressed(codec="none")
    run_rounds(plain, toy_client())
    dense = plain_rounds[0].uplink_bytes
    assert rounds[0].dense_uplink_bytes == dense == plain_rounds[0].dense_uplink_bytes
    assert rounds[0].downlink_bytes == rounds[0].dense_downlink_bytes == dense
    assert 4 * 50 < rounds[0].uplink_bytes < dense / 3
    assert (rounds[0].accepted, rounds[0].failed, rounds[0].rejected.total()) == (4, 0, 0)


def test_server_state_is_as_the_arguments_say():
    with pytest.raises(CodecSpecError):
        CompressedStrategy(toy_inner(), codec="thinn")
    with pytest.raises(UsageError, match="residual decay"):
        CompressedStrategy(toy_inner(), residual_decay=1.5)
    with pytest.raises(UsageError, match="min_replies"):
        CompressedStrategy(toy_inner(), min_replies=0)


@pytest.mark.parametrize(
    ("inner", "arguments", "says"),
    [
        (None, {}, "inner is builtins.NoneType, expected a strategy of flwr.serverapp.strategy"),
        (FedAvg, {}, "inner is builtins.type|inner is abc.ABCMeta"),
        (OldFedAvg(), {}, r"inner is flwr.server.strategy.*FedAvg, expected"),
        (CompressedStrategy(FedAvg()), {}, "already"),
        (FedAvg(), {"uplink_budget": -5}, "uplink_budget is -5"),
        (FedAvg(), {"uplink_budget": "3kB"}, "uplink_budget is '3kB'"),
        (FedAvg(), {"uplink_budget": 370.0}, "uplink_budget is 370.0"),
        (FedAvg(), {"downlink_budget": 10}, "downlink_budget needs a downlink codec"),
        (FedAvg(), {"uplink_budget": True}, "uplink_budget is True"),
        (FedAvg(), {"codec": None}, "codec is None, expected text: a codec such as 'thin', or 'none'"),
        (FedAvg(), {"downlink": None}, "downlink is None, expected text"),
        (FedAvg(), {"downlink": "thin", "downlink_full": 8}, "downlink_full is 8, expected text"),
        (FedAvg(), {"min_replies": "2"}, "min_replies is '2', expected a number"),
        (FedAvg(), {"clip_update_norm": None}, "clip_update_norm is None, expected a number"),
        (FedAvg(), {"residual_decay": "0.9"}, "residual_decay is '0.9', expected a number"),
        (FedAvg(), {"seed": "0"}, "seed is '0', expected a number"),
        (FedAvg(), {"authenticate": "keys"}, "authenticate is 'keys', expected FrameKeys"),
        (FedAvg(), {"initial": to_array_record(MODEL)}, "initial is no model: tensor 'weight' is a Array.*`to_model`"),
        (FedAvg(), {"initial": list(MODEL.values())}, "initial is a list, expected a mapping"),
        (FedXgbBagging(), {}, "trees grow"),
        (DifferentialPrivacyServerSideFixedClipping(FedXgbBagging(), 1.0, 1.0, 4), {}, "trees grow"),
    ],
)
def test_what_can_not_work_is_said_at_once(inner, arguments, says):
    with pytest.raises(UsageError, match=says):
        CompressedStrategy(inner, **arguments)


class Sorting(FedAvg):
    """Returns the model in another order."""

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord({name: arrays[name] for name in sorted(arrays)}), metrics


@pytest.mark.parametrize("downlink", ["none", "lossless"])
def test_a_model_that_comes_back_in_another_order_is_the_same_model(downlink):
    strategy, rounds = compressed(toy_inner(Sorting), codec="lossless", downlink=downlink)
    result = run_rounds(strategy, toy_client(), num_rounds=3)
    assert [(each.accepted, each.complaints) for each in rounds] == [(4, [])] * 3
    assert_model(result.arrays, to_model(run_rounds(toy_inner(), toy_client(), num_rounds=3).arrays), 1e-5)


class OneForEach(FedAvg):
    """Sends each client a model of its own, as strategies do that keep one for each group of clients."""

    def configure_train(self, server_round, arrays, config, grid):
        for number, message in enumerate(super().configure_train(server_round, arrays, config, grid)):
            own = {name: values + values.dtype.type(number) for name, values in to_model(arrays).items()}
            message.content = RecordDict({**message.content, "arrays": to_array_record(own)})
            yield message


@pytest.mark.parametrize("downlink", ["none", "thin"])
def test_a_strategy_that_sends_different_models_is_refused(downlink):
    strategy, _ = compressed(toy_inner(OneForEach), downlink=downlink)
    with pytest.raises(UsageError, match="OneForEach sends different models to clients of one round"):
        run_rounds(strategy, toy_client())


class Saving(FedAvg):
    """Has a loop of its own around Flower's, and another one in its place."""

    def start(self, grid, initial_arrays, num_rounds=3, **named):
        self.saved = super().start(grid, initial_arrays, num_rounds, **named).arrays
        return self.loop(grid, self.saved, num_rounds + 1)

    def loop(self, grid, arrays, server_round):
        replies = grid.send_and_receive(self.configure_train(server_round, arrays, ConfigRecord(), grid))
        arrays, _ = self.aggregate_train(server_round, replies)
        return Result(arrays=arrays)


def test_a_loop_of_the_strategys_own_takes_compressed_steps():
    strategy, rounds = compressed(toy_inner(Saving), codec="lossless")
    result = run_rounds(strategy, toy_client(), num_rounds=2)
    assert [(each.round, each.accepted) for each in rounds] == [(1, 4), (2, 4), (3, 4)]
    assert rounds[0].uplink_bytes < rounds[0].dense_uplink_bytes
    plain = run_rounds(toy_inner(Saving), toy_client(), num_rounds=2)
    assert_model(result.arrays, to_model(plain.arrays))
    assert_model(strategy.inner.saved, to_model(run_rounds(toy_inner(), toy_client(), num_rounds=2).arrays))


@pytest.mark.parametrize("make", [FedAvg, lambda: object()])
def test_only_a_compressed_strategy_is_resumed(make, tmp_path):
    with pytest.raises(UsageError, match="expected a CompressedStrategy around it"):
        ResumableStrategy(make(), CheckpointFolder(tmp_path))


def test_a_resumable_strategy_belongs_around_and_not_inside(tmp_path):
    inside = ResumableStrategy(CompressedStrategy(FedAvg()), CheckpointFolder(tmp_path))
    with pytest.raises(UsageError, match="compressed once"):
        CompressedStrategy(inside)


def test_a_loop_that_knows_nothing_of_finished_rounds_is_refused(tmp_path):
    strategy, _ = compressed(toy_inner(Saving))
    with pytest.raises(UsageError, match="Saving has a start of its own"):
        ResumableStrategy(strategy, CheckpointFolder(tmp_path))


@pytest.mark.parametrize("is_resumable", [False, True])
def test_the_replies_of_flowers_deployed_grid_stream(is_resumable, monkeypatch, tmp_path):
    class Waiting(WrappingGrid):
        def send_and_receive(self, messages, *, timeout=None):
            raise AssertionError("the Grid's own exchange does not stream")

        def get_nodes(self):
            return self._inner.get_nodes()

    monkeypatch.setattr("flwr.superlink.grid.http_grid.HttpGrid", Waiting)
    strategy, rounds = compressed(codec="lossless")
    if is_resumable:
        strategy = ResumableStrategy(strategy, CheckpointFolder(f"{tmp_path}/run/checkpoint"))
    run_rounds(strategy, toy_client(), on_grid=Waiting, num_rounds=2)
    assert rounds[0].accepted == 4


def test_a_server_without_the_strategy_gets_plain_replies():
    result = run_rounds(toy_inner(), toy_client())
    np.testing.assert_allclose(
        to_model(result.arrays)["weight"], MODEL["weight"] + mean_update(range(4))["weight"], atol=1e-6
    )
