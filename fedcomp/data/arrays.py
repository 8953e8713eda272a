"""Arrays of images and labels, as files hold them, in the one layout that `ImageDataset` has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.types import NDArray


def to_nchw(images: NDArray) -> NDArray:
    """Accept (N, H, W), (N, H, W, C) and (N, C, H, W); C is 1 or 3, or 2 or 4 where it can be no other axis."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4:
        for channels in ((1, 3), (2, 4)):
            if images.shape[1] in channels:
                return images
            if images.shape[3] in channels:
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
    flat = labels.reshape(-1)
    classes = flat.astype(np.int64) if labels.dtype.kind in "iu" else flat[:0]
    if not classes.size or classes.min() < 0:  # looked at as int64: a large uint64 is negative there
        raise DataError(
            f"{path}: {key} is {labels.dtype} of shape {labels.shape}, expected integers from 0, one or more"
        )
    return classes


def count_classes(labels: NDArray) -> int:
    """Return the least number of classes that labels fit in: 2 or more."""
    return max(2, int(labels.max()) + 1)
