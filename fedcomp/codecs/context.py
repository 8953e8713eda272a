"""What both ends of a transfer know for free, and therefore never send."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import xxhash

from fedcomp.codecs.known import Known
from fedcomp.errors import StaleFrame
from fedcomp.types import fingerprint_model
from fedcomp.wire import Binding

if TYPE_CHECKING:
    from fedcomp.codecs.layout import TensorGroup
    from fedcomp.types import Model

_MOST_GROUPS = 4
"""What is known of each is a few vectors of the model's size, and a frame may name any: by which tensors it freezes."""


@dataclass(frozen=True)
class CodingContext:
    """The moment an update belongs to, and what both ends hold then. Each end builds it from its own knowledge.

    Args:
        run: The run's id, any text.
        sender: The client's id, any text.
        round: The server round, from 1.
        base: Fingerprint of the model that the update is relative to (`fingerprint_model`).
        model: That model, for codecs that make use of it.
        references: Earlier models that both ends hold, too, the earliest last, such as the initial one: where training
            has moved since then is where it moves next. They are part of what a frame is bound to, so that it is never
            decoded with others. Without `model` they are of no use.
    """

    run: str
    sender: str
    round: int
    base: int
    model: Model | None = None
    references: tuple[Model, ...] = ()

    @cached_property
    def binding(self) -> Binding:
        """The context's fingerprints, as they travel."""
        return Binding(round=self.round, origin=_fingerprint(self.run, self.sender), base=self._models)

    def check(self, found: Binding) -> None:
        """Raise `StaleFrame` unless a frame was made in this very context."""
        expected = self.binding
        if found.round != expected.round:
            raise StaleFrame(f"update was made in round {found.round}, expected round {expected.round}")
        if found.origin != expected.origin:
            raise StaleFrame(
                f"update was made by another client or in another run than {self.sender!r} of {self.run!r}"
            )
        if found.base != expected.base:
            around = f" with {len(self.references)} references" if self.references else ""
            raise StaleFrame(f"update is relative to model {found.base:08x}, expected {expected.base:08x}{around}")

    def known(self, group: TensorGroup) -> Known | None:
        """Return the models as vectors like that of a group of tensors; None if there is nothing to know."""
        if self.model is None or not self.references:
            return None
        known = self._known.get(group.tensors)
        if known is None:
            now = group.flatten(self.model, "float32")
            if len(self._known) == _MOST_GROUPS:
                del self._known[next(iter(self._known))]
            known = Known(tuple(now - group.flatten(earlier, "float32") for earlier in self.references), group.cuts)
            self._known[group.tensors] = known
        return known

    def sent_by(self, sender: str) -> CodingContext:
        """Return the same moment for another sender; what follows from the models alone is worked out once for all."""
        other = replace(self, sender=sender)
        other.__dict__.update(_known=self._known, _models=self._models)
        return other

    @cached_property
    def _models(self) -> int:
        """Fingerprint of base and references."""
        return _fingerprint(self.base, *map(fingerprint_model, self.references)) if self.references else self.base

    @cached_property
    def _known(self) -> dict[object, Known]:
        return {}


def _fingerprint(*facts: object) -> int:
    return xxhash.xxh3_64_intdigest(repr(facts).encode()) % (2**32 - 1) + 1
