"""A strategy that leaves a checkpoint after each round, and begins after the last one."""

from __future__ import annotations

from dataclasses import fields, replace
from logging import INFO
from typing import TYPE_CHECKING

from flwr.common.logger import log
from flwr.serverapp.strategy import Strategy

from fedcomp.errors import UsageError
from fedcomp.flower.server.inner import class_of, has_own_loop
from fedcomp.flower.server.strategy import CompressedStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Result

    from fedcomp.flower.checkpoint import CheckpointFolder


class ResumableStrategy(Strategy):
    """Run `inner` with a checkpoint after each round, or each few, but the last; `start` does the rounds that are left.

    Flower's loop always counts from 1. This strategy stands between it and `inner`, which sees the true rounds; so do
    clients and `evaluate_fn`. Nothing is written after the last round: what follows it (a student taught by the last
    round's updates) is no part of a checkpoint, and repeating one round is what it costs.

    Args:
        inner: What does the work.
        folder: Of the run's checkpoint; one that is there is gone on from.
        every: Rounds between two checkpoints, 1 or more: a kill costs what was done since the last.

    Raises:
        CheckpointError: The checkpoint is damaged.
        UsageError: `inner` is no CompressedStrategy, or the strategy inside it has a loop of its own, which would have
            to know which rounds are left.
    """

    def __init__(self, inner: CompressedStrategy, folder: CheckpointFolder, *, every: int = 1) -> None:
        if not isinstance(inner, CompressedStrategy):
            raise UsageError(f"inner is {class_of(inner)}, expected a CompressedStrategy around it")
        if has_own_loop(inner.inner):
            own = class_of(inner.inner)
            raise UsageError(f"{own} has a start of its own, which knows nothing of rounds that are done: leave it out")
        self.inner, self._folder, self._every = inner, folder, every
        self._last = folder.last()

    @property
    def finished_rounds(self) -> int:
        """Rounds that `start` does not do again."""
        return self._last.server_round if self._last else 0

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Do the rounds that are left of `num_rounds`; see `CompressedStrategy.start`."""
        grid = self.inner.streaming(grid, initial_arrays)
        self.inner.save_state()  # what can not be kept is better known before the first round than after it
        if self._last:
            self._folder.restore(self._last, self.inner, grid)
            initial_arrays = self._last.arrays
            log(INFO, "going on after round %d of %d; Flower counts from 1", self._last.server_round, num_rounds)
        done = self.finished_rounds

        def finish_round(number: int, arrays: ArrayRecord) -> MetricRecord | None:
            server_round = number + done
            if number == 0 and done:
                return None  # this round's evaluation is in the books
            metrics = evaluate_fn(server_round, arrays) if evaluate_fn else None
            if 0 < server_round < num_rounds and server_round % self._every == 0:
                self._folder.save(server_round, arrays, self.inner, grid)
            return metrics

        result = super().start(
            grid, initial_arrays, num_rounds - done, timeout, train_config, evaluate_config, finish_round
        )
        return _with_true_rounds(result, done, initial_arrays)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Leave it to `inner`."""
        return self.inner.configure_train(server_round + self.finished_rounds, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Leave it to `inner`."""
        return self.inner.aggregate_train(server_round + self.finished_rounds, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Leave it to `inner`."""
        return self.inner.configure_evaluate(server_round + self.finished_rounds, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Leave it to `inner`."""
        return self.inner.aggregate_evaluate(server_round + self.finished_rounds, replies)

    def summary(self) -> None:
        """Log `inner`'s summary."""
        self.inner.summary()


def _with_true_rounds(result: Result, done: int, arrays: ArrayRecord) -> Result:
    """Count a result's rounds from the run's first; where no round changed the model it is what it was."""
    if not done:
        return result
    metrics = {field.name: getattr(result, field.name) for field in fields(result) if field.name != "arrays"}
    shifted = {name: {number + done: record for number, record in by.items()} for name, by in metrics.items()}
    return replace(result, arrays=result.arrays or arrays, **shifted)
