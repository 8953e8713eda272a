"""Mixes: what can be written, who gets what, and that it depends on nothing else."""

from collections import Counter

import numpy as np
import pytest

from fedcomp.errors import UsageError
from fedcomp.network import PROFILES, parse_mix


def test_one_name_is_all_clients():
    assert {parse_mix("3g").device(client, seed=1) for client in range(20)} == {PROFILES["3g"]}


def test_the_population_has_the_shares():
    mix = parse_mix("fibre:0.2 lte:0.5 3g:0.3")
    found = Counter(mix.device(client, seed=0).name for client in range(4000))
    assert {name: count / 4000 for name, count in found.items()} == pytest.approx(
        {"fibre": 0.2, "lte": 0.5, "3g": 0.3}, abs=0.03
    )


def test_a_client_depends_on_its_number_and_the_seed_alone():
    mix = parse_mix("lte:0.5 3g:0.5", spread=0.5)
    assert mix.device(7, seed=3) == mix.device(7, seed=3)
    assert len({mix.device(client, seed).up for client in range(10) for seed in range(10)}) == 100


def test_the_spread_is_log_normal_around_the_profile():
    devices = [parse_mix("lte", spread=0.5).device(client, seed=0) for client in range(3000)]
    for drawn, typical in ((np.array([d.up for d in devices]), 7.6e6), (np.array([d.speed for d in devices]), 1.0)):
        logs = np.log(drawn / typical)
        assert abs(logs.mean()) < 0.05
        assert logs.std() == pytest.approx(0.5, abs=0.03)
    assert all(device.down / device.up == pytest.approx(29.5 / 7.6) for device in devices)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one profile: fibre, lte, 3g, lora"),
        ("ltee", "'ltee' is no network profile; did you mean 'lte'"),
        ("zzz", "expected one of fibre, lte, 3g, lora"),
        ("lte:0.5 3g:0.4", "sum to 0.9, expected 1"),
        ("lte 3g", "the share of 'lte' is ''"),
        ("lte:half 3g:0.5", "the share of 'lte' is 'half'"),
        ("lte:1.5 3g:-0.5", "the share of 'lte' is '1.5'"),
        ("lte:nan 3g:0.5", "the share of 'lte' is 'nan'"),
        ("lte:0.5 lte:0.5", "named twice"),
        ("lte:", "the share of 'lte' is ''"),
    ],
)
def test_one_clear_error(text, says):
    with pytest.raises(UsageError, match=says):
        parse_mix(text)


def test_shares_that_are_rounded_are_taken():
    assert parse_mix("fibre:0.3333333 lte:0.3333333 3g:0.3333333").device(0, seed=0).name in PROFILES
