"""Bad replies are refused with a reason and counted; the round is what the honest clients make it."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvgM, FedMedian

import fedcomp
from fedcomp.flower import to_array_record, to_model
from fedcomp.flower.messages.model_order import LostModel, to_error
from fedcomp.wire import read_frame, write_frame
from tests.flower.toy import (
    MODEL,
    assert_model,
    compressed,
    frame_of,
    local_update,
    mean_update,
    run_rounds,
    tamper,
    toy_client,
    toy_inner,
    with_frame,
    with_replies,
)

VICTIM = 2
EMPTY = Array("uint8", (0,), "fedcomp", b"")
HONEST = (0, 1, 3)


def with_metrics(reply, **metrics):
    reply.content["metrics"] = MetricRecord({k.replace("_", "-"): v for k, v in metrics.items()})
    return reply


def with_settings(reply, value, name="settings"):
    reply.content[name] = ConfigRecord({"value": value})
    return reply


def renamed(reply, before, after):
    reply.content[after] = reply.content[before]
    return without(reply, before)


def with_arrays(reply, record):
    reply.content["arrays"] = record
    return reply


def without(reply, key):
    del reply.content[key]
    return reply


def other_model(reply):
    delta = {"other": np.ones(4, np.float32)}
    return with_frame(reply, fedcomp.codec("lossless").encode(delta).frame)


def other_codec(reply):
    """Send half the bits that were asked for, with the binding of the honest frame."""
    frame = read_frame(frame_of(reply), fedcomp.FrameLimits())
    other = fedcomp.codec("float16").encode(local_update(VICTIM, 1)).frame
    return with_frame(reply, write_frame(replace(read_frame(other, fedcomp.FrameLimits()), binding=frame.binding)))


def huge_values(reply):
    """Send what is finite alone, and would make the mean of all infinite."""
    frame = read_frame(frame_of(reply), fedcomp.FrameLimits())
    update = {name: np.full_like(values, 3e38 if values.dtype.kind == "f" else 1) for name, values in MODEL.items()}
    other = fedcomp.codec("lossless").encode(update).frame
    return with_frame(reply, write_frame(replace(read_frame(other, fedcomp.FrameLimits()), binding=frame.binding)))


def counting(step):
    """Let a counter move by `step`, and nothing else."""

    def attack(reply):
        update = {name: np.zeros_like(values) for name, values in MODEL.items()} | {"counter": np.array(step)}
        other = read_frame(fedcomp.codec("lossless").encode(update).frame, fedcomp.FrameLimits())
        binding = read_frame(frame_of(reply), fedcomp.FrameLimits()).binding
        return with_frame(reply, write_frame(replace(other, binding=binding)))

    return attack


def unbound(reply):
    return with_frame(reply, fedcomp.codec("lossless").encode(local_update(VICTIM, 1)).frame)


ATTACKS = {
    "empty frame": ("malformed", lambda r: with_frame(r, b"")),
    "noise": ("malformed", lambda r: with_frame(r, np.random.default_rng(0).bytes(500))),
    "truncated": ("checksum", lambda r: with_frame(r, frame_of(r)[:-20])),
    "damaged": ("checksum", lambda r: with_frame(r, frame_of(r)[:-9] + b"\x00" + frame_of(r)[-8:])),
    "oversized": ("too-large", lambda r: with_frame(r, frame_of(r) + bytes(100_000))),
    "another model": ("wrong-model", other_model),
    "a counter far ahead": ("invalid-values", counting(2**62)),
    "a counter far behind": ("invalid-values", counting(-(2**63))),
    "another moment": ("stale", unbound),
    "another codec": ("wrong-codec", other_codec),
    "plain arrays": ("malformed", lambda r: with_arrays(r, to_array_record(MODEL))),
    "no arrays": ("malformed", lambda r: without(r, "arrays")),
    "two frames": ("malformed", lambda r: with_arrays(r, ArrayRecord({"a": EMPTY, "b": EMPTY}))),
    "no metrics": ("malformed", lambda r: without(r, "metrics")),
    "no weight": ("malformed", lambda r: with_metrics(r, loss=1.0)),
    "zero weight": ("malformed", lambda r: with_metrics(r, num_examples=0)),
    "negative weight": ("malformed", lambda r: with_metrics(r, num_examples=-3)),
    "list weight": ("malformed", lambda r: with_metrics(r, num_examples=[1, 2])),
    "NaN weight": ("invalid-values", lambda r: with_metrics(r, num_examples=float("nan"))),
    "weight that overflows": ("invalid-values", lambda r: with_metrics(r, num_examples=1e300)),
    "huge integer weight": ("invalid-values", lambda r: with_metrics(r, num_examples=2**62)),
    "huge values": ("invalid-values", huge_values),
    "more metrics than anybody keeps": ("too-large", lambda r: with_metrics(r, num_examples=1, loss=[0.0] * 20_000)),
    "a name without end": ("too-large", lambda r: with_metrics(r, **{"num_examples": 1, "x" * 300: 1.0})),
    "settings without end": ("too-large", lambda r: with_settings(r, bytes(1 << 20))),
    "a record's name without end": ("too-large", lambda r: with_settings(r, 0, name="x" * (1 << 20))),
    "metrics' name without end": ("too-large", lambda r: renamed(r, "metrics", "x" * (1 << 20))),
    "infinite metric": ("invalid-values", lambda r: with_metrics(r, num_examples=1, loss=float("inf"))),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_reply_is_refused_and_the_round_goes_on(attack):
    reason, change = ATTACKS[attack]
    limits = fedcomp.FrameLimits(max_frame_bytes=50_000)
    strategy, rounds = compressed(codec="lossless", limits=limits)
    result = run_rounds(strategy, toy_client(tamper({VICTIM}, lambda reply, _: change(reply))))
    assert dict(rounds[0].rejected) == {reason: 1}
    assert (rounds[0].accepted, rounds[0].failed) == (3, 0)
    assert str(reason) in rounds[0].complaints[0]
    assert_model(result.arrays, {name: MODEL[name] + v for name, v in mean_update(HONEST).items()})


def plain(reply, **changes):
    return with_arrays(reply, to_array_record(MODEL | changes))


def with_header(reply, claim):
    header = b"\x93NUMPY\x01\x00\x76\x00" + claim.encode().ljust(117) + b"\n"
    record = to_array_record(MODEL)
    record["weight"] = Array("float32", (8, 5), "numpy.ndarray", header)
    return with_arrays(reply, record)


PLAIN_ATTACKS = {
    "NaN": ("invalid-values", lambda r: plain(r, bias=np.float32([0, np.nan, 0]))),
    "infinity": ("invalid-values", lambda r: plain(r, bias=np.float32([0, np.inf, 0]))),
    "shape": ("wrong-model", lambda r: plain(r, bias=np.zeros(4, np.float32))),
    "type": ("wrong-model", lambda r: plain(r, bias=np.zeros(3, np.complex64))),
    "beyond float32": ("invalid-values", lambda r: plain(r, bias=np.float64([0, 1e300, 0]))),
    "NaN of another width": ("invalid-values", lambda r: plain(r, bias=np.float16([0, np.nan, 0]))),
    "half a count": ("invalid-values", lambda r: plain(r, counter=np.array(9.5))),
    "an infinite count": ("invalid-values", lambda r: plain(r, counter=np.array(np.inf))),
    "names": ("wrong-model", lambda r: plain(r, extra=np.zeros(3))),
    "long": ("too-large", lambda r: plain(r, bias=np.zeros(4000, np.float32))),
    "pickle": ("wrong-model", lambda r: with_header(r, "{'descr': '|O', 'fortran_order': False, 'shape': (8, 5), }")),
    "header claims much": (
        "wrong-model",
        lambda r: with_header(r, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }"),
    ),
    "broken header": ("wrong-model", lambda r: with_header(r, "{'descr': ")),
    "a frame": ("wrong-model", lambda r: with_frame(r, b"fcz")),
}


@pytest.mark.parametrize("attack", PLAIN_ATTACKS)
def test_plain_replies_are_checked_as_well(attack):
    reason, change = PLAIN_ATTACKS[attack]
    strategy, rounds = compressed(codec="none")
    result = run_rounds(strategy, toy_client(tamper({VICTIM}, lambda reply, _: change(reply))))
    assert dict(rounds[0].rejected) == {reason: 1}
    assert_model(result.arrays, {name: MODEL[name] + v for name, v in mean_update(HONEST).items()})


def test_what_is_refused_of_a_plain_reply_is_said_as_the_array_says_it_in_one_line():
    def lie(reply):
        record = to_array_record(MODEL)
        record["weight"] = Array("float\n\x1b[2J", (7, 5) * 9999, "numpy.ndarray", b"\x93NUMPY")
        return with_arrays(reply, record)

    honest = tamper({VICTIM}, lambda reply, _: plain(reply, weight=np.zeros((4, 3), np.float32)))
    for client, found in (
        (honest, "'numpy.ndarray' of type 'float32' and shape (4, 3); expected a NumPy array of type float32"),
        (tamper({VICTIM}, lambda reply, _: lie(reply)), r"of type 'float\n\x1b[2J' and shape (7, 5, 7"),
    ):
        strategy, rounds = compressed(codec="none")
        run_rounds(strategy, toy_client(client))
        (complaint,) = rounds[0].complaints
        assert found in complaint
        assert complaint.isprintable()
        assert complaint.endswith("and shape (8, 5)")


def test_replayed_frames_of_an_earlier_round_and_of_another_client_are_stale():
    kept = {}

    def replay_round(reply, context):
        kept.setdefault("round 1", frame_of(reply))
        return with_frame(reply, kept["round 1"])

    strategy, rounds = compressed(codec="lossless")
    run_rounds(strategy, toy_client(tamper({VICTIM}, replay_round)), num_rounds=2)
    assert [dict(r.rejected) for r in rounds] == [{}, {"stale": 1}]

    def steal(reply, context):
        kept.setdefault("client 0", frame_of(reply))
        return with_frame(reply, kept["client 0"])

    strategy, rounds = compressed(codec="lossless")
    run_rounds(strategy, toy_client(tamper({0, VICTIM}, steal)))
    assert dict(rounds[0].rejected) == {"stale": 1}


def test_second_and_uninvited_replies_do_not_count():
    def again_and_a_stranger(reply, _):
        return reply, Message(reply.content, reply_to=Message(reply.content, 999, "train"))

    strategy, rounds = compressed(codec="lossless")
    result = run_rounds(strategy, toy_client(), on_grid=with_replies(again_and_a_stranger))
    assert dict(rounds[0].rejected) == {"replayed": 4, "uninvited": 4}
    assert (rounds[0].accepted, rounds[0].failed) == (4, 0)
    assert_model(result.arrays, {name: MODEL[name] + v for name, v in mean_update(range(4)).items()})


def test_a_stranger_can_not_say_that_it_lost_a_model():
    def lie(reply, message):
        error = to_error(LostModel("gone"))
        return Message(error, reply_to=Message(RecordDict(), 999, "train")), Message(error, reply_to=message)

    strategy, rounds = compressed(codec="lossless", downlink="q4", initial=MODEL)
    run_rounds(strategy, toy_client(initial=lambda message, context: MODEL), on_grid=with_replies(lie), num_rounds=2)
    assert [dict(each.rejected) for each in rounds] == [{}, {}]
    assert strategy.downlink._held.holders().keys() == strategy._acknowledged.keys()


def test_a_round_whose_model_is_not_finite_changes_nothing():
    def diverge(server_round, weights):
        return {**weights, "weight": np.full_like(weights["weight"], np.nan)} if server_round == 1 else weights

    strategy, rounds = compressed(toy_inner(FedAvgM), codec="lossless", refine=diverge)
    result = run_rounds(strategy, toy_client(), num_rounds=2)
    assert [each.skipped for each in rounds] == [True, False]
    assert "not finite" in rounds[0].complaints[0]
    assert all(np.isfinite(values).all() for values in to_model(result.arrays).values())


def test_an_update_refused_for_its_values_is_forgotten():
    """Error feedback keeps what was lost; kept, this one would be in all later updates, and be refused with them."""

    def diverge_once(message, context, call_next):
        reply = call_next(message, context)
        if context.node_config["partition-id"] == VICTIM and message.content["config"]["server-round"] == 2:
            reply.content["arrays"] = to_array_record(MODEL | {"weight": np.full((8, 5), 1000, np.float32)})
        return reply

    for codec in ("topk(density=0.5) | ternary", "lossless"):
        strategy, rounds = compressed(codec=codec, limits=fedcomp.FrameLimits(max_norm=100.0))
        run_rounds(strategy, toy_client(inner_mods=[diverge_once]), num_rounds=4)
        assert [each.accepted for each in rounds] == [4, 3, 4, 4]
        assert dict(rounds[1].rejected) == {"invalid-values": 1}


def test_norm_cap_refuses_a_boosted_update():
    limits = fedcomp.FrameLimits(max_norm=50.0)
    boost = 1000 * np.ones((8, 5), np.float32)

    def shout(message, context, call_next):
        reply = call_next(message, context)
        if context.node_config["partition-id"] == VICTIM:
            reply.content["arrays"] = to_array_record(MODEL | {"weight": boost})
        return reply

    app = toy_client(inner_mods=[shout])
    for codec in ("lossless", "none"):
        strategy, rounds = compressed(codec=codec, limits=limits)
        run_rounds(strategy, app)
        assert dict(rounds[0].rejected) == {"invalid-values": 1}


def test_a_flaw_in_a_check_costs_one_update_only(monkeypatch):
    def flawed(reply, weighted_by):
        metrics = reply.content["metrics"]
        if metrics["num-examples"] == VICTIM + 1:
            raise ZeroDivisionError("a bug")
        return metrics, float(metrics["num-examples"])

    monkeypatch.setattr("fedcomp.flower.server.screening.check_metrics", flawed)
    strategy, rounds = compressed(codec="lossless")
    result = run_rounds(strategy, toy_client())
    assert dict(rounds[0].rejected) == {"unexpected": 1}
    assert_model(result.arrays, {name: MODEL[name] + v for name, v in mean_update(HONEST).items()})


def test_failing_clients_are_counted_and_named():
    def die(message, context, call_next):
        partition = context.node_config["partition-id"]
        if partition == 0:
            raise RuntimeError("disk full")
        reply = call_next(message, context)
        return Message(Error(0, "gave up"), reply_to=message) if partition == 1 else reply

    strategy, rounds = compressed()
    run_rounds(strategy, toy_client(die))
    assert (rounds[0].accepted, rounds[0].failed, rounds[0].rejected.total()) == (2, 2, 0)
    assert any("disk full" in complaint for complaint in rounds[0].complaints)


def test_what_a_client_says_can_neither_forge_a_line_nor_steer_a_terminal_nor_be_endless(caplog):
    says = "disk full\n2026-01-01 INFO client 1 was accepted\x1b[2J\u202e" + "x" * 100_000

    def lie(message, context, call_next):
        partition = context.node_config["partition-id"]
        codes = {0: 0, 1: 1001}  # an app's own error; and the one by which clients say that they lost their model
        if partition in codes:
            return Message(Error(codes[partition], f"lost-model: {says}"), reply_to=message)
        return call_next(message, context)

    strategy, rounds = compressed()
    with caplog.at_level("WARNING", "flwr"):
        run_rounds(strategy, toy_client(lie))
    records = [record for record in caplog.records if hasattr(record, "client")]
    assert sorted((record.round, str(record.reason)) for record in records) == [(1, "None"), (1, "lost-model")]
    logged = [record.getMessage() for record in records]
    assert logged == rounds[0].complaints
    assert all(str(record.client) in line for record, line in zip(records, logged, strict=True))
    assert all(line.isprintable() and len(line) <= 500 and r"disk full\n2026" in line for line in logged)


@pytest.mark.parametrize("kind", [None, FedMedian])
def test_a_round_without_enough_updates_changes_nothing(kind):
    inner = toy_inner(kind) if kind else toy_inner()
    strategy, rounds = compressed(inner, min_replies=3)
    result = run_rounds(strategy, toy_client(tamper({0, 1}, lambda reply, _: with_frame(reply, b""))))
    assert rounds[0].accepted == 2
    assert not result.arrays
    strategy, rounds = compressed(toy_inner(kind) if kind else toy_inner())
    everyone = tamper(set(range(4)), lambda reply, _: with_frame(reply, b""))
    result = run_rounds(strategy, toy_client(everyone), num_rounds=2)
    assert [r.rejected.total() for r in rounds] == [4, 4]
    assert not result.arrays


def test_a_client_without_the_mod_is_told_what_is_missing():
    strategy, rounds = compressed()
    run_rounds(strategy, toy_client(with_mod=False))
    assert dict(rounds[0].rejected) == {"malformed": 4}
    assert "compression_mod()" in rounds[0].complaints[0]


def test_so_it_is_where_it_can_not_read_the_model():
    strategy, rounds = compressed(downlink="thin")
    run_rounds(strategy, toy_client(with_mod=False))
    assert rounds[0].failed == 4
    assert "is compression_mod() the first of the ClientApp's mods?" in rounds[0].complaints[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda reply: with_metrics(reply, num_examples=3, surprise=1.0),
        lambda reply: renamed(reply, "metrics", "m"),
    ],
)
def test_odd_metrics_do_not_end_the_round(change):
    odd = tamper({VICTIM}, lambda reply, _: change(reply))
    for inner, refused in ((toy_inner(), {}), (toy_inner(FedMedian), {"inconsistent": 1})):
        strategy, rounds = compressed(inner, codec="lossless")
        result = run_rounds(strategy, toy_client(odd))
        assert result.arrays
        assert (rounds[0].accepted, rounds[0].rejected) == (4 - len(refused), refused)
        assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(np.average([0, 1, 3], weights=[1, 2, 4]))


def test_an_odd_name_of_the_arrays_does_not_end_the_round():
    odd = tamper({VICTIM}, lambda reply, _: renamed(reply, "arrays", "a"))
    strategy, _ = compressed(toy_inner(FedMedian), codec="lossless")
    assert run_rounds(strategy, toy_client(odd)).arrays
