"""Windows, traces and the diurnal model."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedcomp.errors import ConfigError, RunError, UsageError
from fedcomp.network import Availability, check_availability, diurnal, make_availability, read_trace


def of(*windows, num_clients=3, period=100.0):
    return Availability.of(windows, num_clients=num_clients, period=period)


def reachable(availability, now):
    return list(np.flatnonzero(availability.reachable(now)))


def test_windows_begin_end_and_repeat():
    availability = of((0, 10, 20), (1, 25, 50), (1, 5, 10))
    for lap in (0, 100, 100_000):
        assert reachable(availability, lap + 9.9) == [1]
        assert reachable(availability, lap + 10) == [0, 1]
        assert reachable(availability, lap + 29.9) == [0, 1]
        assert reachable(availability, lap + 30) == [1]
        assert reachable(availability, lap + 80) == []


def test_a_window_over_the_end_of_the_period():
    availability = of((2, 90, 20))
    assert [reachable(availability, t) for t in (89, 95, 105, 110)] == [[], [2], [2], []]
    assert availability.leaves_at(2, 95) == 110
    assert availability.leaves_at(2, 105) == 110


def test_when_a_client_leaves():
    availability = of((0, 10, 20), (1, 0, 100))
    assert availability.leaves_at(0, 15) == 30
    assert availability.leaves_at(0, 50) == 50
    assert availability.leaves_at(1, 50) == math.inf
    assert availability.leaves_at(2, 50) == 50


def test_the_order_of_the_windows_does_not_matter():
    windows = [(2, 60.0, 10.0), (0, 10.0, 20.0), (1, 5.0, 10.0), (1, 25.0, 50.0)]
    for availability in (of(*windows), of(*windows[::-1])):
        assert [availability.leaves_at(client, 28) for client in range(3)] == [30, 75, 28]


def test_waiting_until_enough_are_there():
    availability = of((0, 10, 20), (1, 25, 50), (2, 60, 10))
    assert availability.wait_for(0, 3.0) == 3.0
    assert availability.wait_for(1, 15.0) == 15.0
    assert availability.wait_for(1, 3.0) == pytest.approx(10)
    assert availability.wait_for(2, 3.0) == pytest.approx(25)
    assert availability.wait_for(2, 65.5) == 65.5
    assert availability.wait_for(2, 80.0) == pytest.approx(125)
    with pytest.raises(RunError, match="needs 3 clients at a time, but never more than 2"):
        availability.wait_for(3, 0.0)


def test_what_begins_or_ends_at_this_very_moment_is_counted_once():
    availability = of((0, 0, 10), (1, 50, 30))
    for now in (0.0, 10.0, 50.0, 80.0):
        with pytest.raises(RunError, match="never more than 1"):
            availability.wait_for(2, now)
    assert availability.wait_for(1, 10.0) == pytest.approx(50)
    assert availability.wait_for(1, 80.0) == pytest.approx(100)


def test_who_leaves_as_another_comes_is_not_counted_with_it():
    with pytest.raises(RunError, match="never more than 1"):
        of((0, 10, 20), (1, 30, 20)).wait_for(2, 0.0)


def distance_to_edge(time, windows):
    edges = [edge for start, length in windows for edge in (start, start + length)]
    return min(abs((time - edge + 50) % 100 - 50) for edge in edges)


@given(
    st.lists(st.tuples(st.floats(0, 99.9), st.floats(0.1, 100)), min_size=1, max_size=8),
    st.floats(0, 1e5),
    st.integers(1, 8),
)
@example([(0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 0.55), (0.55, 1.0)], 0.55, 5)
def test_waiting_ends_when_it_says(windows, now, count):
    availability = of(*((i, *window) for i, window in enumerate(windows)), num_clients=8)
    try:
        moment = availability.wait_for(count, now)
    except RunError:
        # Where one window ends as another begins, rounding of a later period may see both open.
        times = [t for t in now + np.linspace(0, 100, 40) if distance_to_edge(t, windows) > 1e-5]
        assert all(availability.reachable(t).sum() < count for t in times)
        return
    assert now <= moment <= now + 100.001
    # A window that is shorter than the tick, or ends within it, may be over already; none here is.
    assert (
        availability.reachable(moment).sum() >= count
        or min(abs((moment - start - length) % 100) for start, length in windows) < 1e-5
    )


def trace(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_a_trace_joins_what_touches_even_over_the_periods_end(tmp_path):
    path = trace(tmp_path, "client,start,end\n1,50,100\n0,0,100\n1,0,10\n1,40,50\n\n")
    availability = read_trace(path, num_clients=3, period=100)
    assert len(availability.starts) == 2
    assert availability.leaves_at(0, 20) == math.inf
    assert availability.leaves_at(1, 45) == 110
    assert reachable(availability, 20) == [0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1 is '', expected client,start,end"),
        ("who,from,to\n", "line 1 is 'who,from,to', expected client,start,end"),
        ("client,start,end\n0,1\n", "line 2 is '0,1', expected a client's number and two times"),
        ("client,start,end\n0,1,2\nx,1,2\n", "line 3 is 'x,1,2'"),
        ("client,start,end\n0,nan,2\n", "line 2 is '0,nan,2'"),
        ("\nclient,start,end\n\n0,1,2\n\nx,1,2\n", "line 6 is 'x,1,2'"),
        ("client,start,end\n3,1,2\n", "line 2: client is 3, expected 0 to 2"),
        ("client,start,end\n0,2,1\n", "from 2 to 1 s is not within 0 to 100 s"),
        ("client,start,end\n0,2,101\n", "from 2 to 101 s is not within 0 to 100 s"),
        ("client,start,end\n0,0,10\n0,5,20\n", "two windows of client 0 overlap at 5 s"),
    ],
)
def test_one_clear_error(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        read_trace(trace(tmp_path, text), num_clients=3, period=100)


def test_a_trace_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv"):
        read_trace(tmp_path / "none.csv", num_clients=3, period=100)


def test_nights_are_full_and_days_are_empty():
    day = 86400.0
    availability = diurnal(8, num_clients=2000, period=day, seed=0)
    counts = [int(availability.reachable(t).sum()) for t in np.arange(0, day, day / 48)]
    assert np.mean(counts) == pytest.approx(2000 * 8 / 24, rel=0.02)
    assert max(counts) > 4 * min(counts)


def test_the_model_depends_on_the_seed_and_not_on_the_populations_size():
    starts = [diurnal(8, num_clients=n, period=100, seed=s).starts[:5] for n, s in ((5, 1), (50, 1), (5, 2))]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


@pytest.mark.parametrize("text", ["nightly", "diurnal:", "diurnal:x", "diurnal:25", "diurnal:0", "trace.txt"])
def test_texts_that_are_none(text):
    with pytest.raises(UsageError, match="neither diurnal"):
        check_availability(text)


def test_texts_that_are_some(tmp_path):
    arguments = {"num_clients": 3, "period": 100, "seed": 0}
    assert make_availability("", **arguments) is None
    assert make_availability("diurnal:24", **arguments).leaves_at(0, 5) == math.inf
    assert make_availability("diurnal", **arguments).lengths[0] == pytest.approx(100 / 3)
    path = trace(tmp_path, "client,start,end\n2,1,2\n")
    assert reachable(make_availability(str(path), **arguments), 1.5) == [2]
    assert check_availability(str(tmp_path / "not-read-yet.csv")) is None
