"""How good a client's own model is, its local layers included, on images of its own that it did not train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.config import PERSONAL_ACCURACY_KEY, PERSONAL_EXAMPLES_KEY
from fedcomp.training import evaluate

if TYPE_CHECKING:
    from torch import nn

    from fedcomp.data import ImageDataset


def personal_metrics(model: nn.Module, own: ImageDataset) -> dict[str, float]:
    """Return accuracy and number of images; the accuracy is 0 of 0 where a client has no image to spare."""
    accuracy = evaluate(model, own).accuracy if len(own) else 0.0
    return {PERSONAL_ACCURACY_KEY: accuracy, PERSONAL_EXAMPLES_KEY: float(len(own))}
