"""An edge client's newest model: fetched when it is another one, over a link that may break at any byte."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.errors import ArtifactError, ServingError
from fedcomp.files import write_atomically
from fedcomp.serving.client import CallFailed
from fedcomp.store import MAX_ARTIFACT_BYTES, Manifest, check_digest, check_name, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fedcomp.serving.client import ModelClient

_log = logging.getLogger("fedcomp")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class Pulled(NamedTuple):
    """What a pull did.

    Args:
        manifest: Of the model that is held now.
        path: Of its artifact.
        received_bytes: Of artifacts, over the network; 0 if the model was held already.
        resumed_bytes: What an earlier try had left.
    """

    manifest: Manifest
    path: Path
    received_bytes: int
    resumed_bytes: int


class _Broken(ServingError):
    """A try that failed; the next one may not."""


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

    What has come of a download that breaks stays in ``.NAME-DIGEST.partial``, where the next try, or the next pull, goes
    on. The whole is verified before it takes the old model's place; if it is wrong, it is fetched anew.

    Args:
        client: Of the service.
        name: Of the model.
        folder: Where it goes; it is made if need be.
        digest: Of the one version, manifest or artifact, that is wanted; empty takes the newest.
        tries: In a row without a new byte; each pause is about twice as long as the one before, 30 seconds at most.
        sleep: Pauses.

    Raises:
        UsageError: The name or digest is none.
        ServingError: The service refuses, or can not be reached.
        ArtifactError: What it sends is not what it says, or not what is wanted.
    """
    digest = digest and check_digest(digest)
    partials = _Partials(folder, check_name(name))
    folder.mkdir(parents=True, exist_ok=True)
    failures, received, resumed = 0, 0, 0
    while True:
        before = received
        try:
            content = client.get_manifest(name, digest)
            manifest = _read_manifest(content, name, digest)
            path = folder / f"{name}.fcm"
            if _holds(path, manifest):
                write_atomically(folder / f"{name}.json", content)
                return Pulled(manifest, path, received, resumed)
            partial = partials.of(manifest.artifact)
            if not received:
                resumed = _length(partial)
            for num_bytes in _receive(client, manifest, partial):
                received += num_bytes
            _verify(partial, manifest)
            partial.replace(path)
            partials.remove_others()
        except CallFailed as error:
            if not error.may_pass:
                raise
            failure: ServingError = error
        except _Broken as error:
            failure = error
        else:
            continue  # the next look finds it, and the manifest is written last
        failures = 1 if received > before else failures + 1
        if failures >= tries:
            raise ServingError(f"gave up after {failures} tries: {failure}")
        pause = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311
        _log.warning("%s; next try in %.1f s", failure, pause)
        sleep(pause)
