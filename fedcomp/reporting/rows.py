"""Rows of an experiment in a file: finished runs stay in it when their folders are gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fedcomp.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


def update_rows(path: Path, rows: Iterable[Mapping[str, Any]], *, key: Sequence[str]) -> list[Mapping[str, Any]]:
    """Write rows into a file, a line of JSON each, and keep what is in it already.

    Args:
        path: The file; made if it is not there.
        rows: New ones; they take the place of those that have the same values in `key`.
        key: What names a row.

    Returns:
        All rows of the file.
    """
    before = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    by_key = {tuple(row[name] for name in key): row for row in (*before, *rows)}
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in by_key.values()).encode())
    return list(by_key.values())
