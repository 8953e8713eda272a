"""The strong view: RandAugment's operations, each image its own, then a square cut out.

Parameters are drawn on the CPU and used on the images' device, so a seed gives the same views everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fedcomp.errors import ConfigError
from fedcomp.training.augmentation.geometric import OPERATIONS, affine_matrices, resample, weak_matrices
from fedcomp.training.augmentation.photometric import photometric_pool

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedcomp.training.augmentation.photometric import Photometric


@dataclass(frozen=True, slots=True)
class StrongPolicy:
    """How strong a strong view is.

    Args:
        num_operations: Drawn for each image, with replacement; the identity is among them.
        magnitude: In [0, 1]: the largest strength of an operation; each image draws its own up to it.
        cutout: In [0, 1]: the side of the square that is cut out, as a share of the image's height.

    Raises:
        ConfigError: A number is out of range.
    """

    num_operations: int = 2
    magnitude: float = 1.0
    cutout: float = 0.35

    def __post_init__(self) -> None:
        if self.num_operations < 0:
            raise ConfigError(f"{self.num_operations} operations of a strong view, expected 0 or more")
        if not (0 <= self.magnitude <= 1 and 0 <= self.cutout <= 1):
            raise ConfigError(f"magnitude {self.magnitude} and cutout {self.cutout}, expected both from 0 to 1")


def strong_augment(
    images: Tensor, generator: Generator, *, flip_ok: bool, policy: StrongPolicy | None = None
) -> Tensor:
    """Shift and flip as the weak view does, apply random operations, and cut a square out.

    Args:
        images: (B, C, H, W), in [0, 1].
        generator: Source of all randomness.
        flip_ok: Whether a mirrored image keeps its label.
        policy: How strong.

    Returns:
        A new tensor of the same shape, in [0, 1].

    References:
        Sohn et al., FixMatch, NeurIPS 2020, section 2.3 and appendix D; DeVries and Taylor, Cutout, 2017, section 3.2.
    """
    policy = policy or StrongPolicy()
    moves = weak_matrices(images, generator, flip_ok=flip_ok)
    return cut_out(rand_augment(images, generator, policy, moves), generator, policy.cutout)


def rand_augment(images: Tensor, generator: Generator, policy: StrongPolicy, moves: Tensor | None = None) -> Tensor:
    """Apply `policy.num_operations` random operations to each image, geometric ones first, in one resampling.

    The pool is RandAugment's, without equalize: its histograms cost more than all the rest. Saturation is in it for
    three channels only, and everything else leaves a grey image grey.

    Args:
        images: (B, C, H, W), in [0, 1].
        generator: Source of all randomness.
        policy: How many, how strong.
        moves: (B, 3, 3), what is done to the geometry before; None for nothing.

    Returns:
        A new tensor of the same shape, in [0, 1].

    References:
        Cubuk et al., RandAugment, NeurIPS 2020, section 3; random strengths as in FixMatch, appendix D.
    """
    pool = tuple(photometric_pool(images.shape[1]).values())
    shape = (policy.num_operations, len(images))
    # The numbers: geometric operations, photometric ones, and the identity.
    drawn = torch.randint(0, len(OPERATIONS) + len(pool) + 1, shape, generator=generator)
    strengths = (2 * torch.rand(shape, generator=generator) - 1) * policy.magnitude
    matrices = torch.eye(3).expand(len(images), 3, 3) if moves is None else moves
    for operations, of_image in zip(drawn, strengths, strict=True):
        matrices = matrices @ affine_matrices(operations, of_image)
    views = resample(images, matrices).clamp_(0, 1)
    for operations, of_image in zip(drawn, strengths, strict=True):
        for number, operation in enumerate(pool, len(OPERATIONS)):
            _apply(operation, views, torch.nonzero(operations == number)[:, 0], of_image)
    return views


def cut_out(images: Tensor, generator: Generator, share: float) -> Tensor:
    """Set a square of about `share` of the height to zero, its middle anywhere; an odd number of pixels."""
    batch, _, height, width = images.shape
    half = round((share * height + 1) / 2)  # a square of 2 * half - 1 pixels
    row = torch.randint(0, height, (batch, 1), generator=generator)
    column = torch.randint(0, width, (batch, 1), generator=generator)
    in_rows = (torch.arange(height) - row).abs() < half
    in_columns = (torch.arange(width) - column).abs() < half
    square = in_rows[:, :, None] & in_columns[:, None, :]
    return images.masked_fill(square[:, None].to(images.device), 0.0)


def _apply(operation: Photometric, images: Tensor, chosen: Tensor, strengths: Tensor) -> None:
    """Change the images at `chosen` in place."""
    if len(chosen):
        strength = strengths[chosen].view(-1, 1, 1, 1).to(images.device)
        chosen = chosen.to(images.device)
        images.index_copy_(0, chosen, operation(images.index_select(0, chosen), strength))
