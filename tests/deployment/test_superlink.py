"""A real SuperLink with TLS and keys: a registered node is let in, a stranger is not, a removed one is put out."""

import contextlib
import sys
import time

import pytest

from fedcomp.deployment import NodeKeys, create_authority, sync_registrations
from fedcomp.deployment.flower_commands import flower_environment
from fedcomp.deployment.processes import free_ports, running
from fedcomp.deployment.superlink import ServerCertificates, SuperLink

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Flower's SuperLink needs POSIX")


@pytest.fixture
def superlink(tmp_path):
    create_authority(tmp_path / "certs")
    certificates = ServerCertificates.of(tmp_path / "certs")
    with SuperLink(tmp_path / "superlink", certificates=certificates, require_keys=True) as running_superlink:
        yield running_superlink


@contextlib.contextmanager
def supernode(superlink, folder, private_key):
    """Run a SuperNode, whose log is beside its process."""
    (port,) = free_ports(1)
    command = [
        "flower-supernode", "--superlink", f"127.0.0.1:{superlink.port}", "--port", port,
        "--root-certificates", folder / "certs" / "ca.crt", "--auth-supernode-private-key", private_key,
    ]  # fmt: skip
    path = folder / f"{port}.log"
    with (
        path.open("wb") as log,
        running(list(map(str, command)), environment=flower_environment(folder / "home"), log=log) as process,
    ):
        process.log = path
        yield process


def wait_until(process, words):
    deadline = time.monotonic() + 60
    while words not in process.log.read_text():
        assert time.monotonic() < deadline, process.log.read_text()
        assert process.poll() is None, process.log.read_text()
        time.sleep(0.1)


def test_who_is_let_in(superlink, tmp_path):
    nodes = NodeKeys(tmp_path / "certs" / "nodes")
    _, private_key = nodes.create("berlin")
    _, strange_key = NodeKeys(tmp_path / "strangers").create("berlin")
    registered = sync_registrations(superlink.flower, nodes.folder)
    assert registered.added == ("berlin",)
    node_id = registered.node_ids["berlin"]

    with (
        supernode(superlink, tmp_path, private_key) as berlin,
        supernode(superlink, tmp_path, strange_key) as stranger,
    ):
        (nodes.folder / "registered.json").unlink()  # as if killed before it was written: Flower knows the key
        again = sync_registrations(superlink.flower, nodes.folder)
        assert (again.node_ids, again.added, again.removed) == ({"berlin": node_id}, (), ())
        wait_until(berlin, f"SuperNode ID: {node_id}")
        assert stranger.wait(60) == 1
        assert "[code: 2004] Failed to activate SuperNode." in stranger.log.read_text()

        nodes.remove("berlin")
        assert sync_registrations(superlink.flower, nodes.folder).removed == (node_id,)
        assert berlin.wait(60) == 0
