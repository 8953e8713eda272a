"""Exchanges: who is waited for, who is lost, and that the order of replies changes nothing."""

import math
from dataclasses import replace
from itertools import permutations

import pytest

from fedcomp.network import Availability, Exchange, Fate, Mix, Network, Profile, RoundTiming

SLOW = Profile(name="slow", down=8e3, up=8e3, rtt=0.0, loss=0.0, packet_bytes=1000, header_bytes=0)


def network(**arguments):
    return Network(mix=Mix((SLOW,), (1.0,)), **arguments)


def exchange(population, num_clients=3, began=0.0, occasion=("train", "1")):
    return Exchange(population, range(num_clients), began=began, occasion=occasion)


def answer(one, client, num_bytes=1000, work=0.0):
    return one.answer(client, bytes_down=1000, bytes_up=num_bytes, work_seconds=work)


def test_the_slowest_decides():
    one = exchange(network(), began=100.0)
    assert [answer(one, c, 1000 * (c + 1), work=0.5) for c in range(3)] == [Fate.ARRIVED] * 3
    assert one.timing() == RoundTiming(100 + 1 + 0.5 + 3)


def test_late_is_lost_and_the_round_ends_at_the_deadline():
    one = exchange(network(deadline=3.0))
    assert [answer(one, c, 1000 * (c + 1)) for c in range(3)] == [Fate.ARRIVED, Fate.ARRIVED, Fate.LATE]
    assert one.timing() == RoundTiming(3.0, stragglers=1)


def test_who_never_answers_is_waited_for_until_the_deadline():
    one = exchange(network(deadline=30.0))
    answer(one, 0)
    assert one.timing() == RoundTiming(30.0)
    endless = exchange(network())
    answer(endless, 0)
    assert endless.timing() == RoundTiming(2.0)


def test_dropouts_have_their_rate_and_cost_the_time_until_they_are_noticed():
    population = network(dropout=0.3)
    lost = [population.drops_out(client, "train", str(r)) for client in range(100) for r in range(40)]
    assert sum(lost) / len(lost) == pytest.approx(0.3, abs=0.03)
    one = exchange(network(dropout=0.999999))
    assert all(one.lost(client) is Fate.DROPPED_OUT for client in range(3))
    assert one.timing() == RoundTiming(60.0, dropouts=3)
    assert exchange(network(dropout=0.999999, deadline=7.0)).timing() == RoundTiming(7.0, dropouts=3)


def test_draws_differ_by_round_client_and_seed_only():
    def draws(seed, occasion):
        return [network(dropout=0.5, seed=seed).drops_out(client, *occasion) for client in range(64)]

    assert draws(0, ("train", "1")) == draws(0, ("train", "1"))
    assert draws(0, ("train", "1")) != draws(0, ("train", "2"))
    assert draws(0, ("train", "1")) != draws(1, ("train", "1"))


def test_the_order_of_replies_changes_nothing():
    windows = Availability.of([(0, 0, 2.5), (1, 0, 50), (2, 0, 50)], num_clients=4, period=100)
    population = network(deadline=4.5, availability=windows, server_rate=16e3)
    results = set()
    for order in permutations(range(3)):
        one = exchange(population, num_clients=4)
        fates = {client: answer(one, client, 1000 * (client + 1)) for client in order}
        results.add((tuple(sorted(fates.items())), one.timing()))
    ((fates, timing),) = results
    assert dict(fates) == {0: Fate.DROPPED_OUT, 1: Fate.ARRIVED, 2: Fate.LATE}
    assert timing == RoundTiming(4.5, stragglers=1, dropouts=1, unavailable=1)


def test_a_client_whose_window_closes_is_lost_on_the_way():
    windows = Availability.of([(0, 0, 1.5), (1, 0, 50)], num_clients=2, period=100)
    one = exchange(network(availability=windows), num_clients=2)
    assert [answer(one, 0), answer(one, 1)] == [Fate.DROPPED_OUT, Fate.ARRIVED]
    assert one.timing() == RoundTiming(61.5, dropouts=1)


def test_a_client_whose_window_closes_after_the_deadline_is_late_only():
    windows = Availability.of([(0, 0, 1.5)], num_clients=1, period=100)
    one = exchange(network(availability=windows, deadline=1.0), num_clients=1)
    assert answer(one, 0) is Fate.LATE
    assert one.timing() == RoundTiming(1.0, stragglers=1)


def test_the_servers_pipe_is_shared_by_those_who_are_there():
    one = exchange(network(server_rate=8e3), num_clients=4)
    assert answer(one, 0) is Fate.ARRIVED
    assert one.timing().simulated_seconds == pytest.approx(2 * 4)
    windows = Availability.of([(0, 0, 50)], num_clients=4, period=100)
    alone = exchange(network(server_rate=8e3, availability=windows), num_clients=4)
    assert alone.lost(1) is Fate.UNAVAILABLE
    answer(alone, 0)
    assert alone.timing() == RoundTiming(2.0, unavailable=3)


def test_what_tcp_leaves_of_the_pipe_is_anothers():
    lossless = Profile(name="lossless", down=8e6, up=8e6, rtt=0.0, loss=0.0, packet_bytes=1000, header_bytes=0)
    lossy = replace(lossless, name="lossy", rtt=1.0, loss=0.01)
    population = Network(mix=Mix((lossy, lossless), (0.5, 0.5)), server_rate=1e6)
    ceiling = lossy.usable(lossy.down)
    assert ceiling < 1e5
    one = exchange(population, num_clients=10)
    kinds = [population.device(client).name for client in range(10)]
    one.answer(kinds.index("lossless"), bytes_down=10**5, bytes_up=0, work_seconds=0.0)
    share = (1e6 - kinds.count("lossy") * ceiling) / kinds.count("lossless")
    assert one.timing().simulated_seconds == pytest.approx(8e5 / share)


def test_evaluation_costs_a_third_of_training():
    population = network(example_seconds=0.5, local_epochs=3)
    assert population.work_seconds(10, is_training=True) == 15
    assert population.work_seconds(12, is_training=False) == pytest.approx(2)


def test_without_availability_everybody_is_there():
    population = network()
    assert population.leaves_at(5, 1e9) == math.inf
    assert population.wait(3.0) == 3.0
    assert population.num_unavailable(3.0) == 0
