"""Error feedback over rounds: nothing is lost and nothing comes twice, whatever happens to an update."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from fedcomp.flower import to_model
from tests.flower.toy import MODEL, compressed, local_update, run_rounds, tamper, toy_client, toy_inner

CODEC = "topk(density=0.2) | uniform(bits=8)"
NUM_ROUNDS = 6


def received(updates):
    """Collect what the server decoded of each client: a hook and the sums it fills."""
    return lambda _round, accepted: updates.append(accepted.update.to_delta())


def run(*outer_mods, decay=1.0, num_rounds=NUM_ROUNDS, codec=CODEC, momentum=0.0):
    """Run one client and return the sum of what the server took, and what its client sent in total."""
    taken, states = [], []

    def watch(message, context, call_next):
        reply = call_next(message, context)
        states.append(to_model(context.state["fedcomp.total"]) if "fedcomp.total" in context.state else None)
        return reply

    strategy, rounds = compressed(
        toy_inner(num_nodes=1),
        codec=codec,
        residual_decay=decay,
        momentum_correction=momentum,
        on_update=received(taken),
    )
    run_rounds(strategy, toy_client(*outer_mods, watch), num_nodes=1, num_rounds=num_rounds)
    return taken, states, rounds


def fresh_sum(rounds):
    return sum(local_update(0, r)["weight"].astype(np.float64) for r in rounds)


def test_what_was_taken_and_what_is_left_is_all_there_was():
    taken, states, _ = run()
    left = states[-1]["weight"] - taken[-1]["weight"]
    np.testing.assert_allclose(sum(t["weight"] for t in taken) + left, fresh_sum(range(1, 7)), atol=1e-5)
    assert np.abs(left).max() > 0


@pytest.mark.parametrize("lost_round", [1, 3])
@pytest.mark.parametrize("how", ["refused", "lost"])
def test_a_refused_or_lost_update_loses_nothing_and_doubles_nothing(lost_round, how):
    calls = []

    def spoil(reply, context):
        calls.append(1)
        if len(calls) != lost_round:
            return reply
        if how == "lost":
            return Message(Error(0, "the line went dead"), reply_to=_as_request(reply))
        (array,) = next(iter(reply.content.array_records.values())).values()
        array.data = array.data[:-1] + b"?"
        return reply

    taken, states, rounds = run(tamper({0}, spoil))
    assert len(taken) == NUM_ROUNDS - 1
    assert rounds[lost_round - 1].accepted == 0
    left = states[-1]["weight"] - taken[-1]["weight"]
    np.testing.assert_allclose(sum(t["weight"] for t in taken) + left, fresh_sum(range(1, 7)), atol=1e-5)


def test_decay_forgets_and_zero_keeps_no_state():
    _, states, _ = run(decay=0.0)
    assert states == [None] * NUM_ROUNDS
    taken, states, _ = run(decay=0.5, num_rounds=2)
    expected = local_update(0, 2)["weight"] + 0.5 * (local_update(0, 1)["weight"] - taken[0]["weight"])
    np.testing.assert_allclose(states[1]["weight"], expected, atol=1e-6)
    assert states[1]["weight"].shape == MODEL["weight"].shape


def flat(update):
    return np.concatenate([update["weight"].ravel(), update["bias"]]).astype(np.float64)


@pytest.mark.parametrize("lost_round", [None, 2])
@pytest.mark.parametrize("decay", [1.0, 0.0])
def test_momentum_correction_is_that_of_the_paper(decay, lost_round):
    """DGC's algorithm in plain NumPy, sent losslessly: velocity and residual start again where something was taken."""
    calls = []

    def lose(reply, context):
        calls.append(1)
        if len(calls) == lost_round:
            return Message(Error(0, "the line went dead"), reply_to=_as_request(reply))
        return reply

    taken, _, _ = run(tamper({0}, lose), codec="topk(density=0.2) | float32", decay=decay, momentum=0.9)
    velocity, residual, expected = np.zeros(43), np.zeros(43), []
    for server_round in range(1, NUM_ROUNDS + 1):
        velocity = 0.9 * velocity + flat(local_update(0, server_round))
        total = velocity + decay * residual
        mask = np.abs(total) >= np.sort(np.abs(total))[-9]  # a fifth of 43
        residual = total
        if server_round != lost_round:
            expected.append(total * mask)
            residual, velocity = total * ~mask, velocity * ~mask
    for found, wanted in zip(taken, expected, strict=True):
        np.testing.assert_allclose(flat(found), wanted, atol=1e-5)


def test_a_codec_with_a_warm_start_finds_its_last_frame_without_feedback():
    """With the same update each round, low rank closes in on it only if it goes on from the last factors."""

    def same_update(message, context, call_next):
        message.content["config"]["server-round"] = 1
        return call_next(message, context)

    taken = []
    strategy, _ = compressed(
        toy_inner(num_nodes=1), codec="lowrank(rank=1) | float32", residual_decay=0.0, on_update=received(taken)
    )
    run_rounds(strategy, toy_client(inner_mods=[same_update]), num_nodes=1, num_rounds=8)
    wanted = local_update(0, 1)["weight"]
    errors = [np.square(update["weight"] - wanted).sum() for update in taken]
    singular = np.linalg.svd(wanted, compute_uv=False)
    assert errors[0] > errors[-1]
    assert errors[-1] == pytest.approx(np.square(singular[1:]).sum(), rel=0.02)


def _as_request(reply):
    """Turn a reply around, so that the reply to it comes from the client."""
    return Message(reply.content, reply_to=reply)


def test_an_app_that_sets_its_state_anew_drops_neither_the_model_nor_what_is_owed():
    def set_state_anew(message, context, call_next):
        reply = call_next(message, context)
        context.state = RecordDict({"mine": ConfigRecord({"round": message.content["config"]["server-round"]})})
        return reply

    results = []
    for mods in ([], [set_state_anew]):
        strategy, rounds = compressed(codec="topk(density=0.2) | uniform(bits=4)", downlink="lossless")
        arrays = run_rounds(strategy, toy_client(inner_mods=mods), num_rounds=4).arrays
        results.append((to_model(arrays), [one.downlink_bytes for one in rounds]))
    (expected, expected_bytes), (found, found_bytes) = results
    assert found_bytes == expected_bytes
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
