"""When to give up on a service: none keeps a client at it for ever, neither by crumbs nor by new artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedcomp.store import Manifest

_STEPS = 4096
"""A try that brings less than this fraction of an artifact counts as if it had brought nothing."""


class Patience:
    """Counts failed tries in a row. Progress makes up for them, but never for a change of what is offered.

    Attributes:
        failures: Tries so far that count.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._changes, self._is_other = 0, False
        self._offered: tuple[str, int] | None = None

    def offer(self, manifest: Manifest) -> None:
        """Compare what a try is offered with what the one before was."""
        offered = manifest.artifact, manifest.artifact_bytes
        self._is_other = self._offered not in (None, offered)
        self._changes += self._is_other
        self._offered = offered

    def fail(self, received_bytes: int) -> None:
        """Count a try that failed after some bytes of an artifact."""
        self.failures = 1 + (self._changes if self._is_progress(received_bytes) else self.failures)

    def _is_progress(self, received_bytes: int) -> bool:
        _, whole = self._offered or ("", 0)
        return not self._is_other and received_bytes > 0 and whole <= received_bytes * _STEPS
