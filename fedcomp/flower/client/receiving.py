"""The client's side of the downlink: from a frame, and what the client holds, to the model that it trains from.

A client keeps two models for the price of one and a frame: the base of the last message, and the frame that was
relative to it. Its reply may be lost, and then the server goes on from the base; if it is not, from what came out.
"""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord
from flwr.common.logger import log

from fedcomp.codecs import CodingContext, decode
from fedcomp.errors import FrameMalformed
from fedcomp.flower.messages.model_order import (
    MODEL_KEY,
    MOST_REFERENCES,
    NOTHING,
    SERVER,
    LostModel,
    LostReference,
    ModelOrder,
    read_spec,
    unpack_model,
)
from fedcomp.flower.messages.order_record import read_order
from fedcomp.flower.messages.records import only_array_record, to_array_record, to_model
from fedcomp.types import ModelSpec, add_delta, check_model, fingerprint_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.app import Context, Message, RecordDict

    from fedcomp.flower.messages.order import CompressionOrder
    from fedcomp.types import Model
    from fedcomp.wire import FrameLimits

InitialModel: TypeAlias = "Callable[[Message, Context], Model]"
"""How a client builds the model that the run begins with, from what it knows without being sent it."""

_BASE_KEY, _HELD_KEY = "fedcomp.base", "fedcomp.held"


class Receiver:
    """Makes models of messages.

    Args:
        initial: Builds the run's initial model; None if this client can not.
        limits: Caps for the server's frames.
        max_model_bytes: Largest model that is made because the server says so; see `compression_mod` for what it takes.
    """

    def __init__(self, initial: InitialModel | None, limits: FrameLimits, max_model_bytes: int) -> None:
        self._initial, self._limits, self._max_model_bytes = initial, limits, max_model_bytes

    def receive(self, message: Message, context: Context, now: CompressionOrder) -> dict[int, Model]:
        """Put the model in the place of a message's frame, and remember it; a plain message stays as it is.

        Args:
            message: Of the server.
            context: This client's.
            now: Of the same message: the training and the round that the frame must have been made for.

        Returns:
            The model that the new one is relative to, by its fingerprint.

        Raises:
            LostModel: The frame is relative to a model that this client does not hold.
            FrameError: The frame was refused. What is remembered stays as it was.
        """
        if MODEL_KEY not in message.content:
            return {}
        order = read_order(ModelOrder, message.content[MODEL_KEY])
        del message.content[MODEL_KEY]
        key, record = only_array_record(message.content)
        frame, spec = unpack_model(record, order.base)
        base, is_kept = self._find_base(order.base, spec, message, context)
        moment = CodingContext(
            run=now.lineage,
            sender=SERVER,
            round=now.round,
            base=order.base,
            model=base,
            references=self.references(order.references, {order.base: base}, message, context),
        )
        model = add_delta(base, decode(frame, ModelSpec.of(base), context=moment, limits=self._limits))
        if (found := fingerprint_model(model)) != order.model:
            raise LostModel(f"frame decodes to model {found:08x} here, expected {order.model:08x}")
        held = ConfigRecord(
            {"base": order.base, "model": order.model, "run": now.lineage, "round": now.round, "frame": frame}
        )
        if spec:
            held["spec"] = spec
        if order.references:  # Flower can not count an empty list
            held["references"] = list(order.references)
        _remember(context.state, held, base if is_kept else None)
        message.content[key] = to_array_record(model)
        return {order.base: base} if order.base != NOTHING else {}

    def references(
        self, wanted: tuple[int, ...], at_hand: dict[int, Model], message: Message, context: Context
    ) -> tuple[Model, ...]:
        """Return models by their fingerprints, of those at hand and the initial one.

        Raises:
            FrameMalformed: They are more than any server names, or one is named twice: each takes a model's memory.
            LostReference: This client does not hold one of them.
        """
        if len(wanted) > MOST_REFERENCES or len(set(wanted)) < len(wanted):
            raise FrameMalformed(
                f"the server names {len(wanted)} references, {len(set(wanted))} of them different; "
                f"expected at most {MOST_REFERENCES}, each once"
            )
        missing = [fingerprint for fingerprint in wanted if fingerprint not in at_hand]
        if missing and (initial := self.initial_model(message, context)) is not None:
            at_hand = at_hand | {fingerprint_model(initial): initial}
        for fingerprint in missing:
            if fingerprint not in at_hand:
                raise LostReference(f"a reference is model {fingerprint:08x}, which this client does not hold")
        return tuple(at_hand[fingerprint] for fingerprint in wanted)

    def initial_model(self, message: Message, context: Context) -> Model | None:
        """Return the model that the run began with, if this client can build it."""
        if self._initial is None:
            return None
        try:
            model = self._initial(message, context)
            check_model("it", model)
            return model
        except Exception as error:
            # Without it the client is sent a whole model: that costs bytes, not the round.
            log(WARNING, "the initial model could not be built: %s", error)
            return None

    def _find_base(self, wanted: int, spec: bytes, message: Message, context: Context) -> tuple[Model, bool]:
        """Return the model with a fingerprint, and whether it must be kept: zeros and the initial one need not be."""
        if wanted == NOTHING:
            return _zeros(read_spec(spec, self._max_model_bytes)), False
        held, base = context.state.get(_HELD_KEY), context.state.get(_BASE_KEY)
        if isinstance(held, ConfigRecord):
            if held["base"] == wanted and isinstance(base, ArrayRecord):
                return to_model(base), True
            if held["model"] == wanted and (model := self._rebuild(held, base, message, context)):
                return model, True
        initial = self.initial_model(message, context)
        if initial is None or fingerprint_model(initial) != wanted:
            raise LostModel(f"frame is relative to model {wanted:08x}, which this client does not hold")
        return initial, False

    def _rebuild(self, held: ConfigRecord, base: object, message: Message, context: Context) -> Model | None:
        """Decode the last frame once more; None if its base is gone."""
        before: Model | None
        if held["base"] == NOTHING:
            before = _zeros(read_spec(cast("bytes", held["spec"]), self._max_model_bytes))
        elif isinstance(base, ArrayRecord):
            before = to_model(base)
        else:
            before = self.initial_model(message, context)
            if before is None or fingerprint_model(before) != held["base"]:
                return None
        wanted = tuple(cast("list[int]", held.get("references", [])))
        try:
            references = self.references(wanted, {}, message, context)
        except LostReference:
            return None  # then the model is lost: the server must send a whole one
        moment = CodingContext(
            run=cast("str", held["run"]),
            sender=SERVER,
            round=cast("int", held["round"]),
            base=cast("int", held["base"]),
            model=before,
            references=references,
        )
        frame = cast("bytes", held["frame"])
        return add_delta(before, decode(frame, ModelSpec.of(before), context=moment, limits=self._limits))


def _remember(state: RecordDict, held: ConfigRecord, base: Model | None) -> None:
    state[_HELD_KEY] = held
    if base is not None:
        state[_BASE_KEY] = to_array_record(base)
    elif _BASE_KEY in state:
        del state[_BASE_KEY]


def _zeros(spec: ModelSpec) -> Model:
    return {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in spec}
