"""FedDyn at the server: the mean of the clients' models, moved on by how far all means have moved so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from flwr.serverapp.strategy import FedAvg

from fedcomp.config import PARTICIPANTS_KEY
from fedcomp.errors import RunError
from fedcomp.flower import to_array_record, to_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid

    from fedcomp.types import Model, NDArray

_STATISTICS = ("running_mean", "running_var")
"""BatchNorm's, as torch names them: nobody trains them, so no client's loss pulls them back."""


class FedDyn(FedAvg):
    r"""Each round ``h <- h - alpha / m * sum_k (w_k - w)``, then ``w <- mean_k w_k - h / alpha``.

    Only ``c = -h / alpha`` is needed, and of it alpha is no part: ``c <- c + P / m * (mean - w)``, ``w <- mean + c``,
    P of m clients having replied. So the mean is all that it must be given, and nothing more travels than in FedAvg.
    Clients add `fedcomp.training.Dynamic` to their losses, where alpha is.

    Args:
        num_clients: m, those of later rounds too.
        **arguments: Of `FedAvg`. A reply's weight is its metric ``participants``, 1: what is minimized is the mean of
            the clients' losses, whatever their sizes.

    References:
        Acar et al., Federated Learning Based on Dynamic Regularization, ICLR 2021, algorithm 1.
    """

    needs_only_the_mean = True
    only_weight = 1.0

    def __init__(self, *, num_clients: int, **arguments: Any) -> None:
        super().__init__(**arguments | {"weighted_by_key": PARTICIPANTS_KEY})
        self.num_clients = num_clients
        self.correction: dict[str, NDArray] = {}
        self._base: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember what the clients start from."""
        self._base = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take the mean, and add the correction."""
        replies = list(replies)
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is None:
            return None, metrics
        if self._base is None:
            raise RunError("FedDyn was given replies before it had sent a model")
        base, self._base = to_model(self._base), None
        share = min(1.0, _num_participants(replies) / self.num_clients)
        return to_array_record(self._corrected(to_model(arrays), base, share)), metrics

    def _corrected(self, mean: Model, base: Model, share: float) -> Model:
        """Return the new model; counters and statistics, which are no weights, are those of the mean."""
        model = dict(mean)
        for name, before in base.items():
            if before.dtype.kind != "f" or name.endswith(_STATISTICS):
                continue
            moved = mean[name].astype(np.float64) - before
            self.correction[name] = self.correction.get(name, np.zeros(before.shape)) + share * moved
            model[name] = (mean[name] + self.correction[name]).astype(before.dtype)
        return model


def _num_participants(replies: Iterable[Message]) -> float:
    """Add the replies' weights up: one reply can stand for many."""
    metrics = [record for reply in replies if not reply.has_error() for record in reply.content.metric_records.values()]
    return sum(cast("float", record[PARTICIPANTS_KEY]) for record in metrics)
