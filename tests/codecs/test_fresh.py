"""Relative steps and thresholds are taken from what is new, not from the residual that lies on it."""

import numpy as np
import pytest

import fedcomp
from fedcomp.codecs import decode_update


def rounds(codec, num_rounds, *, tell):
    """Return the bytes of each round of one client with error feedback; every fresh update has the same rms."""
    rng, feedback, residual, sizes = np.random.default_rng(0), fedcomp.ErrorFeedback(), None, []
    for _ in range(num_rounds):
        delta = {"w": rng.laplace(size=20_000).astype(np.float32)}
        total = feedback.compensate(delta, residual)
        frame = codec.encode(total, fresh=delta if tell else None).frame
        residual = feedback.residual(total, fedcomp.decode(frame, fedcomp.ModelSpec.of(delta)))
        sizes.append(len(frame))
    return sizes


@pytest.mark.parametrize("text", ["deadzone(step=4, zone=0.35)", "threshold(sigmas=5) | ternary"])
def test_the_rate_does_not_collapse(text):
    codec = fedcomp.codec(text)
    with_fresh, without = rounds(codec, 25, tell=True), rounds(codec, 25, tell=False)
    assert with_fresh[0] == without[0]
    assert np.mean(with_fresh[-5:]) > 2 * np.mean(without[-5:])
    assert np.mean(with_fresh[-5:]) > np.mean(with_fresh[5:10]) * 0.7


def test_thresholds_are_multiples_of_the_fresh_rms():
    rng = np.random.default_rng(1)
    fresh, residual = rng.normal(size=5000), 3 * rng.normal(size=5000)
    total = {"w": (fresh + residual).astype(np.float32)}
    spec = fedcomp.ModelSpec.of(total)
    frame = fedcomp.codec("threshold(sigmas=6) | float32").encode(total, fresh={"w": fresh}).frame
    kept = decode_update(frame, spec).positions
    np.testing.assert_array_equal(kept, np.flatnonzero(np.abs(total["w"]) >= 6 * np.sqrt(np.mean(fresh**2))))


@pytest.mark.parametrize("fresh", [np.zeros(100), np.full(100, 1e-30)])
def test_an_update_with_nothing_new_in_it_is_sent_all_the_same(fresh):
    total = {"w": np.linspace(-1, 1, 100, dtype=np.float32)}
    frame = fedcomp.codec("deadzone(step=1)").encode(total, fresh={"w": fresh}).frame
    decoded = fedcomp.decode(frame, fedcomp.ModelSpec.of(total))["w"]
    assert np.square(decoded - total["w"]).sum() < np.square(total["w"]).sum() / 2
