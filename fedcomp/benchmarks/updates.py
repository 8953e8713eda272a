"""Updates of real training, as a codec meets them: fresh, and with the residual that error feedback has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs import ErrorFeedback, decode_update, parse_codec
from fedcomp.data import hold_out, load_dataset, partition_labels, split_labelled
from fedcomp.flower.server.fold import WeightedMean
from fedcomp.models import build_model, get_weights, set_weights
from fedcomp.seeding import derive_rng, derive_seed
from fedcomp.training import ImageViews, LocalSettings, ObjectiveSettings, make_objective, train_locally
from fedcomp.types import ModelSpec, subtract_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fedcomp.config import RunConfig
    from fedcomp.data import ClientData
    from fedcomp.types import Model, ModelDelta


class TrainedUpdate(NamedTuple):
    """What a client has to send in a round.

    Args:
        server_round: From 1.
        client: Its index.
        initial: The model that the run began with.
        model: The one that the client trained from.
        fresh: What its training changed.
        total: The same with the residual of its earlier updates.
    """

    server_round: int
    client: int
    initial: Model
    model: Model
    fresh: ModelDelta
    total: ModelDelta


def train_updates(config: RunConfig, *, num_rounds: int, clients_a_round: int = 5) -> dict[str, ModelDelta]:
    """Train a federation for a few rounds, and keep what one client would send in the last one.

    Args:
        config: See `training_updates`.
        num_rounds: Rounds.
        clients_a_round: The same clients train in each round, so that residuals gather.

    Returns:
        ``NAME fresh``, the update, and ``NAME total``, the same with its residual.
    """
    filled = [client for client, data in enumerate(_clients(config)) if data]
    chosen = np.sort(derive_rng(config.seed, "benchmark").permutation(filled)[:clients_a_round]).tolist()
    *_, last = training_updates(config, num_rounds=num_rounds, draw=lambda _: chosen)
    return {f"{config.name} fresh": last.fresh, f"{config.name} total": last.total}


def draw_clients(config: RunConfig, server_round: int) -> list[int]:
    """Draw a round's clients, as many as the configuration asks."""
    order = derive_rng(config.seed, "benchmark", server_round).permutation(config.num_clients)
    return sorted(int(client) for client in order[: config.clients_per_round])


def training_updates(
    config: RunConfig, *, num_rounds: int, draw: Callable[[int], Sequence[int]]
) -> Iterator[TrainedUpdate]:
    """Train a federation, compressed by the configured codec with error feedback, and yield every update.

    A plain loop, supervised, without a server's optimizer: what matters is that the updates are real.

    Args:
        config: Data, model, partition, local training and codec.
        num_rounds: Rounds, at most; where they are more than the configuration's, its schedules are over them.
        draw: Returns the clients of a round.
    """
    # Behind its end a cosine would be zero, and then rise again.
    config = config.model_copy(update={"num_server_rounds": max(config.num_server_rounds, num_rounds)})
    train, _ = load_dataset(config.dataset, config.data_dir)
    model = build_model(config.model, image_shape=train.image_shape, num_classes=train.num_classes, seed=config.seed)
    initial: Model = get_weights(model)
    weights, clients, residuals = initial, list(_clients(config)), dict[int, "ModelDelta"]()
    spec, codec, feedback = ModelSpec.of(initial), parse_codec(config.codec), ErrorFeedback(config.residual_decay)
    supervised = ObjectiveSettings(objective="supervised", augment=config.augment)
    objective = make_objective(supervised, ImageViews(train.flip_ok), train.num_classes)
    for server_round in range(1, num_rounds + 1):
        mean, settings = WeightedMean(weights), LocalSettings.of(config, server_round=server_round)
        for client in draw(server_round):
            data = clients[client]
            if data is None:
                continue
            set_weights(model, weights)
            seed = derive_seed(config.seed, server_round, client)
            train_locally(model, data, settings, objective=objective, seed=seed)
            fresh = subtract_models(get_weights(model), weights)
            total = feedback.compensate(fresh, residuals.get(client))
            yield TrainedUpdate(server_round, client, initial, weights, fresh, total)
            received = decode_update(codec.encode(total, rng=derive_rng(seed, "codec"), fresh=fresh).frame, spec)
            residuals[client] = feedback.residual(total, received.to_delta())
            mean.add(received, len(data.labelled))
        weights = mean.model()


def _clients(config: RunConfig) -> Iterator[ClientData | None]:
    """Yield each client's images; None for one without any."""
    train, _ = load_dataset(config.dataset, config.data_dir)
    held_out = hold_out(train, **config.held_out_sizes, seed=config.seed)
    parts = partition_labels(
        held_out.clients.labels,
        num_clients=config.num_clients,
        scheme=config.partition,
        alpha=config.dirichlet_alpha,
        seed=config.seed,
    )
    for part in parts:
        images = held_out.clients.take(part)
        yield split_labelled(images, label_fraction=1.0, seed=config.seed) if len(part) else None
