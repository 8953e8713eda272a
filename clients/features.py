"""Features of a client's images: computed once where everything below the head is frozen, and then remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import xxhash

from clients.memory import FEATURES_KEY, recall, remember
from fedcomp.training import Batch, predict_logits

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from fedcomp.config import RunConfig
    from fedcomp.data import ImageDataset
    from fedcomp.models import BackboneClassifier, PartialModel


def keeps_features(config: RunConfig, model: PartialModel) -> bool:
    """Tell whether a client's features are the same in every round, and may be kept."""
    # Mixtures are of images: their features are not the mixture of features, and differ in every round.
    is_alike = config.objective == "supervised" and not config.augment and config.mixing == "none"
    return config.cache_features and is_alike and model.has_frozen_backbone


def remembered_features(
    network: BackboneClassifier, frozen_fingerprint: int, images: ImageDataset, state: RecordDict
) -> Batch:
    """Return features (N, D) and labels of a client's images; they are computed if they are not in `state`.

    They are kept as float16, and rounded to that in the first round too: so it is no different from the others.

    Args:
        network: With the backbone that makes them.
        frozen_fingerprint: Of its tensors: features of another one are passed over, as are other images'.
        images: Labelled.
        state: The client's ``context.state``.
    """
    digest = xxhash.xxh3_64_intdigest(np.ascontiguousarray(images.images).data) if len(images) else 0
    name = f"{frozen_fingerprint:08x}-{digest:016x}"
    features = recall(state, FEATURES_KEY).get(name)
    if features is None or len(features) != len(images):
        features = predict_logits(network.backbone, images.images).numpy().astype(np.float16)
        remember(state, FEATURES_KEY, {name: features})
    device = next(network.parameters()).device
    return Batch(torch.from_numpy(features.astype(np.float32)).to(device), torch.from_numpy(images.labels).to(device))
