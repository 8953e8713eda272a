"""Students that were tried: which are worth having, and which one to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One student.

    Args:
        number: Of the trial.
        changes: Keys of the run's configuration that make it, kebab-case.
        accuracy: Of the ONNX file on the validation set, 0 to 1.
        num_bytes: Of the ONNX file.
        p50_ms: Median time of one image; None if it was not an objective.
    """

    number: int
    changes: Mapping[str, Any]
    accuracy: float
    num_bytes: int
    p50_ms: float | None = None

    def dominates(self, other: Candidate) -> bool:
        """Return whether this one is as good in every objective, and better in one."""
        mine, theirs = self._costs(), other._costs()
        return mine != theirs and all(own <= its for own, its in zip(mine, theirs, strict=True))

    def _costs(self) -> tuple[float, float, float]:
        return -self.accuracy, self.num_bytes, self.p50_ms or 0.0


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those that no other one dominates, smallest first."""
    front = [one for one in candidates if not any(other.dominates(one) for other in candidates)]
    return sorted(front, key=lambda one: (one.num_bytes, one.number))


def choose(candidates: Sequence[Candidate], tolerance: float) -> Candidate:
    """Return the smallest candidate that is nearly as accurate as the best; of two equally small ones the better.

    Args:
        candidates: One or more.
        tolerance: Accuracy that may be lost against the best one, 0 to 1.
    """
    enough = max(one.accuracy for one in candidates) - tolerance
    return min((one for one in candidates if one.accuracy >= enough), key=lambda one: (one.num_bytes, -one.accuracy))
