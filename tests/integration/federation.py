"""A server and clients as real processes on loopback, to be watched, killed and started again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from fedcomp.data import load_dataset
from fedcomp.deployment.processes import free_ports

ROOT = Path(__file__).parents[2]


class Federation:
    """Processes of one run; whatever is left of them ends when the context is left.

    Args:
        folder: For everything.
        overrides: Keys and values over those of ``configs/demo.toml``.
        num_clients: Each has its own images.
        tls: Folder that `keys init` made, None for plain HTTP.
        keys: The clients' private keys, None for none.
    """

    def __init__(self, folder, *, num_clients=2, tls=None, keys=None, **overrides):
        self.folder, self.tls, self.keys = folder, tls, keys
        (self.port,) = free_ports(1)
        defaults = {"num-clients": num_clients, "teacher": "none", "local-epochs": 1, "round-deadline": 60}
        self.overrides = defaults | {name.replace("_", "-"): value for name, value in overrides.items()}
        self.data = split_digits(folder, num_clients)
        self._processes = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._processes.close()

    @property
    def run_folder(self):
        return self.folder / "state" / "run"

    @property
    def summary(self):
        return json.loads((self.run_folder / "summary.json").read_text())

    def rows(self):
        """Return the rows of all rounds that are finished."""
        path = self.run_folder / "metrics.jsonl"
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def start_server(self, *options):
        """Start `python -m server`."""
        tls = ["--tls", self.tls, "--require-keys"] if self.tls else []
        changes = [part for name, value in self.overrides.items() for part in ("--set", f"{name}={value}")]
        return self.start(
            "server", "-m", "server", "--config", ROOT / "configs" / "demo.toml", *changes,
            "--listen", f"127.0.0.1:{self.port}", "--state", self.folder / "state", *tls, *options,
        )  # fmt: skip

    def start_client(self, number, *options):
        """Start `python -m clients` with the images of a client."""
        authority = self.tls / "ca.crt" if self.tls else None
        return self.start(f"client-{number}", "-m", "clients", *self.client_options(number, authority), *options)

    def client_options(self, number, authority):
        """Return what a client is started with."""
        tls = ["--tls", authority, "--key", self.keys[number]] if authority else []
        state = self.folder / f"client-{number}"
        return ["--server", f"127.0.0.1:{self.port}", "--data", self.data[number], "--state", state, *tls]

    def log(self, name):
        """Return what a process has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait_for(self, is_so, seconds=180):
        """Poll until `is_so()`; raises TimeoutError with the logs."""
        deadline = time.monotonic() + seconds
        while not (found := is_so()):
            if time.monotonic() > deadline:
                logs = "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))
                raise TimeoutError(f"not so within {seconds} s\n{logs}")
            time.sleep(0.2)
        return found

    def wait_for_rounds(self, number, seconds=180):
        """Wait until so many rounds are finished."""
        self.wait_for(lambda: len(self.rows()) >= number, seconds)

    def start(self, name, *arguments):
        """Start Python with some arguments, and a log of its own."""
        log = self._processes.enter_context((self.folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        self._processes.callback(self.end, process)
        return process

    @staticmethod
    def end(process):
        """End a process by its id, and wait for it."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @staticmethod
    def kill(process):
        """Kill a process as a lack of memory would: without a word."""
        process.send_signal(signal.SIGKILL)
        process.wait()


def split_digits(folder, num_parts):
    """Write each client's digits, and return the files."""
    digits, _ = load_dataset("digits")
    paths = [folder / f"images-{part}.npz" for part in range(num_parts)]
    for part, path in enumerate(paths):
        own = digits.take(np.arange(part, len(digits), num_parts))
        np.savez(path, x=own.images, y=own.labels)
    return paths
