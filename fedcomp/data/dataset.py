"""Labelled images in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from fedcomp.types import NDArray

UNLABELLED = -1
MAX_IMAGE_BYTES = 1 << 31
"""Most bytes of one array that is read from files, whatever these declare."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images and their labels.

    Args:
        name: For messages.
        images: uint8, (N, C, H, W).
        labels: int64, (N,), from 0 below `num_classes`; `UNLABELLED` where unknown.
        num_classes: 2 or more.
        flip_ok: Whether a mirrored image keeps its label (not so for digits).
        class_names: By label, where they are known: then `num_classes` is their number, not a guess from the labels.

    Raises:
        DataError: A shape, type or label does not fit.
    """

    name: str
    images: NDArray
    labels: NDArray
    num_classes: int
    flip_ok: bool = False
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(
                f"{self.name}: images are {self.images.dtype} of shape {self.images.shape}, expected uint8 (N, C, H, W)"
            )
        if 0 in self.images.shape[1:]:
            raise DataError(f"{self.name}: images of shape {self.images.shape} have no pixels")
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(f"{self.name}: {len(self.images)} images but labels of shape {self.labels.shape}")
        if self.labels.dtype != np.int64:
            raise DataError(f"{self.name}: labels are {self.labels.dtype}, expected int64")
        if self.num_classes < 2:
            raise DataError(f"{self.name}: {self.num_classes} classes, expected 2 or more")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise DataError(f"{self.name}: {len(self.class_names)} names for {self.num_classes} classes")
        if self.labels.size and not UNLABELLED <= self.labels.min() <= self.labels.max() < self.num_classes:
            raise DataError(
                f"{self.name}: labels {self.labels.min()} to {self.labels.max()}, expected below {self.num_classes}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def take(self, indices: NDArray) -> ImageDataset:
        """Return the images at `indices`."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def without_labels(self) -> ImageDataset:
        """Return the same images with every label `UNLABELLED`."""
        return replace(self, labels=np.full_like(self.labels, UNLABELLED))
