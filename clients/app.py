"""The ClientApp: train the global model on this client's images; `compression_mod` sends what changed."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedcomp.config import RESOLVED_KEYS, RunConfig
from fedcomp.data import ClientData, hold_out, load_dataset, partition_labels, split_labelled
from fedcomp.errors import ConfigError
from fedcomp.flower import compression_mod, to_array_record, to_model
from fedcomp.models import build_model, get_weights, set_weights
from fedcomp.seeding import derive_seed
from fedcomp.training import Compute, LocalSettings, make_objective, train_locally

if TYPE_CHECKING:
    from flwr.app import Context
    from torch import nn

    from fedcomp.data import ImageDataset
    from fedcomp.types import Model, NDArray


def initial_model(message: Message, context: Context) -> Model:
    """Build the model that the run begins with: the configuration says all that decides about it."""
    config = RunConfig.from_mapping(context.run_config)
    images, _ = all_clients_images(config)
    return get_weights(untrained_model(config.model, images.image_shape, images.num_classes, config.seed))


app = ClientApp(mods=[compression_mod(initial=initial_model)])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round."""
    (arrays,), (instructions,) = message.content.array_records.values(), message.content.config_records.values()
    resolved = {key: instructions[key] for key in RESOLVED_KEYS if key in instructions}
    config = RunConfig.from_mapping({**context.run_config, **resolved})
    partition = int(context.node_config["partition-id"])
    server_round = cast("int", instructions["server-round"])
    data = client_data(config, partition, int(context.node_config["num-partitions"]))
    shape, num_classes = data.labelled.image_shape, data.labelled.num_classes
    model = copy.deepcopy(untrained_model(config.model, shape, num_classes, config.seed))
    set_weights(model, to_model(arrays))
    objective = make_objective(
        config.objective,
        threshold=config.pseudo_threshold,
        unlabelled_weight=config.unlabelled_weight,
        flip_ok=data.labelled.flip_ok,
        augment=config.augment,
    )
    seed = derive_seed(config.seed, server_round, partition)
    metrics = train_locally(model, data, local_settings(config, server_round), objective=objective, seed=seed)
    content = RecordDict({"arrays": to_array_record(get_weights(model)), "metrics": MetricRecord({**metrics})})
    return Message(content, reply_to=message)


def client_data(config: RunConfig, partition: int, num_partitions: int) -> ClientData:
    """Return one client's images.

    Raises:
        ConfigError: The run's number of clients is not that of the nodes.
    """
    if num_partitions != config.num_clients:
        raise ConfigError(f"num-clients is {config.num_clients}, but there are {num_partitions} nodes")
    images, parts = all_clients_images(config)
    seed = derive_seed(config.seed, "client", partition)
    return split_labelled(images.take(parts[partition]), label_fraction=config.label_fraction, seed=seed)


def warm_up(config: RunConfig) -> None:
    """Do what every process would do before its first client; a simulation does it once, before it forks them."""
    data = client_data(config, 0, config.num_clients).labelled
    model = untrained_model(config.model, data.image_shape, data.num_classes, config.seed)
    torch.optim.SGD(model.parameters(), config.learning_rate)  # a process's first optimizer loads much of torch


def all_clients_images(config: RunConfig) -> tuple[ImageDataset, list[NDArray]]:
    """Return the clients' images and each client's indices."""
    return partitioned_images(
        config.dataset,
        config.data_dir,
        config.validation_size,
        config.proxy_size,
        config.num_clients,
        config.partition,
        config.dirichlet_alpha,
        config.seed,
    )


@functools.lru_cache(maxsize=1)
def untrained_model(name: str, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """Build the model, once a process: clients train copies, because drawing weights takes longer than copying them."""
    return build_model(name, image_shape=image_shape, num_classes=num_classes, seed=seed)


@functools.lru_cache(maxsize=1)
def partitioned_images(
    dataset: str,
    data_dir: str,
    validation_size: int,
    proxy_size: int,
    num_clients: int,
    scheme: str,
    alpha: float,
    seed: int,
) -> tuple[ImageDataset, list[NDArray]]:
    """Load and partition the clients' images, once a process."""
    images, _ = load_dataset(dataset, data_dir)
    images = hold_out(images, validation_size=validation_size, proxy_size=proxy_size, seed=seed).clients
    return images, partition_labels(images.labels, num_clients=num_clients, scheme=scheme, alpha=alpha, seed=seed)


def local_settings(config: RunConfig, server_round: int) -> LocalSettings:
    """Return how this client trains in a round."""
    progress = (server_round - 1) / config.num_server_rounds
    schedules = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    settings = LocalSettings.of(config, Compute(config.precision, config.memory_format))
    return replace(settings, learning_rate=config.learning_rate * schedules[config.learning_rate_schedule])
