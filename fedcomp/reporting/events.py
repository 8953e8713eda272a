"""TensorBoard events, written with TensorBoard's own writer and nothing else."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class EventWriter:
    """Scalars over rounds; does nothing where TensorBoard is not installed (the ``report`` extra)."""

    def __init__(self, folder: Path) -> None:
        self._writer: Any = None
        with contextlib.suppress(ImportError):
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self._writer = EventFileWriter(str(folder))

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Add one event with all scalars of a round."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def drop_from(self, step: int) -> None:
        """Tell whoever reads the folder to pass over events from a step on that are there already."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._writer.add_event(Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START)))

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
