"""A head that nobody trains: classes as far from each other as they can be, ``simplex:resnet8-gn``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from fedcomp.errors import ConfigError
from fedcomp.models.backbone import BackboneClassifier, split_backbone

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PREFIX = "simplex:"
_LENGTH = 4.0
"""Of each class's weights; twice as long ones were no better (`docs/heterogeneity.md`)."""


def simplex_classifier(
    build: Callable[..., nn.Module], image_shape: tuple[int, int, int], num_classes: int
) -> BackboneClassifier:
    """Put a fixed head on a model's backbone: the corners of a simplex, all angles between classes alike, no bias.

    Each class owns every `num_classes`-th feature, so features that a ReLU made can point to it, and the numbers are
    the same on every machine. Made to be frozen (``frozen = "head.*"``): then it is neither trained nor sent, and
    clients of few classes can not turn it away from the classes that they lack.

    Args:
        build: Makes the model whose head is replaced.
        image_shape: Channels, height, width.
        num_classes: K, 2 or more.

    Raises:
        ConfigError: The model can not be told apart, has no linear head, or fewer features than classes.

    References:
        Li et al., No Fear of Classifier Biases: Neural Collapse Inspired Federated Learning with Synthetic and Fixed
        Classifier, ICCV 2023, section 3.2 (there rotated at random, with a projection layer and its own loss).
    """
    backbone, head = split_backbone(build(image_shape, num_classes))
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"{PREFIX}MODEL: the head is a {type(head).__name__}, expected a linear layer")
    if not 2 <= num_classes <= head.in_features:
        raise ConfigError(f"{PREFIX}MODEL: {num_classes} classes on {head.in_features} features, expected 2 to as many")
    fixed = nn.Linear(head.in_features, num_classes, bias=False)
    with torch.no_grad():
        fixed.weight.copy_(simplex(num_classes, head.in_features))
    return BackboneClassifier(backbone, fixed)


def simplex(num_classes: int, num_features: int) -> Tensor:
    """Return the corners of a simplex around the origin: float32, (K, F), rows of length 4, any two at -1 / (K - 1)."""
    owner = torch.arange(num_features) % num_classes
    owns = (owner == torch.arange(num_classes)[:, None]).double()
    axes = owns / owns.sum(dim=1, keepdim=True).sqrt()
    scale = _LENGTH * math.sqrt(num_classes / (num_classes - 1))
    corners: Tensor = scale * (axes - axes.mean(dim=0))
    return corners.float()
