"""The property check notices what it is there for."""

import warnings

import numpy as np
import pytest

import fedcomp
from fedcomp.errors import FrameMalformed
from tests.attacks.check import CAP, Violation, outcome_of

SPEC = fedcomp.ModelSpec.of({"w": np.zeros(3, np.float32)})
HONEST = {"w": np.ones(3, np.float32)}


def refuse():
    raise FrameMalformed


def warn():
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)
    return HONEST


def touch():
    np.ones(2 * CAP, np.uint8)
    return HONEST


def spin():
    sum(range(100_000))
    return HONEST


def test_what_is_allowed(monkeypatch):
    monkeypatch.setattr(fedcomp, "decode", lambda data, spec, context=None: HONEST)
    assert outcome_of(b"", SPEC) == "decoded"
    monkeypatch.setattr(fedcomp, "decode", lambda data, spec, context=None: refuse())
    assert outcome_of(b"", SPEC) == "malformed"


@pytest.mark.parametrize(
    ("says", "decode"),
    [
        ("names, shapes", lambda: {"v": HONEST["w"]}),
        ("names, shapes", lambda: {"w": np.ones(4, np.float32)}),
        ("names, shapes", lambda: {"w": np.ones(3)}),
        ("not finite", lambda: {"w": np.float32([1, np.nan, 1])}),
        ("RuntimeWarning", warn),
        ("KeyError", lambda: {}["w"]),
        ("processor time", spin),
    ],
)
def test_what_is_noticed(monkeypatch, says, decode):
    monkeypatch.setattr(fedcomp, "decode", lambda data, spec, context=None: decode())
    with pytest.raises(Violation, match=says):
        outcome_of(b"", SPEC, hang_seconds=1e-6)


def test_memory_is_noticed(monkeypatch):
    costs = []
    monkeypatch.setattr(fedcomp, "decode", lambda data, spec, context=None: HONEST)
    outcome_of(b"", SPEC, costs=costs)
    if costs[0][1] == 0 and not _can_measure():
        pytest.skip("no /proc/self/status here")
    monkeypatch.setattr(fedcomp, "decode", lambda data, spec, context=None: touch())
    with pytest.raises(Violation, match="MiB taken"):
        outcome_of(b"", SPEC)


def _can_measure():
    from tests.attacks.check import _memory

    return _memory()["VmRSS"] > 0
