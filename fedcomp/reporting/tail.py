"""The rows of a run that is being written, read as they come, by another process than the one that writes them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

_log = logging.getLogger(__name__)


class RowTail:
    """Follows ``metrics.jsonl``.

    A run that is resumed cuts its rows back to its last checkpoint and goes on from there. So whoever follows it
    remembers the last line that it read and where that stands: if it is not there any more, all that was read is void.
    A line that is still being written, without a newline in the end, is left for later.

    Args:
        path: Of the file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position, self._last_line = 0, b""

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Read what is new.

        Returns:
            Whether the rows of all earlier calls are void, and the rows that there are beyond those that are not.

        Raises:
            OSError: The file is there and can not be read.
        """
        try:
            with self._path.open("rb") as file:
                is_void = not self._is_where_it_was(file)
                if is_void:
                    self._position, self._last_line = 0, b""
                return is_void, list(self._new_rows(file))
        except FileNotFoundError:
            is_void, self._position, self._last_line = self._position > 0, 0, b""
            return is_void, []

    def _is_where_it_was(self, file: IO[bytes]) -> bool:
        file.seek(self._position - len(self._last_line))
        return file.read(len(self._last_line)) == self._last_line

    def _new_rows(self, file: IO[bytes]) -> Iterator[dict[str, Any]]:
        file.seek(self._position)
        for line in file:
            if not line.endswith(b"\n"):
                return
            self._position, self._last_line = self._position + len(line), line
            if (row := _parse(line)) is not None:
                yield row
            else:
                _log.warning("%s: passed over a line that is no row: %r", self._path, line[:80])


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("round"), int) else None
