"""Who takes part: any number of clients, none of which costs anything before it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Context, RecordDict

from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUM_IDS = 2**63


@dataclass(frozen=True)
class Population:
    """The clients of a run.

    A node id is ``(offset + partition * step) mod 2**63`` with an odd step, both drawn from the seed: distinct,
    without order, and turned back into the partition without a table.

    Args:
        num_nodes: Number of clients; their partitions count from 0.
        run_id: Of the run.
        run_config: What every client finds in ``context.run_config``.
        seed: Decides the node ids.
    """

    num_nodes: int
    run_id: int = 1
    run_config: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    seed: int = 0

    def node_id(self, partition: int) -> int:
        """Return the id of a partition's client."""
        return (self._offset + partition * self._step) % _NUM_IDS

    def partition(self, node_id: int) -> int | None:
        """Return the partition of a node, None if there is no such node."""
        partition = (node_id - self._offset) * self._inverse_step % _NUM_IDS
        return partition if partition < self.num_nodes else None

    def node_ids(self) -> list[int]:
        """Return all node ids, in the order of their partitions: a list of the caller's own."""
        return self._node_ids.copy()

    def context(self, partition: int, state: RecordDict) -> Context:
        """Make the context that a client is called with."""
        return Context(
            run_id=self.run_id,
            node_id=self.node_id(partition),
            node_config={"partition-id": partition, "num-partitions": self.num_nodes},
            state=state,
            run_config=dict(self.run_config),
        )

    @cached_property
    def _node_ids(self) -> list[int]:
        partitions = np.arange(self.num_nodes, dtype=np.uint64)
        ids: list[int] = ((partitions * np.uint64(self._step) + np.uint64(self._offset)) % np.uint64(_NUM_IDS)).tolist()
        return ids

    @cached_property
    def _offset(self) -> int:
        return derive_seed(self.seed, "nodes", "offset")

    @cached_property
    def _step(self) -> int:
        return derive_seed(self.seed, "nodes", "step") | 1

    @cached_property
    def _inverse_step(self) -> int:
        return pow(self._step, -1, _NUM_IDS)
