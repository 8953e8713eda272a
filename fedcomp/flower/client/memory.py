"""What a client remembers between its rounds: kept in Flower's `Context.state`, so it lives where the client lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord

from fedcomp.codecs import decode
from fedcomp.flower.messages.records import to_array_record, to_model
from fedcomp.types import ModelSpec
from fedcomp.wire import OWN_FRAMES

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from fedcomp.codecs import ErrorFeedback
    from fedcomp.types import Model, ModelDelta

_TOTAL_KEY = "fedcomp.total"
_VELOCITY_KEY = "fedcomp.velocity"
_RECEIVED_KEY = "fedcomp.received"
_SENT_KEY = "fedcomp.sent"


class Memory(NamedTuple):
    """What is left of all earlier updates.

    Args:
        residual: What the server has not got of everything this client ever had to say; None if nothing.
        velocity: The running sum of updates, where there is momentum; None if there is none.
        frame: The frame that was sent last; None if there is none.
    """

    residual: ModelDelta | None = None
    velocity: ModelDelta | None = None
    frame: bytes | None = None

    def without_pruned(self, model: Model) -> Memory:
        """Forget what is owed to weights that are zero in `model`; tensors of one axis are never pruned."""
        return self._replace(
            residual=self.residual and _where_alive(self.residual, model),
            velocity=self.velocity and _where_alive(self.velocity, model),
        )


def recall(state: RecordDict, spec: ModelSpec, feedback: ErrorFeedback, *, acknowledged: int, refused: int) -> Memory:
    """Read the memory.

    Only what the server took is subtracted: after a lost update all of it remains. Nothing remains of one whose values
    were refused: it would be in all later ones, which would be refused for it as well.

    Args:
        state: The client's ``context.state``.
        spec: The model that is trained; a memory of another one is passed over.
        feedback: How residual and velocity go on.
        acknowledged: The last round of which the server took this client's update.
        refused: The last round of which the server refused it for its values.
    """
    sent = state.get(_SENT_KEY)
    if not isinstance(sent, ConfigRecord):
        return Memory()
    frame = cast("bytes", sent["frame"])
    if sent["round"] == refused:
        return Memory(frame=frame)
    total, velocity = _read_delta(state, _TOTAL_KEY, spec), _read_delta(state, _VELOCITY_KEY, spec)
    if sent["round"] == acknowledged and (total or velocity):
        received = _read_delta(state, _RECEIVED_KEY, spec) or decode(frame, spec, limits=OWN_FRAMES)
        total = total and feedback.residual(total, received)
        velocity = velocity and feedback.mask(velocity, received)
    return Memory(total, velocity, frame)


def remember(
    state: RecordDict,
    *,
    server_round: int,
    frame: bytes,
    total: ModelDelta | None,
    velocity: ModelDelta | None,
    received: ModelDelta | None,
) -> None:
    """Write what was meant to be sent, and what was sent; None is not kept.

    Args:
        state: The client's ``context.state``.
        server_round: Of the frame.
        frame: What was sent.
        total: What was meant.
        velocity: The running sum of updates.
        received: What the frame decodes to, where that takes a context that will be gone.
    """
    for key, delta in ((_TOTAL_KEY, total), (_VELOCITY_KEY, velocity), (_RECEIVED_KEY, received)):
        if delta is not None:
            state[key] = to_array_record(delta)
        elif key in state:
            del state[key]
    state[_SENT_KEY] = ConfigRecord({"round": server_round, "frame": frame})


def _where_alive(delta: ModelDelta, model: Model) -> ModelDelta:
    return {
        name: np.where(model[name] != 0, values, values.dtype.type(0)) if values.ndim > 1 else values
        for name, values in delta.items()
    }


def _read_delta(state: RecordDict, key: str, spec: ModelSpec) -> ModelDelta | None:
    record = state.get(key)
    if not isinstance(record, ArrayRecord):
        return None
    delta = to_model(record)
    return delta if ModelSpec.of(delta).fingerprint == spec.fingerprint else None
