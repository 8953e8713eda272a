"""``python -m server keys``: what it says, how it exits."""

import json

import pytest

from fedcomp.command_line import run_command
from fedcomp.deployment import NodeKeys, RegistrationRecord
from fedcomp.flower import FrameKey
from server.keys import app


@pytest.fixture
def keys(tmp_path, capsys):
    """Runs a command on one folder and returns its exit code and what it said."""

    def call(*arguments):
        code = run_command(app, [*arguments, "--tls", str(tmp_path / "certs")], "server keys")
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


@pytest.mark.parametrize("command", ["init", "add", "remove", "list", "seal"])
def test_help_explains_with_an_example(command, capsys):
    assert run_command(app, [command, "--help"], "server keys") == 0
    assert "Example: python -m server keys" in capsys.readouterr().out


def test_init_says_what_to_do_next_and_never_overwrites(keys, tmp_path):
    code, said = keys("init", "--host", "fl.example.org", "--host", "192.0.2.7", "--days", "30")
    hosts = "for fl.example.org, 192.0.2.7, localhost, 127.0.0.1, ::1, valid until"
    assert code == 0
    assert hosts in said
    assert f"Carry {tmp_path / 'certs' / 'ca.crt'} to every client" in said
    code, said = keys("init")
    assert code == 2
    assert "ca.key" in said
    assert said.count("\n") == 1
    code, said = keys("init", "--renew")
    assert code == 0
    assert hosts in said
    assert keys("init", "--host", "a:1")[0] == 2


def test_add_list_remove(keys, tmp_path):
    folder = tmp_path / "certs" / "nodes"
    assert json.loads(keys("list", "--json")[1]) == []
    code, said = keys("add", "berlin", "--out", str(tmp_path / "berlin.key"))
    assert code == 0
    assert f"Move {tmp_path / 'berlin.key'} to the node" in said
    other, _ = NodeKeys(tmp_path / "theirs").create("x")
    assert keys("add", "paris", "--public-key", str(other.path))[0] == 0
    berlin, paris = NodeKeys(folder).all()
    assert paris.fingerprint == other.fingerprint
    RegistrationRecord.read(folder).add(paris.fingerprint, 2**64 - 1)

    listed = json.loads(keys("list", "--json")[1])
    assert [(row["name"], row["fingerprint"], row["removed"], row["node_ids"]) for row in listed] == [
        ("berlin", berlin.fingerprint, False, []),
        ("paris", paris.fingerprint, False, [2**64 - 1]),
    ]
    table = keys("list")[1]
    assert all(word in table for word in (berlin.fingerprint, "not yet", paris.fingerprint, f"as {2**64 - 1}"))

    code, said = keys("remove", "paris")
    assert code == 0
    assert paris.fingerprint in said
    assert [(row["name"], row["removed"]) for row in json.loads(keys("list", "--json")[1])] == [
        ("berlin", False),
        ("paris", True),
    ]
    assert "removed, still registered" in keys("list")[1]
    RegistrationRecord.read(folder).forget([2**64 - 1])
    assert [row["name"] for row in json.loads(keys("list", "--json")[1])] == ["berlin"]


def test_failures_are_one_line_with_the_right_exit_code(keys, tmp_path):
    for arguments, code, words in [
        (["add", "a/b"], 2, "can not be called 'a/b'"),
        (["add", "a", "--out", "x", "--public-key", "y"], 2, "--out can not be used with --public-key"),
        (["add", "a", "--public-key", str(tmp_path / "absent")], 1, "can not be read: No such file"),
        (["remove", "a"], 2, "there is no node a"),
        (["init", "--renew"], 1, "ca.key can not be read"),
    ]:
        exit_code, said = keys(*arguments)
        assert exit_code == code
        assert words in said
        assert said.count("\n") == 1


def test_a_seal_is_made_once_and_for_its_owner_alone(tmp_path, capsys):
    arguments = ["seal", "phone-1", "--folder", str(tmp_path / "seals")]
    assert run_command(app, arguments, "server keys") == 0
    path = tmp_path / "seals" / "phone-1.key"
    assert str(path) in capsys.readouterr().out
    assert FrameKey.read(path).name == "phone-1"
    assert path.stat().st_mode & 0o077 == 0
    assert run_command(app, arguments, "server keys") == 2
    assert "never overwritten" in capsys.readouterr().err
