"""Flower's own command line and SuperLink, with a home, ports and an environment of their own."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONWARNINGS": "ignore",
}
CONNECTION = """
[superlink]
default = "local"

[superlink.local]
address = ":local:"
options.num-supernodes = {num_supernodes}
options.backend.client-resources.num-cpus = 1
"""


def free_ports(count):
    """Reserve free loopback ports by asking the system for them."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Simulation:
    """A SuperLink in simulation mode; ends by its process id when left."""

    def __init__(self, folder, num_supernodes):
        self.home = Path(folder)
        (self.home / "config.toml").write_text(CONNECTION.format(num_supernodes=num_supernodes))
        self.port, self.control = map(str, free_ports(2))
        self.bin = Path(sys.executable).parent
        self.environment = (
            os.environ
            | QUIET
            | {
                "FLWR_HOME": str(self.home),
                "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": self.port,
                "FLWR_LOCAL_CONTROL_API_PORT": self.control,
                "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            }
        )

    def __enter__(self):
        self.log = (self.home / "superlink.log").open("w")
        self.superlink = subprocess.Popen(
            [
                self.bin / "flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess",
                "--host", "127.0.0.1", "--port", self.port, "--control-api-address", f"127.0.0.1:{self.control}",
                "--database", self.home / "state.db", "--disable-runtime-dependency-installation",
            ],
            env=self.environment, stdout=self.log, stderr=subprocess.STDOUT, cwd=self.home,
        )  # fmt: skip
        self.wait_for(self.is_up, 60)
        return self

    def __exit__(self, *_):
        self.superlink.terminate()
        try:
            self.superlink.wait(20)
        except subprocess.TimeoutExpired:
            self.superlink.kill()
            self.superlink.wait()
        self.log.close()

    def is_up(self):
        """Whether the SuperLink takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.port))) == 0

    def flwr(self, *arguments):
        """Run Flower's command line and return its output."""
        done = subprocess.run(
            [self.bin / "flwr", *arguments], env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"flwr {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def status(self):
        """Return the newest run's status: `flwr run` exits with 0 even when the run fails."""
        listed = self.flwr("list", "--format", "json")
        return json.loads(listed[listed.index("{") :])["runs"][0]["status"]

    @staticmethod
    def wait_for(done, seconds):
        """Poll until `done()`; raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not done within {seconds} s")
            time.sleep(0.5)
