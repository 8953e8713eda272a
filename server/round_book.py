"""The books of a run: after each round its global model is measured, and its row is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import MetricRecord

from fedcomp.flower import to_model
from fedcomp.reporting import format_share

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.app import ArrayRecord

    from fedcomp.config import RunConfig
    from fedcomp.reporting import RunRecorder
    from fedcomp.types import Model
    from server.hearing import Hearing


class RoundBook:
    """Writes down what a round moved, what its clients say and how good the model is that it ended with.

    Args:
        config: The run.
        measure: Returns what is measured of a round's model; see `measurement`.
        hearing: Has heard the round's clients.
        recorder: Stores and shows rows.
        note: Is told what is in no row.
    """

    def __init__(
        self,
        config: RunConfig,
        measure: Callable[[int, Model], dict[str, float]],
        hearing: Hearing,
        recorder: RunRecorder,
        note: Callable[[str], None],
    ) -> None:
        self._config, self._measure, self._hearing = config, measure, hearing
        self._recorder, self._note = recorder, note

    def enter(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Enter a round, and return what was measured; Flower's `evaluate_fn`.

        Args:
            server_round: 0 is before the first one, of which there is no row.
            arrays: The model that it ended with.
        """
        metrics = self._measure(server_round, to_model(arrays))
        if server_round:
            traffic, claims = self._hearing.take()
            self._recorder.record(traffic, metrics | claims)
        elif self._config.fine_tune_epochs and "accuracy" in metrics:
            self._note(f"server's labels alone: accuracy {format_share(metrics['accuracy'])}")
        return MetricRecord({**metrics}) if metrics else None
