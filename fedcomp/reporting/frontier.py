"""Accuracy against bytes, a curve a family of methods: what a federated codec is judged by."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from fedcomp.reporting.drawing import drawn_panels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PANELS = {"uplink_bytes": "bytes up", "downlink_bytes": "bytes down", "total_bytes": "bytes up and down"}


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, 0 of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def draw_frontier(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy over the bytes of whole runs into an SVG file, a line of panels a partition.

    Args:
        rows: With the keys ``partition``, ``method``, ``accuracy_last10``, ``uplink_bytes`` and ``downlink_bytes``;
            those of one partition and method are averaged. Methods whose names differ only behind the last dash are a
            curve.
        path: The file.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    partitions = list(dict.fromkeys(row["partition"] for row in rows))
    rows = [{**row, "total_bytes": row["uplink_bytes"] + row["downlink_bytes"]} for row in rows]
    with drawn_panels(path, max(len(partitions), 1), len(_PANELS)) as lines:
        for partition, line in zip(partitions, lines, strict=False):
            for (key, label), axis in zip(_PANELS.items(), line, strict=True):
                for family, points in _families(rows, partition, key).items():
                    xs, ys, spreads = zip(*sorted(points), strict=True)
                    axis.errorbar(xs, ys, spreads, marker="o", markersize=3, linewidth=1, capsize=2, label=family)
                axis.set(xscale="log", xlabel=label, title=partition)
                axis.grid(alpha=0.3)
            line[0].set_ylabel("accuracy, last ten rounds")
            line[-1].legend(fontsize=6, loc="lower right")


def _families(
    rows: Sequence[Mapping[str, Any]], partition: str, key: str
) -> dict[str, list[tuple[float, float, float]]]:
    """Return the points (bytes, accuracy, spread) of each curve."""
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["partition"] == partition:
            by_method.setdefault(row["method"], []).append(row)
    families: dict[str, list[tuple[float, float, float]]] = {}
    for method, own in by_method.items():
        family = method.rsplit("-", 1)[0] if method.rsplit("-", 1)[-1].replace(".", "").isdigit() else method
        point = statistics.fmean(row[key] for row in own), *mean_and_spread([row["accuracy_last10"] for row in own])
        families.setdefault(family, []).append(point)
    return families
