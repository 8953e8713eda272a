"""What a model can do, measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from fedcomp.data import UNLABELLED
from fedcomp.errors import DataError
from fedcomp.models import evaluation_mode
from fedcomp.training.batches import to_images
from fedcomp.training.compute import memory_format

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedcomp.data import ImageDataset
    from fedcomp.types import NDArray

# Small enough on a CPU for a convolution's output to stay in its cache: 512 takes up to three times as long.
_CPU_BATCH_SIZE, _BATCH_SIZE = 64, 512


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model on a data set.

    Args:
        accuracy: Share of images whose label was found, 0 to 1.
        loss: Mean cross-entropy, nats.
        num_examples: Number of images.
        per_class_accuracy: 0 to 1 for each class; NaN for a class without images.
    """

    accuracy: float
    loss: float
    num_examples: int
    per_class_accuracy: tuple[float, ...]


def evaluate(model: nn.Module, dataset: ImageDataset) -> Evaluation:
    """Measure `model` on a labelled data set; raises `DataError` if it is empty or an image has no label."""
    _check_labelled(dataset)
    return evaluate_logits(predict_logits(model, dataset.images), dataset)


def evaluate_logits(logits: Tensor, dataset: ImageDataset) -> Evaluation:
    """Measure what a model answered.

    Args:
        logits: (N, K), whoever computed them.
        dataset: The N images and their labels.

    Raises:
        DataError: There is no image, an image has no label, or there is not one row for each.
    """
    _check_labelled(dataset)
    if logits.shape != (expected := (len(dataset), dataset.num_classes)):
        raise DataError(f"{dataset.name}: logits of shape {tuple(logits.shape)}, expected {expected}")
    labels = torch.from_numpy(dataset.labels)
    correct = (logits.argmax(dim=1) == labels).float()
    per_class = [correct[labels == label].mean().item() for label in range(logits.shape[1])]
    return Evaluation(
        accuracy=correct.mean().item(),
        loss=F.cross_entropy(logits, labels).item(),
        num_examples=len(labels),
        per_class_accuracy=tuple(per_class),
    )


def predict_logits(model: nn.Module, images: NDArray) -> Tensor:
    """Return logits (N, K) on the CPU for uint8 images (N, C, H, W); the model is left as it was."""
    device = next(model.parameters()).device
    with evaluation_mode(model), memory_format(model, "channels-last"), torch.inference_mode():
        batches = to_images(images).split(_CPU_BATCH_SIZE if device.type == "cpu" else _BATCH_SIZE)
        return torch.cat([model(batch.to(device)).cpu() for batch in batches]).clone()


def _check_labelled(dataset: ImageDataset) -> None:
    if not len(dataset):
        raise DataError(f"{dataset.name}: no image to evaluate on")
    if unlabelled := int((dataset.labels == UNLABELLED).sum()):
        raise DataError(f"{dataset.name}: {unlabelled} of {len(dataset)} images have no label to evaluate against")
