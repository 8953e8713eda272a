"""A finished or running run, read back from its folder: accuracy over bytes and simulated time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from fedcomp.errors import DataError, UsageError
from fedcomp.run_files import METRICS_FILE


@dataclass(frozen=True, slots=True)
class RunHistory:
    """The rounds of one run.

    Args:
        name: What to call it.
        rows: The rows of its ``metrics.jsonl``, in order.
    """

    name: str
    rows: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read a run's folder.

        Raises:
            UsageError: It is no run's folder.
            DataError: It has no rounds, or a row is damaged.
        """
        path = Path(folder) / METRICS_FILE
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise UsageError(f"{folder} is no run's folder: it has no {METRICS_FILE}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"can't read {path}: {error}") from None
        if not lines:
            raise DataError(f"{path} has no rounds yet")
        return cls(str(folder), tuple(_parse_row(line, path, number) for number, line in enumerate(lines, 1)))

    def accuracies(self) -> list[float | None]:
        """Return the accuracy after each round, None where it was not measured."""
        return [row.get("accuracy") for row in self.rows]

    def seconds(self) -> list[float] | None:
        """Return the simulated clock after each round, None if the run had none."""
        if any("simulated_seconds" not in row for row in self.rows):
            return None
        return [float(row["simulated_seconds"]) for row in self.rows]

    def num_bytes(self) -> list[float]:
        """Return the bytes that were sent up and down until the end of each round."""
        return list(accumulate(float(row["uplink_bytes"] + row["downlink_bytes"]) for row in self.rows))

    def uplink_bytes(self) -> list[float]:
        """Return the bytes that clients sent until the end of each round."""
        return list(accumulate(float(row["uplink_bytes"]) for row in self.rows))

    def cost_to_accuracy(self, target: float, costs: list[float] | None) -> float | None:
        """Return what a run had cost when it first reached an accuracy.

        Args:
            target: From 0 to 1.
            costs: One of `seconds`, `num_bytes`, `uplink_bytes`.

        Returns:
            The cost, None if the run never got there or the cost was not measured.
        """
        reached = (
            cost for cost, a in zip(costs or [], self.accuracies(), strict=False) if a is not None and a >= target
        )
        return next(reached, None)


def _parse_row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: {error}") from None
    if not isinstance(row, dict) or not {"round", "uplink_bytes", "downlink_bytes"} <= row.keys():
        raise DataError(f"{path}, line {number} is no round: expected an object with round and bytes up and down")
    return row
