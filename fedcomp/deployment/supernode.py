"""Flower's SuperNode, kept alive: it waits for its server, and is started again when it ends by itself."""

from __future__ import annotations

import logging
import random
import signal
import socket
import ssl
import subprocess
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tomli_w

from fedcomp.address import LOOPBACK
from fedcomp.deployment.authority import trust
from fedcomp.deployment.flower_commands import flower_environment
from fedcomp.deployment.processes import free_ports, running
from fedcomp.deployment.relay import relay
from fedcomp.deployment.warm import warm_clientapp
from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fedcomp.address import Address

_log, _flower_log = logging.getLogger("fedcomp"), logging.getLogger("flwr.supernode")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_SECONDS_TO_CONNECT, _SECONDS_OF_HEALTH = 10.0, 60.0
# How often it looks whether there is a message to start the ClientApp for. Flower's own choice is a second, of which
# each round waits for a half; at a tenth the looks alone take 7 % of a slow core.
_SETTINGS = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.3"}


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """How a client reaches its server, and what its apps are told of it.

    Args:
        server: Address of the server.
        authority: Certificate that the server's must be signed by, PEM; None for plain HTTP.
        key: This node's private key, OpenSSH; None where the server requires none.
        folder: For Flower's home and this client's settings.
        node_config: What the ClientApp reads of ``context.node_config``.
        max_wait: Seconds without a server until it is given up; None is never.
        warm: Keep a process waiting that has imported torch: each round begins seconds earlier, and takes its memory
            between rounds, too.
    """

    server: Address
    authority: Path | None
    key: Path | None
    folder: Path
    node_config: Mapping[str, str | int | float | bool]
    max_wait: float | None = None
    warm: bool = True


def run_supernode(settings: NodeSettings) -> None:
    """Run a SuperNode until this process is told to end.

    One that ends by itself (its key is not registered, the server forgot it, it crashed) is started again, after
    pauses that double up to a minute. Flower itself waits for a server that goes away, for `max_wait` seconds; then
    this process does so once more.

    Args:
        settings: Of the client.

    Raises:
        UsageError: The authority's file holds no certificate.
        RunError: The server's certificate is not trusted, or there was no server for `max_wait` seconds.
    """
    environment = flower_environment(settings.folder / "home", _SETTINGS)
    (settings.folder / "home").mkdir(parents=True, exist_ok=True, mode=0o700)
    warm = warm_clientapp(settings.folder / "warm", environment) if settings.warm else nullcontext(environment)
    patience = _Patience(settings.max_wait)
    with warm as environment:
        while True:
            wait_for_server(settings.server, settings.authority, patience)
            started = time.monotonic()
            # A SuperNode that is asked to end signs off. One that is killed counts as present for another minute, and
            # nobody else may use its key until then.
            with running(
                _command(settings), environment=environment, log=subprocess.PIPE, last_signal=signal.SIGTERM
            ) as process:
                if process.stdout:
                    relay(process.stdout, _flower_log)
                code = process.wait()
            if time.monotonic() - started > _SECONDS_OF_HEALTH:
                patience.reset()
            patience.pause(f"the SuperNode ended with exit code {code}")


def wait_for_server(server: Address, authority: Path | None, patience: _Patience) -> None:
    """Wait until a server takes connections, over TLS if it should.

    Raises:
        UsageError: The authority's file holds no certificate.
        RunError: Its certificate is not trusted: waiting would not help. Or patience is at its end.
    """
    context = trust(authority) if authority else None
    while True:
        try:
            with socket.create_connection(server, _SECONDS_TO_CONNECT) as connection:
                if context:
                    with context.wrap_socket(connection, server_hostname=server.host):
                        pass
            return
        except ssl.SSLCertVerificationError as error:
            raise RunError(
                f"{server}: its certificate is not trusted: {error.verify_message}; is {authority} the authority that "
                f"signed it, and is {server.host} one of the names in it?"
            ) from None
        except OSError as error:
            patience.pause(f"{server} does not answer: {error}")


class _Patience:
    """Pauses that double, up to a minute, with some noise so that clients do not come all at once."""

    def __init__(self, max_wait: float | None) -> None:
        self._max_wait = max_wait
        self.reset()

    def reset(self) -> None:
        """Begin anew: the last connection held."""
        self._pause, self._since = _FIRST_PAUSE, time.monotonic()

    def pause(self, why: str) -> None:
        """Wait a while; raises `RunError` where that would be too long in all."""
        pause = self._pause * random.uniform(0.75, 1.25)
        waited = time.monotonic() - self._since
        if self._max_wait is not None:
            if waited >= self._max_wait:
                raise RunError(f"{why}; given up after {waited:.0f} s")
            pause = min(pause, self._max_wait - waited)
        _log.warning("%s; next try in %.0f s", why, pause)
        time.sleep(pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def _command(settings: NodeSettings) -> list[str]:
    node_config = settings.folder / "node.toml"
    node_config.write_text(tomli_w.dumps(dict(settings.node_config)), encoding="utf-8")
    (port,) = free_ports(1)
    tls = ["--root-certificates", str(settings.authority)] if settings.authority else ["--insecure"]
    key = ["--auth-supernode-private-key", str(settings.key)] if settings.key else []
    wait = [] if settings.max_wait is None else ["--max-wait-time", str(settings.max_wait)]
    return [
        "flower-supernode", *tls, *key, *wait, "--superlink", str(settings.server), "--host", LOOPBACK,
        "--port", str(port), "--isolation", "subprocess", "--node-config", str(node_config),
    ]  # fmt: skip
