"""Updates of real training, as a codec meets them: fresh, and with the residual that error feedback has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs import ErrorFeedback, decode_update, parse_codec
from fedcomp.data import hold_out, load_dataset, partition_labels, split_labelled
from fedcomp.flower.fold import WeightedMean
from fedcomp.models import build_model, get_weights, set_weights
from fedcomp.seeding import derive_rng, derive_seed
from fedcomp.training import Compute, ImageViews, LocalSettings, ObjectiveSettings, make_objective, train_locally
from fedcomp.types import ModelSpec, subtract_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.config import RunConfig
    from fedcomp.data import ClientData
    from fedcomp.types import Model, ModelDelta


def train_updates(config: RunConfig, *, num_rounds: int, clients_a_round: int = 5) -> dict[str, ModelDelta]:
    """Train a federation for a few rounds, compressed by the configured codec, and keep what one client would send.

    A plain loop, supervised, without a server's optimizer: what matters is that the updates are real.

    Args:
        config: Data, model, partition, local training and codec.
        num_rounds: Rounds; the updates are of the last one.
        clients_a_round: The same clients train in each round, so that residuals gather.

    Returns:
        ``NAME fresh``, the update, and ``NAME total``, the same with its residual.
    """
    train, _ = load_dataset(config.dataset, config.data_dir)
    model = build_model(config.model, image_shape=train.image_shape, num_classes=train.num_classes, seed=config.seed)
    weights: Model = get_weights(model)
    spec, codec, feedback = ModelSpec.of(weights), parse_codec(config.codec), ErrorFeedback(config.residual_decay)
    clients = list(_some_clients(config, clients_a_round))
    residuals: list[ModelDelta | None] = [None for _ in clients]
    fresh: ModelDelta = {}
    total: ModelDelta = {}
    objective = make_objective(ObjectiveSettings(objective="supervised"), ImageViews(train.flip_ok), train.num_classes)
    for server_round in range(1, num_rounds + 1):
        mean = WeightedMean(weights)
        for i, data in enumerate(clients):
            set_weights(model, weights)
            seed = derive_seed(config.seed, server_round, i)
            train_locally(model, data, LocalSettings.of(config, Compute()), objective=objective, seed=seed)
            fresh = subtract_models(get_weights(model), weights)
            total = feedback.compensate(fresh, residuals[i])
            frame = codec.encode(total, rng=derive_rng(seed, "codec"), fresh=fresh).frame
            received = decode_update(frame, spec)
            residuals[i] = feedback.residual(total, received.to_delta())
            mean.add(received, len(data.labelled))
        weights = mean.model()
    return {f"{config.name} fresh": fresh, f"{config.name} total": total}


def _some_clients(config: RunConfig, count: int) -> Iterator[ClientData]:
    train, _ = load_dataset(config.dataset, config.data_dir)
    held_out = hold_out(train, validation_size=config.validation_size, proxy_size=config.proxy_size, seed=config.seed)
    parts = partition_labels(
        held_out.clients.labels,
        num_clients=config.num_clients,
        scheme=config.partition,
        alpha=config.dirichlet_alpha,
        seed=config.seed,
    )
    filled = [part for part in parts if len(part)]
    chosen = derive_rng(config.seed, "benchmark").permutation(len(filled))[:count]
    for client in np.sort(chosen):
        yield split_labelled(held_out.clients.take(filled[client]), label_fraction=1.0, seed=config.seed)
