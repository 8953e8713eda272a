"""A real SuperLink with TLS and keys: a registered node is let in, a stranger is not, a removed one is put out."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w

from fedcomp.deployment import NodeKeys, create_authority, sync_registrations
from tests.integration.flower_cli import QUIET, free_ports

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Flower's SuperLink needs POSIX")
BIN = Path(sys.executable).parent


class Deployment:
    """A SuperLink and SuperNodes on loopback; each ends by its process id."""

    def __init__(self, folder):
        self.folder = folder
        self.tls = folder / "certs"
        create_authority(self.tls)
        self.port, legacy, *self.node_ports = free_ports(4)
        connection = {"address": f"127.0.0.1:{self.port}", "root-certificates": str(self.tls / "ca.crt")}
        (folder / "config.toml").write_text(tomli_w.dumps({"superlink": {"default": "here", "here": connection}}))
        self.environment = (
            os.environ | QUIET | {"FLWR_HOME": str(folder), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        )
        self.started = contextlib.ExitStack()
        self.superlink = self.start(
            "flower-superlink", "--host", "127.0.0.1", "--port", self.port,
            "--control-api-address", f"127.0.0.1:{legacy}",
            "--ssl-ca-certfile", self.tls / "ca.crt", "--ssl-certfile", self.tls / "server.crt",
            "--ssl-keyfile", self.tls / "server.key", "--enable-supernode-auth", "--database", folder / "state.db",
        )  # fmt: skip

    def start(self, *command):
        log = self.started.enter_context((self.folder / f"{len(list(self.folder.glob('*.log')))}.log").open("w"))
        process = subprocess.Popen(
            list(map(str, command)), env=self.environment, stdout=log, stderr=log, cwd=self.folder
        )
        process.log = Path(log.name)
        self.started.callback(self.end, process)
        return process

    def start_supernode(self, private_key):
        return self.start(
            "flower-supernode", "--superlink", f"127.0.0.1:{self.port}", "--port", self.node_ports.pop(),
            "--root-certificates", self.tls / "ca.crt", "--auth-supernode-private-key", private_key,
        )  # fmt: skip

    def flwr(self, *arguments):
        return subprocess.run(
            [BIN / "flwr", *arguments], env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    @staticmethod
    def end(process):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @staticmethod
    def wait_until(process, words):
        deadline = time.monotonic() + 60
        while words not in process.log.read_text():
            assert time.monotonic() < deadline, process.log.read_text()
            assert process.poll() is None, process.log.read_text()
            time.sleep(0.1)


@pytest.fixture
def deployment(tmp_path):
    here = Deployment(tmp_path)
    with here.started:
        here.wait_until(here.superlink, "Uvicorn running on https://")
        yield here


def test_who_is_let_in(deployment, tmp_path):
    nodes = NodeKeys(deployment.tls / "nodes")
    _, private_key = nodes.create("berlin")
    _, strange_key = NodeKeys(tmp_path / "strangers").create("berlin")
    registered = sync_registrations(deployment.flwr, nodes.folder)
    assert registered.added == ("berlin",)
    node_id = registered.node_ids["berlin"]

    berlin, stranger = map(deployment.start_supernode, (private_key, strange_key))
    (nodes.folder / "registered.json").unlink()  # as if killed before it was written: Flower refuses the key as known
    again = sync_registrations(deployment.flwr, nodes.folder)
    assert (again.node_ids, again.added, again.removed) == ({"berlin": node_id}, (), ())
    deployment.wait_until(berlin, f"SuperNode ID: {node_id}")
    assert stranger.wait(60) == 1
    assert "[code: 2004] Failed to activate SuperNode." in stranger.log.read_text()

    nodes.remove("berlin")
    assert sync_registrations(deployment.flwr, nodes.folder).removed == (node_id,)
    assert berlin.wait(60) == 0
