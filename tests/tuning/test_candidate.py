"""The front and the choice, as laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.tuning import Candidate, choose, pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=12)


def candidates(points):
    return [
        Candidate(number=number, changes={}, accuracy=accuracy / 5, num_bytes=num_bytes, p50_ms=float(latency))
        for number, (accuracy, num_bytes, latency) in enumerate(points)
    ]


@given(POINTS)
def test_the_front_is_what_nobody_dominates(points):
    every = candidates(points)
    front = pareto_front(every)
    assert front
    assert [one.num_bytes for one in front] == sorted(one.num_bytes for one in front)
    for one in every:
        assert (one in front) != any(other.dominates(one) for other in front)


@given(POINTS, st.floats(0, 1))
def test_the_choice_is_accurate_enough_and_nothing_smaller_is(points, tolerance):
    every = candidates(points)
    chosen, best = choose(every, tolerance), max(one.accuracy for one in every)
    assert chosen.accuracy >= best - tolerance
    assert all(one.num_bytes >= chosen.num_bytes for one in every if one.accuracy >= best - tolerance)


def test_no_tolerance_takes_the_best():
    every = candidates([(5, 6, 1), (5, 4, 1), (4, 1, 1)])
    assert choose(every, 0.0).number == 1
    assert choose(every, 0.2).number == 2
    with pytest.raises(ValueError, match="empty"):
        choose([], 0.1)
