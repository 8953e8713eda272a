"""What Flower's processes say, as records of this process's own log."""

from __future__ import annotations

import logging
import re
import threading
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL)\s*:(.*)")
_MAX_LINE_BYTES = 8192


def relay(stream: IO[bytes], logger: logging.Logger) -> None:
    """Log each line of a stream until it ends, in a thread of its own."""
    threading.Thread(target=_log_lines, args=(stream, logger), name="fedcomp-relay", daemon=True).start()


def _log_lines(stream: IO[bytes], logger: logging.Logger) -> None:
    level = logging.INFO
    for line in _lines(stream):
        text = _COLOUR.sub("", line.decode(errors="replace")).rstrip()
        if found := _LEVEL.match(text):
            level, text = logging.getLevelNamesMapping()[found[1]], found[2].strip()
        if text:  # a line without a level goes on where the one before it ended
            logger.log(level, "%s", text)


def _lines(stream: IO[bytes]) -> Iterable[bytes]:
    with stream:
        while line := stream.readline(_MAX_LINE_BYTES):
            yield line
