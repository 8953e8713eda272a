"""``python -m server keys``: certificates of a server and keys of its nodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedcomp.command_line import run_command
from fedcomp.deployment import (
    CA_CERTIFICATE,
    CA_KEY,
    DEFAULT_DAYS,
    LOOPBACK_HOSTS,
    NODES_FOLDER,
    NodeKeys,
    RegistrationRecord,
    create_authority,
    renew_server_certificate,
)
from fedcomp.errors import UsageError
from fedcomp.flower import FrameKeys

_WIDTH = 240  # a fingerprint that is cut to a terminal's width can not be compared

app = typer.Typer(
    help="Certificates of a server, and keys of the nodes that may take part.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_Tls = Annotated[Path, typer.Option(metavar="DIR", help="The server's folder of certificates and keys.")]
_Name = Annotated[str, typer.Argument(help="What you call the node.")]


@app.command(
    epilog="Example: python -m server keys init --tls certs --host fl.example.org --host 192.0.2.7; "
    "python -m server keys init --tls certs --renew"
)
def init(
    tls: _Tls,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|IP", help=f"What clients connect to; repeatable. {', '.join(LOOPBACK_HOSTS)} are added."
        ),
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, max=36500, help="How long the server's certificate is valid.")
    ] = DEFAULT_DAYS,
    renew: Annotated[
        bool, typer.Option("--renew", help="Replace the server's certificate; keys, and hosts without --host, stay.")
    ] = False,
) -> None:
    """Make a certificate authority and the server's certificate. What is there is never overwritten."""
    if renew:
        certified = renew_server_certificate(tls, host or None, days)
        next_step = "Restart the server to use it. Clients need nothing new."
    else:
        certified = create_authority(tls, host or (), days)
        next_step = f"Carry {tls / CA_CERTIFICATE} to every client. {CA_KEY} is needed for --renew only."
    print(f"{tls}: a server certificate for {', '.join(certified.hosts)}, valid until {certified.until:%Y-%m-%d}")
    print(next_step)


@app.command(
    epilog="Example: python -m server keys add berlin --tls certs --out berlin.key; "
    "python -m server keys add paris --tls certs --public-key paris.pub"
)
def add(
    name: _Name,
    tls: _Tls,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the private key goes; default DIR/nodes/NAME.key.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public key, OpenSSH, of a pair that the node made itself.")
    ] = None,
) -> None:
    """Let a node take part: make a key for it, or accept the one that it made. A running server takes it up."""
    nodes = NodeKeys(tls / NODES_FOLDER)
    if public_key:
        if out:
            raise UsageError("--out can not be used with --public-key: the private key is the node's")
        key = nodes.accept(name, public_key)
        print(f"{name} may take part: {key.fingerprint}")
    else:
        key, private_key = nodes.create(name, out)
        print(f"{name} may take part: {key.fingerprint}")
        print(f"Move {private_key} to the node, and keep no copy here.")


@app.command(epilog="Example: python -m server keys remove berlin --tls certs")
def remove(name: _Name, tls: _Tls) -> None:
    """Revoke a node's key for good, and delete DIR/nodes/NAME.key. A running server puts the node out.

    The name is free for a new key.
    """
    key = NodeKeys(tls / NODES_FOLDER).remove(name)
    print(f"{name} may no longer take part: {key.fingerprint}")


@app.command(name="list", epilog="Example: python -m server keys list --tls certs --json")
def list_(tls: _Tls, json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the nodes that may take part, and removed ones that a server has not unregistered yet."""
    rows = _rows(NodeKeys(tls / NODES_FOLDER))
    if json_:
        print(json.dumps(rows, indent=2))
        return
    table = Table("name", "key", "added", "registered")
    for row in rows:
        registered = f"as {row['node_ids'][-1]}" if row["node_ids"] else "not yet"
        removed = "removed, still registered " if row["removed"] else ""
        table.add_row(row["name"], row["fingerprint"], row["added"], f"{removed}{registered}")
    Console(width=_WIDTH).print(table)


@app.command(
    epilog="Example: python -m server keys seal phone-1 --folder frame-keys; "
    "python -m server --config FILE --set frame-keys=frame-keys"
)
def seal(
    name: _Name,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="The server's folder of such secrets.")],
) -> None:
    """Make a secret by which a client seals its updates, so that no relay can swap them."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = FrameKeys(folder).issue(name)
    print(f"{path}: carry a copy to the client, for its --frame-key; the secret is revoked with this file.")


def _rows(nodes: NodeKeys) -> list[dict[str, Any]]:
    record = RegistrationRecord.read(nodes.folder)
    waiting = [key for key in nodes.removed() if record.ids(key.fingerprint)]
    return [
        {
            "name": key.name,
            "fingerprint": key.fingerprint,
            "added": key.added.isoformat(timespec="seconds"),
            "removed": is_removed,
            "node_ids": record.ids(key.fingerprint),
        }
        for keys, is_removed in ((nodes.all(), False), (waiting, True))
        for key in keys
    ]


if __name__ == "__main__":
    sys.exit(run_command(app, sys.argv[1:], "server keys"))
