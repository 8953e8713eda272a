"""Arrays of images and labels, as files hold them, in the one layout that `ImageDataset` has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.types import NDArray


def to_nchw(images: NDArray) -> NDArray:
    """Accept (N, H, W), (N, H, W, C) and (N, C, H, W); C is 1 or 3."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images


def to_class_labels(path: str | Path, key: str, labels: NDArray) -> NDArray:
    """Return labels as int64, (N,).

    Args:
        path: Where they are from, for the message.
        key: Their name there.
        labels: Integers from 0, of any shape.

    Raises:
        DataError: There is none, or they are no integers from 0.
    """
    if labels.dtype.kind not in "iu" or not labels.size or labels.min() < 0:
        raise DataError(
            f"{path}: {key} is {labels.dtype} of shape {labels.shape}, expected integers from 0, one or more"
        )
    return labels.reshape(-1).astype(np.int64)


def count_classes(labels: NDArray) -> int:
    """Return the least number of classes that labels fit in: 2 or more."""
    return max(2, int(labels.max()) + 1)
