"""With keys, an update counts only as a known client sealed it: for this moment, these metrics, this model."""

import stat

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord

import fedcomp
from fedcomp.errors import UsageError
from fedcomp.flower import CompressedStrategy, FrameKey, FrameKeys, to_array_record, to_model
from tests.flower.toy import (
    MODEL,
    assert_model,
    compressed,
    frame_of,
    mean_update,
    run_rounds,
    tamper,
    toy_client,
    toy_inner,
    with_frame,
)

VICTIM = 2
HONEST = (0, 1, 3)


@pytest.fixture
def keys(tmp_path):
    found = FrameKeys(tmp_path)
    for partition in range(5):
        found.issue(f"client-{partition}")
    return found


def keyed(tmp_path, **names):
    """Make a mod that gives each client its key's file; `names` are those of others than client-PARTITION."""

    def mod(message, context, call_next):
        partition = context.node_config["partition-id"]
        name = names.get(f"p{partition}", f"client-{partition}")
        if name:
            context.node_config["frame-key"] = str(tmp_path / f"{name}.key")
        return call_next(message, context)

    return mod


@pytest.mark.parametrize("codec", ["lossless", "thin", "topk(density=0.5) | ternary"])
@pytest.mark.parametrize("downlink", ["none", "lossless"])
def test_sealed_updates_count_as_they_would_without(tmp_path, keys, codec, downlink):
    sealed, rounds = compressed(codec=codec, downlink=downlink, authenticate=keys)
    result = run_rounds(sealed, toy_client(keyed(tmp_path)), num_rounds=3)
    plain, plain_rounds = compressed(codec=codec, downlink=downlink)
    expected = run_rounds(plain, toy_client(), num_rounds=3)
    assert [(r.accepted, r.rejected.total()) for r in rounds] == [(4, 0)] * 3
    for name, values in to_model(expected.arrays).items():
        np.testing.assert_array_equal(to_model(result.arrays)[name], values)
    added = [r.uplink_bytes - p.uplink_bytes for r, p in zip(rounds, plain_rounds, strict=True)]
    assert added == [4 * (len("client-0") + 33)] * 3


def flip(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def other_weight(reply):
    metrics = dict(reply.content["metrics"])
    reply.content["metrics"] = MetricRecord(metrics | {"num-examples": 1000})
    return reply


FORGERIES = {
    "no tag": lambda r: with_frame(r, frame_of(r)[: -33 - len("client-2")]),
    "a changed frame": lambda r: with_frame(r, flip(frame_of(r), 20)),
    "a changed tag": lambda r: with_frame(r, flip(frame_of(r), -2)),
    "another weight": other_weight,
    "another name": lambda r: with_frame(r, frame_of(r).replace(b"client-2", b"client-3")),
    "a name that nobody has": lambda r: with_frame(r, frame_of(r).replace(b"client-2", b"client-9")),
    "a name that is a path": lambda r: with_frame(r, frame_of(r).replace(b"client-2", b"../../ab")),
    "nothing": lambda r: with_frame(r, b""),
    "only a length": lambda r: with_frame(r, b"\xff"),
    "noise": lambda r: with_frame(r, np.random.default_rng(0).bytes(300)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_a_relay_changes_is_refused(tmp_path, keys, forgery):
    strategy, rounds = compressed(codec="lossless", authenticate=keys)
    relay = tamper({VICTIM}, lambda reply, _: FORGERIES[forgery](reply))
    result = run_rounds(strategy, toy_client(relay, keyed(tmp_path)))
    assert dict(rounds[0].rejected) == {"unauthenticated": 1}
    assert_model(result.arrays, {name: MODEL[name] + v for name, v in mean_update(HONEST).items()})


def test_a_relay_can_make_a_frame_that_fits_but_not_its_tag(tmp_path, keys):
    """All that a frame is bound to is known to a relay; without keys it passes."""

    def forge(message, context, call_next):
        order = ConfigRecord(dict(message.content["fedcomp"]))
        base = to_model(next(iter(message.content.array_records.values())))
        reply = call_next(message, context)
        if context.node_config["partition-id"] == VICTIM:
            moment = fedcomp.CodingContext(
                run=order["lineage"],
                sender=str(message.metadata.dst_node_id),
                round=order["round"],
                base=fedcomp.types.fingerprint_model(base),
            )
            poison = {name: 100 * np.ones_like(values) for name, values in base.items()}
            with_frame(reply, fedcomp.codec("lossless").encode(poison, context=moment).frame)
        return reply

    for authenticate, reasons in ((None, {}), (keys, {"unauthenticated": 1})):
        strategy, rounds = compressed(codec="lossless", authenticate=authenticate)
        run_rounds(strategy, toy_client(forge, keyed(tmp_path)))
        assert dict(rounds[0].rejected) == reasons


def test_a_replay_and_another_clients_update_are_refused(tmp_path, keys):
    kept = {}

    def replay(reply, context):
        return with_frame(reply, kept.setdefault(context.node_config["partition-id"], frame_of(reply)))

    strategy, rounds = compressed(codec="lossless", authenticate=keys)
    run_rounds(strategy, toy_client(tamper({VICTIM}, replay), keyed(tmp_path)), num_rounds=2)
    assert [dict(r.rejected) for r in rounds] == [{}, {"unauthenticated": 1}]

    def swap(reply, context):
        return with_frame(reply, kept.setdefault("first", frame_of(reply)))

    strategy, rounds = compressed(codec="lossless", authenticate=keys)
    run_rounds(strategy, toy_client(tamper({0, VICTIM}, swap), keyed(tmp_path)))
    assert dict(rounds[0].rejected) == {"unauthenticated": 1}


def test_an_update_of_another_model_or_order_than_the_servers_is_refused(tmp_path, keys):
    def another_model(message, context, call_next):
        if context.node_config["partition-id"] == VICTIM:
            message.content["arrays"] = to_array_record({n: v + v.dtype.type(1) for n, v in MODEL.items()})
        return call_next(message, context)

    def another_order(message, context, call_next):
        if context.node_config["partition-id"] == VICTIM:
            message.content["fedcomp"]["residual_decay"] = 0.0
        return call_next(message, context)

    for relay in (another_model, another_order):
        strategy, rounds = compressed(codec="lossless", authenticate=keys)
        run_rounds(strategy, toy_client(relay, keyed(tmp_path)))
        assert dict(rounds[0].rejected) == {"unauthenticated": 1}


def test_one_key_is_one_update_a_round(tmp_path, keys):
    strategy, rounds = compressed(codec="lossless", authenticate=keys)
    run_rounds(strategy, toy_client(keyed(tmp_path, p2="client-0")), num_rounds=2)
    assert [dict(r.rejected) for r in rounds] == [{"replayed": 1}] * 2


def test_a_key_is_revoked_with_its_file(tmp_path, keys):
    secret = (tmp_path / "client-2.key").read_text()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "client-2.key").write_text(secret)
    (tmp_path / "client-2.key").unlink()
    strategy, rounds = compressed(codec="lossless", authenticate=keys)
    run_rounds(strategy, toy_client(keyed(tmp_path, p2="elsewhere/client-2")))
    assert dict(rounds[0].rejected) == {"unauthenticated": 1}
    assert not any(secret.strip()[-64:] in complaint for complaint in rounds[0].complaints)


@pytest.mark.parametrize(("name", "complaint"), [("", "no frame-key"), ("client-9", "client-9.key: No such file")])
def test_a_client_without_a_key_says_so(tmp_path, keys, name, complaint):
    strategy, rounds = compressed(codec="lossless", authenticate=keys)
    run_rounds(strategy, toy_client(keyed(tmp_path, p2=name)))
    assert (rounds[0].accepted, rounds[0].failed, rounds[0].rejected.total()) == (3, 1, 0)
    assert complaint in rounds[0].complaints[0]


def test_a_key_that_nobody_asks_for_does_nothing(tmp_path, keys):
    strategy, rounds = compressed(codec="lossless")
    run_rounds(strategy, toy_client(keyed(tmp_path)))
    assert rounds[0].accepted == 4


def test_budgets_hold_with_the_tag(tmp_path, keys):
    strategy, rounds = compressed(codec="topk(density=0.5) | ternary", authenticate=keys, uplink_budget=160)
    run_rounds(strategy, toy_client(keyed(tmp_path)))
    assert (rounds[0].accepted, rounds[0].rejected.total()) == (4, 0)
    assert rounds[0].uplink_bytes <= 4 * 160


def test_a_budget_that_the_tag_alone_fills_is_an_error_that_says_so(tmp_path, keys):
    strategy, rounds = compressed(codec="topk(density=0.5) | ternary", authenticate=keys, uplink_budget=30)
    run_rounds(strategy, toy_client(keyed(tmp_path)))
    assert (rounds[0].accepted, rounds[0].failed) == (0, 4)
    assert "30 bytes are too small a budget: the seal behind a frame has" in rounds[0].complaints[0]


def test_keys_are_files_that_others_can_not_read(tmp_path):
    keys = FrameKeys(tmp_path)
    path = keys.issue("a.b_c-9")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = FrameKey.read(path)
    assert (key.name, len(key.secret)) == ("a.b_c-9", 32)
    assert keys.find("a.b_c-9") == key != FrameKey.read(keys.issue("other"))
    assert key.secret.hex() not in repr(key)
    before = path.read_text()
    with pytest.raises(UsageError, match="never overwritten"):
        keys.issue("a.b_c-9")
    assert path.read_text() == before
    for bad in ("", ".hidden", "-x", "a/b", "a" * 65, "ä", "a\n"):
        with pytest.raises(UsageError, match="can not name"):
            keys.issue(bad)


@pytest.mark.parametrize("content", [b"", b"client-0", b"client-0:abcd\n", b"client-0:" + b"z" * 64, b"\xff" * 80])
def test_files_that_hold_no_key(tmp_path, content):
    path = tmp_path / "client-0.key"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"client-0\.key") as caught:
        FrameKey.read(path)
    assert "abcd" not in str(caught.value)


def test_impossible_keys(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        FrameKeys(tmp_path / "none")
    with pytest.raises(UsageError, match="lossless"):
        CompressedStrategy(toy_inner(), codec="none", authenticate=FrameKeys(tmp_path))
