"""What `python -m clients` does: check what it was given, then keep a SuperNode running."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from clients.data import DATA_DIR_KEY, NUM_PARTITIONS_KEY, PARTITION_KEY
from fedcomp.address import Address
from fedcomp.data import load_local
from fedcomp.deployment import private_key_fingerprint
from fedcomp.deployment.supernode import NodeSettings, run_supernode
from fedcomp.errors import UsageError
from fedcomp.files import asked_to_write, try_lock
from fedcomp.flower import FrameKey
from fedcomp.flower.client.client_state import STATE_DIR_KEY
from fedcomp.flower.client.mod import BUDGET_KEY, FRAME_KEY

_log = logging.getLogger("fedcomp")


def run_client(
    *,
    server: str,
    data: Path,
    authority: Path | None,
    key: Path | None,
    frame_key: Path | None,
    insecure: bool,
    state: Path | None,
    max_wait: float | None,
    budget: int,
    warm: bool,
    share: str | None,
) -> None:
    """Run a client until it is stopped; see ``python -m clients --help``.

    Raises:
        UsageError: Options that do not go together, another client uses the same state, or it can not be made.
        CredentialError: The key is none: Flower would say so anew each minute.
        DataError: The images can not be read: better known now than in the first round.
        RunError: The server is not trusted, or did not come.
    """
    address = Address.parse(server)
    address.require_tls(has_tls=authority is not None, insecure=insecure, hint="--tls CA.crt")
    if key and not authority:
        raise UsageError("--key needs --tls: a key is of no use to a server that anybody can pretend to be")
    fingerprint = private_key_fingerprint(key) if key else None
    images = load_local(data)
    folder = (state or default_state(address, data, share)).absolute()
    with asked_to_write(f"the state {folder}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    node_config: dict[str, str | int] = {
        DATA_DIR_KEY: str(data.absolute()),
        STATE_DIR_KEY: str(folder / "memory"),
        BUDGET_KEY: budget,
    }
    if frame_key:
        FrameKey.read(frame_key)  # raises what is wrong with it here, not in the first round
        node_config[FRAME_KEY] = str(frame_key.absolute())
    if share:
        index, _, count = share.partition("/")
        node_config |= {PARTITION_KEY: int(index), NUM_PARTITIONS_KEY: int(count)}
    with (folder / "lock").open("w") as lock:
        if not try_lock(lock):
            raise UsageError(f"another client uses {folder}: give each its own --state")
        _log.info("%d labelled and %d unlabelled images in %s", len(images.labelled), len(images.unlabelled), data)
        _log.info("what outlives this process is in %s", folder)
        if fingerprint:
            _log.info("the server knows this client by the key %s", fingerprint)
        del images
        run_supernode(
            NodeSettings(
                server=address,
                authority=authority and authority.absolute(),
                key=key and key.absolute(),
                folder=folder,
                node_config=node_config,
                max_wait=max_wait,
                warm=warm,
            )
        )


def default_state(server: Address, data: Path, share: str | None) -> Path:
    """Return where a client's state is if nothing else is said: one folder for each server and data."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    digest = hashlib.sha256(f"{server} {data.absolute()} {share}".encode()).hexdigest()
    return home / "fedcomp" / "clients" / f"{data.absolute().name}-{digest[:12]}"
