"""Clients that evaluate: a hostile one has no say, and costs nobody else the run."""

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from tests.flower.toy import compressed, run_rounds, toy_client, with_replies

GOOD = {"num-examples": 2, "loss": 0.5}
BAD = {
    "another name": {**GOOD, "x": 1.0},
    "no weight": {"loss": 0.5},
    "a negative weight": {**GOOD, "num-examples": -6},
    "a list": {**GOOD, "loss": [0.5, 1.0]},
    "NaN": {**GOOD, "loss": float("nan")},
    "a weight of NaN": {**GOOD, "num-examples": float("nan")},
    "too many numbers": {**GOOD, "loss": [0.5] * 20_000},
    "a long name": {**GOOD, "x" * 300: 1.0},
}


def evaluating_client(metrics_of, key_of=lambda _: "metrics"):
    app = toy_client()

    @app.evaluate()
    def evaluate(message, context):
        partition = context.node_config["partition-id"]
        metrics = MetricRecord(metrics_of(partition))
        return Message(RecordDict({key_of(partition): metrics}), reply_to=message)

    return app


def evaluating_strategy():
    inner = FedAvg(min_train_nodes=4, min_evaluate_nodes=4, min_available_nodes=4)
    return compressed(inner, codec="lossless", downlink="lossless")[0]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_an_evaluation_that_can_not_be_averaged_is_left_out(bad, caplog):
    app = evaluating_client(lambda partition: bad if partition == 0 else {**GOOD, "loss": float(partition)})
    result = run_rounds(evaluating_strategy(), app, num_rounds=2)
    assert [dict(metrics) for metrics in result.evaluate_metrics_clientapp.values()] == [{"loss": 2.0}] * 2
    assert sum("left out the evaluation" in record.message for record in caplog.records) == 2


def test_so_is_one_in_a_record_of_another_name():
    app = evaluating_client(
        lambda partition: {**GOOD, "loss": float(partition)}, lambda partition: "m" if not partition else "metrics"
    )
    result = run_rounds(evaluating_strategy(), app)
    assert dict(result.evaluate_metrics_clientapp[1]) == {"loss": 2.0}


def test_a_strategy_that_evaluates_in_its_own_way_is_given_every_reply():
    class Own(FedAvg):
        def aggregate_evaluate(self, server_round, replies):
            return MetricRecord({"least": min(reply.content["metrics"]["acc"] for reply in replies)})

    strategy, _ = compressed(Own(min_train_nodes=4, min_evaluate_nodes=4, min_available_nodes=4), codec="lossless")
    result = run_rounds(strategy, evaluating_client(lambda partition: {"acc": float(partition)}))
    assert result.evaluate_metrics_clientapp[1]["least"] == 0


def test_who_compresses_the_way_down_is_told_once_that_evaluation_does_not(caplog):
    run_rounds(evaluating_strategy(), evaluating_client(lambda _: GOOD), num_rounds=3)
    (told,) = [record.message for record in caplog.records if "fraction_evaluate=0" in record.message]
    assert "whole models" in told


def test_a_second_answer_and_one_of_somebody_who_was_not_asked_do_not_count():
    loud = RecordDict({"metrics": MetricRecord({"num-examples": 1000, "loss": 99.0})})

    def again_and_a_stranger(reply, message):
        if reply.metadata.message_type != "evaluate":
            return ()
        return Message(loud, reply_to=message), Message(loud, reply_to=Message(loud, 999, "evaluate"))

    result = run_rounds(
        evaluating_strategy(), evaluating_client(lambda _: GOOD), on_grid=with_replies(again_and_a_stranger)
    )
    assert np.isclose(result.evaluate_metrics_clientapp[1]["loss"], 0.5)
