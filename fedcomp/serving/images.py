"""The images of a request: bytes of a stranger, checked before they are arrays."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import OverLimit, UsageError
from fedcomp.serving import serving_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.types import NDArray

PIXEL_TYPES: dict[int, np.dtype[Any]] = {
    serving_pb2.PIXEL_TYPE_UINT8: np.dtype("uint8"),
    serving_pb2.PIXEL_TYPE_FLOAT32: np.dtype("<f4"),
}


def read_images(request: serving_pb2.PredictRequest, image_shape: Sequence[int], max_images: int) -> NDArray:
    """Return the images of a request, (N, C, H, W), uint8 or float32, without copying them.

    Raises:
        UsageError: They are of another shape than the model's, of no known type, or not finite.
        OverLimit: There are too many.
    """
    shape, dtype = tuple(request.shape), PIXEL_TYPES.get(request.pixel_type)
    if dtype is None:
        raise UsageError(f"pixel type is {request.pixel_type}, expected uint8 or float32")
    if len(shape) != 4 or shape[1:] != tuple(image_shape) or not shape[0]:
        raise UsageError(f"images are of shape {shape[:8]}, expected (1 or more, {', '.join(map(str, image_shape))})")
    if shape[0] > max_images:
        raise OverLimit(f"request has {shape[0]} images, at most {max_images} are allowed: send several requests")
    if len(request.images) != (expected := prod(shape) * dtype.itemsize):
        raise UsageError(f"images have {len(request.images)} bytes, {dtype.name} of shape {shape} has {expected}")
    images = np.frombuffer(request.images, dtype).reshape(shape)
    if dtype.kind == "f" and not np.isfinite(images).all():
        raise UsageError("images hold NaN or infinity, expected pixels from 0 to 1")
    return images


def softmax(logits: NDArray) -> NDArray:
    """Return probabilities of rows of logits."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
