"""What a store holds, asked at most every so often: a prediction can not list a folder first."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.store import Manifest, check_digest, check_name

if TYPE_CHECKING:
    from fedcomp.store import ModelStore

REFRESH_SECONDS = 2.0
"""How long a name's newest version is taken for that: who publishes waits as long."""
_MOST_KEPT = 1024


class Listed(NamedTuple):
    """A version as it is listed: its manifest, that as bytes, and their SHA-256."""

    manifest: Manifest
    content: bytes
    digest: str


class Catalog:
    """Manifests of a store, kept for a while."""

    def __init__(self, store: ModelStore, *, refresh_seconds: float = REFRESH_SECONDS) -> None:
        self._store, self._refresh_seconds = store, refresh_seconds
        self._kept: OrderedDict[tuple[str, str], tuple[float, Listed]] = OrderedDict()

    async def find(self, name: str, digest: str = "") -> Listed:
        """Return the newest version of a name, or that of a manifest or an artifact.

        Raises:
            UsageError: The name or digest is none.
            UnknownModel: There is no such version.
            ArtifactError: Its manifest is damaged.
        """
        key = check_name(name), digest and check_digest(digest)
        until, listed = self._kept.get(key, (0.0, None))
        if listed is None or until < time.monotonic():
            listed = await asyncio.to_thread(self._look_up, *key)
            self._kept[key] = time.monotonic() + self._refresh_seconds, listed
            self._kept.move_to_end(key)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return listed

    def _look_up(self, name: str, digest: str) -> Listed:
        version = self._store.resolve(name, digest or None)
        content = self._store.manifest_bytes(version)
        return Listed(Manifest.from_bytes(content), content, version.digest)
