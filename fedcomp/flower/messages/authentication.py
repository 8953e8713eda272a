"""Updates that a relay can not swap: a tag by a secret that only one client and the server share.

TLS protects messages as far as the SuperLink, and node keys say who sent a request there. Neither binds what the
SuperLink, or whatever stands in its place, hands on. The tag does: HMAC-SHA256 over frame, metrics, sender, the
server's order (training, round, codec, seed and all) and the model that the client trained from.

It travels behind the frame: ``frame | name of the key | tag, 32 bytes | length of the name, 1 byte``.

References:
    Krawczyk, Bellare and Canetti, HMAC: Keyed-Hashing for Message Authentication, RFC 2104, 1997.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from fedcomp.errors import FrameError, UsageError
from fedcomp.private_files import create_private

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from fedcomp.flower.messages.order import CompressionOrder
    from fedcomp.types import Model

_PURPOSE = "fedcomp update, version 1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY_BYTES, _TAG_BYTES = 32, 32
_KEY_FILE = re.compile(rf"({_NAME.pattern}):([0-9a-f]{{{2 * _KEY_BYTES}}})\s*")
LARGEST_SEAL = 64 + _TAG_BYTES + 1
"""Most bytes behind a frame."""


class Unauthenticated(FrameError):
    """An update without the tag of a client that the server knows, or with a wrong one."""

    reason: ClassVar[str] = "unauthenticated"


@dataclass(frozen=True, slots=True)
class FrameKey:
    """A client's secret.

    Args:
        name: The client's, as the server knows it; not a secret.
        secret: 32 random bytes. It is not part of the object's text.
    """

    name: str
    secret: bytes = field(repr=False)

    @classmethod
    def read(cls, path: str | Path) -> FrameKey:
        """Read a key's file.

        Raises:
            UsageError: It can not be read, or holds something else.
        """
        try:
            text = Path(path).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"frame key {path}: {getattr(error, 'strerror', None) or 'is no text'}") from None
        if not (match := _KEY_FILE.fullmatch(text)):
            raise UsageError(f"frame key {path} is not of the form NAME:{2 * _KEY_BYTES} hexadecimal digits")
        return cls(match[1], bytes.fromhex(match[2]))


class FrameKeys:
    """The server's copies of all clients' keys: a file ``NAME.key`` each.

    A file is read when a client of that name is heard of, so a key is added and revoked with its file.

    Args:
        folder: Where the files are.

    Raises:
        UsageError: It is no folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise UsageError(f"{folder} is no folder of frame keys")

    def issue(self, name: str) -> Path:
        """Make a new key, and return its file, which is to be copied to the client.

        Raises:
            UsageError: The name is none, or has a key already.
            CredentialError: The file can not be written.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} can not name a frame key: 1 to 64 of A-Z a-z 0-9 . _ -, no . _ - in front")
        path = self._folder / f"{name}.key"
        create_private({path: f"{name}:{secrets.token_hex(_KEY_BYTES)}\n".encode()})
        return path

    def find(self, name: str) -> FrameKey:
        """Return the key of a name, which may be anybody's claim.

        Raises:
            Unauthenticated: There is none.
        """
        try:
            if _NAME.fullmatch(name) and (key := FrameKey.read(self._folder / f"{name}.key")).name == name:
                return key
        except UsageError:
            pass
        raise Unauthenticated(f"there is no frame key of the name {name!r}")


class AssociatedData(NamedTuple):
    """What a tag says besides the frame; each end fills it with what it knows itself, and it is not sent.

    Args:
        sender: The client's node id.
        order: The server's, to this client.
        model: `digest_model` of what the client trained from.
        content: The reply, whose metrics count.
    """

    sender: int
    order: CompressionOrder
    model: str
    content: RecordDict

    def tag(self, key: FrameKey, frame: bytes) -> bytes:
        """Return the tag of a frame."""
        metrics = {name: dict(record) for name, record in self.content.metric_records.items()}
        facts = [_PURPOSE, key.name, self.sender, asdict(self.order), self.model, metrics]
        header = json.dumps(facts, sort_keys=True).encode()
        return hmac.digest(key.secret, len(header).to_bytes(8, "big") + header + frame, "sha256")


def seal(frame: bytes, key: FrameKey, what: AssociatedData) -> bytes:
    """Return a frame with its tag behind it."""
    return frame + key.name.encode() + what.tag(key, frame) + bytes([len(key.name)])


def size_of_seal(key: FrameKey) -> int:
    """Return how many bytes `seal` adds."""
    return len(key.name) + _TAG_BYTES + 1


def unseal(sealed: bytes, keys: FrameKeys, what: AssociatedData) -> tuple[bytes, str]:
    """Return a frame whose tag is right, and the name of its key.

    Raises:
        Unauthenticated: It has no tag, a wrong one, or one by a key that is not there.
    """
    middle = len(sealed) - 1 - _TAG_BYTES
    start = middle - (sealed[-1] if sealed else 0)
    if start < 0:
        raise Unauthenticated("update has no tag")
    name, tag = sealed[start:middle].decode("ascii", "replace"), sealed[middle:-1]
    frame = sealed[:start]
    if not hmac.compare_digest(tag, what.tag(keys.find(name), frame)):
        raise Unauthenticated(
            f"tag by key {name!r} is not that of this update: it was changed, or is of another moment"
        )
    return frame, name


def digest_model(model: Model) -> str:
    """Return the SHA-256 of a model: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, values in model.items():
        digest.update(json.dumps([name, values.dtype.str, values.shape]).encode())
        digest.update(np.ascontiguousarray(values).data if values.size else b"")
    return digest.hexdigest()
