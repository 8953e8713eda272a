"""The pseudo-labels of a round: counts of all its clients, added up."""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING, Any

from flwr.common.logger import log

from fedcomp.errors import DataError
from fedcomp.printable import printable
from fedcomp.training import PseudoLabels

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK = "pseudo-guessed"


class PseudoLabelTally:
    """Adds up what clients claim, as far as it is possible; an impossible claim costs a client no more than its say.

    Args:
        num_classes: Of the run.
    """

    def __init__(self, num_classes: int) -> None:
        self._sum = PseudoLabels.none(num_classes)
        self._num_classes = num_classes

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add one client's counts; of an objective that does not guess there are none."""
        if _MARK not in metrics:
            return
        try:
            self._sum += PseudoLabels.of_metrics(metrics, self._num_classes)
        except DataError as error:
            log(WARNING, "%s", printable(str(error)))

    def take(self) -> dict[str, Any]:
        """Return what the round's row tells, and begin with the next round."""
        found, self._sum = self._sum, PseudoLabels.none(self._num_classes)
        return found.to_row()
