"""A link's laws: more bytes never take less time, a better link never more."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.network import PROFILES, fair_shares
from fedcomp.network.profiles import LORA, LTE

profiles = st.sampled_from(list(PROFILES.values()))
sizes = st.integers(0, 10**8)


@given(profiles, sizes, sizes)
def test_more_bytes_never_take_less_time(profile, a, b):
    few, many = sorted((a, b))
    assert profile.transfer_seconds(few, profile.up) <= profile.transfer_seconds(many, profile.up)


@given(profiles, sizes, st.floats(1, 1000))
def test_more_bandwidth_never_takes_more_time(profile, num_bytes, factor):
    assert profile.transfer_seconds(num_bytes, profile.up * factor) <= profile.transfer_seconds(num_bytes, profile.up)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_more_loss_takes_more_time(profile):
    lossier = dataclasses.replace(profile, loss=profile.loss * 2)
    assert lossier.transfer_seconds(10**6, profile.up) > profile.transfer_seconds(10**6, profile.up)


def test_the_formula_without_loss():
    link = dataclasses.replace(LTE, loss=0.0, rtt=0.5)
    assert link.transfer_seconds(0, 1e6) == 0.5
    assert link.transfer_seconds(1461, 1e6) == pytest.approx(0.5 + 8 * (1461 + 2 * 40) / 1e6)


def test_loss_bounds_tcp_below_the_links_rate():
    link = dataclasses.replace(LTE, loss=0.01, rtt=0.1)
    ceiling = 8 * 1460 / 0.1 * math.sqrt(1.5) / 0.1
    assert ceiling < 1e9
    assert link.transfer_seconds(1460, 1e9) == pytest.approx(0.1 + 8 * 1500 / (ceiling * 0.99))
    assert dataclasses.replace(link, over_tcp=False).transfer_seconds(1460, 1e9) < 0.11


def test_a_lora_like_link_takes_hours_for_what_fibre_takes_a_moment():
    assert PROFILES["fibre"].transfer_seconds(10_000, 200e6) < 0.02
    assert 1500 < LORA.transfer_seconds(10_000, LORA.up) < 2000


def test_the_profiles_are_in_order():
    rates = [profile.up for profile in PROFILES.values()]
    assert rates == sorted(rates, reverse=True)
    assert all(name == profile.name for name, profile in PROFILES.items())


def test_a_faster_processor_takes_less_time():
    assert LTE.scaled(link=1, speed=2).compute_seconds(3.0) == 1.5


@given(st.lists(st.floats(1, 1e9), max_size=30), st.floats(1, 1e9))
def test_shares_are_max_min_fair(rates, capacity):
    shares = fair_shares(rates, capacity)
    assert all(share <= rate for share, rate in zip(shares, rates, strict=True))
    assert sum(shares) == pytest.approx(min(sum(rates), capacity)) or not rates
    cut = [share for share, rate in zip(shares, rates, strict=True) if share < rate]
    assert all(share >= max(shares) * (1 - 1e-9) for share in cut)


def test_an_endless_pipe_is_not_shared():
    assert fair_shares([3.0, 1.0], math.inf) == [3.0, 1.0]
