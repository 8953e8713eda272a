"""A run as it goes, as log records: for machines that read what a server says."""

from __future__ import annotations

import logging

from rich.console import Console

from fedcomp.reporting.progress import Progress

_log = logging.getLogger("fedcomp")


class LoggedProgress(Progress):
    """Logs each round and note.

    Args:
        title: What runs.
        num_rounds: How many rounds there will be.
    """

    def __init__(self, title: str, num_rounds: int) -> None:
        super().__init__(Console(quiet=True, force_terminal=False), title, num_rounds)

    def _print_line(self, text: str, style: str | None = None) -> None:
        _log.info(text)
