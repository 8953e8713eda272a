"""Flower's command line, with a home and an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from fedcomp.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    # Apps run in this environment; otherwise what their pyproject.toml names would be installed for each run.
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_SECONDS_TO_ANSWER = 120.0


def flower_environment(home: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for Flower's commands: nothing phones home, nothing is installed.

    Args:
        home: Flower's folder for apps and connections.
        settings: More variables.
    """
    folder = Path(sys.executable).parent  # where pip put Flower's commands
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **_SETTINGS, **(settings or {}), "FLWR_HOME": str(home), "PATH": path}


class FlowerCommands:
    """Runs ``flwr`` against one SuperLink.

    Args:
        home: Flower's folder; it is made.
        connection: To the SuperLink, as in Flower's ``config.toml``.
        settings: More environment variables.
    """

    def __init__(self, home: Path, connection: Mapping[str, Any], settings: Mapping[str, str] | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        options = {"superlink": {"default": "it", "it": dict(connection)}}
        (home / "config.toml").write_text(tomli_w.dumps(options), encoding="utf-8")
        self.environment = flower_environment(home, settings)

    def __call__(self, *arguments: str) -> str:
        """Run ``flwr ARGUMENTS`` and return what it says.

        Raises:
            RunError: It fails, or does not answer.
        """
        name = " ".join(["flwr", *arguments[:2]])
        try:
            done = subprocess.run(
                ["flwr", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS_TO_ANSWER,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RunError(f"{name} did not answer within {_SECONDS_TO_ANSWER:g} s") from None
        if done.returncode:
            raise RunError(f"{name}: {(done.stdout + done.stderr).strip()[-2000:]}")
        return done.stdout

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run ``flwr ARGUMENTS --format json`` and return what it says.

        Raises:
            RunError: It fails, or says something else.
        """
        said = self(*arguments, "--format", "json")
        try:
            answer: dict[str, Any] = json.loads(said[said.index("{") :])
        except ValueError:
            raise RunError(f"flwr {arguments[0]} says {said.strip()[-500:]!r}, expected JSON") from None
        if not answer.get("success", True):
            raise RunError(f"flwr {arguments[0]}: {answer.get('error-message', answer)}")
        return answer
