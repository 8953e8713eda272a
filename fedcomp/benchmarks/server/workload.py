"""What the server benchmark is about: a model of 1.66 million parameters, and a server that sends it."""

from __future__ import annotations

import logging
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ConfigRecord
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedcomp.codecs import NO_CODEC
from fedcomp.errors import RunError
from fedcomp.flower import CompressedStrategy, to_array_record
from fedcomp.seeding import derive_rng
from fedcomp.simulation import LocalGrid, flower_log_level, seeded_global_random
from fedcomp.simulation.identity import task_identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flwr.app import ArrayRecord, Message

    from fedcomp.flower import RoundTraffic
    from fedcomp.types import Model

SHAPES: dict[str, tuple[int, ...]] = {
    "0.weight": (32, 1, 5, 5),
    "0.bias": (32,),
    "3.weight": (64, 32, 5, 5),
    "3.bias": (64,),
    "7.weight": (512, 3136),
    "7.bias": (512,),
    "9.weight": (10, 512),
    "9.bias": (10,),
}
"""The tensors of the model ``cnn`` on 28 x 28 images, which a process without torch can not ask."""

RUN_ID = 7
_SERVER_NODE_ID = 1


def make_model(shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> Model:
    """Return untrained weights: normal, with a variance of 2 over the inputs of a unit (He et al., ICCV 2015)."""
    rng = derive_rng(0, "benchmark", "model")
    return {
        name: rng.standard_normal(shape, np.float32) * np.float32((2 / prod(shape[1:])) ** 0.5)
        for name, shape in shapes.items()
    }


class RoundsServer:
    """A server whose rounds are taken step by step: `order`, then `fold`. All clients are asked in each.

    Args:
        model: The global model, which each round sends until `arrays` is set to another one.
        num_clients: Clients.
        codec: See `CompressedStrategy`, as are the others.
        downlink: Codec of what is sent.
        initial: The model that clients can build themselves.
    """

    def __init__(
        self,
        model: Model,
        *,
        num_clients: int = 1,
        codec: str,
        downlink: str = NO_CODEC,
        initial: Model | None = None,
    ) -> None:
        self._rounds: list[RoundTraffic] = []
        self._strategy = CompressedStrategy(
            FedAvg(min_train_nodes=1, min_available_nodes=1),
            codec=codec,
            downlink=downlink,
            initial=initial,
            on_round=self._rounds.append,
        )
        self._grid = LocalGrid(ClientApp(), num_nodes=num_clients, num_workers=0, run_id=RUN_ID)
        self.arrays = to_array_record(model)

    def order(self, server_round: int) -> list[Message]:
        """Return a round's messages."""
        with (
            flower_log_level(logging.WARNING),
            task_identity(run_id=RUN_ID, node_id=_SERVER_NODE_ID),
            seeded_global_random(0, server_round),  # in what order Flower asks the clients
        ):
            return list(self._strategy.configure_train(server_round, self.arrays, ConfigRecord(), self._grid))

    def fold(self, server_round: int, replies: Iterable[Message]) -> ArrayRecord:
        """Take a round's replies, and return the new model.

        Raises:
            RunError: An update was refused: the benchmark would measure something else than it says.
        """
        with flower_log_level(logging.WARNING):
            arrays, _ = self._strategy.aggregate_train(server_round, replies)
        traffic = self.traffic
        if arrays is None or traffic.accepted != traffic.sent:
            raise RunError(f"{traffic.accepted} of {traffic.sent} updates were taken: {'; '.join(traffic.complaints)}")
        return arrays

    @property
    def traffic(self) -> RoundTraffic:
        """What the latest round has moved."""
        return self._rounds[-1]
