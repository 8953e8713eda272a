"""A round whose model is thrown away leaves no trace in the strategy, whatever that keeps."""

from collections import Counter, deque

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideAdaptiveClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedYogi,
)

from fedcomp.flower import CompressedStrategy, to_array_record, to_model
from fedcomp.flower.server.undo import remember_attributes
from fedcomp.flower.state.keeping import keep_strategy
from server.feddyn import FedDyn
from tests.flower.toy import run_rounds, toy_client, toy_inner

BAD_ROUND = 2


class InPlace(FedAvg):
    """Keeps the sum of all models, and changes it where it is."""

    needs_only_the_mean = True

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.sums, self.rounds = {}, []

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        self.rounds.append(server_round)
        for name, values in to_model(arrays).items():
            self.sums.setdefault(name, np.zeros(values.shape))[...] += values
        return arrays, metrics


def clipped(**arguments):
    inner = FedAdam(**arguments)
    return DifferentialPrivacyServerSideAdaptiveClipping(inner, noise_multiplier=0.0, num_sampled_clients=4)


KINDS = {
    "momentum": (FedAvgM, {"server_momentum": 0.9}),
    "adam": (FedAdam, {}),
    "yogi": (FedYogi, {}),
    "adagrad": (FedAdagrad, {}),
    "feddyn": (FedDyn, {"num_clients": 4}),
    "one in another": (clipped, {}),
    "in place": (InPlace, {}),
}


def state_of(strategy):
    """Return what a checkpoint would hold, the values as bytes: NaN is not what it was."""
    facts, tensors = keep_strategy(strategy)
    return facts, {name: values.tobytes() for name, values in tensors.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad_round", [1, BAD_ROUND])
def test_a_round_that_changes_nothing_leaves_the_strategy_as_it_was(kind, bad_round):
    build, arguments = KINDS[kind]
    inner, before, after, skipped = toy_inner(build, **arguments), {}, {}, []

    def finish(traffic):
        skipped.append(traffic.skipped)
        after[traffic.round] = state_of(inner)

    def diverge(server_round, model):
        bad = {name: values * np.nan for name, values in model.items() if values.dtype.kind == "f"}
        return {**model, **bad} if server_round == bad_round else model

    strategy = CompressedStrategy(
        inner,
        codec="lossless",
        refine=diverge,
        on_update=lambda server_round, _: before.update({server_round: state_of(inner)}),
        on_round=finish,
    )
    client = toy_client(inner_mods=[participates] if build is FedDyn else [])
    run_rounds(strategy, client, num_rounds=3)
    assert skipped == [number == bad_round for number in (1, 2, 3)]
    assert after[bad_round] == before[bad_round]
    assert after[3] != before[3]


def participates(message, context, call_next):
    reply = call_next(message, context)
    reply.content["metrics"]["participants"] = 1.0
    return reply


def test_data_comes_back_and_all_else_stays_the_object_that_it_is():
    function, foreign = len, object()
    inner = FedAvg()
    inner.kept = [np.arange(3), (np.zeros(2), {"a": [1]}), Counter("aab"), {1, 2}, to_array_record({"w": np.ones(2)})]
    inner.function, inner.foreign = function, foreign
    restore = remember_attributes(inner)
    array, (in_tuple, mapping), counts, numbers, record = inner.kept
    array[:], in_tuple[:], mapping["a"][0] = 9, 9, 9
    counts["a"] += 9
    numbers.add(9)
    record.clear()
    inner.kept.append("more")
    inner.foreign, inner.other = None, 1
    restore()
    array, (in_tuple, mapping), counts, numbers, record = inner.kept
    assert (array.tolist(), in_tuple.tolist(), mapping) == ([0, 1, 2], [0, 0], {"a": [1]})
    assert (counts, numbers) == (Counter("aab"), {1, 2})
    assert isinstance(record, ArrayRecord)
    assert list(record) == ["w"]
    assert (inner.function, inner.foreign) == (function, foreign)
    assert not hasattr(inner, "other")


def test_what_others_hold_too_stays_the_same_object():
    losses, array, window = [], np.zeros(2), deque([1, 2], maxlen=2)
    inner = FedAvg()
    inner.losses, inner.array, inner.again, inner.window = losses, array, array, window
    restore = remember_attributes(inner)
    losses.append(np.nan)
    array += np.nan
    window.append(3)
    restore()
    inner.losses.append(0.5)
    assert losses == [0.5]
    assert inner.array is inner.again is array
    assert array.tolist() == [0, 0]
    assert list(window) == [1, 2]


def test_a_strategy_may_hold_itself_and_others_and_what_it_is_held_by():
    inner, another, ring = FedAvg(), FedAvg(), []
    ring.append(ring)
    strategy = CompressedStrategy(inner, codec="lossless")
    inner.me, inner.held_by, inner.ring, inner.others = inner, strategy, ring, [another]
    another.number = 1
    restore = remember_attributes(inner)
    another.number = 2
    restore()
    assert another.number == 1
    assert (inner.me, inner.held_by, inner.others) == (inner, strategy, [another])
    assert ring[0] is ring


def test_an_array_that_nobody_can_write_into_is_not_copied(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(10))

    class Mapped(np.memmap):
        def copy(self, *_):
            pytest.fail("read a whole file")

    inner = FedAvg()
    inner.data = Mapped(path, np.uint8, "r")
    remember_attributes(inner)()
    assert isinstance(inner.data, Mapped)
