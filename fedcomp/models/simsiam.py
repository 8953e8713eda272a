"""SimSiam's network: a backbone, a projector and a predictor in the place of the head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from fedcomp.models.backbone import count_features, split_backbone

if TYPE_CHECKING:
    from torch import Tensor

_PROJECTION, _BOTTLENECK = 128, 32


class BatchStandardize(nn.Module):
    """``(x - mean) / sqrt(var + 1e-5)`` over the batch, in evaluation too; a batch of one is all zeros."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, D)."""
        centred = inputs - inputs.mean(dim=0)
        standardized: Tensor = centred * (centred.square().mean(dim=0) + 1e-5).rsqrt()
        return standardized


class SimSiamNetwork(nn.Module):
    """Images in; projection ``z`` and prediction ``p``, (B, 2, D), out.

    Where the paper has BatchNorm there is one without memory: statistics of skewed clients do not average, and neither
    projector nor predictor are used after training. LayerNorm in its place let the outputs collapse.

    Args:
        backbone: Images in, features (B, F) out.
        num_features: F.

    References:
        Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021, section 3.
    """

    def __init__(self, backbone: nn.Module, num_features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = nn.Sequential(
            nn.Linear(num_features, _PROJECTION, bias=False),
            BatchStandardize(),
            nn.ReLU(),
            nn.Linear(_PROJECTION, _PROJECTION, bias=False),
            BatchStandardize(),
        )
        self.predictor = nn.Sequential(
            nn.Linear(_PROJECTION, _BOTTLENECK, bias=False),
            BatchStandardize(),
            nn.ReLU(),
            nn.Linear(_BOTTLENECK, _PROJECTION),
        )

    @classmethod
    def around(cls, model: nn.Module, image_shape: tuple[int, int, int]) -> Self:
        """Take a classifier's backbone, the very module, and draw the rest.

        Raises:
            ConfigError: The model has no backbone that could be told apart.
        """
        backbone, _ = split_backbone(model)
        return cls(backbone, count_features(backbone, image_shape))

    def forward(self, images: Tensor) -> Tensor:
        """Return ``stack(z, p)``."""
        projection = self.projector(self.backbone(images))
        return torch.stack((projection, self.predictor(projection)), dim=1)
