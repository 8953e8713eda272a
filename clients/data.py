"""Whose images a client trains on: its own, or its part of a data set that many clients share in a simulation."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedcomp.config import FLIP_OK_KEY, IMAGE_SHAPE_KEY, NUM_CLASSES_KEY
from fedcomp.data import (
    ClientData,
    check_fits,
    hide_labels,
    hold_out,
    load_dataset,
    load_local,
    partition_labels,
    split_labelled,
)
from fedcomp.errors import ConfigError, DataError
from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flwr.app import Context

    from fedcomp.config import RunConfig
    from fedcomp.data import ImageDataset
    from fedcomp.types import NDArray

DATA_DIR_KEY, PARTITION_KEY, NUM_PARTITIONS_KEY = "data-dir", "partition-id", "num-partitions"
"""Keys of a client's node configuration."""


class DataFacts(NamedTuple):
    """What the server says of the data that the run is about.

    Args:
        image_shape: Channels, height, width.
        num_classes: Of the whole run: a client may have images of a few.
        flip_ok: Whether a mirrored image keeps its label.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    flip_ok: bool

    @classmethod
    def of(cls, instructions: Mapping[str, Any]) -> DataFacts:
        """Read them from a message's train config."""
        channels, height, width = instructions[IMAGE_SHAPE_KEY]
        return cls((channels, height, width), instructions[NUM_CLASSES_KEY], instructions[FLIP_OK_KEY])


def client_data(config: RunConfig, facts: DataFacts, context: Context) -> ClientData:
    """Return a client's images, labelled and unlabelled.

    Raises:
        ConfigError: A simulation has another number of clients than the configuration.
        DataError: A client's own data can not be read, or is not what the run is about.
    """
    node = context.node_config
    if path := node.get(DATA_DIR_KEY):
        share = (int(node[PARTITION_KEY]), int(node[NUM_PARTITIONS_KEY])) if NUM_PARTITIONS_KEY in node else None
        return own_data(config, facts, Path(str(path)), share, client_name(context))
    return shared_data(config, int(node[PARTITION_KEY]), int(node[NUM_PARTITIONS_KEY]))


def client_name(context: Context) -> int:
    """Return what a client's random streams are named after: its partition if it has one, else Flower's node id."""
    return int(context.node_config.get(PARTITION_KEY, context.node_id))


def own_data(config: RunConfig, facts: DataFacts, path: Path, share: tuple[int, int] | None, name: int) -> ClientData:
    """Return what is in a client's own files.

    Args:
        config: Of the run; `label_fraction` hides labels here, too.
        facts: What the images must agree with.
        path: The files.
        share: (i, n) takes the i-th of n parts, as a simulation would cut them; None takes all.
        name: Of the client.

    Raises:
        DataError: They can not be read, do not agree, or hold no label where clients need one.
    """
    data = load_local(path, flip_ok=facts.flip_ok)
    check_fits(data.labelled, facts.image_shape, facts.num_classes)
    if not len(data.labelled) and config.labels_at == "clients":
        raise DataError(f"{path} has no labelled image, and a client needs one or more")
    labelled = replace(data.labelled, num_classes=facts.num_classes)
    if share and len(labelled):
        parts = _partition(labelled, share[1], config.partition, config.dirichlet_alpha, config.seed)
        labelled = labelled.take(parts[share[0]])
    cut = _hide(config, labelled, name)
    if not len(data.unlabelled):
        return cut
    images = np.concatenate([cut.unlabelled.images, data.unlabelled.images])
    labels = np.concatenate([cut.unlabelled.labels, data.unlabelled.labels])
    return replace(
        cut,
        unlabelled=replace(cut.unlabelled, images=images, labels=labels),
        hidden_labels=np.concatenate([cut.hidden_labels, data.hidden_labels]),
    )


def shared_data(config: RunConfig, partition: int, num_partitions: int) -> ClientData:
    """Return one client's part of the configured data set.

    Raises:
        ConfigError: The run's number of clients is not that of the nodes.
    """
    if config.deployed:
        raise ConfigError(f"a client of a deployed run needs data of its own: {DATA_DIR_KEY} in its node configuration")
    if num_partitions != config.num_clients:
        raise ConfigError(f"num-clients is {config.num_clients}, but there are {num_partitions} nodes")
    images, parts = all_clients_images(config)
    return _hide(config, images.take(parts[partition]), partition)


def _hide(config: RunConfig, images: ImageDataset, client: int) -> ClientData:
    """Hide the labels that a client does not have."""
    if config.labels_at == "server":
        return hide_labels(images)
    seed = derive_seed(config.seed, "client", client)
    return split_labelled(images, label_fraction=config.label_fraction, seed=seed)


def all_clients_images(config: RunConfig) -> tuple[ImageDataset, list[NDArray]]:
    """Return the images that the clients of a simulation share, and each one's indices."""
    sizes = tuple(config.held_out_sizes.items())
    images = _clients_images(config.dataset, config.data_dir, sizes, config.seed)
    return images, _partition(images, config.num_clients, config.partition, config.dirichlet_alpha, config.seed)


@functools.lru_cache(maxsize=1)
def _clients_images(dataset: str, data_dir: str, sizes: tuple[tuple[str, int], ...], seed: int) -> ImageDataset:
    """Load the clients' images, once a process; `sizes` is what the server holds out."""
    images, _ = load_dataset(dataset, data_dir)
    return hold_out(images, **dict(sizes), seed=seed).clients


@functools.lru_cache(maxsize=1)
def _partition(images: ImageDataset, num_clients: int, scheme: str, alpha: float, seed: int) -> list[NDArray]:
    """Partition them, once a process."""
    return partition_labels(images.labels, num_clients=num_clients, scheme=scheme, alpha=alpha, seed=seed)
