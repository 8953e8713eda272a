"""The server's side of the downlink: to each client the difference between the global model and what it holds.

What a client holds is what it last trained from, as decoded, bit for bit: its accepted reply is the acknowledgement.
Each difference is taken from that, so what the codec dropped is in the next one: error feedback without a residual.
A client that missed rounds is sent one difference and not a chain of them. Clients that hold the same are sent the
same frame, encoded once.

A client of which nothing is known, one that is too far behind, and one that a whole model costs no more gets a whole
one: relative to zeros, or to the run's initial model where clients can build that themselves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from fedcomp.codecs import CodingContext, decode, parse_codec
from fedcomp.errors import UsageError
from fedcomp.flower.held_models import HeldModel, HeldModels
from fedcomp.flower.model_files import ModelFiles
from fedcomp.flower.model_order import LOST, NOTHING, SERVER, ModelOrder, pack_model
from fedcomp.flower.records import num_bytes
from fedcomp.flower.snapshot import Snapshot
from fedcomp.seeding import derive_rng
from fedcomp.types import ModelSpec, add_delta, fingerprint_model, subtract_models

if TYPE_CHECKING:
    from pathlib import Path

    from flwr.app import ArrayRecord

    from fedcomp.codecs import Codec
    from fedcomp.types import Model, ModelDelta

_SURELY_SMALLER = 0.5
"""A difference of less than this share of the last whole model's bytes is sent without encoding a whole one, too."""


class SentModels(Protocol):
    """What each client was sent in a round, and so trained from."""

    def fingerprint(self, client: int) -> int:
        """Return the fingerprint of the model that a client was sent."""

    def model(self, client: int) -> Model:
        """Return the model that a client was sent."""


class Broadcast:
    """The same model for everyone, exactly."""

    def __init__(self, model: Model) -> None:
        self._model, self._fingerprint = model, fingerprint_model(model)

    def fingerprint(self, client: int) -> int:
        """Return the model's fingerprint."""
        return self._fingerprint

    def model(self, client: int) -> Model:
        """Return the model."""
        return self._model


class _Parcel(NamedTuple):
    """A frame, ready to send to everyone who holds its base."""

    base: Model
    frame: bytes
    order: ModelOrder
    record: ArrayRecord
    as_of: float

    def unpack(self) -> Model:
        """Return what the clients make of it, by the very same steps."""
        return add_delta(self.base, decode(self.frame, ModelSpec.of(self.base)))


class Downlink:
    """Sends models, and keeps what every client holds.

    Args:
        codec: Codec text or preset name for differences.
        full_codec: The same for whole models; without a transform, whose sums may differ in their last bits between
            machines: it is what a client falls back to.
        seed: For stochastic stages.
        clients_build_initial: The clients' mods can build the model of the first round.
        cache_bytes: Most bytes of clients' models that are kept here.
        max_lag: Most rounds that a client may be behind with what a difference makes, as `HeldModel.as_of` counts.

    Raises:
        UsageError: A codec does not parse or fit, or a number is out of range.
    """

    def __init__(
        self,
        codec: str,
        *,
        full_codec: str = "q8",
        seed: int = 0,
        clients_build_initial: bool,
        cache_bytes: int,
        max_lag: float,
    ) -> None:
        if not max_lag > 0:
            raise UsageError(f"downlink_max_lag is {max_lag}, expected a positive number")
        self.codec, self.full_codec = parse_codec(codec), parse_whole_model_codec(full_codec)
        self._seed, self._clients_build_initial = seed, clients_build_initial
        self._held, self._max_lag = HeldModels(cache_bytes), max_lag
        self._initial: HeldModel | None = None
        self._without_initial: set[int] = set()
        self._full_bytes = 0
        self._files = ModelFiles()
        self._run, self._server_round = "", 0
        self._model: Model = {}
        self._parcels: dict[tuple[int, bool], _Parcel] = {}
        self._sent: dict[int, _Parcel] = {}

    def begin(self, run: str, server_round: int, model: Model) -> None:
        """Begin a round; the first one's model is the initial one."""
        self._run, self._server_round, self._model = run, server_round, model
        self._parcels, self._sent = {}, {}
        if self._initial is None and self._clients_build_initial:
            self._initial = HeldModel(fingerprint_model(model), model, server_round)

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

    def acknowledge(self, client: int) -> None:
        """Note that a client trained from what it was sent."""
        parcel = self._sent[client]
        self._held.hold(client, parcel.order.model, parcel.as_of, parcel.unpack)

    def fail(self, client: int, reason: str) -> None:
        """Note that a client could not make its model: it is sent a whole one next time."""
        if (parcel := self._sent.get(client)) is None:
            return
        self._held.forget(client)
        if reason == LOST and self._initial and parcel.order.base == self._initial.fingerprint:
            self._without_initial.add(client)

    def has_initial(self, client: int) -> bool:
        """Tell whether a client is taken to build the initial model itself."""
        return self._initial is not None and client not in self._without_initial

    def save_state(self, folder: Path) -> Snapshot:
        """Return who holds what, and write the models that no earlier call has written beside it; see `ModelFiles`."""
        models, holders = list(self._held.models()), self._held.holders()
        initial = [self._initial] if self._initial else []
        own = Snapshot(
            {
                "initial": [(held.fingerprint, held.as_of) for held in initial],
                "models": [(held.fingerprint, held.as_of) for held in models],
                "full_bytes": self._full_bytes,
            },
            {
                "clients": np.array(list(holders), np.uint64),
                "held": np.array(list(holders.values()), np.int64),
                "without_initial": np.array(sorted(self._without_initial), np.uint64),
            },
        )
        files = {held.fingerprint: held.model for held in (*models, *initial)}
        return Snapshot.join({"own": own, "files": self._files.save(folder, files)})

    def restore_state(self, folder: Path, snapshot: Snapshot) -> None:
        """Go on as the server that saved this would.

        Raises:
            CheckpointError: A model is missing or damaged.
        """
        files = self._files.restore(folder, snapshot.part("files"))
        facts, tensors = snapshot.part("own")
        clients, held = tensors["clients"].tolist(), tensors["held"].tolist()
        models, initial = (
            [HeldModel(fingerprint, files[fingerprint], as_of) for fingerprint, as_of in facts[part]]
            for part in ("models", "initial")
        )
        self._held.restore(models, dict(zip(clients, held, strict=True)))
        self._initial = next(iter(initial), None)
        self._without_initial = set(tensors["without_initial"].tolist())
        self._full_bytes = facts["full_bytes"]

    def _choose(self, client: int) -> _Parcel:
        if held := self._held.get(client):
            delta = self._parcel(held, is_whole=False)
            if self._server_round - delta.as_of <= self._max_lag and self._is_smaller(delta, client):
                return delta
            # The client keeps what the frame makes and what it is relative to, but not what it held before.
            self._held.forget(client)
        return self._whole(client)

    def _is_smaller(self, delta: _Parcel, client: int) -> bool:
        size = num_bytes(delta.record)
        return size < _SURELY_SMALLER * self._full_bytes or size < num_bytes(self._whole(client).record)

    def _whole(self, client: int) -> _Parcel:
        if self._initial and client not in self._without_initial:
            whole = self._parcel(self._initial, is_whole=True)
        else:
            zeros = {name: np.zeros_like(values) for name, values in self._model.items()}
            whole = self._parcel(HeldModel(NOTHING, zeros, self._server_round), is_whole=True)
        self._full_bytes = num_bytes(whole.record)
        return whole

    def _parcel(self, base: HeldModel, *, is_whole: bool) -> _Parcel:
        """Encode the global model relative to a base, once a round."""
        key = base.fingerprint, is_whole
        if key not in self._parcels:
            self._parcels[key] = self._encode(base, is_whole=is_whole)
        return self._parcels[key]

    def _encode(self, held: HeldModel, *, is_whole: bool) -> _Parcel:
        fingerprint, base, as_of = held
        codec = self.full_codec if is_whole else self.codec
        moment = CodingContext(run=self._run, sender=SERVER, round=self._server_round, base=fingerprint)
        rng = derive_rng(self._seed, self._server_round, fingerprint, "downlink")
        delta, spec = subtract_models(self._model, base), ModelSpec.of(base)
        frame = codec.encode(delta, rng=rng, context=moment).frame
        decoded = decode(frame, spec)
        lacking = 0.0 if is_whole else _share_lost(delta, decoded)
        received = add_delta(base, decoded)
        order = ModelOrder(base=fingerprint, model=fingerprint_model(received))
        record = pack_model(frame, spec if fingerprint == NOTHING else None)
        return _Parcel(base, frame, order, record, self._server_round - lacking * (self._server_round - as_of))


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
