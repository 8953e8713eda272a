"""Finished runs side by side, by their summaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from fedcomp.reporting.formatting import format_bytes, format_ratio, format_seconds, format_share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ROWS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("codec", lambda s: s["codec"]),
    ("rounds", lambda s: str(s["rounds"])),
    ("accuracy, last round", lambda s: format_share(s["accuracy"])),
    ("accuracy, last ten rounds", lambda s: format_share(s["accuracy_last10"])),
    ("personal accuracy", lambda s: format_share(s["personal_accuracy"])),
    ("bytes up", lambda s: format_bytes(s["uplink_bytes"])),
    ("bytes up, as float32", lambda s: format_bytes(s["dense_uplink_bytes"])),
    ("times fewer up", lambda s: format_ratio(s["dense_uplink_bytes"], s["uplink_bytes"])),
    ("bytes down", lambda s: format_bytes(s["downlink_bytes"])),
    ("updates refused", lambda s: str(s["updates_rejected"])),
    ("student accuracy", lambda s: format_share(s["student_accuracy"])),
    ("student bytes", lambda s: format_bytes(s["student_bytes"])),
    ("student as int8 ONNX", lambda s: format_bytes(s["student_int8_bytes"])),
    ("its accuracy", lambda s: format_share(s["student_int8_accuracy"])),
    ("simulated time", lambda s: format_seconds(s["simulated_seconds"])),
    ("time", lambda s: format_seconds(s["wall_seconds"])),
)


def comparison_table(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """Build a table of `comparison_rows`, with a column a run.

    Args:
        runs: (name, contents of its ``summary.json``).
    """
    table = Table("", *(name for name, _ in runs))
    for column in table.columns[1:]:
        column.justify = "right"
    for label, cells in comparison_rows([summary for _, summary in runs]):
        table.add_row(label, *cells)
    return table


def comparison_rows(summaries: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return a label and a cell a run; a dash stands where a summary says nothing, and no row where none does."""
    rows = [(label, [_cell(show, summary) for summary in summaries]) for label, show in _ROWS]
    return [(label, cells) for label, cells in rows if set(cells) != {"-"}]


def _cell(show: Callable[[Mapping[str, Any]], str], summary: Mapping[str, Any]) -> str:
    try:
        return show(summary)
    except KeyError:
        return "-"
