"""Budgets: never over, hardly under, and clear about what can not be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedcomp
from fedcomp.codecs.rate import fit_budget
from fedcomp.errors import UsageError

RNG = np.random.default_rng(0)
DELTA = {
    "w": (RNG.laplace(size=(200, 150)) * np.exp2(RNG.uniform(-4, 0, (200, 1)))).astype(np.float32),
    "b": RNG.normal(size=200).astype(np.float32),
}
SCALABLE = [
    "topk(density=0.01) | ternary",
    "keep(below=1000) | topk(density=0.01) | uniform(bits=4)",
    "threshold(sigmas=3) | deadzone(step=0.5)",
    "randk(density=0.01) | float16",
    "deadzone(step=1)",
    "lowrank(rank=8) | deadzone(step=1)",
]


@pytest.mark.parametrize("text", SCALABLE)
@pytest.mark.parametrize("budget", [1000, 1700, 3300])
def test_a_frame_lands_within_two_percent_under_its_budget(text, budget):
    encoded = fedcomp.codec(text).encode(DELTA, budget=budget, rng=np.random.default_rng(1))
    assert 0.98 * budget <= len(encoded.frame) <= budget
    assert encoded.ledger.total == len(encoded.frame)
    received = fedcomp.decode(encoded.frame, fedcomp.ModelSpec.of(DELTA), codec=fedcomp.codec(text))
    assert all(np.isfinite(values).all() for values in received.values())


@pytest.mark.parametrize("text", SCALABLE[-2:])
def test_more_bytes_are_less_error(text):
    errors = []
    for budget in (500, 1000, 2000, 4000):
        frame = fedcomp.codec(text).encode(DELTA, budget=budget).frame
        errors.append(np.square(fedcomp.decode(frame, fedcomp.ModelSpec.of(DELTA))["w"] - DELTA["w"]).sum())
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("text", SCALABLE)
def test_the_same_again_is_the_same(text):
    first, second = (
        fedcomp.codec(text).encode(DELTA, budget=2000, rng=np.random.default_rng(7)).frame for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("text", SCALABLE)
def test_a_budget_beyond_all_that_there_is_to_say_is_not_filled(text):
    encoded = fedcomp.codec(text).encode(DELTA, budget=10_000_000, rng=np.random.default_rng(1))
    assert len(encoded.frame) < 10_000_000
    nothing = {name: np.zeros_like(values) for name, values in DELTA.items()}
    assert len(fedcomp.codec(text).encode(nothing, budget=50_000, rng=np.random.default_rng(1)).frame) <= 50_000


@pytest.mark.parametrize(
    "text", ["deadzone(step=100000)", "threshold(sigmas=1000) | ternary", "topk(density=0.0000001) | ternary"]
)
def test_a_codec_that_says_nothing_at_first_fills_its_budget_too(text):
    assert 980 <= len(fedcomp.codec(text).encode(DELTA, budget=1000).frame) <= 1000


@pytest.mark.parametrize("stairs", [[50, 54, 54, 54, 70, 90], [50] * 20 + [5000], [40] * 9 + [60, 60, 60, 95]])
def test_the_search_climbs_stairs(stairs):
    """Where only some amounts make a difference, as with few coordinates."""
    finenesses = []

    def encode(amount):
        finenesses.append(math.log2(amount))
        return bytes(stairs[min(max(int(finenesses[-1]), 0), len(stairs) - 1)])

    assert len(fit_budget(encode, 100)) == max(step for step in stairs if step <= 100)
    assert len(finenesses) == len(set(finenesses))


def test_a_budget_below_an_empty_frame_is_refused():
    with pytest.raises(UsageError, match="10 bytes are too small a budget"):
        fedcomp.codec("deadzone(step=1)").encode(DELTA, budget=10)


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(UsageError, match=f"budget is {budget} bytes"):
        fedcomp.codec("deadzone(step=1)").encode(DELTA, budget=budget)


def test_a_codec_without_a_knob_is_refused():
    with pytest.raises(UsageError, match="neither a sparsifier nor deadzone"):
        fedcomp.codec("uniform(bits=4)").encode(DELTA, budget=1000)


@given(
    st.floats(0.5, 2), st.floats(100, 1e5), st.integers(200, 1_000_000), st.floats(0, 0.005), st.integers(0, 2**32 - 1)
)
def test_the_search_meets_any_growing_curve(power, scale, budget, jitter, seed):
    calls = []

    def encode(amount):
        calls.append(amount)
        noise = 1 + jitter * np.random.default_rng([seed, len(calls)]).uniform(-1, 1)
        return bytes(int(min(50 + noise * scale * amount**power, 2_000_000)))

    frame = fit_budget(encode, budget)
    assert 0.98 * budget <= len(frame) <= budget
    assert len(calls) <= 30
