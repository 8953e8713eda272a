"""Personal accuracy over the clients of a round, by number of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcomp.config import PERSONAL_ACCURACY_KEY, PERSONAL_EXAMPLES_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_EXAMPLES = 1e9


class PersonalAccuracy:
    """A mean of what clients say; an impossible claim is passed over.

    Attributes:
        last: The last mean that was taken; None if there was none.
    """

    def __init__(self) -> None:
        self._correct = self._examples = 0.0
        self.last: float | None = None

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add what one client says."""
        accuracy, examples = metrics.get(PERSONAL_ACCURACY_KEY), metrics.get(PERSONAL_EXAMPLES_KEY)
        if not (isinstance(accuracy, float) and isinstance(examples, float)):
            return
        if 0 <= accuracy <= 1 and 0 < examples <= _MOST_EXAMPLES:
            self._correct += accuracy * examples
            self._examples += examples

    def take(self) -> dict[str, float]:
        """Return the round's mean, if there is one, and begin with the next round."""
        correct, examples = self._correct, self._examples
        self._correct = self._examples = 0.0
        if not examples:
            return {}
        self.last = correct / examples
        return {"personal_accuracy": self.last, "personal_examples": examples}
