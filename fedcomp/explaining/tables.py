"""An explanation as tables for a terminal."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from fedcomp.explaining.explain import Explanation


def explanation_tables(found: Explanation) -> list[Table]:
    """Return tables of sensitivity, classes, calibration and bytes."""
    return [_sensitivity(found), _classes(found), _calibration(found), _bytes(found)]


def _sensitivity(found: Explanation) -> Table:
    table = _table(
        f"One layer of the {found.subject} changed at a time, {found.num_images} validation images",
        *("layer", "change", "bytes alone", "accuracy drop, points", "flips", "SQNR of the logits, dB"),
    )
    before = None
    for row in found.sensitivity:
        if before not in (None, row.layer):
            table.add_section()
        table.add_row(
            "" if before == row.layer else f"{row.layer} ({row.num_weights:,})",
            row.change,
            f"{row.num_bytes:,}",
            f"{100 * row.accuracy_drop:+.2f}",
            f"{row.flip_rate:.2%}",
            f"{row.sqnr_db:.1f}" if math.isfinite(row.sqnr_db) else "unchanged",
        )
        before = row.layer
    return table


def _classes(found: Explanation) -> Table:
    student, drift = found.models.get("student"), found.saliency.by_class() if found.saliency else {}
    more = ("student", "drop, points", "saliency drift") if student else ()
    table = _table("Accuracy by class", "class", "teacher", *more)
    teacher = found.models["teacher"]
    for label, name in enumerate(found.classes):
        accuracies = [report.per_class_accuracy[label] for report in found.models.values()]
        cells = [_share(accuracy) for accuracy in accuracies]
        if student:
            drop = 100 * (accuracies[0] - accuracies[1])
            cells += ["-" if math.isnan(drop) else f"{drop:+.1f}", f"{drift[label]:.2f}" if label in drift else "-"]
        table.add_row(name, *cells)
    table.add_section()
    total = [_share(report.accuracy) for report in found.models.values()]
    if student:
        mean = found.saliency.drift.mean().item() if found.saliency else math.nan
        total += [f"{100 * (teacher.accuracy - student.accuracy):+.1f}", f"{mean:.2f}"]
    table.add_row("all", *total)
    return table


def _calibration(found: Explanation) -> Table:
    table = _table("Calibration", "model", "confidence", "images", "mean confidence", "accuracy")
    for name, report in found.models.items():
        for each in report.reliability:
            if each.num_images:
                span = f"{each.lower:.2f} to {each.upper:.2f}"
                table.add_row(name, span, f"{each.num_images:,}", _share(each.confidence), _share(each.accuracy))
        table.add_row(name, "expected calibration error", "", "", _share(report.calibration_error))
        table.add_section()
    return table


def _bytes(found: Explanation) -> Table:
    ledgers = [(row, asdict(row.ledger)) for row in found.tensors]
    parts = [part for part in (ledgers[0][1] if ledgers else {}) if any(ledger[part] for _, ledger in ledgers)]
    table = _table(
        f"Final minus initial model, each tensor encoded alone by {found.codec}; "
        f"all in one frame: {found.update_bytes:,} bytes. No client's update: those are not kept",
        *("tensor", "values", "bytes", *parts),
    )
    for row, ledger in ledgers:
        cells = (f"{ledger[part]:,}" for part in parts)
        table.add_row(row.tensor, f"{row.num_values:,}", f"{row.ledger.total:,}", *cells)
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(first, title=title, title_justify="left")
    for name in others:
        table.add_column(name, justify="right")
    return table


def _share(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"
