"""Which client gets which images, and how skewed that is."""

from __future__ import annotations

import contextlib
import random
import warnings
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import ConfigError, DataError
from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from datasets import Dataset
    from flwr_datasets.partitioner import Partitioner

    from fedcomp.types import NDArray

_SHARDS_PER_CLIENT = 2


def partition_labels(
    labels: NDArray, *, num_clients: int, scheme: str, alpha: float = 1.0, seed: int = 0
) -> list[NDArray]:
    """Give every index to exactly one client, as flwr-datasets' partitioners do.

    Args:
        labels: int64, (N,).
        num_clients: 1 or more.
        scheme: ``iid``, ``dirichlet`` (Hsu et al. 2019, section 3: class shares from Dir(alpha)) or ``shards``
            (McMahan et al. 2017, section 3: sorted by label, two shards a client; where N does not divide into so
            many, what is left over makes further, smaller shards for some of the clients).
        alpha: Dirichlet concentration, above 0; small is skewed.
        seed: Same seed, same partition.

    Returns:
        One int64 array of indices a client, none empty.

    Raises:
        ConfigError: No scheme has this name, a number is out of range, or there are more clients than images.
        DataError: A client would get nothing.
    """
    if num_clients < 1:
        raise ConfigError(f"num-clients is {num_clients}, expected 1 or more")
    if not 0 < alpha < inf:
        raise ConfigError(f"dirichlet-alpha is {alpha}, expected above 0 and finite")
    if num_clients > len(labels):
        raise ConfigError(f"{num_clients} clients but {len(labels)} images: lower num-clients")
    partition_seed = derive_seed(seed, "partition") % 2**32
    if scheme == "iid":
        # What shuffling and IidPartitioner make, too; importing them takes two seconds, which only others are worth.
        return np.array_split(np.random.default_rng(partition_seed).permutation(len(labels)), num_clients)
    with _quietly():
        from datasets import Dataset

        rows = Dataset.from_dict({"label": labels, "idx": np.arange(len(labels))})
        partitioner = _partitioner(scheme, rows, num_clients, alpha, partition_seed)
        try:
            # Whole columns at once: row by row, tens of thousands of images take seconds.
            clients = (partitioner.load_partition(i).with_format("numpy") for i in range(num_clients))
            parts = [np.asarray(client["idx"][:], np.int64) for client in clients]
        except ValueError as error:
            raise DataError(
                f"no {scheme} partition of {len(labels)} images over {num_clients} clients: "
                f"lower num-clients or raise dirichlet-alpha ({error})"
            ) from None
    for client, part in enumerate(parts):
        if not part.size:
            raise DataError(
                f"client {client} of {num_clients} gets no image: lower num-clients or raise dirichlet-alpha"
            )
    return parts


def label_divergence(labels: NDArray, parts: Sequence[NDArray], num_classes: int) -> float:
    """Measure the skew: mean total-variation distance of clients' label shares to the overall ones, by size.

    Returns:
        0 (every client has the overall distribution) up to below 1. A client without images has no weight.
    """
    parts = [part for part in parts if len(part)]

    def shares(chosen: NDArray) -> NDArray:
        return np.bincount(chosen, minlength=num_classes) / len(chosen)

    overall = shares(labels)
    distances = [np.abs(shares(labels[part]) - overall).sum() / 2 for part in parts]
    return float(np.average(distances, weights=[len(part) for part in parts]))


def _partitioner(scheme: str, rows: Dataset, num_clients: int, alpha: float, seed: int) -> Partitioner:
    from flwr_datasets import partitioner

    schemes: dict[str, Callable[[], Partitioner]] = {
        "dirichlet": partial(
            partitioner.DirichletPartitioner,
            num_partitions=num_clients,
            partition_by="label",
            alpha=alpha,
            min_partition_size=1,
            self_balancing=False,
            seed=seed,
        ),
        # Given the number of shards instead of their size, it would drop what does not divide.
        "shards": partial(
            partitioner.ShardPartitioner,
            num_partitions=num_clients,
            partition_by="label",
            shard_size=max(1, len(rows) // (num_clients * _SHARDS_PER_CLIENT)),
            keep_incomplete_shard=True,
            seed=seed,
        ),
    }
    if scheme not in schemes:
        raise ConfigError(f"partition is {scheme!r}, expected one of iid, {', '.join(schemes)}")
    chosen = schemes[scheme]()
    chosen.dataset = rows
    return chosen


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep `datasets` from showing anything, and from drawing from Python's generator when it is first imported."""
    drawn = random.getstate()
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    random.setstate(drawn)
    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # What it warns about, partitions that come out too small, is checked and said by the caller.
            warnings.simplefilter("ignore")
            yield
    finally:
        if not were_disabled:
            enable_progress_bars()
