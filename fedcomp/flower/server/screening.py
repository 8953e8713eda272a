"""Every reply is hostile until checked: what passes is an `AcceptedUpdate`, what does not is a `FrameError`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedcomp.codecs import NO_CODEC, CodingContext, DecodedUpdate, decode_update, parse_codec
from fedcomp.errors import FrameError, FrameTooLarge, InvalidValues
from fedcomp.flower.messages.authentication import LARGEST_SEAL, AssociatedData, digest_model, unseal
from fedcomp.flower.messages.records import frame_from_record, plain_model_from_record
from fedcomp.types import ModelSpec, add_delta, subtract_models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flwr.app import Message, MetricRecord

    from fedcomp.flower.messages.authentication import FrameKeys
    from fedcomp.flower.messages.order import CompressionOrder
    from fedcomp.flower.server.downlink import SentModels
    from fedcomp.types import Model
    from fedcomp.wire import FrameLimits


MAX_NORM = 1e15
"""Longest update that any server takes: no training makes such a step, and a few of them would overflow float32."""
MAX_STEP = 10**15
"""Furthest that an integer may move: no counter does, and `MAX_NORM` is of floating tensors alone."""
MAX_WEIGHT = 1e9
"""Most examples that a client may say it trained on: sums of weighted updates stay finite in float32."""
_MOST_NUMBERS, _LONGEST_NAME = 16_384, 256
"""Of a reply's metrics, which are kept until the round ends."""
_MOST_SETTINGS_BYTES = 1 << 20
"""Of a reply's ConfigRecords and the names of all its records, which are kept as long."""
_MOST_MOMENTS = 4
"""Each keeps a few vectors of the model's size."""


class ReplyMalformed(FrameError):
    """A reply whose records are not those of a training reply."""

    reason: ClassVar[str] = "malformed"


class InvalidMetrics(FrameError):
    """Metrics that no honest reply has; of the update's own values they say nothing."""

    reason: ClassVar[str] = InvalidValues.reason


class Inconsistent(FrameError):
    """A reply that can not be aggregated together with the round's others."""

    reason: ClassVar[str] = "inconsistent"


class Uninvited(FrameError):
    """A reply of a client that was not asked this round."""

    reason: ClassVar[str] = "uninvited"


class Replayed(FrameError):
    """A second reply of the same client in the same round."""

    reason: ClassVar[str] = "replayed"


@dataclass(frozen=True, slots=True)
class AcceptedUpdate:
    """A reply that passed every check.

    Args:
        reply: The Flower message it came in.
        metrics: The reply's metrics, every value finite.
        update: The decoded update.
        weight: Positive, at most `MAX_WEIGHT`: the client's say in a weighted mean.
        base: The global model, which the update is applied to. It is relative to what the client was sent, which may be
            what a downlink codec made of this one: its errors stay at the client.
        is_clipped: Whether it came longer than allowed, and was scaled down.
    """

    reply: Message
    metrics: MetricRecord
    update: DecodedUpdate
    weight: float
    base: Model
    is_clipped: bool = False

    def client_model(self) -> Model:
        """Return the client's model as the server sees it: a new full-size model."""
        return add_delta(self.base, self.update.to_delta())


class Screening:
    """The checks of one round.

    Args:
        run: The run's id.
        server_round: From 1.
        codec: Codec text that clients were ordered to use, or `NO_CODEC`.
        base: The global model.
        sent: What each client was sent of it.
        orders: What each client was asked for.
        weighted_by: Key of the weight in a reply's metrics.
        only_weight: The one weight that there can be; None for any.
        limits: Caps for frames.
        clip_norm: Longer updates are scaled down to this norm; infinity for none.
        keys: Of all clients, whose frames must be sealed; None if they are not.
    """

    def __init__(
        self,
        *,
        run: str,
        server_round: int,
        codec: str,
        base: Model,
        sent: SentModels,
        orders: Mapping[int, CompressionOrder],
        weighted_by: str,
        only_weight: float | None,
        limits: FrameLimits,
        clip_norm: float,
        keys: FrameKeys | None,
    ) -> None:
        self._run, self._round, self._codec = run, server_round, codec
        self._base, self._spec = base, ModelSpec.of(base)
        self._sent = sent
        self._orders, self._answered = orders, set[int]()
        self._keys, self._names = keys, set[str]()
        self._digests: dict[int, str] = {}
        self._weighted_by, self._only_weight, self._clip_norm = weighted_by, only_weight, clip_norm
        self._limits = replace(limits, max_norm=min(limits.max_norm, MAX_NORM))
        self._moments: dict[tuple[int, ...], CodingContext] = {}

    def is_waiting_for(self, sender: int) -> bool:
        """Tell whether a client was asked and has not answered."""
        return sender in self._orders and sender not in self._answered

    def check(self, reply: Message) -> AcceptedUpdate:
        """Check one reply.

        Raises:
            FrameError: It was refused; `reason` says why.
        """
        sender = reply.metadata.src_node_id
        if sender not in self._orders:
            raise Uninvited(f"node {sender} was not asked in round {self._round}")
        if sender in self._answered:
            raise Replayed(f"node {sender} has already answered in round {self._round}")
        self._answered.add(sender)
        metrics, weight = check_metrics(reply, self._weighted_by)
        _check_settings(reply)
        if self._only_weight not in (None, weight):
            raise InvalidMetrics(f"metric {self._weighted_by!r} is {weight}, it can only be {self._only_weight}")
        update = self._decode(reply)
        update.check_integers(self._base, MAX_STEP)
        is_clipped = self._clip_norm != math.inf and (norm := update.norm()) > self._clip_norm
        if is_clipped:
            update = update.scaled(self._clip_norm / norm)
        return AcceptedUpdate(reply, metrics, update, weight, self._base, is_clipped)

    def _decode(self, reply: Message) -> DecodedUpdate:
        if len(reply.content.array_records) != 1:
            raise ReplyMalformed(f"reply has {len(reply.content.array_records)} ArrayRecords, expected exactly one")
        (record,) = reply.content.array_records.values()
        sender = reply.metadata.src_node_id
        if self._codec == NO_CODEC:
            model = plain_model_from_record(record, self._base)
            update = DecodedUpdate.from_delta(subtract_models(model, self._sent.model(sender)))
            update.check_norm(self._limits.max_norm)
            return update
        frame, codec = frame_from_record(record), parse_codec(self._codec)
        if (budget := self._orders[sender].budget) and len(frame) > budget:
            raise FrameTooLarge(f"frame has {len(frame)} bytes, its budget is {budget}")
        if self._keys:
            frame = self._unseal(frame, reply, self._keys)
        return decode_update(frame, self._spec, context=self._moment(sender), limits=self._limits, codec=codec)

    def _unseal(self, sealed: bytes, reply: Message, keys: FrameKeys) -> bytes:
        """Return the frame of a client that has not answered yet under another node id."""
        if len(sealed) > self._limits.max_frame_bytes + LARGEST_SEAL:
            raise FrameTooLarge(f"sealed frame has {len(sealed)} bytes, more than {self._limits.max_frame_bytes}")
        sender = reply.metadata.src_node_id
        fingerprint = self._sent.fingerprint(sender)
        if fingerprint not in self._digests:
            self._digests[fingerprint] = digest_model(self._sent.model(sender))
        associated = AssociatedData(sender, self._orders[sender], self._digests[fingerprint], reply.content)
        frame, name = unseal(sealed, keys, associated)
        if name in self._names:
            raise Replayed(f"key {name!r} has already answered in round {self._round}, for another node")
        self._names.add(name)
        return frame

    def _moment(self, sender: int) -> CodingContext:
        """Return what a sender's frame must be made in; those that hold the same models share what is known of them."""
        references = self._sent.references(sender)
        held = (self._sent.fingerprint(sender), *(reference.fingerprint for reference in references))
        if held not in self._moments:
            if len(self._moments) == _MOST_MOMENTS:
                del self._moments[next(iter(self._moments))]
            self._moments[held] = CodingContext(
                run=self._run,
                sender="",
                round=self._round,
                base=self._sent.fingerprint(sender),
                model=self._sent.model(sender) if references else None,
                references=tuple(reference.model for reference in references),
            )
        return self._moments[held].sent_by(str(sender))


def check_metrics(reply: Message, weighted_by: str) -> tuple[MetricRecord, float]:
    """Return a reply's metrics, every number finite, and the weight among them.

    Raises:
        ReplyMalformed: There is not exactly one MetricRecord, or it has no positive weight.
        FrameTooLarge: It has more or longer names and numbers than any honest reply.
        InvalidMetrics: A number is not finite, or the weight is beyond `MAX_WEIGHT`.
    """
    if len(reply.content.metric_records) != 1:
        raise ReplyMalformed(f"reply has {len(reply.content.metric_records)} MetricRecords, expected exactly one")
    (metrics,) = reply.content.metric_records.values()
    count = sum(len(value) if isinstance(value, list) else 1 for value in metrics.values())
    if max(count, len(metrics)) > _MOST_NUMBERS or any(len(name) > _LONGEST_NAME for name in metrics):
        raise FrameTooLarge(
            f"metrics have {len(metrics)} names and {count} numbers, at most {_MOST_NUMBERS} are allowed, and names of "
            f"{_LONGEST_NAME} characters"
        )
    for name, value in metrics.items():
        if not all(math.isfinite(number) for number in (value if isinstance(value, list) else [value])):
            raise InvalidMetrics(f"metric {name!r} is not finite")
    weight = metrics.get(weighted_by)
    if not isinstance(weight, (int, float)) or weight <= 0:
        raise ReplyMalformed(f"metric {weighted_by!r} is {_shown(weight)}, expected a positive number")
    if weight > MAX_WEIGHT:
        raise InvalidMetrics(f"metric {weighted_by!r} is {weight}, expected at most {MAX_WEIGHT:g}")
    return metrics, float(weight)


def _check_settings(reply: Message) -> None:
    """Raise `FrameTooLarge` if a reply's ConfigRecords and records' names are larger than any honest ones."""
    size = sum(len(name.encode()) for name in reply.content)
    size += sum(len(record.deflate()) for record in reply.content.config_records.values())
    if size > _MOST_SETTINGS_BYTES:
        raise FrameTooLarge(
            f"ConfigRecords and names of records have {size} bytes, at most {_MOST_SETTINGS_BYTES} are allowed"
        )


def _shown(value: object) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else str(value)
