"""From rounds to rows, and from rows to a summary."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fedcomp.reporting.progress import RoundRow
from fedcomp.reporting.system import peak_rss_bytes, versions
from fedcomp.run_files import METRICS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedcomp.flower import RoundTraffic
    from fedcomp.reporting.progress import Progress
    from fedcomp.reporting.run_folder import RunFolder

LAST_ROUNDS = 10
"""Of a run: the rounds whose mean accuracy tells how it ended."""

_MAX_NOTES = 5
_TOTALS = {
    "uplink_bytes": "uplink_bytes",
    "downlink_bytes": "downlink_bytes",
    "dense_uplink_bytes": "dense_uplink_bytes",
    "dense_downlink_bytes": "dense_downlink_bytes",
    "accepted": "updates_accepted",
    "rejected": "updates_rejected",
    "clipped": "updates_clipped",
    "late": "updates_late",
    "skipped": "rounds_skipped",
    "stragglers": "stragglers",
    "dropouts": "dropouts",
}
"""Which keys of a row are added up, and the names of the sums in ``summary.json``."""


class RunRecorder:
    """Counts a run's bytes and updates, shows and stores each round, and sums up.

    Args:
        folder: Where rows go.
        progress: Where they are shown.
    """

    def __init__(self, folder: RunFolder, progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        self._started = self._round_started = time.monotonic()
        self._earlier_seconds = 0.0
        self._totals: Counter[str] = Counter()
        self._accuracies: dict[int, float] = {}
        self._simulated_seconds: float | None = None
        self._notes = 0
        self.last_complaint = ""

    @property
    def num_accepted(self) -> int:
        """Updates that counted, so far."""
        return self._totals["updates_accepted"]

    def restore(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Count the rounds of an earlier process.

        Args:
            rows: As they are in ``metrics.jsonl``.
        """
        for row in rows:
            self._count(row)
            self._earlier_seconds += row["seconds"]
        if rows:
            self._progress.restore([RoundRow.of(row) for row in rows])

    def record(self, traffic: RoundTraffic, metrics: Mapping[str, Any]) -> None:
        """Take one finished round.

        Args:
            traffic: What it moved.
            metrics: What was measured of the global model after it: ``accuracy``, ``loss``; may be empty.
        """
        now = time.monotonic()
        row = RoundRow(
            round=traffic.round,
            accuracy=metrics.get("accuracy"),
            uplink_bytes=traffic.uplink_bytes,
            dense_uplink_bytes=traffic.dense_uplink_bytes,
            downlink_bytes=traffic.downlink_bytes,
            accepted=traffic.accepted,
            rejected=traffic.rejected.total(),
            failed=traffic.failed,
            seconds=now - self._round_started,
        )
        self._round_started = now
        measured = {key: value for key, value in asdict(row).items() if value is not None}
        reasons = {f"rejected_{reason}": count for reason, count in sorted(traffic.rejected.items())}
        timing = asdict(traffic.timing) if traffic.timing else {}
        more = {
            "dense_downlink_bytes": traffic.dense_downlink_bytes,
            "clipped": traffic.clipped,
            "late": traffic.late,
            "skipped": int(traffic.skipped),
            "complaints": traffic.complaints or None,
        }
        stored = measured | dict(metrics) | more | timing | reasons
        self._count(stored)
        self._folder.write_round(stored)
        self._progress.advance(row)
        self._show_complaints(traffic)

    def summary(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Sum the run up, in the names of ``summary.json``; `facts` is what only the caller knows."""
        last = [a for number, a in self._accuracies.items() if number > self._totals["rounds"] - LAST_ROUNDS]
        final = self._accuracies.get(self._totals["rounds"])
        return {
            **self._totals,
            "accuracy": final,
            "accuracy_last10": sum(last) / len(last) if last else None,
            **facts,
            "simulated_seconds": self._simulated_seconds,
            "wall_seconds": self._earlier_seconds + time.monotonic() - self._started,
            "peak_rss_bytes": peak_rss_bytes(),
            "versions": versions(),
        }

    def _count(self, stored: Mapping[str, Any]) -> None:
        """Add a round to the sums; of its row alone, so that a resumed run has the same."""
        self._totals.update({total: stored[key] for key, total in _TOTALS.items() if key in stored})
        self._totals["rounds"] += 1
        if stored.get("accuracy") is not None:
            self._accuracies[stored["round"]] = stored["accuracy"]
        self._simulated_seconds = stored.get("simulated_seconds", self._simulated_seconds)

    def _show_complaints(self, traffic: RoundTraffic) -> None:
        for complaint in traffic.complaints:
            self.last_complaint = complaint
            self._notes += 1
            if self._notes <= _MAX_NOTES:
                self._progress.note(f"round {traffic.round}: {complaint}")
            if self._notes == _MAX_NOTES:
                self._progress.note(f"what else goes wrong is in {METRICS_FILE} only")
