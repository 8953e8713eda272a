"""A run's folder: what was asked, what happened in each round, what came out."""

from __future__ import annotations

import json
import math
import os
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fedcomp.errors import CheckpointError, UsageError
from fedcomp.files import asked_to_write, pack_tensors, try_lock, write_atomically
from fedcomp.reporting.events import EventWriter
from fedcomp.run_files import CONFIG_FILE, EVENTS_FOLDER, METRICS_FILE, MODEL_FILE, SUMMARY_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from fedcomp.types import Model


class RunFolder:
    """Writes ``config.toml``, ``metrics.jsonl``, ``summary.json``, ``model.safetensors`` and ``events/``.

    Args:
        path: An existing folder.

    Raises:
        UsageError: Another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics = (path / METRICS_FILE).open("a+", encoding="utf-8")
        _lock(self._metrics, path)
        self._events = EventWriter(path / EVENTS_FOLDER)

    @classmethod
    def create(cls, path: str, name: str) -> Self:
        """Make a new folder.

        Args:
            path: Where; empty means ``runs/NAME-DATE-TIME``.
            name: The run's name.

        Raises:
            UsageError: The folder exists and is not empty, or can not be written.
        """
        folder = Path(path or new_run_path(name))
        if _is_unfinished(folder):
            raise UsageError(
                f"{folder} holds a run that is not finished: go on with it with --resume, or choose another out-dir"
            )
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is there already and not an empty folder: choose another out-dir")
        with asked_to_write(f"the run's folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            return cls(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._metrics.close()
        self._events.close()

    def write_config(self, text: str) -> None:
        """Write the resolved configuration, TOML."""
        write_atomically(self.path / CONFIG_FILE, text.encode())

    def keep_rounds(self, number: int) -> list[dict[str, Any]]:
        """Cut rows and events back to those of the first rounds, and return the rows.

        Args:
            number: Rounds that are not done again.

        Raises:
            CheckpointError: One of their rows is missing.
        """
        if not number and not self._metrics.seek(0, os.SEEK_END):
            return []  # a new run
        self._metrics.seek(0)
        rows = [self._read_row(server_round) for server_round in range(1, number + 1)]
        self._metrics.truncate(self._metrics.tell())
        self._events.drop_from(number + 1)
        return rows

    def write_round(self, row: Mapping[str, Any]) -> None:
        """Append one round's row; what was not measured, or is not finite, is absent."""
        kept = _measured(row)
        self._metrics.write(json.dumps(kept, allow_nan=False) + "\n")
        self._metrics.flush()
        os.fsync(self._metrics.fileno())  # a checkpoint without the rows of its rounds can not be gone on from
        scalars = {k: float(v) for k, v in _flattened(kept).items() if isinstance(v, (int, float)) and k != "round"}
        self._events.write(scalars, step=int(row["round"]))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the run's outcome; what was not measured, or is not finite, is absent."""
        text = json.dumps(_measured(summary), indent=2, allow_nan=False)
        write_atomically(self.path / SUMMARY_FILE, (text + "\n").encode())

    def save_model(self, weights: Model) -> None:
        """Write the final global model."""
        write_atomically(self.path / MODEL_FILE, pack_tensors(weights))

    def _read_row(self, server_round: int) -> dict[str, Any]:
        line = self._metrics.readline()
        try:
            row: dict[str, Any] = json.loads(line)
            if row["round"] == server_round:
                return row
        except (ValueError, TypeError, KeyError):
            pass
        found = f"line {server_round} is {line[:40]!r}, expected the row of round {server_round}"
        raise CheckpointError(f"{self.path / METRICS_FILE}: {found}")


def _is_unfinished(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() and not (folder / SUMMARY_FILE).exists()


def _lock(file: TextIO, path: Path) -> None:
    """Be the only process that writes to a run."""
    if not try_lock(file):
        file.close()
        raise UsageError(f"{path} is being written by another process: a run can not be resumed while it runs")


def new_run_path(name: str) -> Path:
    """Return ``runs/NAME-DATE-TIME``, with a number behind it if that is there already."""
    path = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = (path.with_name(f"{path.name}{suffix}") for suffix in chain([""], (f"-{i}" for i in count(2))))
    return next(candidate for candidate in candidates if not candidate.exists())


def _flattened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give each place of a list a name of its own."""
    lists = {key: value for key, value in row.items() if isinstance(value, list)}
    places = {f"{key}/{place}": each for key, value in lists.items() for place, each in enumerate(value)}
    return {key: value for key, value in row.items() if key not in lists} | places


def _measured(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out None, NaN and infinities: JSON has no word for the latter two."""
    return {
        key: value
        for key, value in values.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
