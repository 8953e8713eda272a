"""What RandAugment does to pixel values: each function takes a few images and a strength for each.

A strength of 0 leaves an image as it is; strengths are in [-1, 1], and what has no direction takes their size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Photometric = Callable[[Tensor, Tensor], Tensor]
    """Images (B, C, H, W) in [0, 1] and strengths (B, 1, 1, 1) in, images in [0, 1] out."""

_LARGEST_CHANGE = 0.9
_LUMA = (0.299, 0.587, 0.114)


def brightness(images: Tensor, strength: Tensor) -> Tensor:
    """Scale by ``1 + 0.9 s``."""
    return (images * (1 + _LARGEST_CHANGE * strength)).clamp_(0, 1)


def contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Scale the distance to the image's mean by ``1 + 0.9 s``."""
    return _blend(images.mean(dim=(1, 2, 3), keepdim=True), images, strength)


def sharpness(images: Tensor, strength: Tensor) -> Tensor:
    """Scale the distance to the image's blurred self by ``1 + 0.9 s``."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    # Sums of shifted images: a fifth of what a pooling or a convolution of few channels takes.
    rows = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    blurred = (rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]) / 9
    return _blend(blurred, images, strength)


def autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    """Stretch the values of each channel towards the whole of [0, 1], by ``|s|`` of the way."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    stretched = (images - low) / (high - low).clamp_min(1e-3)
    return images.lerp(stretched, strength.abs()).clamp_(0, 1)


def solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Invert what is at least ``1 - |s|`` bright; nothing at 0."""
    return images + (1 - 2 * images) * (images > 1 - strength.abs())


def posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keep ``8 - 6 |s|`` bits of a value, on a continuous scale; nothing at 0."""
    levels = torch.exp2(8 - 6 * strength.abs()) - 1
    return torch.where(strength == 0, images, (images * levels).round_() / levels).clamp_(0, 1)


def saturation(images: Tensor, strength: Tensor) -> Tensor:
    """Scale the distance to the grey image by ``1 + 0.9 s``; for three channels."""
    weights = images.new_tensor(_LUMA).view(1, 3, 1, 1)
    return _blend((images * weights).sum(dim=1, keepdim=True), images, strength)


GREY: Mapping[str, Photometric] = {
    "autocontrast": autocontrast,
    "brightness": brightness,
    "contrast": contrast,
    "posterize": posterize,
    "sharpness": sharpness,
    "solarize": solarize,
}
"""What any image can take."""

COLOUR: Mapping[str, Photometric] = {**GREY, "saturation": saturation}
"""What images of three channels can take."""


def photometric_pool(num_channels: int) -> Mapping[str, Photometric]:
    """Return what images of so many channels can take."""
    return COLOUR if num_channels == 3 else GREY


def _blend(away_from: Tensor, images: Tensor, strength: Tensor) -> Tensor:
    return (images + (images - away_from) * (_LARGEST_CHANGE * strength)).clamp_(0, 1)
