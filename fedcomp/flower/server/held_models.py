"""Which client holds which model: models that several hold are kept once, and all of them within a cap of memory.

What was not looked at for the longest time goes first. A client whose model is gone counts as one that holds none.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.errors import UsageError
from fedcomp.types import have_same_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fedcomp.types import Model


class HeldModel(NamedTuple):
    """A model that a client may hold.

    Args:
        fingerprint: See `fingerprint_model`.
        model: As the client decoded it.
        as_of: The round whose global model it is like: where half of a difference got through, halfway between.
    """

    fingerprint: int
    model: Model
    as_of: float


class HeldModels:
    """What the server knows of the models at its clients.

    Args:
        max_bytes: Most bytes of models that are kept; 0 keeps none.

    Raises:
        UsageError: `max_bytes` is negative.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise UsageError(f"downlink_cache_bytes is {max_bytes}, expected 0 or more")
        self._max_bytes = max_bytes
        self._models: OrderedDict[int, HeldModel] = OrderedDict()  # the least recently used first
        self._holders: dict[int, set[int]] = {}
        self._held: dict[int, int] = {}
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._models)

    def get(self, client: int) -> HeldModel | None:
        """Return what a client holds, None if that is not known."""
        if (fingerprint := self._held.get(client)) is None:
            return None
        self._models.move_to_end(fingerprint)
        return self._models[fingerprint]

    def hold(self, client: int, fingerprint: int, as_of: float, make: Callable[[], Model]) -> None:
        """Note that a client holds a model from now on; it is made only if no other client holds it."""
        if self._held.get(client) != fingerprint:
            self.forget(client)
        if fingerprint not in self._models:
            self._add(HeldModel(fingerprint, make(), as_of))
        self._models.move_to_end(fingerprint)
        self._holders[fingerprint].add(client)
        self._held[client] = fingerprint
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._models)))

    def forget(self, client: int) -> None:
        """Note that nothing is known of a client; a model that nobody else holds goes."""
        if (fingerprint := self._held.pop(client, None)) is not None:
            self._holders[fingerprint].discard(client)
            if not self._holders[fingerprint]:
                self._drop(fingerprint)

    def forget_unlike(self, model: Model) -> None:
        """Let models go that have other tensors than this one."""
        for held in [*self._models.values()]:
            if not have_same_tensors(held.model, model):
                self._drop(held.fingerprint)

    def models(self) -> Iterator[HeldModel]:
        """Return the models, the least recently used first."""
        return iter(self._models.values())

    def holders(self) -> Mapping[int, int]:
        """Return the fingerprint of each client's model."""
        return self._held

    def restore(self, models: Iterable[HeldModel], holders: Mapping[int, int]) -> None:
        """Go back to what `models` and `holders` returned."""
        self._models, self._holders, self._held, self.num_bytes = OrderedDict(), {}, {}, 0
        for held in models:
            self._add(held)
        for client, fingerprint in holders.items():
            self._holders[fingerprint].add(client)
            self._held[client] = fingerprint

    def _add(self, held: HeldModel) -> None:
        self._models[held.fingerprint], self._holders[held.fingerprint] = held, set()
        self.num_bytes += _num_bytes(held.model)

    def _drop(self, fingerprint: int) -> None:
        self.num_bytes -= _num_bytes(self._models.pop(fingerprint).model)
        for client in self._holders.pop(fingerprint):
            del self._held[client]


def _num_bytes(model: Model) -> int:
    return sum(values.nbytes for values in model.values())
