"""The server's side of the downlink: to each client the difference between the global model and what it holds.

What a client holds is what it last trained from, as decoded, bit for bit: its accepted reply is the acknowledgement.
Each difference is taken from that, so what the codec dropped is in the next one: error feedback without a residual.
A client that missed rounds is sent one difference and not a chain of them. Clients that hold the same are sent the
same frame, encoded once.

A client of which nothing is known is sent a model relative to the initial one where clients can build that
themselves, else a whole one, relative to zeros. So is one that is too far behind, and one that a whole model costs no
more.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from fedcomp.codecs import CodingContext, decode, parse_codec
from fedcomp.errors import UsageError
from fedcomp.flower.messages.budget import check_scalable, granted
from fedcomp.flower.messages.model_order import LOST, LOST_REFERENCE, NOTHING, SERVER, ModelOrder, pack_model
from fedcomp.flower.messages.records import num_bytes
from fedcomp.flower.server.held_models import HeldModel, HeldModels
from fedcomp.flower.state.model_files import ModelFiles
from fedcomp.flower.state.snapshot import Snapshot
from fedcomp.seeding import derive_rng
from fedcomp.types import ModelSpec, add_delta, fingerprint_model, have_same_tensors, subtract_models
from fedcomp.wire import OWN_FRAMES

if TYPE_CHECKING:
    from pathlib import Path

    from flwr.app import ArrayRecord

    from fedcomp.codecs import Codec
    from fedcomp.flower.messages.budget import Budget
    from fedcomp.flower.server.shared_initial import SharedInitial
    from fedcomp.types import Model, ModelDelta

_SURELY_SMALLER = 0.5
"""A difference of less than this share of the last whole model's bytes is sent without encoding a whole one, too."""


class SentModels(Protocol):
    """What each client is sent in a round, and so trains from."""

    def begin(self, run: str, server_round: int, model: Model) -> None:
        """Begin a round."""

    def send(self, client: int) -> tuple[ModelOrder, ArrayRecord] | None:
        """Return what to put into the message to a client in the place of the model; None if that stays there."""

    def fingerprint(self, client: int) -> int:
        """Return the fingerprint of the model that a client was sent."""

    def model(self, client: int) -> Model:
        """Return the model that a client was sent."""

    def references(self, client: int) -> list[HeldModel]:
        """Return other models that a client holds at that time."""

    def acknowledge(self, client: int) -> None:
        """Note that a client trained from what it was sent."""

    def fail(self, client: int, reason: str) -> None:
        """Note that a client could not make its model, or does not hold a reference."""


class Broadcast:
    """The same model for everyone, exactly.

    Args:
        initial: Who has the run's initial model.
    """

    def __init__(self, initial: SharedInitial) -> None:
        self._initial = initial
        self._model: Model = {}
        self._fingerprint = NOTHING

    def begin(self, run: str, server_round: int, model: Model) -> None:
        """Begin a round."""
        self._model, self._fingerprint = model, fingerprint_model(model)
        self._initial.begin(model)

    def send(self, client: int) -> None:
        """Leave the message as it is."""

    def fingerprint(self, client: int) -> int:
        """Return the model's fingerprint."""
        return self._fingerprint

    def model(self, client: int) -> Model:
        """Return the model."""
        return self._model

    def references(self, client: int) -> list[HeldModel]:
        """Return the initial model, once it is another one."""
        return _others(self._fingerprint, self._initial.at(client))

    def acknowledge(self, client: int) -> None:
        """Do nothing: the next message holds a whole model again."""

    def fail(self, client: int, reason: str) -> None:
        """Note that a client does not have the initial model."""
        self._initial.lose(client)


def _others(fingerprint: int, *models: HeldModel | None) -> list[HeldModel]:
    """Return the models that there are, each once and none with that fingerprint."""
    distinct = {model.fingerprint: model for model in models if model and model.fingerprint != fingerprint}
    return list(distinct.values())


class _Parcel(NamedTuple):
    """A frame, ready to send to everyone who holds its base."""

    base: HeldModel
    frame: bytes
    order: ModelOrder
    record: ArrayRecord
    moment: CodingContext
    kept: Model | None
    as_of: float

    def unpack(self) -> Model:
        """Return what the clients make of it, by the very same steps."""
        if self.kept is not None:
            return self.kept
        moment = replace(self.moment)  # a copy, as in `Downlink._encode`
        delta = decode(self.frame, ModelSpec.of(self.base.model), context=moment, limits=OWN_FRAMES)
        return add_delta(self.base.model, delta)


class Downlink:
    """Sends models, and keeps what every client holds.

    Args:
        codec: Codec text or preset name for differences.
        full_codec: The same for whole models; without a transform, whose sums may differ in their last bits between
            machines: it is what a client falls back to. Empty is ``q8``, or `codec` where that drops nothing: a whole
            model that is smaller takes the place of a difference, and must not be coarser then.
        seed: For stochastic stages.
        initial: Who has the run's initial model.
        max_lag: Most rounds that a client may be behind with what a difference makes, as `HeldModel.as_of` counts; else
            it is sent a whole model. With a budget there is no such limit: it would be broken.
        budget: Most bytes of a difference's frame; asked for client 0, since clients may share one.
        cache_bytes: Most bytes of clients' models that are kept here.

    Raises:
        UsageError: A codec does not parse or fit, or a number is out of range.
    """

    def __init__(
        self,
        codec: str,
        *,
        initial: SharedInitial,
        full_codec: str = "",
        seed: int = 0,
        cache_bytes: int,
        max_lag: float,
        budget: Budget = 0,
    ) -> None:
        self.codec = parse_codec(codec)
        drops_nothing = self.codec.error_bound == 0 and not self.codec.transform
        self.full_codec = parse_whole_model_codec(full_codec or (str(self.codec) if drops_nothing else "q8"))
        check_scalable(self.codec, budget)
        if not max_lag > 0:
            raise UsageError(f"downlink_max_lag is {max_lag}, expected a positive number")
        self._max_lag = max_lag
        self._initial, self._seed, self._budget = initial, seed, budget
        self._held, self._cache_bytes = HeldModels(cache_bytes), cache_bytes
        self._full_bytes = 0
        self._files = ModelFiles()
        self._run, self._server_round = "", 0
        self._model: Model = {}
        self._parcels: dict[tuple[int, tuple[int, ...]], _Parcel] = {}
        self._sent: dict[int, _Parcel] = {}
        self._kept_bytes = 0

    def begin(self, run: str, server_round: int, model: Model) -> None:
        """Begin a round. What clients hold is of no use if its model has other tensors than those before."""
        if not have_same_tensors(self._model, model):
            self._held.forget_unlike(model)
        self._initial.begin(model)
        self._run, self._server_round, self._model = run, server_round, model
        self._parcels, self._sent, self._kept_bytes = {}, {}, 0

    def send(self, client: int) -> tuple[ModelOrder, ArrayRecord]:
        """Return what to put into the message to a client."""
        parcel = self._sent[client] = self._choose(client)
        return parcel.order, parcel.record

    def fingerprint(self, client: int) -> int:
        """Return the fingerprint of the model that a client makes of what it was sent."""
        return self._sent[client].order.model

    def model(self, client: int) -> Model:
        """Return the model that a client makes of what it was sent."""
        return self._sent[client].unpack()

    def references(self, client: int) -> list[HeldModel]:
        """Return the model that the client's was relative to, and the initial one, where they are others."""
        parcel = self._sent[client]
        base = parcel.base if parcel.order.base != NOTHING else None
        return _others(parcel.order.model, base, self._initial.at(client))

    def acknowledge(self, client: int) -> None:
        """Note that a client trained from what it was sent."""
        parcel = self._sent[client]
        self._held.hold(client, parcel.order.model, parcel.as_of, parcel.unpack)

    def fail(self, client: int, reason: str) -> None:
        """Note that a client could not make its model: it is sent a whole one next time."""
        if (parcel := self._sent.get(client)) is None:
            return
        if reason != LOST_REFERENCE:
            self._held.forget(client)
        initial = self._initial.at(client)
        if initial and (reason == LOST_REFERENCE or (reason == LOST and parcel.order.base == initial.fingerprint)):
            self._initial.lose(client)

    def save_state(self, folder: Path) -> Snapshot:
        """Return who holds what, and write the models that no earlier call has written beside it; see `ModelFiles`."""
        models = list(self._held.models())
        own = Snapshot(
            {"full_bytes": self._full_bytes, "models": [(held.fingerprint, held.as_of) for held in models]}, {}
        )
        return Snapshot.join(
            {
                "own": own,
                "holders": Snapshot.of_mapping(self._held.holders(), np.int64),
                "files": self._files.save(folder, {each.fingerprint: each.model for each in models}),
            }
        )

    def restore_state(self, folder: Path, snapshot: Snapshot) -> None:
        """Go on as the server that saved this would.

        Raises:
            CheckpointError: A model is missing or damaged.
        """
        files = self._files.restore(folder, snapshot.part("files"))
        facts = snapshot.part("own").facts
        models = (HeldModel(fingerprint, files[fingerprint], as_of) for fingerprint, as_of in facts["models"])
        self._held.restore(models, snapshot.part("holders").as_mapping())
        self._full_bytes = facts["full_bytes"]

    def _choose(self, client: int) -> _Parcel:
        initial = self._initial.at(client)
        if base := self._held.get(client) or initial:
            delta = self._parcel(base, initial)
            is_near = self._budget or self._server_round - delta.as_of <= self._max_lag
            if is_near and self._is_smaller(delta):
                return delta
            # The client keeps what the frame makes and what it is relative to, but not what it held before.
            self._held.forget(client)
        return self._whole()

    def _is_smaller(self, delta: _Parcel) -> bool:
        size = num_bytes(delta.record)
        return size < _SURELY_SMALLER * self._full_bytes or size < num_bytes(self._whole().record)

    def _whole(self) -> _Parcel:
        zeros = {name: np.zeros_like(values) for name, values in self._model.items()}
        whole = self._parcel(HeldModel(NOTHING, zeros, self._server_round), None)
        self._full_bytes = num_bytes(whole.record)
        return whole

    def _parcel(self, base: HeldModel, initial: HeldModel | None) -> _Parcel:
        """Encode the global model relative to a base, once a round."""
        references = tuple(_others(base.fingerprint, initial)) if base.fingerprint != NOTHING else ()
        key = base.fingerprint, tuple(reference.fingerprint for reference in references)
        if key not in self._parcels:
            self._parcels[key] = self._encode(base, references)
        return self._parcels[key]

    def _encode(self, base: HeldModel, references: tuple[HeldModel, ...]) -> _Parcel:
        is_whole = base.fingerprint == NOTHING
        moment = CodingContext(
            run=self._run,
            sender=SERVER,
            round=self._server_round,
            base=base.fingerprint,
            model=base.model,
            references=tuple(reference.model for reference in references),
        )
        rng = derive_rng(self._seed, self._server_round, base.fingerprint, "downlink")
        codec = self.full_codec if is_whole else self.codec
        budget = None if is_whole else granted(self._budget, self._server_round, 0) or None
        delta, spec = subtract_models(self._model, base.model), ModelSpec.of(base.model)
        frame = codec.encode(delta, rng=rng, context=moment, budget=budget).frame
        decoded = decode(frame, spec, context=moment, limits=OWN_FRAMES)
        received = add_delta(base.model, decoded)
        lag = 0.0 if is_whole else _share_lost(delta, decoded) * (self._server_round - base.as_of)
        order = ModelOrder(
            base=base.fingerprint,
            model=fingerprint_model(received),
            references=tuple(reference.fingerprint for reference in references),
        )
        self._kept_bytes += sum(values.nbytes for values in received.values())
        kept = received if self._kept_bytes <= self._cache_bytes else None
        record = pack_model(frame, spec if is_whole else None)
        # A copy of the context: the one that coded has cached what it found out, a few vectors of the model's size.
        return _Parcel(base, frame, order, record, replace(moment), kept, self._server_round - lag)


def _share_lost(delta: ModelDelta, decoded: ModelDelta) -> float:
    """Return the norm of what a codec dropped over that of what it was given."""
    floats = [name for name, values in delta.items() if values.dtype.kind == "f"]
    lost = sum(float(np.square(delta[name] - decoded[name], dtype=np.float64).sum()) for name in floats)
    given = sum(float(np.square(delta[name], dtype=np.float64).sum()) for name in floats)
    return math.sqrt(lost / given) if given else 0.0


def parse_whole_model_codec(text: str) -> Codec:
    """Read the codec of whole models.

    Raises:
        UsageError: It does not parse, or has a transform.
    """
    codec = parse_codec(text)
    if codec.transform:
        raise UsageError(
            f"{text} can not send whole models: the sums of {codec.transform.name} may differ in their last bits "
            "between machines, and a whole model is what helps a client then"
        )
    return codec
