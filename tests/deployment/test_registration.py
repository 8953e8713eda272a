"""Registrations are brought in line with a folder, whatever happened to a server before."""

import itertools
import json
import re
from pathlib import Path

import pytest
from flwr.supercore.error import ApiErrorCode

from fedcomp.deployment import NodeKeys, Registrar, RegistrationRecord, sync_registrations
from fedcomp.errors import CredentialError, RunError

_ids = itertools.count(2**64 - 1, -1)  # Flower's are random and have 64 bits


def wire_form(path):
    return b" ".join(Path(path).read_bytes().split()[:2])


class SuperLink:
    """Says what ``flwr supernode`` of Flower 1.41 says; test_superlink.py holds the real one to the same."""

    def __init__(self):
        self.nodes = {}  # by public key: [id, status]; a key stays for ever, also when it is unregistered
        self.commands = []
        self.dies_after = None

    def __call__(self, group, verb, *arguments):
        assert group == "supernode"
        assert arguments[-2:] == ("--format", "json")
        self.commands.append(verb)
        reply = {"list": self.list, "register": self.register, "unregister": self.unregister}[verb](*arguments[:-2])
        if self.dies_after == verb:
            raise KeyboardInterrupt
        return json.dumps(reply, indent=2)

    def list(self, verbose):
        assert verbose == "--verbose"
        return {"success": True, "nodes": [{"node-id": f"{n}", "status": status} for n, status in self.nodes.values()]}

    def register(self, path, *name):
        key = wire_form(path)
        if key in self.nodes:
            return self.refuse("[code: 23] Public key already in use.")
        self.nodes[key] = [next(_ids), "registered"]
        return {"success": True, "node-id": self.nodes[key][0]}

    def unregister(self, node_id):
        for node in self.nodes.values():
            if node == [int(node_id), "registered"]:
                node[1] = "unregistered"
                return {"success": True, "node-id": int(node_id)}
        return self.refuse("[code: 24] Node ID not found for account.")

    @staticmethod
    def refuse(message):
        return {"success": False, "error-message": f"Using SuperLink: d (127.0.0.1:1)\n\n{message}"}

    @property
    def registered(self):
        return {node_id for node_id, status in self.nodes.values() if status == "registered"}


@pytest.fixture
def nodes(tmp_path):
    return NodeKeys(tmp_path / "nodes")


@pytest.fixture
def superlink():
    return SuperLink()


def test_the_code_of_a_known_key_is_flowers():
    assert ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE == 23


def test_missing_keys_are_registered_once(nodes, superlink):
    for name in "ab":
        nodes.create(name)
    first = sync_registrations(superlink, nodes.folder)
    assert (first.added, first.removed) == (("a", "b"), ())
    assert set(first.node_ids.values()) == superlink.registered
    superlink.commands.clear()
    again = sync_registrations(superlink, nodes.folder)
    assert (again.node_ids, again.added, again.removed) == (first.node_ids, (), ())
    assert superlink.commands == ["list"]


def test_removed_keys_are_unregistered_before_anything_else(nodes, superlink):
    for name in "ab":
        nodes.create(name)
    before = sync_registrations(superlink, nodes.folder).node_ids
    nodes.remove("a")
    nodes.create("c")
    superlink.commands.clear()
    after = sync_registrations(superlink, nodes.folder)
    assert (after.added, after.removed) == (("c",), (before["a"],))
    assert superlink.registered == {before["b"], after.node_ids["c"]} == set(after.node_ids.values())
    assert superlink.commands == ["list", "unregister", "register"]


def test_a_name_with_a_new_key_is_another_node(nodes, superlink):
    nodes.create("a")
    before = sync_registrations(superlink, nodes.folder).node_ids["a"]
    nodes.remove("a")
    nodes.create("a")
    after = sync_registrations(superlink, nodes.folder)
    assert after.removed == (before,)
    assert superlink.registered == {after.node_ids["a"]} != {before}


def test_a_node_that_somebody_else_registered_is_unregistered(nodes, superlink, tmp_path):
    nodes.create("a")
    stranger, _ = NodeKeys(tmp_path / "other").create("stranger")
    node_id = superlink.register(stranger.path)["node-id"]
    synced = sync_registrations(superlink, nodes.folder)
    assert synced.removed == (node_id,)
    assert superlink.registered == set(synced.node_ids.values())


def test_one_folder_serves_several_superlinks(nodes):
    """A new one knows no key; the old one, started again, still has the ids that it gave."""
    nodes.create("a")
    old, new = SuperLink(), SuperLink()
    first = sync_registrations(old, nodes.folder).node_ids
    second = sync_registrations(new, nodes.folder).node_ids
    assert first != second
    assert sync_registrations(old, nodes.folder).node_ids == first
    nodes.remove("a")
    for superlink in (new, old):
        assert len(sync_registrations(superlink, nodes.folder).removed) == 1
        assert not superlink.registered


def test_many_superlinks_do_not_make_the_record_grow(nodes):
    key, _ = nodes.create("a")
    for _ in range(40):
        sync_registrations(SuperLink(), nodes.folder)
    assert len(RegistrationRecord.read(nodes.folder).ids(key.fingerprint)) == 32


@pytest.mark.parametrize("others", [0, 1, 2])
def test_killed_between_flowers_answer_and_the_record(nodes, superlink, others):
    for name in ["x", "y"][:others]:
        nodes.create(name)
        sync_registrations(superlink, nodes.folder)
    nodes.create("a")
    nodes.create("b")
    superlink.dies_after = "register"
    with pytest.raises(KeyboardInterrupt):
        sync_registrations(superlink, nodes.folder)
    superlink.dies_after = None
    synced = sync_registrations(superlink, nodes.folder)
    assert set(synced.node_ids.values()) == superlink.registered
    assert synced.added == ("b",)
    a, node_id = nodes.remove("a"), synced.node_ids["a"]
    assert sync_registrations(superlink, nodes.folder).removed == (node_id,)
    assert superlink.nodes[wire_form(nodes.removed()[0].path)] == [node_id, "unregistered"]
    assert a.fingerprint == nodes.removed()[0].fingerprint


def test_killed_between_unregistering_and_the_record(nodes, superlink):
    key, _ = nodes.create("a")
    sync_registrations(superlink, nodes.folder)
    nodes.remove("a")
    superlink.dies_after = "unregister"
    with pytest.raises(KeyboardInterrupt):
        sync_registrations(superlink, nodes.folder)
    superlink.dies_after = None
    assert RegistrationRecord.read(nodes.folder).ids(key.fingerprint)
    assert sync_registrations(superlink, nodes.folder).removed == ()
    assert not RegistrationRecord.read(nodes.folder).ids(key.fingerprint)


def test_a_lost_record_stops_nobody_and_guesses_nothing(nodes, superlink):
    for name in "ab":
        nodes.create(name)
    sync_registrations(superlink, nodes.folder)
    (nodes.folder / "registered.json").unlink()
    nodes.create("c")
    before = set(superlink.registered)
    with pytest.raises(
        RunError, match=r"has or had the keys of a, b, and the record .* lacks \d+, \d+\): remove these"
    ):
        sync_registrations(superlink, nodes.folder)
    assert before < superlink.registered
    assert len(superlink.registered) == 3
    for name in "ab":
        nodes.remove(name)
        nodes.create(name)
    synced = sync_registrations(superlink, nodes.folder)
    assert set(synced.removed) == before
    assert set(synced.node_ids.values()) == superlink.registered


def test_a_key_that_was_unregistered_by_hand_is_named(nodes, superlink):
    nodes.create("a")
    nodes.create("b")
    node_id = sync_registrations(superlink, nodes.folder).node_ids["a"]
    superlink.unregister(node_id)
    with pytest.raises(
        RunError, match=r"key of the node a was unregistered at the SuperLink, which never takes it again"
    ):
        sync_registrations(superlink, nodes.folder)


def test_a_damaged_record_or_key_is_named_before_anything_is_done(nodes, superlink):
    nodes.create("a")
    (nodes.folder / "registered.json").write_text('{"SHA256:x": 3}')
    with pytest.raises(CredentialError, match=r"registered\.json is damaged: expected lists of node ids"):
        sync_registrations(superlink, nodes.folder)
    (nodes.folder / "registered.json").unlink()
    (nodes.folder / "b.pub").write_bytes(b"")
    with pytest.raises(CredentialError, match=r"b\.pub holds no public key"):
        sync_registrations(superlink, nodes.folder)
    assert superlink.commands == []


@pytest.mark.parametrize(
    ("printed", "error"),
    [
        ("", "flwr supernode list --verbose printed no JSON of its own: ''"),
        ("Welcome\n{oops", "printed no JSON of its own: 'Welcome\\n{oops'"),
        ('{"nodes": []}', "printed no JSON of its own"),
        (
            json.dumps({"success": False, "error-message": "Using SuperLink: d\n\nConnection is unavailable."}),
            "flwr supernode list --verbose failed: Using SuperLink: d Connection is unavailable.",
        ),
    ],
)
def test_what_flower_says_is_passed_on(nodes, printed, error):
    with pytest.raises(RunError, match=re.escape(error)):
        sync_registrations(lambda *_: printed, nodes.folder)


def test_the_registrar_runs_nothing_while_nothing_changes(nodes, superlink):
    nodes.create("a")
    registrar = Registrar(superlink, nodes.folder)
    assert registrar.sync_if_changed().added == ("a",)
    superlink.commands.clear()
    assert registrar.sync_if_changed() is None
    assert superlink.commands == []
    nodes.create("b")
    assert registrar.sync_if_changed().added == ("b",)
    gone = superlink.nodes[wire_form(nodes.folder / "a.pub")][0]
    nodes.remove("a")
    assert registrar.sync_if_changed().removed == (gone,)
    assert registrar.sync_if_changed() is None


def test_the_registrar_tries_again_after_an_error(nodes, superlink):
    nodes.create("a")
    registrar = Registrar(superlink, nodes.folder)
    superlink.dies_after = "list"
    with pytest.raises(KeyboardInterrupt):
        registrar.sync_if_changed()
    superlink.dies_after = None
    assert registrar.sync_if_changed().added == ("a",)
