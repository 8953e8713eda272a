"""Which training a client's memory belongs to: one that is resumed is the same, one that begins anew is another.

Flower's run id is no such name: a run that is resumed in another process has another id, and its rounds count on. So
frames, too, are bound to the lineage.
"""

from __future__ import annotations

import uuid

from flwr.app import ConfigRecord, RecordDict

_KEY, _OWN = "fedcomp.lineage", "fedcomp."


def new_lineage() -> str:
    """Return a name that no other training has; the system's randomness, so no seed decides it."""
    return uuid.uuid4().hex


def without_own(state: RecordDict) -> RecordDict:
    """Return what the app itself keeps in a client's ``context.state``."""
    return RecordDict({key: record for key, record in state.items() if not key.startswith(_OWN)})


def carry_own(previous: RecordDict, state: RecordDict) -> None:
    """Put what fedcomp keeps in a state into the one that an app has put in its place."""
    for key, record in previous.items():
        if key.startswith(_OWN):
            state.setdefault(key, record)


def forget_other_lineages(state: RecordDict, lineage: str) -> None:
    """Remove from a client's ``context.state`` what another training left there."""
    record = state.get(_KEY)
    if isinstance(record, ConfigRecord) and record["lineage"] == lineage:
        return
    for key in [key for key in state if key.startswith(_OWN)]:
        del state[key]


def sign_with(state: RecordDict, lineage: str) -> None:
    """Note whose memory it is, if there is one."""
    if any(key.startswith(_OWN) and key != _KEY for key in state):
        state[_KEY] = ConfigRecord({"lineage": lineage})
