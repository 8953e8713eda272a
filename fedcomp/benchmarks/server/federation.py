"""A server and clients as real processes on loopback, to be watched, killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.data import load_dataset
from fedcomp.deployment.processes import free_ports, running
from fedcomp.errors import RunError
from fedcomp.files import read_json
from fedcomp.run_files import METRICS_FILE, SUMMARY_FILE

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

_ROOT = Path(__file__).parents[3]
_SECONDS_BETWEEN_LOOKS = 0.2
_PLAIN = {"teacher": "none", "local-epochs": 1, "round-deadline": 60}


class Federation:
    """Processes of one run of ``configs/demo.toml``; whatever is left of them ends when the context is left.

    Args:
        folder: For everything: the server's state, the clients', their images and logs.
        num_clients: Each has a share of the digits.
        tls: Folder that `create_authority` made: TLS, and keys are required. None for plain HTTP.
        keys: The clients' private keys, with `tls`.
        overrides: Keys of the configuration, with underscores.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_clients: int = 2,
        tls: Path | None = None,
        keys: Sequence[Path] = (),
        **overrides: Any,
    ) -> None:
        self.folder, self._tls, self._keys = folder, tls, keys
        (self.port,) = free_ports(1)
        changes = {name.replace("_", "-"): value for name, value in overrides.items()}
        self._overrides = {"num-clients": num_clients, **_PLAIN, **changes}
        self.data = split_digits(folder, num_clients)
        self._processes = contextlib.ExitStack()
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._processes.close()

    @property
    def run_folder(self) -> Path:
        """The run's folder."""
        return self.folder / "state" / "run"

    @property
    def summary(self) -> dict[str, Any]:
        """The contents of ``summary.json``; the run must be finished."""
        return read_json(self.run_folder / SUMMARY_FILE)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all rounds that are finished."""
        path = self.run_folder / METRICS_FILE
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def num_rounds(self) -> int:
        """Return the number of rows."""
        path = self.run_folder / METRICS_FILE
        return path.read_bytes().count(b"\n") if path.is_file() else 0

    def start_server(self, *options: object) -> subprocess.Popen[bytes]:
        """Start ``python -m server``."""
        tls = ["--tls", self._tls, "--require-keys"] if self._tls else []
        changes = [part for name, value in self._overrides.items() for part in ("--set", f"{name}={value}")]
        self._server = self.start(
            "server", "-m", "server", "--config", _ROOT / "configs" / "demo.toml", *changes,
            "--listen", f"127.0.0.1:{self.port}", "--state", self.folder / "state", *tls, *options,
        )  # fmt: skip
        return self._server

    def start_client(self, number: int, *options: object) -> subprocess.Popen[bytes]:
        """Start ``python -m clients`` with the images of a client."""
        authority = self._tls / "ca.crt" if self._tls else None
        return self.start(f"client-{number}", "-m", "clients", *self.client_options(number, authority), *options)

    def client_options(self, number: int, authority: Path | None) -> list[object]:
        """Return what a client is started with."""
        tls = ["--tls", authority, "--key", self._keys[number]] if authority else []
        state = self.folder / f"client-{number}"
        return ["--server", f"127.0.0.1:{self.port}", "--data", self.data[number], "--state", state, *tls]

    def start(self, name: str, *arguments: object) -> subprocess.Popen[bytes]:
        """Start Python with some arguments, and a log of its own."""
        log = self._processes.enter_context((self.folder / f"{name}.log").open("ab"))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, *map(str, arguments)]
        return self._processes.enter_context(
            running(command, environment=environment, folder=self.folder, log=log, last_signal=signal.SIGTERM)
        )

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """Kill a process as a lack of memory would: without a word."""
        process.send_signal(signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> str:
        """Return what a process has said."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def wait_for(self, is_so: Callable[[], bool], seconds: float = 180) -> None:
        """Poll until something is so.

        Raises:
            RunError: It is not in time; with the ends of all logs.
        """
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                logs = "\n".join(f"== {path.name}\n{self.log(path.stem)[-3000:]}" for path in self.folder.glob("*.log"))
                raise RunError(f"not so within {seconds:g} s\n{logs}")
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def wait_for_rounds(self, number: int, seconds: float = 180) -> None:
        """Wait until so many rounds are finished; raises `RunError` as `wait_for`, and when the server has ended."""

        def is_over() -> bool:
            return self._server is not None and self._server.poll() is not None

        self.wait_for(lambda: self.num_rounds() >= number or is_over(), seconds)
        if (found := self.num_rounds()) < number:
            raise RunError(f"the server ended after {found} rounds, not {number}: {self.log('server')[-2000:]}")


def split_digits(folder: Path, num_parts: int) -> list[Path]:
    """Write each client's digits, and return the files."""
    digits, _ = load_dataset("digits")
    paths = [folder / f"images-{part}.npz" for part in range(num_parts)]
    for part, path in enumerate(paths):
        own = digits.take(np.arange(part, len(digits), num_parts))
        np.savez(path, x=own.images, y=own.labels)
    return paths
