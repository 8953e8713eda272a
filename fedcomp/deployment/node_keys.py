"""The keys of the nodes that may take part: a folder of OpenSSH public keys, one a node.

A node proves with its private key who it is. The server's folder holds ``NAME.pub`` for each node that may take part.
A removed key moves to ``removed/``, so that it is not taken again: a SuperLink refuses for ever what it has
unregistered.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
    ssh_key_fingerprint,
)

from fedcomp.errors import CredentialError, UsageError
from fedcomp.private_files import create_private, move_private, private_folder, read_private

if TYPE_CHECKING:
    from pathlib import Path

NODES_FOLDER = "nodes"  # beside the certificates

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_EXPECTED = "expected an OpenSSH public key, ECDSA on P-256, P-384 or P-521 (ssh-keygen -t ecdsa -b 384)"
_PUBLIC, _PRIVATE, _REMOVED = ".pub", ".key", "removed"


@dataclass(frozen=True)
class NodeKey:
    """The public key of a node.

    Attributes:
        name: What the operator calls the node.
        path: Its file.
        fingerprint: ``SHA256:...``, as ``ssh-keygen -l`` prints it.
        added: When the file was written.
    """

    name: str
    path: Path
    fingerprint: str
    added: datetime


class NodeKeys:
    """The folder of node keys beside a server's certificates.

    Args:
        folder: It need not exist before the first key is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._removed = folder / _REMOVED

    def all(self) -> list[NodeKey]:
        """Return the keys of the nodes that may take part, by name.

        Raises:
            CredentialError: A file is damaged or no such key.
        """
        return [_read_key(path, path.stem) for path in sorted(self.folder.glob(f"[!.]*{_PUBLIC}"))]

    def removed(self) -> list[NodeKey]:
        """Return the keys that were removed.

        Raises:
            CredentialError: A file is damaged or no such key.
        """
        paths = sorted(self._removed.glob(f"[!.]*{_PUBLIC}"))
        return [_read_key(path, path.name.partition("~")[0]) for path in paths]

    def create(self, name: str, out: Path | None = None) -> tuple[NodeKey, Path]:
        """Make a key pair for a node: ECDSA on P-384, as Flower's documentation has it.

        Args:
            name: Of the node.
            out: Where the private key goes, which is then carried to the node; None is ``NAME.key`` in the folder.

        Returns:
            The public key, and the file of the private key.

        Raises:
            UsageError: The name is none or taken, or the private key's file is there already.
        """
        path = self._path(name)
        private_path = out or self.folder / f"{name}{_PRIVATE}"
        private = ec.generate_private_key(ec.SECP384R1())
        private_folder(self.folder)
        create_private(
            {
                private_path: private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
                path: _public_line(private.public_key(), name),
            }
        )
        return _read_key(path, name), private_path

    def accept(self, name: str, public_key: Path) -> NodeKey:
        """Add a key that the node has made itself.

        Args:
            name: Of the node.
            public_key: File in OpenSSH's format; its comment is not kept.

        Raises:
            UsageError: The name is none or taken, the key is another node's, or it was removed before.
            CredentialError: The file holds no key that Flower takes.
        """
        path = self._path(name)
        key = _load_public_key(public_key)
        fingerprint = _fingerprint(key)
        if owner := next((known for known in self.all() if known.fingerprint == fingerprint), None):
            raise UsageError(f"{public_key} holds the key of the node {owner.name}: each node needs its own")
        if any(known.fingerprint == fingerprint for known in self.removed()):
            raise UsageError(
                f"{public_key} holds a key that was removed, and such a key never comes back: make a new one"
            )
        private_folder(self.folder)
        create_private({path: _public_line(key, name)})
        return _read_key(path, name)

    def remove(self, name: str) -> NodeKey:
        """Revoke a node's key; a private key that lies beside it is deleted.

        Raises:
            UsageError: There is no such node.
        """
        path = self._path(name)
        if not path.exists():
            raise UsageError(f"there is no node {name}: {path} is not there")
        key = _read_key(path, name)
        digest = key.fingerprint.removeprefix("SHA256:").replace("/", "_")
        private_folder(self._removed)
        move_private(path, self._removed / f"{name}~{digest}{_PUBLIC}")  # a name may be given again, a key may not
        path.with_suffix(_PRIVATE).unlink(missing_ok=True)
        return key

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"a node can not be called {name!r}: expected 1 to 64 letters, digits, dots, underscores and dashes, "
                "the first no dot and no dash"
            )
        return self.folder / f"{name}{_PUBLIC}"


def private_key_fingerprint(path: Path) -> str:
    """Return the fingerprint of a node's private key, as ``keys list`` prints it of its public half.

    Args:
        path: File in OpenSSH's format.

    Raises:
        CredentialError: It holds no key that Flower takes.
    """
    expected = "expected an OpenSSH private key, ECDSA on P-256, P-384 or P-521, as `keys add` makes it"
    try:
        key = load_ssh_private_key(read_private(path), None)
    except TypeError:
        raise CredentialError(f"{path} is locked by a passphrase, which nobody is asked for; {expected}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CredentialError(f"{path} holds no private key; {expected}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CredentialError(f"{path} holds a key of another kind; {expected}")
    return _fingerprint(key.public_key())


def _public_line(key: ec.EllipticCurvePublicKey, name: str) -> bytes:
    return b"%s %s\n" % (key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), name.encode())


def _read_key(path: Path, name: str) -> NodeKey:
    key = _load_public_key(path)
    return NodeKey(name, path, _fingerprint(key), datetime.fromtimestamp(path.stat().st_mtime, UTC))


def _load_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    content = read_private(path)
    if b"PRIVATE KEY" in content:
        raise CredentialError(f"{path} holds a private key, which stays where it is; {_EXPECTED}")
    try:
        key = load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise CredentialError(f"{path} holds no public key; {_EXPECTED}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise CredentialError(f"{path} holds a key of another kind; {_EXPECTED}")
    return key


def _fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    digest = base64.b64encode(ssh_key_fingerprint(key, hashes.SHA256()))
    return f"SHA256:{digest.decode().rstrip('=')}"
