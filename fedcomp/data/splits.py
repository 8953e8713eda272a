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
        labelled: What the server itself trains on; the same number of each class, or one more.
    """

    clients: ImageDataset
    validation: ImageDataset
    proxy: ImageDataset
    labelled: ImageDataset


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


def hold_out(
    train: ImageDataset, *, validation_size: int, proxy_size: int, seed: int, server_labels: int = 0
) -> HeldOut:
    """Set a validation set, an unlabelled proxy set and the server's own labelled images apart, at random.

    Raises:
        DataError: Nothing would be left for the clients, or a class has too few images for the server.
    """
    if validation_size + proxy_size + server_labels >= len(train):
        raise DataError(
            f"{train.name} has {len(train)} training images: validation-size {validation_size}, proxy-size "
            f"{proxy_size} and server-labels {server_labels} leave none for the clients"
        )
    order = derive_rng(seed, "hold-out").permutation(len(train))
    validation, proxy, rest = np.split(order, [validation_size, validation_size + proxy_size])
    is_labelled = _first_of_each_class(train.labels[rest], train.num_classes, server_labels)
    return HeldOut(
        clients=train.take(np.sort(rest[~is_labelled])),
        validation=train.take(validation),
        proxy=train.take(proxy).without_labels(),
        labelled=train.take(rest[is_labelled]),
    )


def label_all(data: ImageDataset) -> ClientData:
    """Keep all labels: nothing is unlabelled."""
    nothing = data.take(np.empty(0, np.int64))
    return ClientData(data, nothing, nothing.labels)


def hide_labels(data: ImageDataset) -> ClientData:
    """Hide all labels of a client's images: it has none."""
    return ClientData(data.take(np.empty(0, np.int64)), data.without_labels(), data.labels)


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
    rank_in_class[order] = _rank_in_class(data.labels[order])
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


def _first_of_each_class(labels: NDArray, num_classes: int, count: int) -> NDArray:
    """Return which of the images to take, (N,): `count` in all, spread over the classes; the first ones of each."""
    wanted = np.full(num_classes, count // num_classes)
    wanted[: count % num_classes] += 1
    found = np.bincount(labels, minlength=num_classes)
    if (short := found < wanted).any():
        label = int(np.argmax(short))
        raise DataError(f"server-labels {count} needs {wanted[label]} images of class {label}, {found[label]} are left")
    return _rank_in_class(labels) < wanted[labels]


def _rank_in_class(labels: NDArray) -> NDArray:
    """Return how many earlier images have the same label, (N,)."""
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - first
    return rank


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
