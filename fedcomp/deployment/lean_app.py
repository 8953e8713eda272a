"""A Flower app without what lies beside it: ``flwr run`` looks at every file, also at those that it never packs."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALWAYS = ("pyproject.toml", ".gitignore", "README.md", "LICENSE")


@contextlib.contextmanager
def lean_app(folder: Path) -> Iterator[Path]:
    """Yield a copy of a Flower app that has the files of its ``fab-include``, and nothing else.

    Beside an environment of fifty thousand files it is packed with a quarter of the work. An app whose patterns are
    missing, mean files at any depth or lead out of the folder, is left where it is.

    Args:
        folder: With ``pyproject.toml``.
    """
    table = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = table.get("tool", {}).get("flwr", {}).get("app", {}).get("fab-include", [])
    if not patterns or not all(map(_names_one_place, patterns)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fedcomp-app-") as copy:
        for pattern in (*_ALWAYS, *patterns):
            for path in folder.glob(pattern.strip("/")):
                _copy(path, Path(copy) / path.relative_to(folder))
        yield Path(copy)


def _names_one_place(pattern: str) -> bool:
    return "/" in pattern.rstrip("/") and pattern[0] != "!" and ".." not in pattern


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
