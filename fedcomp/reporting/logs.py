"""Logs of a server or a client process: a line a record, for people or for machines.

The standard library does it in one file. structlog would bring processors of its own, and Flower, uvicorn and we would
still have to be brought into them: all of these log through `logging`.

Nothing in a record can leave its line or steer a terminal, whoever's words it holds (`fedcomp.printable`). Keys, tokens
and certificates are not logged anywhere; what looks like a private key or a bearer token is blanked out nevertheless.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Any, Self

from fedcomp.errors import UsageError
from fedcomp.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FIELDS = ("run", "round", "client", "reason")
"""What a record may carry beside its message: ``log.warning("refused", extra={"round": 3, "client": 17})``."""

_IDENTIFIERS = frozenset({"run", "client"})  # 64 bits long: as JSON numbers, many readers would round them
_LEVELS = ("debug", "info", "warning", "error")
_TALKATIVE = ("httpx", "httpcore")  # a line for each request
_LIBRARIES = ("flwr", "uvicorn", "uvicorn.access", "uvicorn.error")  # those with handlers of their own
_FORMAT_VARIABLE, _LEVEL_VARIABLE = "FEDCOMP_LOG_FORMAT", "FEDCOMP_LOG_LEVEL"
_MAX_MESSAGE, _MAX_TRACEBACK = 8192, 32768
_MAX_FILE_BYTES, _OLD_FILES = 10 << 20, 5
_SECRETS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), "[key]"),
    (re.compile(r"(?i)\bbearer [\w.~+/=-]+"), "[token]"),
)


class LogFormat(StrEnum):
    """How a record is written."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, how and where; as on the command lines of ``python -m server`` and ``python -m clients``.

    Args:
        format: ``--log-format``.
        level: ``--log-level``: debug, info, warning or error.
        file: ``--log-file``: written beside stderr, in up to six files of 10 MiB; None for stderr alone.

    Raises:
        UsageError: The level is unknown.
    """

    format: LogFormat = LogFormat.TEXT
    level: str = "info"
    file: Path | None = None

    def __post_init__(self) -> None:
        if self.level not in _LEVELS:
            raise UsageError(f"log level is {self.level!r}, expected one of {', '.join(_LEVELS)}")

    def environment(self) -> dict[str, str]:
        """Return variables by which processes that this one starts log alike; the file has one writer only."""
        return {_FORMAT_VARIABLE: str(self.format), _LEVEL_VARIABLE: self.level}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Return what the starting process set with `environment`, None if it set nothing.

        Raises:
            UsageError: It set something unknown.
        """
        if _FORMAT_VARIABLE not in environment and _LEVEL_VARIABLE not in environment:
            return None
        chosen = environment.get(_FORMAT_VARIABLE, LogFormat.TEXT)
        if chosen not in set(LogFormat):
            raise UsageError(f"log format is {chosen!r}, expected one of {', '.join(LogFormat)}")
        return cls(LogFormat(chosen), environment.get(_LEVEL_VARIABLE, "info"))


def configure_logging(settings: LogSettings, **fields: object) -> None:
    """Let everything that this process logs go to stderr, and to a file, in one format.

    Flower's own handler is taken away, so call this after Flower was imported. Calling it again starts afresh.

    Args:
        settings: What, how and where.
        fields: Of `FIELDS`, those that hold for all records of this process: ``run="demo"``.

    Raises:
        UsageError: The log file can not be written.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if settings.file:
        handlers.append(_open(settings.file))
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    formatter = JsonFormatter(fields) if settings.format is LogFormat.JSON else TextFormatter(fields)
    level = settings.level.upper()
    root.setLevel(level)
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.setLevel(level)  # records of a library with a level of its own never ask the root's
        handler.addFilter(_says_something)
        root.addHandler(handler)


class _FieldsFormatter(logging.Formatter):
    """Knows the fields of all records.

    Args:
        fields: Values of `FIELDS` for all records.
    """

    def __init__(self, fields: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self._fields = fields or {}


class TextFormatter(_FieldsFormatter):
    """``2026-01-31T12:00:00.000Z WARNING flwr [round=3 client=17] text``; the lines of a traceback are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and those of a traceback."""
        fields = " ".join(f"{name}={value}" for name, value in _fields_of(record, self._fields).items())
        parts = (_time_of(record), record.levelname, record.name, f"[{fields}]" if fields else "", _message_of(record))
        return "\n    | ".join([" ".join(filter(None, parts)), *self._traceback(record)])

    def _traceback(self, record: logging.LogRecord) -> list[str]:
        return _lines_of(self.formatException(record.exc_info)) if record.exc_info else []


class JsonFormatter(_FieldsFormatter):
    """A JSON object a line: ``time``, ``level``, ``logger``, ``message``, of `FIELDS` what is known, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        written: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message_of(record),
            **_fields_of(record, self._fields),
        }
        if record.exc_info:
            written["exception"] = "\n".join(_lines_of(self.formatException(record.exc_info)))
        return json.dumps(written)


def _open(path: Path) -> RotatingFileHandler:
    try:
        return RotatingFileHandler(path, maxBytes=_MAX_FILE_BYTES, backupCount=_OLD_FILES, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the log file can not be written: {error}") from None


def _says_something(record: logging.LogRecord) -> bool:
    """Drop Flower's empty lines, which are there for the eye."""
    try:
        return bool(_message_of(record)) or record.exc_info is not None
    except Exception:  # its arguments do not fit: a handler tells so, where this would raise in whoever logs
        return True


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message_of(record: logging.LogRecord) -> str:
    return printable(_without_secrets(record.getMessage()).replace("\t", " ").strip(), _MAX_MESSAGE)


def _fields_of(record: logging.LogRecord, of_all: Mapping[str, object]) -> dict[str, object]:
    """Return the known fields; text is printable, and the rest numbers."""
    found = {name: getattr(record, name, of_all.get(name)) for name in FIELDS}
    return {
        name: value if isinstance(value, int | float) and name not in _IDENTIFIERS else printable(str(value))
        for name, value in found.items()
        if value is not None
    }


def _lines_of(traceback: str) -> list[str]:
    """Return a traceback's last lines, none of which can pass for a record."""
    lines = _without_secrets(traceback)[-_MAX_TRACEBACK:].splitlines()
    return [printable(line, _MAX_MESSAGE) for line in lines]


def _without_secrets(text: str) -> str:
    for secret, name in _SECRETS:
        text = secret.sub(name, text)
    return text
