"""The certificate authority: what it certifies, strict verifiers accept; nothing else is accepted."""

import http.server
import ssl
import threading
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fedcomp.deployment import create_authority, renew_server_certificate
from fedcomp.errors import CredentialError, UsageError

FILES = ["ca.crt", "ca.key", "server.crt", "server.key"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "certs"
    create_authority(path, ["fl.example.org", "*.edge.example.org"])
    return path


def load(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def server_context(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def client_context(folder):
    """As strict as Python 3.13 is by default."""
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def shake_hands(server, client, host):
    """Let two ends of a TLS connection in memory talk until both are done; raises what the client raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass


@pytest.mark.parametrize("host", ["fl.example.org", "a.edge.example.org", "localhost", "127.0.0.1", "::1"])
def test_a_strict_client_accepts_every_host_of_the_certificate(folder, host):
    shake_hands(server_context(folder), client_context(folder), host)


@pytest.mark.parametrize("host", ["example.org", "a.b.edge.example.org", "127.0.0.2"])
def test_and_no_other_host(folder, host):
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        shake_hands(server_context(folder), client_context(folder), host)


def test_a_client_with_another_authority_refuses(folder, tmp_path):
    create_authority(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(folder), client_context(tmp_path / "other"), "localhost")


def test_a_second_verifier_agrees(folder, tmp_path):
    """cryptography's own, which follows the CA/Browser Forum's profile."""
    server = load(folder / "server.crt")

    def verify(authority, name):
        return PolicyBuilder().store(Store([load(authority / "ca.crt")])).build_server_verifier(name).verify(server, [])

    assert len(verify(folder, x509.DNSName("localhost"))) == 2
    create_authority(tmp_path / "other")
    with pytest.raises(VerificationError):
        verify(tmp_path / "other", x509.DNSName("localhost"))
    with pytest.raises(VerificationError):
        verify(folder, x509.DNSName("example.com"))


def test_httpx_as_flower_uses_it(folder, tmp_path):
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    create_authority(tmp_path / "other")
    with http.server.HTTPServer(("127.0.0.1", 0), Hello) as server:
        server.socket = server_context(folder).wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"https://127.0.0.1:{server.server_port}"
            with httpx.Client(verify=ssl.create_default_context(cafile=folder / "ca.crt")) as client:
                assert client.get(url).status_code == 204
            with (
                httpx.Client(verify=ssl.create_default_context(cafile=tmp_path / "other" / "ca.crt")) as client,
                pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
            ):
                client.get(url)
        finally:
            server.shutdown()
            thread.join()


def test_what_the_certificates_may_be_used_for(folder):
    ca, server = load(folder / "ca.crt").extensions, load(folder / "server.crt").extensions
    assert ca.get_extension_for_class(x509.BasicConstraints).critical
    assert ca.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(ca=True, path_length=0)
    usage = server.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert list(server.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.ExtendedKeyUsageOID.SERVER_AUTH]


def test_how_long_they_are_valid(tmp_path):
    certified = create_authority(tmp_path / "certs", days=20)
    now = datetime.now(UTC)
    server, ca = load(tmp_path / "certs" / "server.crt"), load(tmp_path / "certs" / "ca.crt")
    assert certified.until == server.not_valid_after_utc
    assert abs(certified.until - now - timedelta(days=20)) < timedelta(minutes=10)
    assert server.not_valid_before_utc < now - timedelta(hours=23)  # for clients whose clock is behind
    assert ca.not_valid_after_utc > now + timedelta(days=3600)
    create_authority(tmp_path / "long", days=5000)
    assert load(tmp_path / "long" / "ca.crt").not_valid_after_utc > now + timedelta(days=4999)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    create_authority(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == FILES
    with pytest.raises(UsageError, match=r"never overwritten: .*ca\.key, .*ca\.crt, .*server\.key, .*server\.crt"):
        create_authority(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for name in FILES[1:]:
        (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=r"never overwritten: [^,]*ca\.crt$"):
        create_authority(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ca.crt"]


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "host:8000",
        "1.2.3",
        "300.1.1.1",
        "-a.org",
        "a..b",
        "a/b",
        "*",
        "a.*.b",
        "caf\xe9.org",
        "\u212a.org",
        "a" * 64,
    ],
)
def test_a_host_that_is_none_is_refused_before_anything_is_written(tmp_path, host):
    with pytest.raises(UsageError, match="neither a DNS name nor an IP address"):
        create_authority(tmp_path / "certs", ["localhost", host])
    assert not (tmp_path / "certs").exists()


def test_the_loopback_is_always_named(tmp_path):
    assert create_authority(tmp_path).hosts == ("localhost", "127.0.0.1", "::1")
    assert renew_server_certificate(tmp_path, ["a", "::1"]).hosts == ("a", "::1", "localhost", "127.0.0.1")


def test_renewing_keeps_keys_authority_and_hosts(tmp_path):
    hosts = create_authority(tmp_path, ["*.example.org", "192.0.2.7"], days=1).hosts
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    renewed = renew_server_certificate(tmp_path, days=30)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert [name for name in FILES if before[name] != after[name]] == ["server.crt"]
    assert renewed.hosts == hosts
    assert renewed.until > datetime.now(UTC) + timedelta(days=29)
    shake_hands(server_context(tmp_path), client_context(tmp_path), "192.0.2.7")
    assert renew_server_certificate(tmp_path, ["new.example.org"]).hosts[0] == "new.example.org"
    shake_hands(server_context(tmp_path), client_context(tmp_path), "new.example.org")


def test_renewing_needs_sound_files(tmp_path):
    create_authority(tmp_path / "a")
    create_authority(tmp_path / "b")
    with pytest.raises(UsageError, match=r"--days is 9999, but .*ca\.crt is valid for 36\d\d more days only"):
        renew_server_certificate(tmp_path / "a", days=9999)
    key = (tmp_path / "a" / "ca.key").read_bytes()

    def with_ca_key(content):
        (tmp_path / "a" / "ca.key").write_bytes(content)
        renew_server_certificate(tmp_path / "a")

    with pytest.raises(CredentialError, match=r"ca\.key is not the key of .*ca\.crt"):
        with_ca_key((tmp_path / "b" / "ca.key").read_bytes())
    with pytest.raises(CredentialError, match=r"ca\.key is damaged or encrypted"):
        with_ca_key(key[:100])
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    with pytest.raises(CredentialError, match=r"ca\.key is damaged or encrypted"):
        with_ca_key(encrypted)
    with pytest.raises(CredentialError, match=r"ca\.key is not a key of an elliptic curve"):
        with_ca_key(
            rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
    (tmp_path / "a" / "ca.key").write_bytes(key)
    (tmp_path / "a" / "server.crt").write_bytes(b"no certificate")
    with pytest.raises(CredentialError, match=r"server\.crt is damaged"):
        renew_server_certificate(tmp_path / "a")
    (tmp_path / "a" / "server.crt").write_bytes((tmp_path / "a" / "ca.crt").read_bytes())
    with pytest.raises(CredentialError, match=r"server\.crt names no hosts"):
        renew_server_certificate(tmp_path / "a")
    (tmp_path / "a" / "server.key").unlink()
    with pytest.raises(CredentialError, match=r"server\.key can not be read"):
        renew_server_certificate(tmp_path / "a")
