"""Flower's SuperLink for real clients, on loopback: what the network reaches of it, a `Gate` decides."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli_w

from fedcomp.address import LOOPBACK
from fedcomp.deployment.authority import CA_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY
from fedcomp.deployment.flower_commands import FlowerCommands
from fedcomp.deployment.lean_app import lean_app
from fedcomp.deployment.processes import free_ports, is_listening, running, wait_for
from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_SECONDS_TO_START = 60.0
_FINISHED, COMPLETED = "finished", "finished:completed"


class ServerCertificates(NamedTuple):
    """What TLS needs at the server, PEM files.

    Args:
        authority: Certificate of the authority that signed the server's; clients have it, too.
        certificate: Of the server.
        key: Of the server, private.
    """

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def of(cls, folder: Path) -> ServerCertificates:
        """Return what ``keys init`` put into a folder.

        Raises:
            RunError: A file is missing.
        """
        found = cls(folder / CA_CERTIFICATE, folder / SERVER_CERTIFICATE, folder / SERVER_KEY)
        if missing := [str(path) for path in found if not path.is_file()]:
            raise RunError(f"{', '.join(missing)} is not there: `python -m server keys init --tls {folder}` makes it")
        return found


class RunStatus(NamedTuple):
    """What Flower says of a run.

    Args:
        run_id: Flower's number.
        status: As in ``flwr list``.
        bytes_in: From the SuperNodes, as Flower counts them: whole messages, with all that is around arrays.
        bytes_out: To them.
    """

    run_id: str
    status: str
    bytes_in: int
    bytes_out: int

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, in any way."""
        return self.status.startswith(_FINISHED)


def find_run(runs: Iterable[RunStatus], run_id: str) -> RunStatus:
    """Return how one of the runs is doing.

    Raises:
        RunError: It is not among them.
    """
    for run in runs:
        if run.run_id == run_id:
            return run
    raise RunError(f"flwr list knows no run {run_id}")


class SuperLink:
    """A SuperLink whose state is in a folder. Entered it is up; left it has ended.

    Args:
        folder: For Flower's database, home and log.
        certificates: For TLS, also on loopback; None for plain HTTP.
        require_keys: Whether only registered SuperNodes are let in; needs TLS.
        environment: More variables, for it and for the ServerApp.

    Raises:
        RunError: It does not start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        certificates: ServerCertificates | None,
        require_keys: bool,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folder, self._certificates, self._require_keys = folder, certificates, require_keys
        self._variables = environment or {}
        self.log = folder / "superlink.log"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.port,) = free_ports(1)
        connection: dict[str, Any] = {"address": f"{LOOPBACK}:{self.port}"}
        tls = ["--insecure"]
        if self._certificates:
            authority, certificate, key = map(str, self._certificates)
            connection["root-certificates"] = authority
            tls = ["--ssl-ca-certfile", authority, "--ssl-certfile", certificate, "--ssl-keyfile", key]
        else:
            connection["insecure"] = True
        self.flower = FlowerCommands(self._folder / "home", connection, self._variables)
        command = [
            "flower-superlink", *tls, *(["--enable-supernode-auth"] if self._require_keys else []),
            "--host", LOOPBACK, "--port", str(self.port), "--database", str(self._folder / "superlink.db"),
            "--isolation", "subprocess", "--disable-runtime-dependency-installation",
        ]  # fmt: skip
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(self.log.open("ab"))
            self.process = stack.enter_context(running(command, environment=self.flower.environment, log=log))
            wait_for(lambda: is_listening(self.port), self.process, "flower-superlink", _SECONDS_TO_START, self.log)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def submit(self, app_folder: Path, run_config: Mapping[str, Any]) -> str:
        """Start a Flower app, and return its run's id.

        Args:
            app_folder: With ``pyproject.toml``.
            run_config: Values that override the app's.

        Raises:
            RunError: Flower refuses the app.
        """
        overrides = self._folder / "run.toml"
        overrides.write_text(tomli_w.dumps(dict(run_config)), encoding="utf-8")
        with lean_app(app_folder) as folder:
            return str(self.flower.json("run", str(folder), "--run-config", str(overrides))["run-id"])

    def runs(self) -> list[RunStatus]:
        """Return all runs that the database knows, the newest first.

        Raises:
            RunError: The SuperLink does not answer.
        """
        return [
            RunStatus(
                run["run-id"],
                run["status"],
                run["network-traffic"]["inbound-bytes"],
                run["network-traffic"]["outbound-bytes"],
            )
            for run in self.flower.json("list")["runs"]
        ]

    def stop(self, run_id: str, *, seconds: float = 10.0) -> None:
        """End a run, and wait a while for its processes."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(RunError):  # it, or the SuperLink, may have ended by itself in between
            self.flower("stop", run_id)
            while time.monotonic() < deadline and not find_run(self.runs(), run_id).is_finished:
                time.sleep(0.5)

    def stop_what_runs(self) -> None:
        """End what an earlier process left running: nobody waits for it, and clients may still work on it."""
        for run in self.runs():
            if not run.is_finished:
                self.stop(run.run_id)

    def complaints(self, run_id: str) -> str:
        """Return the end of what a run's ServerApp said."""
        try:
            return self.flower("log", run_id, "--show").strip()[-3000:]
        except RunError as error:
            return str(error)
