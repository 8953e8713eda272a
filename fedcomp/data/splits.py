"""Who gets which images: held-out sets, clients, labelled and unlabelled pools."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import ConfigError, DataError
from fedcomp.seeding import derive_rng, derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flwr_datasets.partitioner import Partitioner

    from fedcomp.data.dataset import ImageDataset
    from fedcomp.types import NDArray


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The training images, cut apart before any client sees one.

    Args:
        clients: What the clients share among themselves.
        validation: Labelled; decides about stopping and choosing at the server.
        proxy: Unlabelled; what the server distills on.
    """

    clients: ImageDataset
    validation: ImageDataset
    proxy: ImageDataset


@dataclass(frozen=True, eq=False)
class ClientData:
    """One client's images.

    Args:
        labelled: With labels.
        unlabelled: Without.
        hidden_labels: int64, the truth about `unlabelled`: for measuring pseudo-labels, never for training.
    """

    labelled: ImageDataset
    unlabelled: ImageDataset
    hidden_labels: NDArray


def hold_out(train: ImageDataset, *, validation_size: int, proxy_size: int, seed: int) -> HeldOut:
    """Set a validation set and an unlabelled proxy set apart, at random.

    Raises:
        DataError: Nothing would be left for the clients.
    """
    if validation_size + proxy_size >= len(train):
        raise DataError(
            f"{train.name} has {len(train)} training images: validation-size {validation_size} and "
            f"proxy-size {proxy_size} leave none for the clients"
        )
    order = derive_rng(seed, "hold-out").permutation(len(train))
    validation, proxy, clients = np.split(order, [validation_size, validation_size + proxy_size])
    return HeldOut(train.take(np.sort(clients)), train.take(validation), train.take(proxy).without_labels())


def partition_labels(
    labels: NDArray, *, num_clients: int, scheme: str, alpha: float = 1.0, seed: int = 0
) -> list[NDArray]:
    """Give every index to exactly one client, through flwr-datasets' partitioners.

    Args:
        labels: int64, (N,).
        num_clients: 1 or more.
        scheme: ``iid``, ``dirichlet`` (Hsu et al. 2019, section 3: class shares from Dir(alpha)) or ``shards``
            (McMahan et al. 2017, section 3: sorted by label, two shards a client).
        alpha: Dirichlet concentration; small is skewed.
        seed: Same seed, same partition.

    Returns:
        One int64 array of indices a client, none empty.

    Raises:
        ConfigError: No scheme has this name.
        DataError: A client would get nothing.
    """
    if num_clients > len(labels):
        raise DataError(f"{num_clients} clients but {len(labels)} images: lower num-clients")
    from datasets import Dataset

    partitioner = _partitioner(scheme, num_clients, alpha, derive_seed(seed, "partition") % 2**32)
    with _quietly():
        partitioner.dataset = Dataset.from_dict({"label": labels, "idx": np.arange(len(labels))})
        try:
            parts = [np.asarray(partitioner.load_partition(i)["idx"], np.int64) for i in range(num_clients)]
        except ValueError as error:
            raise DataError(
                f"no {scheme} partition of {len(labels)} images over {num_clients} clients: {error}"
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
        0 (every client has the overall distribution) up to below 1.
    """

    def shares(chosen: NDArray) -> NDArray:
        return np.bincount(chosen, minlength=num_classes) / len(chosen)

    overall = shares(labels)
    distances = [np.abs(shares(labels[part]) - overall).sum() / 2 for part in parts]
    return float(np.average(distances, weights=[len(part) for part in parts]))


def split_labelled(data: ImageDataset, *, label_fraction: float, seed: int) -> ClientData:
    """Keep the labels of a share of each class (at least one image in all) and hide the rest.

    Args:
        data: One client's images, all labelled.
        label_fraction: In (0, 1].
        seed: Different for each client.
    """
    order = derive_rng(seed, "labelled").permutation(len(data))
    rank_in_class = np.empty(len(data), np.int64)
    for label in np.unique(data.labels):
        members = order[data.labels[order] == label]
        rank_in_class[members] = np.arange(len(members))
    class_sizes = np.bincount(data.labels, minlength=data.num_classes)[data.labels]
    labelled = rank_in_class < np.rint(label_fraction * class_sizes)
    if not labelled.any():
        labelled[order[0]] = True
    hidden = np.flatnonzero(~labelled)
    return ClientData(
        labelled=data.take(np.flatnonzero(labelled)),
        unlabelled=data.take(hidden).without_labels(),
        hidden_labels=data.labels[hidden],
    )


def _partitioner(scheme: str, num_clients: int, alpha: float, seed: int) -> Partitioner:
    from flwr_datasets import partitioner

    schemes: dict[str, Callable[[], Partitioner]] = {
        "iid": partial(partitioner.IidPartitioner, num_partitions=num_clients),
        "dirichlet": partial(
            partitioner.DirichletPartitioner,
            num_partitions=num_clients,
            partition_by="label",
            alpha=alpha,
            min_partition_size=1,
            self_balancing=False,
            seed=seed,
        ),
        "shards": partial(
            partitioner.ShardPartitioner,
            num_partitions=num_clients,
            partition_by="label",
            num_shards_per_partition=2,
            seed=seed,
        ),
    }
    if scheme not in schemes:
        raise ConfigError(f"partition is {scheme!r}, expected one of {', '.join(schemes)}")
    return schemes[scheme]()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

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
