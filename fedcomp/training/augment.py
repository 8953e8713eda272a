"""Augmentations as batched tensor operations: each image its own parameters, one resampling a batch.

Parameters are drawn on the CPU and moved to the images' device, so a seed gives the same views everywhere.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Generator, Tensor


def weak_augment(images: Tensor, generator: Generator, *, flip_ok: bool) -> Tensor:
    """Shift by up to an eighth of the height, zeros coming in, and flip where that keeps the label.

    Args:
        images: (B, C, H, W), in [0, 1].
        generator: Source of all randomness.
        flip_ok: Whether a mirrored image keeps its label.

    Returns:
        A new tensor of the same shape.

    References:
        Sohn et al., FixMatch, NeurIPS 2020, section 2.3.
    """
    batch, _, height, width = images.shape
    reach = max(1, height // 8)
    top, left = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator)
    # A view of every shift; picking one an image copies whole rows.
    windows = F.pad(images, (reach, reach, reach, reach)).unfold(2, height, 1).unfold(3, width, 1)
    shifted = windows[torch.arange(batch), :, top, left]
    if not flip_ok:
        return shifted
    flipped = torch.rand((batch, 1, 1, 1), generator=generator) < 0.5
    return torch.where(flipped.to(images.device), shifted.flip(3), shifted)


def strong_augment(images: Tensor, generator: Generator, *, flip_ok: bool) -> Tensor:
    """Distort geometry and brightness, and cut a square out.

    Rotation up to 20 degrees, shear up to 0.2, scale 0.8 to 1.2, shift up to an eighth of the side; contrast and
    brightness by up to 40 %; a square of ``2 * max(1, 3 * H // 16) - 1`` pixels set to zero: 9 on 28 x 28, 1 on 8 x 8.

    Args:
        images: (B, C, H, W), in [0, 1].
        generator: Source of all randomness.
        flip_ok: Whether a mirrored image keeps its label.

    Returns:
        A new tensor of the same shape, in [0, 1].

    References:
        Cubuk et al., RandAugment, NeurIPS 2020 (the pool); DeVries and Taylor, Cutout, 2017, section 3.2.
    """
    moved = _affine(images, generator, flip_ok)
    return _cutout(_jitter(moved, generator), generator)


def _affine(images: Tensor, generator: Generator, flip_ok: bool) -> Tensor:
    batch = len(images)
    angle, shear, scale, right, down = torch.rand((5, batch), generator=generator) * 2 - 1
    angle, shear, scale = angle * (20 / 180 * pi), shear * 0.2, 1 + 0.2 * scale
    mirror = torch.ones(batch)
    if flip_ok:
        mirror = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # A shift of 1 is half a side in grid_sample's coordinates.
    first_row = torch.stack((cos * mirror, shear - sin, right / 4), dim=1)
    second_row = torch.stack((sin * mirror, cos, down / 4), dim=1)
    matrices = torch.stack((first_row, second_row), dim=1).to(images.device)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _jitter(images: Tensor, generator: Generator) -> Tensor:
    changes = torch.rand((2, len(images), 1, 1, 1), generator=generator) * 0.8 - 0.4
    contrast, brightness = changes.to(images.device)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = (images - mean) * (1 + contrast) + mean * (1 + brightness)
    return changed.clamp_(0, 1)


def _cutout(images: Tensor, generator: Generator) -> Tensor:
    batch, _, height, width = images.shape
    half = max(1, 3 * height // 16)
    row = torch.randint(0, height, (batch, 1), generator=generator)
    column = torch.randint(0, width, (batch, 1), generator=generator)
    in_rows = (torch.arange(height) - row).abs() < half
    in_columns = (torch.arange(width) - column).abs() < half
    square = in_rows[:, :, None] & in_columns[:, None, :]
    return images.masked_fill(square[:, None].to(images.device), 0.0)
