"""The shape that models for transfer share: a backbone that makes features of images, and a head that names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


class BackboneClassifier(nn.Module):
    """``head(backbone(images))``: tensors are named ``backbone.*`` and ``head.*``, for patterns to tell apart.

    Args:
        backbone: Images (B, C, H, W) in [0, 1] in, features (B, D) out.
        head: Features in, logits (B, K) out.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


class Preprocess(nn.Module):
    """Give a backbone the images that it knows: as large, of three channels, in the range that it was trained on.

    Args:
        side: Images with a shorter side are enlarged to (side, side), in one call for the whole batch; 0 leaves all.
        mean: Of each channel, images being in [0, 1].
        std: The same.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self._side = side
        # Not persistent: constants are no weights, and must not travel.
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 3, H', W')."""
        if min(images.shape[2:]) < self._side:
            images = F.interpolate(images, size=(self._side, self._side), mode="bilinear", align_corners=False)
        # One channel becomes three by broadcasting.
        normalized: Tensor = (images - self.mean) / self.std
        return normalized


def split_backbone(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return a model's backbone and head, the very modules: a `BackboneClassifier`'s, or of a Sequential its last one.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(model, BackboneClassifier):
        return model.backbone, model.head
    if isinstance(model, nn.Sequential) and len(model) > 1:
        return model[:-1], model[-1]
    raise ConfigError(
        f"a {type(model).__name__} can not be told apart into backbone and head: use a BackboneClassifier"
    )


def count_features(backbone: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return how many features a backbone makes of an image; its mode is training afterwards."""
    backbone.eval()  # so that one image counts in no statistic
    with torch.no_grad():
        num_features = int(backbone(torch.zeros(1, *image_shape)).shape[1])
    backbone.train()
    return num_features
