"""Make a running SuperLink know exactly the nodes whose keys are in a folder.

Flower's command line registers a key under a random node id, unregisters by that id, and lists ids without keys. So
each id is recorded beside the keys as soon as it is known. The record is believed only of ids that the SuperLink lists:
one folder may serve several SuperLinks, in turn or at once.

Two things follow from one id a key. Once every key of the folder has its id, all other ids belong to other keys, and
are unregistered. And if the SuperLink knows one key already, and there is one id that the record has not, these belong
together: a process was killed after Flower's answer, and before the record was written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.deployment.flwr_nodes import FlwrNodes
from fedcomp.deployment.node_keys import NodeKeys
from fedcomp.deployment.record import RegistrationRecord
from fedcomp.errors import RunError
from fedcomp.private_files import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fedcomp.deployment.flwr_nodes import RunFlwr
    from fedcomp.deployment.node_keys import NodeKey


@dataclass(frozen=True)
class Registered:
    """What a SuperLink knows once its registrations equal the folder.

    Attributes:
        node_ids: Flower's id of each node, by the node's name.
        added: Names of the nodes that were registered now.
        removed: Ids that were unregistered now.
    """

    node_ids: dict[str, int]
    added: tuple[str, ...]
    removed: tuple[int, ...]


def sync_registrations(run_flwr: RunFlwr, nodes_folder: Path) -> Registered:
    """Register the keys of a folder that a SuperLink lacks, and unregister every other node that it knows.

    The SuperLink must demand keys (``--enable-supernode-auth``); one that does not lists nodes that registered
    themselves as well. Costs one ``flwr`` command, and one more for each change.

    Args:
        run_flwr: Runs Flower's command line with this SuperLink as its default connection.
        nodes_folder: Of `NodeKeys`; it is made if need be.

    Raises:
        RunError: Flower refuses a command, or knows a key under an id that is not known here. Whatever else had to be
            registered, and every key that is known to be removed, is done by then.
        CredentialError: A key or the record is damaged; nothing was done.
    """
    nodes = FlwrNodes(run_flwr)
    with _locked(nodes_folder):
        keys = NodeKeys(nodes_folder).all()
        record = RegistrationRecord.read(nodes_folder)
        registered, dead = nodes.known()
        wanted = {key.fingerprint: key for key in keys}
        record.forget(
            [node_id for node_id, owner in record.owners().items() if node_id in dead and owner not in wanted]
        )
        owners = {node_id: owner for node_id, owner in record.owners().items() if node_id in registered}
        node_ids = {wanted[owner].name: node_id for node_id, owner in owners.items() if owner in wanted}

        removed = [node_id for node_id, owner in owners.items() if owner not in wanted]
        _unregister(nodes, record, removed)  # first of all: a removed key must not wait for others
        added, refused = _register(nodes, record, [key for key in keys if key.name not in node_ids])
        unknown = sorted(registered - owners.keys())
        if refused:
            node_ids |= _adopt(record, refused, unknown, dead)
        else:
            _unregister(nodes, record, unknown)
            removed += unknown
    return Registered(node_ids | added, tuple(added), tuple(removed))


class Registrar:
    """Keeps a SuperLink in line with a folder of node keys while a server runs.

    Args:
        run_flwr: As of `sync_registrations`.
        nodes_folder: As there.
    """

    def __init__(self, run_flwr: RunFlwr, nodes_folder: Path) -> None:
        self._run_flwr = run_flwr
        self._nodes_folder = nodes_folder
        self._synced: set[tuple[str, str]] | None = None

    def sync_if_changed(self) -> Registered | None:
        """Bring the SuperLink in line if the folder's keys are others than the last time; else do nothing.

        Without a change this reads the folder and runs no command, so it may be called every few seconds. After an
        error the next call tries again.

        Raises:
            RunError: As `sync_registrations`.
            CredentialError: As there.
        """
        keys = {(key.name, key.fingerprint) for key in NodeKeys(self._nodes_folder).all()}
        if keys == self._synced:
            return None
        registered = sync_registrations(self._run_flwr, self._nodes_folder)
        self._synced = keys
        return registered


def _register(
    nodes: FlwrNodes, record: RegistrationRecord, keys: Iterable[NodeKey]
) -> tuple[dict[str, int], list[NodeKey]]:
    """Register keys; return the ids by name, and the keys that the SuperLink knows already."""
    added, refused = {}, []
    for key in keys:
        node_id = nodes.register(key)
        if node_id is None:
            refused.append(key)
        else:
            record.add(key.fingerprint, node_id)
            added[key.name] = node_id
    return added, refused


def _unregister(nodes: FlwrNodes, record: RegistrationRecord, node_ids: Iterable[int]) -> None:
    for node_id in node_ids:
        nodes.unregister(node_id)
        record.forget([node_id])


def _adopt(record: RegistrationRecord, refused: list[NodeKey], unknown: list[int], dead: set[int]) -> dict[str, int]:
    """Give the one id that the record lacks to the one key that the SuperLink knows already."""
    for key in refused:
        if dead.intersection(record.ids(key.fingerprint)):
            raise RunError(
                f"the key of the node {key.name} was unregistered at the SuperLink, which never takes it again: "
                "remove the node and add it with a new key"
            )
    if len(refused) == len(unknown) == 1:
        record.add(refused[0].fingerprint, unknown[0])
        return {refused[0].name: unknown[0]}
    names = ", ".join(key.name for key in refused)
    raise RunError(
        f"the SuperLink has or had the keys of {names}, and the record beside them does not say under which ids (it "
        f"lacks {', '.join(map(str, unknown)) or 'none'}): remove these nodes and add them with new keys"
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time register and record."""
    descriptor = os.open(private_folder(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
