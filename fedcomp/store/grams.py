"""What a model's layers are given: by that it is known which errors of their weights matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.store.runtime import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.store.layers import Layer
    from fedcomp.types import NDArray

_BATCH = 32


def input_grams(content: bytes, layers: Sequence[Layer], calibration: NDArray) -> dict[str, NDArray]:
    """Return the Gram matrix of what each layer is given, by the name of its weights.

    Args:
        content: The float32 model, ONNX.
        layers: Of it.
        calibration: Unlabelled images, uint8 (N, C, H, W); some hundreds.
    """
    inputs = LoadedModel(content).face.input_name
    traced = LoadedModel(content, also=sorted({layer.source for layer in layers} - {inputs}))
    grams: dict[str, NDArray] = {}
    for start in range(0, len(calibration), _BATCH):
        images = calibration[start : start + _BATCH]
        values = traced.trace(images) | {inputs: images.astype(np.float32) / np.float32(255)}
        for layer in layers:
            gram = layer.gram(values[layer.source])
            grams[layer.weight] = grams.get(layer.weight, 0) + gram
    return grams
