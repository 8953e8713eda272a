"""Flower's own SuperLink in simulation mode, with a home and ports of its own, driven by Flower's command line."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

_SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    # The app runs in this environment; SuperLink would install what its pyproject.toml names, for each run.
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_STDERR = 2
_LOOPBACK = "127.0.0.1"
_SECONDS_TO_START, _SECONDS_TO_END, _SECONDS_BETWEEN_LOOKS = 60.0, 20.0, 0.5
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
        self._options = _connection(num_supernodes, num_cpus)
        # Flower's backend configuration has no key for it; Ray's own variable is read wherever Ray is initialized.
        self._ray = {"RAY_ADDRESS": ray_address} if ray_address else {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedcomp-superlink-")))
            (self._home / "config.toml").write_text(tomli_w.dumps(self._options), encoding="utf-8")
            api, control = _free_ports(2)
            folder = Path(sys.executable).parent
            self._environment = {
                **os.environ,
                **_SETTINGS,
                **self._ray,
                "FLWR_HOME": str(self._home),
                "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(api),
                "FLWR_LOCAL_CONTROL_API_PORT": str(control),
                "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
            }
            self._log = self._home / "superlink.log"
            log = stack.enter_context(self._log.open("wb"))
            superlink = subprocess.Popen(
                [
                    "flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess",
                    "--host", _LOOPBACK, "--port", str(api), "--control-api-address", f"{_LOOPBACK}:{control}",
                    "--database", str(self._home / "state.db"), "--disable-runtime-dependency-installation",
                ],
                env=self._environment,
                stdout=log,
                stderr=log,
            )  # fmt: skip
            stack.callback(_end, superlink)
            self._superlink = superlink
            self._wait_for(lambda: _is_listening(api), _SECONDS_TO_START)
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
        command = ["flwr", "run", str(app_folder), "--stream"]
        if run_config:
            command += ["--run-config", str(overrides)]
        if subprocess.run(command, env=self._environment, stdout=_STDERR, check=False).returncode:
            raise RunError("flwr run refused the app: what it said is above")
        # Its exit code tells nothing of how the run went, so the status is asked for.
        self._wait_for(lambda: self._status().startswith(_FINISHED), None)
        if (status := self._status()) != _COMPLETED:
            raise RunError(f"the run on Ray ended as {status}: what it said is above")

    def _status(self) -> str:
        listed = subprocess.run(
            ["flwr", "list", "--format", "json"], env=self._environment, stdout=subprocess.PIPE, text=True, check=False
        ).stdout
        try:
            return str(json.loads(listed[listed.index("{") :])["runs"][0]["status"])
        except (ValueError, LookupError):
            raise RunError(f"flwr list says nothing of the run: {listed.strip()[-500:]}") from None

    def _wait_for(self, is_done: Callable[[], bool], seconds: float | None) -> None:
        started = time.monotonic()
        while not is_done():
            if self._superlink.poll() is not None:
                raise RunError(
                    f"flower-superlink ended with exit code {self._superlink.returncode}: {self._last_words()}"
                )
            if seconds is not None and time.monotonic() - started > seconds:
                raise RunError(f"flower-superlink was not up within {seconds:g} s: {self._last_words()}")
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _last_words(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]


def _connection(num_supernodes: int, num_cpus: int | None) -> dict[str, Any]:
    backend: dict[str, Any] = {"client-resources": {"num-cpus": 1}}
    if num_cpus is not None:
        backend["init-args"] = {"num-cpus": num_cpus}
    options = {"num-supernodes": num_supernodes, "backend": backend}
    return {"superlink": {"default": "local", "local": {"address": ":local:", "options": options}}}


def _free_ports(count: int) -> list[int]:
    """Ask the system for free loopback ports; all are held until all are known."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((_LOOPBACK, 0))) for _ in range(count)]
        return [held.getsockname()[1] for held in sockets]


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_LOOPBACK, port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
