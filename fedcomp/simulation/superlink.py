"""Flower's own SuperLink in simulation mode, with a home and ports of its own, driven by Flower's command line."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from fedcomp.address import LOOPBACK
from fedcomp.deployment.flower_commands import FlowerCommands
from fedcomp.deployment.lean_app import lean_app
from fedcomp.deployment.processes import free_ports, is_listening, running, wait_for
from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

_STDERR = 2
_SECONDS_TO_START = 60.0
_FINISHED, _COMPLETED = "finished", "finished:completed"


class SimulationSuperLink:
    """A SuperLink that runs apps on Ray. Entered it is up; left it has ended.

    Args:
        num_supernodes: Number of clients.
        num_cpus: Cores that Ray may use; None is all, or the cluster's.
        ray_address: Of a running Ray cluster, None starts one here.

    Raises:
        RunError: It does not start.
    """

    def __init__(self, num_supernodes: int, *, num_cpus: int | None = None, ray_address: str | None = None) -> None:
        self._connection = _connection(num_supernodes, num_cpus)
        # Flower's backend configuration has no key for it; Ray's own variable is read wherever Ray is initialized.
        self._ray = {"RAY_ADDRESS": ray_address} if ray_address else {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedcomp-superlink-")))
            api, control = map(str, free_ports(2))
            ports = {"FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": api, "FLWR_LOCAL_CONTROL_API_PORT": control}
            self._flower = FlowerCommands(self._home, self._connection, self._ray | ports)
            command = [
                "flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess",
                "--host", LOOPBACK, "--port", api, "--control-api-address", f"{LOOPBACK}:{control}",
                "--database", str(self._home / "state.db"), "--disable-runtime-dependency-installation",
            ]  # fmt: skip
            self._log = self._home / "superlink.log"
            log = stack.enter_context(self._log.open("wb"))
            self._process = stack.enter_context(running(command, environment=self._flower.environment, log=log))
            wait_for(lambda: is_listening(int(api)), self._process, "flower-superlink", _SECONDS_TO_START, self._log)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, app_folder: Path, run_config: Mapping[str, Any]) -> None:
        """Run a Flower app to its end; what Flower and the app say goes to stderr.

        Args:
            app_folder: With ``pyproject.toml``.
            run_config: Values that override the app's.

        Raises:
            RunError: Flower refuses the app, or the run fails.
        """
        overrides = self._home / "run.toml"
        overrides.write_text(tomli_w.dumps(dict(run_config)), encoding="utf-8")
        changes = ["--run-config", str(overrides)] if run_config else []
        with lean_app(app_folder) as folder:
            command = ["flwr", "run", str(folder), "--stream", *changes]
            refused = subprocess.run(command, env=self._flower.environment, stdout=_STDERR, check=False).returncode
        if refused:
            raise RunError("flwr run refused the app: what it said is above")
        # Its exit code tells nothing of how the run went, so the status is asked for.
        wait_for(lambda: self._status().startswith(_FINISHED), self._process, "flower-superlink", None, self._log)
        if (status := self._status()) != _COMPLETED:
            raise RunError(f"the run on Ray ended as {status}: what it said is above")

    def _status(self) -> str:
        return str(self._flower.json("list")["runs"][0]["status"])


def _connection(num_supernodes: int, num_cpus: int | None) -> dict[str, Any]:
    backend: dict[str, Any] = {"client-resources": {"num-cpus": 1}}
    if num_cpus is not None:
        backend["init-args"] = {"num-cpus": num_cpus}
    return {"address": ":local:", "options": {"num-supernodes": num_supernodes, "backend": backend}}
