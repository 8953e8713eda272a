"""A search as tables and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from fedcomp.reporting.drawing import drawn_panels
from fedcomp.tuning.candidate import pareto_front

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fedcomp.tuning.candidate import Candidate
    from fedcomp.tuning.update_codec import FittedCodec

_HEADERS = {
    "student-model": "student",
    "student-prune": "pruned",
    "student-quantize": "int8",
    "student-bits": "fewer bits",
    "temperature": "T",
    "hard-label-weight": "hard",
}
"""Of a run's keys that are searched; whole names would leave no room for values."""


def front_table(candidates: Sequence[Candidate], chosen: Candidate) -> Table:
    """Return a row for each student on the Pareto front; the chosen one is marked."""
    front = pareto_front(candidates)
    timed = any(one.p50_ms is not None for one in front)
    title = f"{len(front)} of {len(candidates)} students are on the Pareto front; * is chosen"
    table = Table("trial", *_HEADERS.values(), title=title, title_justify="left")
    for column in table.columns:
        column.overflow = "fold"
    for name in ("bytes", "validation accuracy", *(["p50 ms"] if timed else [])):
        table.add_column(name, justify="right")
    for one in front:
        mark = " *" if one.number == chosen.number else ""
        latency = [f"{one.p50_ms:.3f}"] if one.p50_ms is not None else []
        settings = (str(one.changes[key]) for key in _HEADERS)
        table.add_row(f"{one.number}{mark}", *settings, f"{one.num_bytes:,}", f"{one.accuracy:.2%}", *latency)
    return table


def draw_front(candidates: Sequence[Candidate], chosen: Candidate, path: Path) -> None:
    """Draw accuracy over bytes into an SVG file: all students, the front as a line, the chosen one as a ring.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    front = pareto_front(candidates)
    with drawn_panels(path, 1, 1) as ((axis,),):
        axis.scatter([one.num_bytes for one in candidates], [one.accuracy for one in candidates], s=12, color="C7")
        axis.plot([one.num_bytes for one in front], [one.accuracy for one in front], marker="o", markersize=4)
        axis.scatter([chosen.num_bytes], [chosen.accuracy], s=90, facecolors="none", edgecolors="C3")
        axis.set(xscale="log", xlabel="bytes of the ONNX file", ylabel="validation accuracy")
        axis.grid(alpha=0.3)


def codec_table(fitted: Sequence[FittedCodec], refused: Mapping[str, str], budget: int) -> Table:
    """Return a row for each codec, the best first; then those that do not fit."""
    title = f"Final minus initial model within {budget:,} bytes; a round's update is smaller and noisier"
    table = Table("codec", title=title, title_justify="left")
    for name in ("bytes", "squared error"):
        table.add_column(name, justify="right")
    for one in fitted:
        table.add_row(one.codec, f"{one.num_bytes:,}", f"{one.squared_error:.4f}")
    for codec in refused:
        table.add_row(codec, "does not fit", "-")
    return table
