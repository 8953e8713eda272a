"""The network that tells how far an image was turned: a backbone, and quarter turns in the place of classes."""

from __future__ import annotations

from torch import nn

from fedcomp.errors import ConfigError
from fedcomp.models.backbone import BackboneClassifier, count_features, split_backbone

QUARTER_TURNS = 4


def rotation_network(model: nn.Module, image_shape: tuple[int, int, int]) -> BackboneClassifier:
    """Take a classifier's backbone, the very module, and draw a linear head with an output for each quarter turn.

    Raises:
        ConfigError: Images are not square, so that a quarter of a turn changes their shape; or the model has no
            backbone that could be told apart.

    References:
        Gidaris et al., Unsupervised Representation Learning by Predicting Image Rotations, ICLR 2018, section 2.
    """
    _, height, width = image_shape
    if height != width:
        raise ConfigError(f"objective rotation turns images by quarters: found {height} x {width}, expected a square")
    backbone, _ = split_backbone(model)
    return BackboneClassifier(backbone, nn.Linear(count_features(backbone, image_shape), QUARTER_TURNS))
