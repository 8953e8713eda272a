"""Models as they are stored: compressed by fedcomp's codecs, named by their SHA-256, in a folder or at a URL."""

from fedcomp.store.artifact import MAX_ARTIFACT_BYTES, pack_artifact, unpack_artifact
from fedcomp.store.compress import Compressed, Measure, compress
from fedcomp.store.manifest import Manifest
from fedcomp.store.model_store import Collected, ModelStore, Version
from fedcomp.store.names import check_digest, check_name, digest_of
from fedcomp.store.runtime import LoadedModel

__all__ = [
    "MAX_ARTIFACT_BYTES",
    "Collected",
    "Compressed",
    "LoadedModel",
    "Manifest",
    "Measure",
    "ModelStore",
    "Version",
    "check_digest",
    "check_name",
    "compress",
    "digest_of",
    "pack_artifact",
    "unpack_artifact",
]
