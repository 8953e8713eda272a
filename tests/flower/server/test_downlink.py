"""The downlink: client and server agree bit for bit on what a client trains from, whatever happens on the way."""

import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, Krum

from fedcomp.errors import UsageError
from fedcomp.flower import CheckpointFolder, CompressedStrategy, ResumableStrategy, to_array_record, to_model
from fedcomp.flower.messages.model_order import MODEL_KEY
from fedcomp.flower.messages.records import num_bytes
from fedcomp.simulation import LocalGrid, seeded_global_random
from fedcomp.simulation.identity import task_identity
from fedcomp.types import fingerprint_model
from tests.flower.toy import MODEL, compressed, run_rounds, tamper, toy_client, toy_inner

NUM_NODES = 6
LOSSY = "topk(density=0.1) | uniform(bits=3)"
FULL = "float16"
DOWN = {"downlink": LOSSY, "downlink_full": FULL}


def initial(_message, _context):
    return MODEL


class Watch:
    """Notes what each client trains from, in the order of the rounds."""

    def __init__(self):
        self.trained_from = {}

    def __call__(self, message, context, call_next):
        server_round, partition = message.content["config"]["server-round"], context.node_config["partition-id"]
        model = to_model(next(iter(message.content.array_records.values())))
        self.trained_from[server_round, partition] = {name: values.copy() for name, values in model.items()}
        return call_next(message, context)


class Believed(CompressedStrategy):
    """Notes what the server takes each client to train from, and the true model."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.believed, self.true = {}, {}

    def configure_train(self, server_round, arrays, config, grid):
        messages = super().configure_train(server_round, arrays, config, grid)
        self.true[server_round] = to_model(arrays)
        for message in messages:
            client = message.metadata.dst_node_id
            self.believed[server_round, client] = self.downlink.model(client)
        return messages


def assert_same_bits(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
        assert found[name].tobytes() == values.tobytes(), name


def assert_agreement(strategy, watch, partitions):
    """Every model that a client trained from is, bit for bit, the one that the server takes it to be."""
    for (server_round, partition), model in watch.trained_from.items():
        believed = strategy.believed[server_round, partitions[partition]]
        assert_same_bits(model, believed)
        assert model["counter"] == strategy.true[server_round]["counter"]


def accident(kind, occasions):
    """Make an outermost mod to whose client something happens on some (round, partition)."""

    def lose_message(message, context, call_next):
        return Message(Error(0, "never arrived"), reply_to=message)

    def lose_reply(message, context, call_next):
        call_next(message, context)
        return Message(Error(0, "lost on the way"), reply_to=message)

    def spoil_reply(message, context, call_next):
        reply = call_next(message, context)
        if not reply.has_error():
            (array,) = reply.content["arrays"].values()
            array.data = array.data[:-1] + bytes([array.data[-1] ^ 1])
        return reply

    def restart(message, context, call_next):
        for key in list(context.state):
            del context.state[key]
        return call_next(message, context)

    happens = {"lost message": lose_message, "lost reply": lose_reply, "refused": spoil_reply, "restart": restart}[kind]

    def mod(message, context, call_next):
        occasion = message.content["config"]["server-round"], context.node_config["partition-id"]
        return (happens if occasion in occasions else _go_on)(message, context, call_next)

    return mod


def _go_on(message, context, call_next):
    return call_next(message, context)


def draw_occasions(kind, num_rounds, share=0.15):
    rng = np.random.default_rng([1, len(kind), num_rounds])
    return {(r, p) for r in range(1, num_rounds + 1) for p in range(NUM_NODES) if rng.random() < share}


def accidents(num_rounds):
    return [
        accident(kind, draw_occasions(kind, num_rounds))
        for kind in ("lost message", "lost reply", "refused", "restart")
    ]


class Stopped(Exception):
    pass


def run_in_parts(folder, stops, *, num_rounds=50, mods=(), app=toy_client, **arguments):
    """Run to each of the stops with server and grid built anew, as a killed process would be."""
    watch, rounds, believed = Watch(), [], []
    for number, stop in enumerate((*stops, num_rounds)):
        inner = toy_inner(FedAvg, num_nodes=3, fraction_train=0.6)
        strategy = Believed(inner, on_round=rounds.append, **arguments)
        believed.append(strategy)
        resumable = ResumableStrategy(strategy, CheckpointFolder(folder))

        def evaluate(server_round, _arrays, stop=stop):
            if server_round > stop:
                raise Stopped

        with (
            task_identity(run_id=5 + number, node_id=1),  # as Flower numbers a run that is resumed
            seeded_global_random(0),
            LocalGrid(app(*mods, inner_mods=[watch]), num_nodes=NUM_NODES, num_workers=0, seed=0) as grid,
        ):
            partitions = dict(enumerate(grid.get_node_ids()))
            try:
                result = resumable.start(grid, to_array_record(MODEL), num_rounds=num_rounds, evaluate_fn=evaluate)
            except Stopped:
                continue
    whole = believed[-1]
    for part in reversed(believed[:-1]):  # a round that was done twice was the same twice
        whole.believed, whole.true = part.believed | whole.believed, part.true | whole.true
    assert_agreement(whole, watch, partitions)
    return result, rounds, watch


CACHES = {"all": 1 << 20, "two models": 400, "none": 0}


KNOWING = "lowrank(rank=2, directions=1) | deadzone(step=0.5)"


@pytest.mark.parametrize(
    ("cache", "shared", "codec"),
    [
        ("all", False, KNOWING),
        ("two models", True, KNOWING),
        ("none", True, LOSSY),
    ],
    ids=str,
)
def test_nothing_drifts_over_50_rounds(cache, shared, codec, tmp_path):
    """With lost messages, lost and refused replies, restarts, evictions, and a server that is resumed twice."""
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    app = (lambda *mods, **kw: toy_client(*mods, initial=initial, **kw)) if shared else toy_client
    arguments = {
        "downlink": codec,
        "downlink_full": FULL,
        "initial": MODEL if shared else None,
        "downlink_cache_bytes": CACHES[cache],
        "codec": KNOWING,
        "uplink_budget": 250,
    }
    whole, rounds, watch = run_in_parts(tmp_path / "a" / "checkpoint", [], mods=accidents(50), app=app, **arguments)
    parts, _, again = run_in_parts(tmp_path / "b" / "checkpoint", [17, 33], mods=accidents(50), app=app, **arguments)
    assert len(watch.trained_from) > 80
    assert_same_bits(to_model(parts.arrays), to_model(whole.arrays))
    assert watch.trained_from.keys() == again.trained_from.keys()
    for occasion, model in watch.trained_from.items():
        assert_same_bits(again.trained_from[occasion], model)
    refused = sum((each.rejected for each in rounds), start=type(rounds[0].rejected)())
    assert refused.keys() <= {"lost-model", "checksum"}
    assert bool(refused["lost-model"]) == (cache != "none")


@pytest.mark.parametrize("full", [{}, {"downlink_full": "lossless"}])
def test_a_lossless_downlink_is_the_plain_one(full):
    plain = run_rounds(compressed(codec="q4")[0], toy_client(), num_rounds=4)
    found = run_rounds(compressed(codec="q4", downlink="lossless", **full)[0], toy_client(), num_rounds=4)
    for name, values in to_model(plain.arrays).items():
        np.testing.assert_allclose(to_model(found.arrays)[name], values, atol=1e-5)


STRATEGIES = {
    "FedAvg": FedAvg,
    "FedAdam": FedAdam,
    "FedMedian": FedMedian,
    "Krum": lambda **arguments: Krum(num_malicious_nodes=1, **arguments),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("codec", ["lossless", "none"])
def test_any_strategy_gets_updates_relative_to_what_each_client_held(name, codec):
    """A toy client's update does not depend on its model, so the coarsest downlink leaves the server's steps alone."""
    kind = STRATEGIES[name]
    plain = run_rounds(compressed(toy_inner(kind), codec=codec)[0], toy_client(), num_rounds=4)
    strategy, rounds = compressed(toy_inner(kind), codec=codec, **DOWN)
    found = run_rounds(strategy, toy_client(), num_rounds=4)
    for key, values in to_model(plain.arrays).items():
        np.testing.assert_allclose(to_model(found.arrays)[key], values, atol=1e-4)
    assert all(each.accepted == 4 for each in rounds)


def test_what_a_codec_drops_comes_later():
    """Where the model stands still, ever sparser news brings every client to it: feedback without a residual."""
    watch = Watch()

    def stand_still(message, context, call_next):
        reply = call_next(message, context)
        reply.content["arrays"] = message.content["arrays"]
        return reply

    strategy, _ = compressed(codec="lossless", downlink="topk(density=0.2) | float32", downlink_full="sign")
    run_rounds(strategy, toy_client(inner_mods=[stand_still, watch]), num_rounds=8)
    distances = [np.abs(watch.trained_from[r, 0]["weight"] - MODEL["weight"]).max() for r in (1, 4, 8)]
    assert distances[0] > 0.1
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-6


class Sent:
    """A grid that notes the messages to each partition."""

    def __init__(self, grid):
        self._grid, self.messages = grid, []

    def __getattr__(self, name):
        return getattr(self._grid, name)

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        if messages:
            self.messages.append([self._note(message) for message in messages])
        return self._grid.send_and_receive(messages, timeout=timeout)

    def _note(self, message):
        (arrays,) = message.content.array_records.values()
        return dict(message.content[MODEL_KEY]), num_bytes(arrays), {name: array.data for name, array in arrays.items()}


def run_and_watch(strategy, app, num_rounds):
    grids = []
    result = run_rounds(
        strategy, app, num_rounds=num_rounds, on_grid=lambda grid: grids.append(Sent(grid)) or grids[-1]
    )
    return result, grids[0].messages


def test_bytes_are_those_that_travelled_and_equal_frames_are_encoded_once(monkeypatch):
    encoded = []
    from fedcomp.codecs import Codec

    encode = Codec.encode
    monkeypatch.setattr(Codec, "encode", lambda self, *a, **k: encoded.append(str(self)) or encode(self, *a, **k))
    strategy, rounds = compressed(codec="none", **DOWN)
    _, messages = run_and_watch(strategy, toy_client(), 3)
    assert [each.downlink_bytes for each in rounds] == [sum(size for _, size, _ in sent) for sent in messages]
    assert all(each.dense_downlink_bytes == 4 * (40 * 4 + 3 * 4 + 8 + 3 * 128) for each in rounds)
    # One whole model, then one difference a round; the second is too small for a whole model to be tried.
    assert encoded == [FULL, LOSSY, LOSSY]
    assert all(len({arrays["model"] for _, _, arrays in sent}) == 1 for sent in messages)


def test_a_shared_initial_model_costs_next_to_nothing():
    sizes = {}
    for shared in (True, False):
        strategy, _ = compressed(codec="q4", initial=MODEL if shared else None, downlink="q4")
        _, messages = run_and_watch(strategy, toy_client(initial=initial), 2)
        sizes[shared] = [sent[0][1] for sent in messages]
        assert messages[0][0][0]["base"] == (fingerprint_model(MODEL) if shared else 0)
    assert sizes[True][0] < 100 < sizes[False][0]


def test_a_client_with_another_initial_model_says_so_once():
    other = MODEL | {"bias": MODEL["bias"] + np.float32(1e-7)}

    def differs(message, context):
        return other if context.node_config["partition-id"] == 2 else MODEL

    def raises(message, context):
        if context.node_config["partition-id"] == 1:
            raise RuntimeError("no such data")
        return differs(message, context)

    for build, misled in ((differs, 1), (raises, 2)):
        strategy, rounds = compressed(codec="q4", initial=MODEL, **DOWN)
        run_rounds(strategy, toy_client(initial=build), num_rounds=3)
        assert [dict(each.rejected) for each in rounds] == [{"lost-model": misled}, {}, {}]
        assert [each.accepted for each in rounds] == [4 - misled, 4, 4]
        assert [each.failed for each in rounds] == [0, 0, 0]


def test_a_restarted_client_recovers_in_the_next_round():
    strategy, rounds = compressed(codec="q4", **DOWN)
    run_rounds(strategy, toy_client(accident("restart", {(3, 1), (3, 2)})), num_rounds=5)
    assert [dict(each.rejected) for each in rounds] == [{}, {}, {"lost-model": 2}, {}, {}]
    assert "does not hold" in rounds[2].complaints[0]


def test_a_difference_that_costs_more_than_a_whole_model_is_not_sent():
    strategy, rounds = compressed(codec="q4", downlink="lossless", downlink_full="sign")
    _, messages = run_and_watch(strategy, toy_client(), 3)
    assert [sent[0][0]["base"] for sent in messages] == [0, 0, 0]
    assert all(each.accepted == 4 for each in rounds)


def on_the_way(change):
    """Make an outermost mod that changes partition 1's message on its way down, in round 3."""
    kept = {}

    def mod(message, context, call_next):
        server_round, partition = message.content["config"]["server-round"], context.node_config["partition-id"]
        order, arrays = message.content[MODEL_KEY], message.content["arrays"]
        kept[server_round, partition] = arrays, order
        if (server_round, partition) == (3, 1):
            change(message.content, kept)
        return call_next(message, context)

    return mod


def replay_frame(content, kept):
    content["arrays"] = kept[2, 1][0]


def replay_message(content, kept):
    content["arrays"], content[MODEL_KEY] = kept[2, 1]


def swap_frame(content, kept):
    content["arrays"] = kept[3, 0][0]


def swap_all(content, kept):
    content["arrays"], content[MODEL_KEY] = kept[3, 0]


def damage(content, kept):
    data = bytearray(content["arrays"]["model"].data)
    data[len(data) // 2] ^= 1
    content["arrays"]["model"].data = bytes(data)


def claim_another_model(content, kept):
    content[MODEL_KEY]["model"] ^= 1


def plain_arrays(content, kept):
    content["arrays"] = to_array_record(MODEL)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replay_frame, "refused-model"),
        (replay_message, "refused-model"),
        (swap_frame, "refused-model"),
        (damage, "refused-model"),
        (claim_another_model, "lost-model"),
        (plain_arrays, "refused-model"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_swapped_replayed_or_damaged_frame_is_refused(change, reason):
    """Partition 0's second reply is lost, so that it and partition 1 hold different models."""
    watch = Watch()
    strategy, rounds = compressed(codec="q4", **DOWN)
    app = toy_client(on_the_way(change), accident("lost reply", {(2, 0)}), inner_mods=[watch])
    run_rounds(strategy, app, num_rounds=4)
    assert [dict(each.rejected) for each in rounds] == [{}, {}, {reason: 1}, {}]
    assert (3, 1) not in watch.trained_from


def test_a_client_that_is_given_what_is_meant_for_another_notices():
    """It does hold what that is relative to: the base of its own last frame."""
    strategy, rounds = compressed(codec="q4", **DOWN)
    run_rounds(strategy, toy_client(on_the_way(swap_all), accident("lost reply", {(2, 0)})), num_rounds=5)
    assert [dict(each.rejected) for each in rounds] == [{}, {}, {"lost-reference": 1}, {}, {}]


def test_an_odd_order_costs_the_client_its_round_only():
    def odd(content, kept):
        content[MODEL_KEY]["surprise"] = 1

    strategy, rounds = compressed(codec="q4", **DOWN)
    run_rounds(strategy, toy_client(on_the_way(odd)), num_rounds=4)
    assert [each.failed for each in rounds] == [0, 0, 1, 0]
    assert "surprise" in rounds[2].complaints[0]


def test_a_client_that_only_claims_to_have_lost_its_model_costs_bytes_only():
    def claim(reply, context):
        return Message(Error(1001, "lost-model: so I say"), reply_to=Message(reply.content, reply_to=reply))

    strategy, rounds = compressed(codec="q4", **DOWN)
    _, messages = run_and_watch(strategy, toy_client(tamper({2}, claim)), 3)
    assert [dict(each.rejected) for each in rounds] == [{"lost-model": 1}] * 3
    assert [[order["base"] == 0 for order, _, _ in sent].count(True) for sent in messages] == [4, 1, 1]


def test_a_model_that_is_not_finite_ends_the_run_with_a_reason():
    broken = MODEL | {"bias": np.float32([0, np.nan, 0])}
    with pytest.raises(Exception, match="'bias' holds NaN"):
        run_rounds(compressed(codec="q4", **DOWN)[0], toy_client(), model=broken)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"downlink": "thinn"}, "thin"),
        ({"downlink": "q4", "downlink_full": "thin"}, "whole models"),
        ({"downlink": "q4", "downlink_cache_bytes": -1}, "downlink_cache_bytes"),
        ({"downlink": "q4", "downlink_max_lag": 0.0}, "downlink_max_lag"),
    ],
)
def test_arguments_are_checked(arguments, says):
    with pytest.raises(UsageError, match=says):
        compressed(**arguments)


def test_a_client_that_stays_too_far_behind_is_sent_a_whole_model():
    """With a codec that keeps next to nothing each round adds nearly one to what everyone is behind."""
    wholes = {}
    for max_lag in (0.1, 2.5, 1000.0):
        strategy, _ = compressed(codec="q4", downlink="topk(density=0.001) | ternary", downlink_max_lag=max_lag)
        _, messages = run_and_watch(strategy, toy_client(), 9)
        wholes[max_lag] = [number for number, sent in enumerate(messages, 1) if sent[0][0]["base"] == 0]
    assert wholes[0.1] == list(range(1, 10))
    assert len(wholes[2.5]) in (2, 3)
    assert wholes[1000.0] == [1]
