"""The weak view: a shift, and a flip where that keeps the label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Generator, Tensor


def weak_augment(images: Tensor, generator: Generator, *, flip_ok: bool) -> Tensor:
    """Shift by up to an eighth of each side, zeros coming in, and flip where that keeps the label.

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
    down, right = max(1, height // 8), max(1, width // 8)
    top, left = (torch.randint(0, 2 * reach + 1, (batch,), generator=generator) for reach in (down, right))
    # A view of every shift; picking one an image copies whole rows.
    windows = F.pad(images, (right, right, down, down)).unfold(2, height, 1).unfold(3, width, 1)
    shifted = windows[torch.arange(batch), :, top, left]
    if not flip_ok:
        return shifted
    flipped = torch.rand((batch, 1, 1, 1), generator=generator) < 0.5
    return torch.where(flipped.to(images.device), shifted.flip(3), shifted)
