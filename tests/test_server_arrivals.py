"""How long a server waits for clients that come when they come."""

import pytest

from fedcomp.config import RunConfig
from server import arrivals


class Door:
    """A Grid whose clients come one in each second of a clock that nobody has to wait for."""

    def __init__(self, arrivals_at):
        self.now, self.looks, self._arrivals_at = 0.0, 0, arrivals_at

    def get_node_ids(self):
        self.looks += 1
        return [number for number, at in enumerate(self._arrivals_at) if at <= self.now]


class Notes(list):
    def note(self, text):
        self.append(text)


@pytest.mark.parametrize(
    ("arrivals_at", "until", "last_note"),
    [
        ([0, 0, 0, 0], 0, None),
        ([0, 3, 5, 9], 9, "waiting for clients: 3 of 4 are there"),
        ([0, 3, 500, 500], 61, "begins with 2 of 4 clients"),
        ([500, 501, 900, 900], 501, "begins with 2 of 4 clients"),
    ],
)
def test_all_are_waited_for_a_while_and_then_as_few_as_may_count(monkeypatch, arrivals_at, until, last_note):
    door, notes = Door(arrivals_at), Notes()
    monkeypatch.setattr(arrivals.time, "monotonic", lambda: door.now)
    monkeypatch.setattr(arrivals.time, "sleep", lambda seconds: setattr(door, "now", door.now + seconds))
    config = RunConfig.from_mapping({"num-clients": 4, "min-replies": 2, "client-wait": 60.0, "deployed": True})
    arrivals.wait_for_clients(door, config, notes)
    assert door.now == pytest.approx(until, abs=1)
    assert (notes[-1] if notes else None) == last_note
