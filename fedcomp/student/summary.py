"""A student's figures as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from fedcomp.student.card import StudentCard


def student_table(card: StudentCard) -> Table:
    """Return a row for each form of the model: teacher, float32, int8."""
    table = Table("", "bytes", "accuracy", "points to teacher", "p50 ms", "p95 ms", "same class as reference")
    for column in table.columns[1:]:
        column.justify = "right"
    teacher = card.variants["teacher"]
    for name, form in card.variants.items():
        parity = card.parity.get(name)
        table.add_row(
            f"{name} ({card.quantization})" if name == "int8" else name,
            f"{form.num_bytes:,}",
            f"{form.accuracy:.2%}",
            f"{100 * (form.accuracy - teacher.accuracy):+.2f}",
            f"{form.latency.p50_ms:.3f}",
            f"{form.latency.p95_ms:.3f}",
            f"{parity.same_class:.2%} of {parity.num_images:,}" if parity else "-",
        )
    return table
