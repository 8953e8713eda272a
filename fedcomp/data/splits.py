"""Images set apart: held out at the server, labelled and unlabelled at a client."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import ConfigError, DataError
from fedcomp.seeding import derive_rng

if TYPE_CHECKING:
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
            `UNLABELLED` where it is not known.
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


def split_labelled(data: ImageDataset, *, label_fraction: float, seed: int) -> ClientData:
    """Keep the labels of a share of each class (at least one image in all) and hide the rest.

    Args:
        data: One client's images, all labelled.
        label_fraction: In (0, 1].
        seed: Different for each client.

    Raises:
        ConfigError: The fraction is out of range.
        DataError: There is no image.
    """
    if not 0 < label_fraction <= 1:
        raise ConfigError(f"label-fraction is {label_fraction}, expected above 0 and up to 1")
    if not len(data):
        raise DataError(f"{data.name}: a client without images has none to label: lower num-clients")
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


def hold_out_own(data: ClientData, *, share: float, seed: int) -> tuple[ClientData, ImageDataset]:
    """Set a share of a client's labelled images apart, to measure on; one or more stay and, if it has two, one goes.

    Args:
        data: One client's images.
        share: In (0, 1).
        seed: Different for each client.

    Returns:
        What is left to train on, and what was set apart.
    """
    count = len(data.labelled)
    held = min(count - 1, max(1, round(share * count))) if count > 1 else 0
    order = derive_rng(seed, "hold-out-own").permutation(count)
    kept = replace(data, labelled=data.labelled.take(np.sort(order[held:])))
    return kept, data.labelled.take(np.sort(order[:held]))
