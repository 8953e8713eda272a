"""Load any Flower app from its folder."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tomllib
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

App = TypeVar("App", ServerApp, ClientApp)
ConfigValue = bool | int | float | str


def load_app_folder(path: str | Path) -> tuple[ServerApp, ClientApp, dict[str, ConfigValue]]:
    """Load what a Flower app's ``pyproject.toml`` names.

    The app must import its own top-level modules at the top of its files: the folder is on ``sys.path`` only while
    it is loaded.

    Args:
        path: The folder with ``pyproject.toml``.

    Returns:
        The ServerApp, the ClientApp and the default run config; nested tables have become dotted keys, as in Flower.

    Raises:
        ConfigError: It is no Flower app, or a component can't be imported from the folder.
    """
    folder = Path(path).resolve()
    app = _read_app_table(folder / "pyproject.toml")
    components = app.get("components", {})
    with on_sys_path(folder):
        server_app = _load(components, "serverapp", ServerApp, folder)
        client_app = _load(components, "clientapp", ClientApp, folder)
    return server_app, client_app, flatten_config(app.get("config", {}))


def _read_app_table(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ConfigError(f"{file.parent} is no Flower app: it has no {file.name}")
    try:
        table: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None
    for key in ("tool", "flwr", "app"):
        table = table.get(key) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(f"{file} has no table [tool.flwr.app]: name the folder of a Flower app")
    return table


def _load(components: Mapping[str, Any], key: str, kind: type[App], folder: Path) -> App:
    reference = components.get(key)
    if not isinstance(reference, str) or not all(reference.partition(":")):
        raise ConfigError(f"{key} in [tool.flwr.app.components] is {reference!r}, expected 'package.module:attribute'")
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
        found = attrgetter(attribute)(module)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key} {reference!r} can not be loaded from {folder}: {error}") from error
    if not Path(module.__file__ or "").resolve().is_relative_to(folder):
        raise ConfigError(
            f"{key} {reference!r} is {module.__file__}, which is not in {folder}: "
            "another module has this name; rename the app's, or load it in a new process"
        )
    if not isinstance(found, kind):
        raise ConfigError(f"{key} {reference!r} is a {type(found).__name__}, expected a {kind.__name__}")
    return found


@contextlib.contextmanager
def on_sys_path(folder: Path) -> Iterator[None]:
    """Let modules be imported from a folder for a while."""
    before = sys.path.copy()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def flatten_config(table: Mapping[str, Any]) -> dict[str, ConfigValue]:
    """Return a run config with dotted keys in place of tables; raises `ConfigError` for what Flower has no type for."""
    return dict(_flatten(table))


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, ConfigValue]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, ConfigValue):
            yield f"{prefix}{key}", value
        else:
            raise ConfigError(f"{prefix}{key} in the run config is {value!r}, expected a bool, int, float or str")
