"""What takes the place of a classifier's head while its backbone learns from images without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fedcomp.models.rotation import rotation_network
from fedcomp.models.simsiam import SimSiamNetwork
from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

PRETRAINING_NETWORKS: Mapping[str, Callable[[nn.Module, tuple[int, int, int]], nn.Module]] = {
    "simsiam": SimSiamNetwork.around,
    "rotation": rotation_network,
}
"""By objective."""


def pretraining_network(objective: str, model: nn.Module, image_shape: tuple[int, int, int], *, seed: int) -> nn.Module:
    """Put an objective's own layers on a classifier's backbone, the very module; tensors are ``backbone.*`` and others.

    Args:
        objective: A name of `PRETRAINING_NETWORKS`.
        model: The classifier; its head is left out.
        image_shape: Channels, height, width.
        seed: The new layers are drawn from it; the global random state is left as it was.

    Raises:
        ConfigError: The model has no backbone that could be told apart, or the images do not suit the objective.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, objective))
        return PRETRAINING_NETWORKS[objective](model, image_shape)
