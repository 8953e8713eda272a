"""Robust and private strategies inside, privacy mods at the clients, and clipping: what each is given and may trust."""

import numpy as np
import pytest
from flwr.clientapp.mod import LocalDpMod, adaptiveclipping_mod, fixedclipping_mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedMedian,
    FedTrimmedAvg,
    Krum,
    MultiKrum,
)

from fedcomp.errors import UsageError
from fedcomp.flower import CompressedStrategy, to_array_record, to_model
from fedcomp.wire import FrameLimits
from tests.flower.toy import MODEL, compressed, local_update, run_rounds, toy_client, toy_inner

FLOATS = {name: MODEL[name] for name in ("weight", "bias")}
"""Flower's privacy functions can not take integers."""
ATTACKER, HONEST = 2, (0, 1, 3)
COARSE = "lowrank(rank=1) | deadzone(step=2.0)"


def norm_of(update):
    return float(np.sqrt(sum(np.square(values, dtype=np.float64).sum() for values in update.values())))


def updates(partitions=range(4), server_round=1):
    return [{name: local_update(p, server_round)[name] for name in FLOATS} for p in partitions]


def boost(message, context, call_next):
    """Send the update times a thousand, the other way."""
    base = to_model(next(iter(message.content.array_records.values())))
    reply = call_next(message, context)
    if context.node_config["partition-id"] == ATTACKER:
        local = to_model(reply.content["arrays"])
        reply.content["arrays"] = to_array_record({n: base[n] - 1000 * (local[n] - base[n]) for n in base})
    return reply


def mean_of(models, weights):
    return {name: np.average([model[name] for model in models], axis=0, weights=weights) for name in FLOATS}


def moved(result, model=FLOATS):
    return {name: to_model(result.arrays)[name] - values for name, values in model.items()}


def assert_close(found, expected):
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


ROBUST = {
    "Krum": lambda: toy_inner(Krum, num_malicious_nodes=1),
    "MultiKrum": lambda: toy_inner(MultiKrum, num_malicious_nodes=1, num_nodes_to_select=2),
    "FedMedian": lambda: toy_inner(FedMedian),
    "FedTrimmedAvg": lambda: toy_inner(FedTrimmedAvg, beta=0.3),
}


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("codec", ["lossless", "thin"])
def test_robust_strategies_resist_inside_as_they_do_alone(name, codec):
    client = toy_client(inner_mods=[boost])
    honest = [norm_of(update) for update in updates(HONEST)]
    result = run_rounds(compressed(ROBUST[name](), codec=codec)[0], client, model=FLOATS)
    assert norm_of(moved(result)) < 2 * max(honest)
    mean = run_rounds(compressed(codec=codec)[0], client, model=FLOATS)
    assert norm_of(moved(mean)) > 50 * max(honest)


def clipped_to(update, norm):
    factor = min(1.0, norm / norm_of(update))
    return {name: values * factor for name, values in update.items()}


def test_clipping_at_the_server_is_that_of_decoded_updates():
    inner = DifferentialPrivacyServerSideFixedClipping(
        toy_inner(), noise_multiplier=0.0, clipping_norm=1.0, num_sampled_clients=4
    )
    result = run_rounds(compressed(inner, codec="lossless")[0], toy_client(inner_mods=[boost]), model=FLOATS)
    sent = updates()
    sent[ATTACKER] = {name: -1000 * values for name, values in sent[ATTACKER].items()}
    assert_close(moved(result), mean_of([clipped_to(update, 1.0) for update in sent], [1, 2, 3, 4]))


def test_noise_of_the_server_is_added_behind_decoding():
    inner = DifferentialPrivacyServerSideFixedClipping(
        toy_inner(), noise_multiplier=40.0, clipping_norm=1.0, num_sampled_clients=4
    )
    result = run_rounds(compressed(inner)[0], toy_client(), model=FLOATS)
    assert 5 * np.sqrt(43) < norm_of(moved(result)) < 20 * np.sqrt(43)  # a standard deviation of 10 for each of 43


def test_adaptive_clipping_at_the_server_works_inside():
    inner = DifferentialPrivacyServerSideAdaptiveClipping(
        toy_inner(), noise_multiplier=0.0, num_sampled_clients=4, clipped_count_stddev=0.0
    )
    strategy, rounds = compressed(inner)
    run_rounds(strategy, toy_client(), num_rounds=3, model=FLOATS)
    assert inner.clipping_norm != 0.1
    assert [r.accepted for r in rounds] == [4, 4, 4]


def test_error_feedback_would_exceed_what_clients_clip_to_and_is_clipped_again():
    def inner():
        return DifferentialPrivacyClientSideFixedClipping(
            toy_inner(), noise_multiplier=0.0, clipping_norm=1.0, num_sampled_clients=4
        )

    norms = []
    strategy, rounds = compressed(
        inner(), codec=COARSE, on_update=lambda _, accepted: norms.append(accepted.update.norm())
    )
    result = run_rounds(strategy, toy_client(inner_mods=[fixedclipping_mod]), num_rounds=6, model=FLOATS)
    assert [r.accepted for r in rounds] == [4] * 6
    assert sum(r.clipped for r in rounds) > 0
    assert max(norms) <= 1 + 1e-6
    assert norm_of(moved(result)) <= 6 + 1e-5


def test_adaptive_clipping_at_the_clients_works_inside():
    inner = DifferentialPrivacyClientSideAdaptiveClipping(
        toy_inner(), noise_multiplier=0.0, num_sampled_clients=4, clipped_count_stddev=0.0
    )
    norms = []  # each with what clients were told to clip to
    strategy, rounds = compressed(inner, on_update=lambda _, a: norms.append((a.update.norm(), inner.clipping_norm)))
    run_rounds(strategy, toy_client(inner_mods=[adaptiveclipping_mod]), num_rounds=3, model=FLOATS)
    assert [r.accepted for r in rounds] == [4, 4, 4]
    assert all(norm <= limit * (1 + 1e-6) for norm, limit in norms)
    assert inner.clipping_norm != 0.1


def local_noise(sensitivity):
    return LocalDpMod(clipping_norm=1.0, sensitivity=sensitivity, epsilon=1.0, delta=1e-5)


@pytest.mark.parametrize("codec", ["lossless", "thin"])
@pytest.mark.parametrize(("sensitivity", "low", "high"), [(0.0, 0.5, 1.001), (1.0, 10, 100)])
def test_what_is_coded_has_been_clipped_and_has_its_noise(codec, sensitivity, low, high):
    norms = []
    strategy, _ = compressed(codec=codec, on_update=lambda _, accepted: norms.append(accepted.update.norm()))
    run_rounds(strategy, toy_client(inner_mods=[local_noise(sensitivity)]), model=FLOATS)
    assert len(norms) == 4
    assert all(low < norm < high for norm in norms)


@pytest.mark.parametrize(
    ("mod", "inner"),
    [
        (local_noise(1.0), toy_inner),
        (
            fixedclipping_mod,
            lambda: DifferentialPrivacyClientSideFixedClipping(
                toy_inner(), noise_multiplier=0.0, clipping_norm=1.0, num_sampled_clients=4
            ),
        ),
    ],
)
@pytest.mark.parametrize("downlink", ["none", "thin"])
def test_in_the_wrong_order_nothing_leaves_without_its_noise(mod, inner, downlink):
    strategy, rounds = compressed(inner(), downlink=downlink)
    result = run_rounds(strategy, toy_client(mod), model=FLOATS)
    assert (rounds[0].accepted, rounds[0].failed, rounds[0].uplink_bytes) == (0, 4, 0)
    assert not result.arrays


@pytest.mark.parametrize("codec", ["lossless", "none", "thin", "topk(density=0.5) | float32"])
@pytest.mark.parametrize("kind", [None, FedMedian])
def test_a_long_update_is_scaled_down_and_counted(codec, kind):
    limit = 2 * max(norm_of(update) for update in updates(HONEST))
    norms = []
    strategy, rounds = compressed(
        toy_inner(kind) if kind else None,
        codec=codec,
        clip_update_norm=limit,
        on_update=lambda _, accepted: norms.append(accepted.update.norm()),
    )
    result = run_rounds(strategy, toy_client(inner_mods=[boost]), model=FLOATS)
    assert (rounds[0].accepted, rounds[0].clipped, rounds[0].rejected.total()) == (4, 1, 0)
    assert max(norms) == pytest.approx(limit, rel=1e-5)
    if codec in ("lossless", "none") and not kind:
        sent = updates()
        sent[ATTACKER] = {name: -1000 * values for name, values in sent[ATTACKER].items()}
        assert_close(moved(result), mean_of([clipped_to(update, limit) for update in sent], [1, 2, 3, 4]))


def test_counters_are_not_scaled():
    strategy, _ = compressed(codec="lossless", clip_update_norm=1e-3)
    result = run_rounds(strategy, toy_client())
    assert to_model(result.arrays)["counter"] == MODEL["counter"] + 2


def test_a_cap_above_the_norm_still_refuses():
    strategy, rounds = compressed(codec="lossless", clip_update_norm=100.0, limits=FrameLimits(max_norm=1000.0))
    run_rounds(strategy, toy_client(inner_mods=[boost]), model=FLOATS)
    assert (dict(rounds[0].rejected), rounds[0].clipped) == ({"invalid-values": 1}, 0)


@pytest.mark.parametrize("norm", [-1.0, float("inf"), float("nan")])
def test_impossible_norms_to_clip_to_are_refused(norm):
    with pytest.raises(UsageError, match="clip_update_norm"):
        CompressedStrategy(toy_inner(), clip_update_norm=norm)
