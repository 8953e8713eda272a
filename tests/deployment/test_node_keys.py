"""The folder of node keys: what is made, what is taken, what is never taken again."""

import argparse
import base64
import hashlib
import stat
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)
from flwr.cli.supernode.register import try_load_public_key
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.cli.flower_supernode import _try_setup_client_authentication as read_as_a_supernode

from fedcomp.deployment import NodeKeys, private_key_fingerprint
from fedcomp.errors import CredentialError, UsageError


@pytest.fixture
def nodes(tmp_path):
    return NodeKeys(tmp_path / "certs" / "nodes")


def public_file(path, key, comment=b""):
    path.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + comment)
    return path


def own_key(path, curve=ec.SECP384R1):
    return public_file(path, ec.generate_private_key(curve()))


def test_flower_reads_both_halves_of_a_pair(nodes):
    key, private = nodes.create("berlin")
    read = read_as_a_supernode(
        argparse.Namespace(auth_supernode_private_key=str(private), auth_supernode_public_key=None)
    )
    assert read[0].curve.name == "secp384r1"
    assert public_key_to_bytes(read[1]) == try_load_public_key(key.path)


def test_files_are_private_and_where_they_are_said_to_be(nodes, tmp_path):
    berlin, berlin_private = nodes.create("berlin")
    _, paris_private = nodes.create("paris", tmp_path / "carry.key")
    assert (berlin.path, berlin_private) == (nodes.folder / "berlin.pub", nodes.folder / "berlin.key")
    assert paris_private == tmp_path / "carry.key"
    assert sorted(path.name for path in nodes.folder.iterdir()) == ["berlin.key", "berlin.pub", "paris.pub"]
    for path in (berlin.path, berlin_private, paris_private):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(nodes.folder.stat().st_mode) == 0o700


def test_all_lists_names_fingerprints_and_times(nodes):
    assert nodes.all() == []
    made = [nodes.create(name)[0] for name in ("b", "a.b", "c")]
    assert nodes.all() == sorted(made, key=lambda key: key.name)
    assert all(abs(datetime.now(UTC) - key.added) < timedelta(minutes=10) for key in made)


def test_the_fingerprint_is_ssh_keygens(nodes):
    """Computed here as RFC 4253 and OpenSSH have it: SHA-256 of the key's wire form."""
    key, _ = nodes.create("a")
    blob = base64.b64decode(key.path.read_bytes().split()[1])
    assert key.fingerprint == "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_a_node_may_bring_its_own_key(nodes, tmp_path, curve):
    theirs = own_key(tmp_path / "id.pub", curve)
    key = nodes.accept("berlin", theirs)
    assert load_ssh_public_key(key.path.read_bytes()) == load_ssh_public_key(theirs.read_bytes())
    assert try_load_public_key(key.path) == try_load_public_key(theirs)
    assert [path.name for path in nodes.folder.iterdir()] == ["berlin.pub"]


def test_a_foreign_comment_is_not_kept(nodes, tmp_path):
    theirs = public_file(tmp_path / "id.pub", ec.generate_private_key(ec.SECP384R1()), b" \x1b[2Jroot@host")
    assert nodes.accept("berlin", theirs).path.read_bytes().split()[2:] == [b"berlin"]


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "../a", "a b", "a\n", "a~b", "\xe9", "a" * 65])
def test_a_name_that_is_none_is_refused(nodes, tmp_path, name):
    theirs = own_key(tmp_path / "id.pub")
    for act in (nodes.create, nodes.remove, lambda name: nodes.accept(name, theirs)):
        with pytest.raises(UsageError, match="expected 1 to 64 letters"):
            act(name)
    assert not nodes.folder.exists()


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "7", "_", "a" * 64])
def test_names(nodes, name):
    assert nodes.create(name)[0].name == name
    assert [key.name for key in nodes.all()] == [name]


def test_nothing_is_overwritten(nodes, tmp_path):
    key, private = nodes.create("berlin")
    before = key.path.read_bytes(), private.read_bytes()
    with pytest.raises(UsageError, match=r"never overwritten: .*berlin\.key, .*berlin\.pub"):
        nodes.create("berlin")
    with pytest.raises(UsageError, match=r"never overwritten: .*berlin\.pub"):
        nodes.accept("berlin", own_key(tmp_path / "id.pub"))
    with pytest.raises(UsageError, match=r"never overwritten: .*berlin\.key"):
        nodes.create("paris", private)
    assert (key.path.read_bytes(), private.read_bytes()) == before
    assert [known.name for known in nodes.all()] == ["berlin"]


def test_what_is_no_key_for_flower_is_refused(nodes, tmp_path):
    _, private = nodes.create("berlin")
    with pytest.raises(
        CredentialError, match=r"berlin\.key holds a private key, which stays where it is; expected an OpenSSH"
    ):
        nodes.accept("paris", private)
    with pytest.raises(
        CredentialError, match=r"ed\.pub holds a key of another kind; expected an OpenSSH public key, ECDSA"
    ):
        nodes.accept("paris", public_file(tmp_path / "ed.pub", ed25519.Ed25519PrivateKey.generate()))
    (tmp_path / "text.pub").write_bytes(b"ecdsa-sha2-nistp384 AAAA")
    with pytest.raises(CredentialError, match=r"text\.pub holds no public key"):
        nodes.accept("paris", tmp_path / "text.pub")
    with pytest.raises(CredentialError, match=r"absent\.pub can not be read: No such file"):
        nodes.accept("paris", tmp_path / "absent.pub")
    assert [key.name for key in nodes.all()] == ["berlin"]


def test_a_private_key_is_known_by_its_public_half_or_told_what_it_is(nodes, tmp_path):
    key, private = nodes.create("berlin")
    assert private_key_fingerprint(private) == key.fingerprint
    path = tmp_path / "other.key"
    edwards = ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(edwards.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    with pytest.raises(CredentialError, match=r"other\.key holds a key of another kind"):
        private_key_fingerprint(path)
    for content in (b"", b"text", key.path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(CredentialError, match=r"other\.key holds no private key; expected"):
            private_key_fingerprint(path)


def test_two_nodes_do_not_share_a_key(nodes, tmp_path):
    theirs = own_key(tmp_path / "id.pub")
    nodes.accept("berlin", theirs)
    with pytest.raises(UsageError, match=r"id\.pub holds the key of the node berlin: each node needs its own"):
        nodes.accept("paris", theirs)


def test_a_removed_key_is_remembered_and_never_taken_again(nodes, tmp_path):
    theirs = own_key(tmp_path / "id.pub")
    key = nodes.accept("berlin", theirs)
    assert nodes.remove("berlin") == key
    assert nodes.all() == []
    assert [(gone.name, gone.fingerprint, gone.added) for gone in nodes.removed()] == [
        ("berlin", key.fingerprint, key.added)
    ]
    for name in ("berlin", "paris"):
        with pytest.raises(UsageError, match="holds a key that was removed, and such a key never comes back"):
            nodes.accept(name, theirs)
    with pytest.raises(UsageError, match=r"there is no node berlin: .*berlin\.pub is not there"):
        nodes.remove("berlin")


def test_a_removed_name_is_free_again_and_again(nodes):
    for _ in range(3):
        nodes.create("berlin")
        nodes.remove("berlin")
    assert len({key.fingerprint for key in nodes.removed()}) == 3
    assert {key.name for key in nodes.removed()} == {"berlin"}
    assert not list(nodes.folder.glob("*.key"))


def test_a_damaged_file_is_named(nodes):
    nodes.create("berlin")[0].path.write_bytes(b"nothing")
    with pytest.raises(CredentialError, match=r"berlin\.pub holds no public key"):
        nodes.all()


def test_ssh_keygen_agrees(nodes):
    key, private = nodes.create("berlin")

    def keygen(*options):
        try:
            return subprocess.run(["ssh-keygen", *options], capture_output=True, text=True, check=True).stdout
        except FileNotFoundError:
            pytest.skip("no ssh-keygen here")

    for path in (key.path, private):
        assert keygen("-l", "-f", path).split()[:2] == ["384", key.fingerprint]
    keygen("-p", "-f", private, "-N", "a passphrase")
    with pytest.raises(CredentialError, match=r"berlin\.key is locked by a passphrase"):
        private_key_fingerprint(private)
