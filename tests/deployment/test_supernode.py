"""A client's SuperNode: what it is told, and what it is no use to wait for."""

import socket

import pytest

from fedcomp.address import Address
from fedcomp.deployment.supernode import NodeSettings, run_supernode
from fedcomp.errors import UsageError


def settings(folder, **changes):
    given = {"server": Address("127.0.0.1", 1), "authority": None, "key": None, "folder": folder, "node_config": {}}
    return NodeSettings(**{**given, "warm": False, **changes})


def test_a_file_that_is_no_certificate_is_not_taken_for_a_server_that_is_away(tmp_path):
    (tmp_path / "ca.crt").write_text("no certificate")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Address(*listening.getsockname())
        with pytest.raises(UsageError, match=r"ca\.crt holds no authority's certificate"):
            run_supernode(settings(tmp_path, server=server, authority=tmp_path / "ca.crt", max_wait=0.0))


def test_a_supernode_whose_server_goes_away_gives_up_as_it_is_told(tmp_path, monkeypatch):
    told = []

    def start(command, **_):
        told.extend(command)
        raise InterruptedError

    monkeypatch.setattr("fedcomp.deployment.supernode.running", start)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(InterruptedError):
        run_supernode(settings(tmp_path, server=Address(*listening.getsockname()), max_wait=30.0))
    assert told[told.index("--max-wait-time") + 1] == "30.0"
