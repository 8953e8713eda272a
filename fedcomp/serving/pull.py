"""An edge client's newest model: fetched when it is another one, over a link that may break at any byte."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.errors import ArtifactError, ServingError
from fedcomp.files import asked_to_write, write_atomically
from fedcomp.printable import printable
from fedcomp.serving.client import CallFailed
from fedcomp.serving.patience import Patience
from fedcomp.store import MAX_ARTIFACT_BYTES, Manifest, check_digest, check_name, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fedcomp.serving.client import ModelClient

_log = logging.getLogger("fedcomp")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class Pulled(NamedTuple):
    """What a pull did.

    Args:
        manifest: Of the model that is held now.
        path: Of its artifact.
        received_bytes: Of the artifact, over the network; 0 if it was held already.
    """

    manifest: Manifest
    path: Path
    received_bytes: int


class _Broken(ServingError):
    """A try that failed where the next one may not."""


class _Copy:
    """One model's files in a folder, and what of a download is there."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self._folder, self._name = folder / f"{name}.fcm", folder, name
        with asked_to_write(f"the folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)

    def holds(self, manifest: Manifest) -> bool:
        """Tell whether the artifact is there and whole."""
        return _length(self.path) == manifest.artifact_bytes and digest_of(self.path.read_bytes()) == manifest.artifact

    def begin(self, manifest: Manifest) -> Path:
        """Return where what has come of an artifact is kept; what has come of others goes."""
        partial = self._folder / f".{self._name}-{manifest.artifact}.partial"
        for other in self._folder.glob(f".{self._name}-{'?' * len(manifest.artifact)}.partial"):
            if other != partial:
                other.unlink()
        return partial

    def accept(self, partial: Path, manifest: Manifest) -> bool:
        """Put a download in the old model's place, or away if it is another artifact than was promised."""
        if digest_of(partial.read_bytes()) != manifest.artifact:
            partial.unlink()
            return False
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.path)
        return True

    def describe(self, manifest: bytes) -> None:
        """Write the manifest beside the artifact."""
        write_atomically(self._folder / f"{self._name}.json", manifest)


def pull(
    client: ModelClient,
    name: str,
    folder: Path,
    *,
    digest: str = "",
    tries: int = 8,
    sleep: Callable[[float], None] = time.sleep,
) -> Pulled:
    """Fetch a model into ``NAME.fcm``, and its manifest into ``NAME.json``, unless it is there.

    What has come of a download that breaks stays in a file beside them, where the next try, or the next pull, goes on.
    The whole is verified before it takes the old model's place; if it is wrong, it is fetched anew.

    Args:
        client: Of the service.
        name: Of the model.
        folder: Where it goes; it is made if need be.
        digest: Of the one version, manifest or artifact, that is wanted; empty takes the newest.
        tries: In a row that bring next to nothing; a change of what is offered counts to the end, whatever comes.
            Pauses double, up to 30 seconds.
        sleep: Pauses.

    Raises:
        UsageError: The name or digest is none, or the folder can not be made.
        ServingError: The service refuses, or can not be reached.
        ArtifactError: What it offers is not what is wanted.
    """
    copy, patience, received, is_anew = _Copy(folder, check_name(name)), Patience(), 0, False
    digest = digest and check_digest(digest)
    while True:
        before = received
        try:
            content = client.get_manifest(name, digest)
            manifest = _read_offer(content, name, digest)
            patience.offer(manifest)
            if not copy.holds(manifest):
                partial = copy.begin(manifest)
                for num_bytes in _receive(client, manifest, partial):
                    received += num_bytes
                if not copy.accept(partial, manifest):
                    wrong = f"what came of {name} is not artifact {manifest.artifact[:12]}"
                    if is_anew:  # so it is not what an earlier try had left
                        raise ArtifactError(wrong)
                    is_anew = True
                    raise _Broken(wrong)
            copy.describe(content)
            return Pulled(manifest, copy.path, received)
        except (CallFailed, _Broken) as error:
            if isinstance(error, CallFailed) and not error.may_pass:
                raise
            patience.fail(received - before)
            if patience.failures >= tries:
                raise ServingError(f"gave up after {patience.failures} tries: {error}") from None
            _log.warning("%s; tried again", error)
        sleep(min(_FIRST_PAUSE * 2 ** (patience.failures - 1), _LONGEST_PAUSE))


def _read_offer(content: bytes, name: str, digest: str) -> Manifest:
    manifest = Manifest.from_bytes(content)
    if manifest.name != name or manifest.artifact_bytes > MAX_ARTIFACT_BYTES:
        raise ArtifactError(f"service offers {manifest.artifact_bytes} bytes of {manifest.name!r} for {name!r}")
    if digest and digest not in (manifest.artifact, digest_of(content)):
        raise ArtifactError(f"service offers artifact {manifest.artifact[:12]}, but {digest[:12]} is wanted")
    return manifest


def _receive(client: ModelClient, manifest: Manifest, partial: Path) -> Iterator[int]:
    """Yield the length of each chunk once it is in the file."""
    if _length(partial) > manifest.artifact_bytes:
        partial.unlink()
    opened = client.open_download(manifest.name, manifest.artifact, _length(partial))
    if (opened.artifact, opened.num_bytes) != (manifest.artifact, manifest.artifact_bytes):
        raise ArtifactError(f"service sends artifact {printable(opened.artifact, 80)}, its manifest says another")
    with partial.open("ab") as file:
        for chunk in opened.chunks:
            if file.tell() + len(chunk) > manifest.artifact_bytes:
                raise ArtifactError(f"service sends more than the {manifest.artifact_bytes} bytes of its manifest")
            file.write(chunk)
            file.flush()
            yield len(chunk)
    if (found := _length(partial)) < manifest.artifact_bytes:
        raise _Broken(f"download ended after {found} of {manifest.artifact_bytes} bytes")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
