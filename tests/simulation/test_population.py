"""Any number of clients, none of which costs anything before it is asked."""

import random
import sys

from flwr.app import RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.simulation.population import Population
from tests.simulation.grids import answer, count_calls, grid_of, values


@given(st.integers(1, 2000), st.integers(0, 2**31))
def test_ids_are_distinct_and_lead_back_to_their_partitions(num_nodes, seed):
    population = Population(num_nodes, seed=seed)
    ids = population.node_ids()
    assert [population.partition(id_) for id_ in ids] == [*range(num_nodes)]
    assert [population.node_id(partition) for partition in range(num_nodes)] == ids
    assert len(set(ids)) == num_nodes
    assert all(0 <= id_ < 2**63 for id_ in ids)


def test_nobody_else_has_an_id():
    population = Population(1000)
    known = set(population.node_ids())
    strangers = [*range(1000), *(random.Random(0).getrandbits(63) for _ in range(1000))]
    assert all(population.partition(id_) is None for id_ in strangers if id_ not in known)
    assert population.partition(population.node_id(1000)) is None


def test_ids_come_from_the_seed():
    assert Population(100, seed=1).node_ids() == Population(100, seed=1).node_ids()
    assert set(Population(100, seed=1).node_ids()).isdisjoint(Population(100, seed=2).node_ids())


def test_the_list_of_ids_is_the_callers_own():
    population = Population(3)
    population.node_ids().clear()
    assert len(population.node_ids()) == 3


def test_contexts_share_nothing():
    population = Population(2, run_id=9, run_config={"a": 1})
    first = population.context(0, RecordDict())
    first.run_config["a"] = 2
    second = population.context(1, RecordDict())
    assert (second.run_config, second.run_id) == ({"a": 1}, 9)
    assert second.node_config == {"partition-id": 1, "num-partitions": 2}


def test_a_million_clients_of_which_a_few_are_asked():
    from flwr.app import Message

    with grid_of(lambda message, context: answer(message, count=count_calls(context)), 10**6, num_workers=2) as grid:
        ids = list(grid.get_node_ids())
        assert len(ids) == 10**6
        assert sys.getsizeof(ids) < 10**7
        few = random.Random(0).sample(ids, 100)
        for expected in range(2):
            replies = grid.send_and_receive([Message(RecordDict(), node, "train") for node in few])
            assert values(replies, "count") == [expected] * 100
