"""One round's training: of the whole model on images, or of its head on features that the client keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clients.features import keeps_features, remembered_features
from fedcomp.models import BackboneClassifier
from fedcomp.training import (
    Batch,
    LocalSettings,
    ObjectiveSettings,
    image_views,
    make_objective,
    train_locally,
    train_on_batches,
)

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from fedcomp.config import RunConfig
    from fedcomp.data import ClientData
    from fedcomp.models import PartialModel
    from fedcomp.training import Regularizer


def train_model(
    model: PartialModel,
    data: ClientData,
    config: RunConfig,
    state: RecordDict,
    server_round: int,
    seed: int,
    regularizer: Regularizer | None,
) -> dict[str, Any]:
    """Train on images, or the head alone on the features that a frozen backbone once made of them."""
    views = image_views(config, data.labelled.flip_ok)
    objective = make_objective(ObjectiveSettings.of(config), views, data.labelled.num_classes)
    settings = LocalSettings.of(config, server_round=server_round)
    network = model.module
    if keeps_features(config, model) and isinstance(network, BackboneClassifier):
        features = remembered_features(network, model.frozen_fingerprint, data.labelled, state)
        nothing = Batch(features.inputs[:0], features.labels[:0])
        return train_on_batches(
            network.head, features, nothing, settings, objective=objective, seed=seed, regularizer=regularizer
        )
    return train_locally(network, data, settings, objective=objective, seed=seed, regularizer=regularizer)
