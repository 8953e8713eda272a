"""A run as it goes: live on a terminal, one plain line a round when piped."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from fedcomp.printable import printable
from fedcomp.reporting.formatting import format_bytes, format_ratio, format_seconds, format_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from rich.console import Console

_VISIBLE_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """One finished round.

    Args:
        round: From 1.
        accuracy: Of the global model, 0 to 1; None if it was not measured in this round.
        uplink_bytes: From the clients.
        dense_uplink_bytes: The same as float32 arrays.
        downlink_bytes: To the clients.
        accepted: Updates that count.
        rejected: Updates that were refused.
        failed: Clients that were lost.
        seconds: Duration.
    """

    round: int
    accuracy: float | None
    uplink_bytes: int
    dense_uplink_bytes: int
    downlink_bytes: int
    accepted: int
    rejected: int
    failed: int
    seconds: float

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Return a row of ``metrics.jsonl``, which has more keys and leaves out what was not measured."""
        return cls(**{field.name: stored.get(field.name) for field in fields(cls)})  # type: ignore[arg-type]

    def __add__(self, later: RoundRow) -> RoundRow:
        """Sum up: counts and seconds add, the later round and the latest accuracy stay."""
        return RoundRow(
            round=later.round,
            accuracy=self.accuracy if later.accuracy is None else later.accuracy,
            uplink_bytes=self.uplink_bytes + later.uplink_bytes,
            dense_uplink_bytes=self.dense_uplink_bytes + later.dense_uplink_bytes,
            downlink_bytes=self.downlink_bytes + later.downlink_bytes,
            accepted=self.accepted + later.accepted,
            rejected=self.rejected + later.rejected,
            failed=self.failed + later.failed,
            seconds=self.seconds + later.seconds,
        )

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, one cell for each of `COLUMNS`."""
        return (
            str(self.round),
            format_share(self.accuracy),
            format_bytes(self.uplink_bytes),
            format_bytes(self.downlink_bytes),
            format_ratio(self.dense_uplink_bytes, self.uplink_bytes),
            str(self.accepted),
            str(self.rejected),
            str(self.failed),
            format_seconds(self.seconds),
        )


COLUMNS = ("round", "accuracy", "up", "down", "ratio up", "took", "refused", "lost", "time")


class Progress:
    """Shows rounds as they finish.

    Args:
        console: Where; live if it is a terminal.
        title: What runs.
        num_rounds: How many rounds there will be.
    """

    def __init__(self, console: Console, title: str, num_rounds: int) -> None:
        self._console, self._title, self._num_rounds = console, title, num_rounds
        self._rows: deque[RoundRow] = deque(maxlen=_VISIBLE_ROWS)
        self._total: RoundRow | None = None
        self._bar = ProgressBar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(title, total=num_rounds)
        self._live = Live(self._bar, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        else:
            self._print_line(f"{self._title}: {self._num_rounds} rounds")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def restore(self, rows: Sequence[RoundRow]) -> None:
        """Count rounds of an earlier process, without showing them one by one; what was counted before is void."""
        self._rows.clear()
        self._rows.extend(rows)
        self._total = None
        for row in rows:
            self._total = row if self._total is None else self._total + row
        self._bar.update(self._task, completed=len(rows))
        self.note(f"goes on after round {len(rows)}")

    def advance(self, row: RoundRow) -> None:
        """Show one more round."""
        self._rows.append(row)
        self._total = row if self._total is None else self._total + row
        self._bar.advance(self._task)
        if self._live:
            self._live.update(Group(self._table(self._total), self._bar))
        else:
            line = "  ".join(f"{column} {cell}" for column, cell in zip(COLUMNS, row.cells(), strict=True))
            self._print_line(line)

    def note(self, text: str) -> None:
        """Print a line of its own, above the live part; a stranger's words in it can not break out of it."""
        self._print_line(printable(text), style="yellow")

    def _print_line(self, text: str, style: str | None = None) -> None:
        """Print literally and unbroken: what reads a pipe counts on one line."""
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def _table(self, total: RoundRow) -> Table:
        table = Table(box=None, pad_edge=False, show_footer=True)
        for header, so_far in zip(COLUMNS, ("so far", *total.cells()[1:]), strict=True):
            table.add_column(header, so_far, justify="right")
        for row in self._rows:
            table.add_row(*row.cells())
        return table
