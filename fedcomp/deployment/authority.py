"""A certificate authority of one's own, and the certificate that it gives the server (RFC 5280).

A folder holds ``ca.key`` and ``ca.crt``, which clients trust, and ``server.key`` and ``server.crt``. All keys are ECDSA
on P-256: every TLS stack has it, and small devices verify it fast.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcomp.errors import CredentialError, UsageError
from fedcomp.private_files import (
    create_private,
    private_folder,
    read_private,
    refuse_existing,
    replace_private,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CA_KEY, CA_CERTIFICATE, SERVER_KEY, SERVER_CERTIFICATE = "ca.key", "ca.crt", "server.key", "server.crt"
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")  # the server's own processes connect to it as clients do
DEFAULT_DAYS = 365

_CA_DAYS = 3650
_BACKDATE = timedelta(days=1)  # a device's clock may be behind
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)
_MAX_HOST_LENGTH = 253
_NOTHING_ALLOWED = dict.fromkeys(
    (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    ),
    False,
)  # fmt: skip


class Certified(NamedTuple):
    """What a server certificate says.

    Attributes:
        hosts: The DNS names and IP addresses that clients may connect to.
        until: The moment when it expires.
    """

    hosts: tuple[str, ...]
    until: datetime


def create_authority(folder: Path, hosts: Sequence[str] = (), days: int = DEFAULT_DAYS) -> Certified:
    """Make a certificate authority, a server key and its certificate: all four files, or none.

    Args:
        folder: Where they go; it is made if need be.
        hosts: DNS names, which may begin with ``*.``, and IP addresses of the server, without ports. Those of the
            loopback are always added.
        days: How long the server's certificate is valid. The authority's is for ten years, or as long if that is more.

    Raises:
        UsageError: One of the files is there already, or a host is neither a name nor an address.
    """
    names = _subject_alternative_name(hosts)
    paths = [folder / name for name in (CA_KEY, CA_CERTIFICATE, SERVER_KEY, SERVER_CERTIFICATE)]
    refuse_existing(paths)
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _certify_authority(ca_key, max(days, _CA_DAYS))
    server = _certify_server(server_key.public_key(), names, days, ca, ca_key)
    private_folder(folder)
    contents = (
        _key_pem(ca_key),
        ca.public_bytes(Encoding.PEM),
        _key_pem(server_key),
        server.public_bytes(Encoding.PEM),
    )
    create_private(dict(zip(paths, contents, strict=True)))
    return _read_out(server)


def renew_server_certificate(folder: Path, hosts: Sequence[str] | None = None, days: int = DEFAULT_DAYS) -> Certified:
    """Replace the server's certificate by a new one for the same key, from the same authority.

    Args:
        folder: What `create_authority` filled.
        hosts: As there; None keeps those of the old certificate.
        days: How long the new one is valid.

    Raises:
        UsageError: The authority's own certificate ends before, or a host is neither a name nor an address.
        CredentialError: A file is missing or damaged, or the authority's key is not its certificate's.
    """
    ca_key, server_key = (_load_key(folder / name) for name in (CA_KEY, SERVER_KEY))
    ca = _load_certificate(folder / CA_CERTIFICATE)
    if ca.public_key() != ca_key.public_key():
        raise CredentialError(f"{folder / CA_KEY} is not the key of {folder / CA_CERTIFICATE}")
    left = (ca.not_valid_after_utc - datetime.now(UTC)).days
    if days > left:
        raise UsageError(f"--days is {days}, but {folder / CA_CERTIFICATE} is valid for {left} more days only")
    if hosts is None:
        hosts = _hosts(folder / SERVER_CERTIFICATE)
    server = _certify_server(server_key.public_key(), _subject_alternative_name(hosts), days, ca, ca_key)
    replace_private(folder / SERVER_CERTIFICATE, server.public_bytes(Encoding.PEM))
    return _read_out(server)


def trust(authority: Path) -> ssl.SSLContext:
    """Return TLS for a client that trusts an authority alone.

    Args:
        authority: File of its certificate, PEM.

    Raises:
        UsageError: It holds none.
    """
    try:
        return ssl.create_default_context(cafile=str(authority))
    except OSError as error:
        raise UsageError(f"{authority} holds no authority's certificate in PEM: {error}") from None


def _certify_authority(key: ec.EllipticCurvePrivateKey, days: int) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedcomp certificate authority")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _certify_server(
    key: ec.EllipticCurvePublicKey,
    names: x509.SubjectAlternativeName,
    days: int,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedcomp server")])
    return (
        _builder(subject, ca.subject, key, days)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{**_NOTHING_ALLOWED, **dict.fromkeys(allowed, True)})


def _subject_alternative_name(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys((*hosts, *LOOPBACK_HOSTS))])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    *_, last = labels = host.removeprefix("*.").split(".")
    is_name = all(map(_LABEL.fullmatch, labels)) and not last.isdecimal() and len(host) <= _MAX_HOST_LENGTH
    if not is_name:
        raise UsageError(f"host {host!r} is neither a DNS name nor an IP address; give it without a port")
    return x509.DNSName(host.lower())


def _hosts(path: Path) -> tuple[str, ...]:
    try:
        return _read_out(_load_certificate(path)).hosts
    except x509.ExtensionNotFound:
        raise CredentialError(f"{path} names no hosts (it has no subject alternative names): give them") from None


def _read_out(certificate: x509.Certificate) -> Certified:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return Certified(tuple(str(name.value) for name in names), certificate.not_valid_after_utc)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialError(f"{path} is damaged or encrypted: expected a private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CredentialError(f"{path} is not a key of an elliptic curve, as `keys init` makes them")
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_private(path))
    except ValueError:
        raise CredentialError(f"{path} is damaged: expected a certificate in PEM") from None
