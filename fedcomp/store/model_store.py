"""Models by name and version.

``objects/ab/abcd...`` holds artifacts and manifests by their SHA-256. ``models/NAME/MOMENT-DIGEST`` is an empty file:
its name says that at that moment (nanoseconds since 1970) that manifest became the newest of its name. Nothing is ever
changed, so writers need no lock: each makes files that nobody else makes, and the last of them is what publishes.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.errors import UnknownModel, UsageError
from fedcomp.store.artifact import MAX_ARTIFACT_BYTES
from fedcomp.store.manifest import MAX_MANIFEST_BYTES, Manifest
from fedcomp.store.names import check_digest, check_name, digest_of, is_name
from fedcomp.store.objects import ObjectFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE_SECONDS = 3600.0
"""Objects younger than this are never collected: their version may be about to be published."""

_VERSION = re.compile(r"(\d{20})-([0-9a-f]{64})", re.ASCII)


class Version(NamedTuple):
    """A manifest under a name.

    Args:
        moment: When it was published, nanoseconds since 1970; later versions have larger ones.
        digest: SHA-256 of the manifest.
    """

    moment: int
    digest: str

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"{self.moment:020}-{self.digest}"


class Collected(NamedTuple):
    """What a collection deleted: versions, and objects that no version needs."""

    versions: int
    objects: int


class ModelStore:
    """A store of models.

    Args:
        url: A folder or a URL of fsspec; it need not be there yet.

    Raises:
        UsageError: The URL's file system is unknown or not installed.
    """

    def __init__(self, url: str) -> None:
        self._objects = ObjectFolder(url)

    @property
    def url(self) -> str:
        """Where it is."""
        return self._objects.url

    def put(self, manifest: Manifest, artifact: bytes) -> Version:
        """Keep a model and make it the newest of its name.

        Raises:
            ValueError: The manifest is of another artifact.
            StoreError: It can not be written.
        """
        content = manifest.to_bytes()
        if (digest := digest_of(artifact)) != manifest.artifact:
            raise ValueError(f"manifest is of another artifact: {manifest.artifact}, found {digest}")
        self._objects.put(artifact)
        last = max((version.moment for version in self.versions(manifest.name)), default=0)
        version = Version(max(time.time_ns(), last + 1), self._objects.put(content))
        self._objects.write(f"models/{manifest.name}/{version.file_name}", b"")
        return version

    def names(self) -> list[str]:
        """Return the names that have a version, sorted."""
        return [name for name in self._objects.names("models") if is_name(name) and self.versions(name)]

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a name, the newest last; none if there is no such name."""
        found = map(_VERSION.fullmatch, self._objects.names(f"models/{check_name(name)}"))
        return [Version(int(match[1]), match[2]) for match in found if match]

    def resolve(self, name: str, digest: str | None = None) -> Version:
        """Return the newest version of a name, or the one of that manifest or artifact.

        Raises:
            UnknownModel: There is none.
            UsageError: The name or digest is none.
        """
        if digest is not None:
            check_digest(digest)
        versions = self.versions(name)
        if not versions:
            raise UnknownModel(f"there is no model {name!r}")
        if digest is None:
            return versions[-1]
        # Manifests by their own digest first, without reading any: a damaged one can be named, and hides no other.
        by_manifest = (version for version in reversed(versions) if version.digest == digest)
        by_artifact = (version for version in reversed(versions) if self.manifest(version).artifact == digest)
        for version in chain(by_manifest, by_artifact):
            return version
        raise UnknownModel(f"model {name!r} has no version {digest[:12]}")

    def manifest(self, version: Version) -> Manifest:
        """Return a version's manifest; raises `ArtifactError` if it is damaged, `UnknownModel` if it is gone."""
        return Manifest.from_bytes(self.manifest_bytes(version))

    def manifest_bytes(self, version: Version) -> bytes:
        """Return a version's manifest as it is stored."""
        return self._objects.get(version.digest, MAX_MANIFEST_BYTES)

    def artifact(self, digest: str) -> bytes:
        """Return an artifact, verified; raises `ArtifactError` if it is damaged, `UnknownModel` if it is gone."""
        return self._objects.get(digest, MAX_ARTIFACT_BYTES)

    def delete(self, name: str, version: Version) -> None:
        """Take a version off its name; its objects go with the next collection."""
        self._objects.remove(f"models/{check_name(name)}/{version.file_name}")

    def collect(self, keep_last: int, *, grace_seconds: float = GRACE_SECONDS) -> Collected:
        """Delete all but the newest versions of each name, then objects that no version needs.

        Args:
            keep_last: Versions of each name that stay, 1 or more.
            grace_seconds: Younger objects stay.

        Raises:
            ArtifactError: A version's manifest is damaged: which objects it needs is not known, so none is deleted.
            UsageError: `keep_last` is less than 1.
        """
        if keep_last < 1:
            raise UsageError(f"keep_last is {keep_last}, expected 1 or more")
        old = [(name, version) for name in self.names() for version in self.versions(name)[:-keep_last]]
        for name, version in old:
            self.delete(name, version)
        needed = set(self._needed())
        youngest = datetime.now(UTC).timestamp() - grace_seconds
        garbage = [
            digest for digest in self._objects.digests() if digest not in needed and self._age_allows(digest, youngest)
        ]
        for digest in garbage:
            self._objects.forget(digest)
        return Collected(len(old), len(garbage))

    def _needed(self) -> Iterator[str]:
        for name in self.names():
            for version in self.versions(name):
                yield version.digest
                yield self.manifest(version).artifact

    def _age_allows(self, digest: str, youngest: float) -> bool:
        try:
            return self._objects.written(digest).timestamp() <= youngest
        except UnknownModel:
            return False  # another collection was faster
