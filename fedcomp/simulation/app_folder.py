"""Run any Flower app from its folder, as ``flwr run`` would."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.errors import ConfigError
from fedcomp.simulation.load_app import flatten_config, load_app_folder, on_sys_path
from fedcomp.simulation.run import run_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flwr.app import Context

    from fedcomp.simulation.load_app import ConfigValue

_PAIR = re.compile(r"""([^\s=]+)=('[^']*'|"[^"]*"|\S+)""")


def run_app_folder(
    path: str | Path,
    *,
    num_nodes: int,
    overrides: Iterable[str] = (),
    num_workers: int | None = None,
    seed: int = 0,
) -> Context:
    """Run what a Flower app's ``pyproject.toml`` names to the end, in this process and its workers.

    Args:
        path: The app's folder; it is on ``sys.path`` all the while.
        num_nodes: Number of clients.
        overrides: See `override_run_config`.
        num_workers: See `LocalGrid`.
        seed: Decides which clients Flower samples, and their node ids.

    Returns:
        The ServerApp's context.

    Raises:
        ConfigError: It is no Flower app, can't be imported, or an override does not fit it.
    """
    with on_sys_path(Path(path).resolve()):
        server_app, client_app, defaults = load_app_folder(path)
        run_config = override_run_config(defaults, overrides)
        return run_app(
            server_app, client_app, num_nodes=num_nodes, run_config=run_config, num_workers=num_workers, seed=seed
        )


def override_run_config(defaults: Mapping[str, ConfigValue], overrides: Iterable[str]) -> dict[str, ConfigValue]:
    """Return a run config with some values replaced, under the rules of ``flwr run --run-config``.

    Args:
        defaults: What the app's ``pyproject.toml`` says; other keys there are none.
        overrides: Each the name of a .toml file, or pairs ``key=value`` with spaces between them; values as in TOML,
            so strings in quotation marks. Later ones win.

    Raises:
        ConfigError: A text does not parse, or the app has no such key.
    """
    changes: dict[str, ConfigValue] = {}
    for override in overrides:
        changes |= flatten_config(_read_toml(override) if override.endswith(".toml") else _read_pairs(override))
    for key in changes.keys() - defaults.keys():
        close = difflib.get_close_matches(key, defaults, n=1)
        hint = f"did you mean {close[0]}?" if close else f"keys are {', '.join(defaults) or 'none'}"
        raise ConfigError(f"{key} is not a key of the app's run config: {hint}")
    return {**defaults, **changes}


def _read_toml(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None


def _read_pairs(text: str) -> dict[str, Any]:
    if left := _PAIR.sub("", text).strip():
        raise ConfigError(f"run config {text!r}: {left!r} is not of the form key=value")
    pairs: dict[str, Any] = {}
    for key, value in _PAIR.findall(text):
        try:
            pairs[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            raise ConfigError(f"run config {key}={value}: the value is not TOML; strings are quoted") from None
    return pairs
