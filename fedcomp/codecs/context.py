"""What both ends of a transfer know for free, and therefore never send."""

from __future__ import annotations

from dataclasses import dataclass

import xxhash

from fedcomp.errors import StaleFrame
from fedcomp.wire import Binding


@dataclass(frozen=True, slots=True)
class CodingContext:
    """The moment an update belongs to. Encoder and decoder each build it from what they hold themselves.

    Args:
        run: The run's id, any text.
        sender: The client's id, any text.
        round: The server round, from 1.
        base: Fingerprint of the global model that the update is relative to (`fingerprint_model`).
    """

    run: str
    sender: str
    round: int
    base: int

    @property
    def binding(self) -> Binding:
        """The context's fingerprints, as they travel."""
        origin = xxhash.xxh3_64_intdigest(repr((self.run, self.sender)).encode()) % (2**32 - 1) + 1
        return Binding(round=self.round, origin=origin, base=self.base)

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
            raise StaleFrame(f"update is relative to model {found.base:08x}, expected {expected.base:08x}")
