"""Where a model looks, and whether its student looks there, too."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from fedcomp.errors import UsageError
from fedcomp.training import predict_logits, to_images

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedcomp.data import ImageDataset

_STEPS, _BATCH_SIZE = 32, 64


@dataclass(frozen=True, eq=False)
class SaliencyDrift:
    """Attribution maps of two models for the same images and the same classes.

    Args:
        images: The images; the classes that are explained are those that the teacher sees in them.
        teacher: (N, H, W), see `integrated_gradients`.
        student: The same.
        drift: (N,): 1 minus the cosine of the two maps: 0 for the same map, 1 for unlike ones, 2 for opposite ones.
    """

    images: ImageDataset
    teacher: Tensor
    student: Tensor
    drift: Tensor

    def by_class(self) -> dict[int, float]:
        """Return the mean drift of each label's images; a label without images is absent."""
        labels = torch.from_numpy(self.images.labels)
        return {int(label): self.drift[labels == label].mean().item() for label in labels.unique()}


def first_of_each_class(images: ImageDataset, count: int) -> ImageDataset:
    """Return the first `count` images of each label, ordered by label."""
    places = [np.flatnonzero(images.labels == label)[:count] for label in range(images.num_classes)]
    return images.take(np.concatenate(places))


def integrated_gradients(model: nn.Module, images: ImageDataset, classes: Tensor) -> Tensor:
    """Return what each pixel adds to the logit of a class, between a black image and the image.

    Args:
        model: Differentiable; left as it was.
        images: N of them.
        classes: int64 (N,).

    Returns:
        (N, H, W), summed over channels; a map sums to the logit minus that of the black image, as near as 32 steps of
        the Gauss-Legendre rule come.

    Raises:
        UsageError: The extra is not installed.

    References:
        Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, section 3.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of captum's own deprecations
        try:
            from captum.attr import IntegratedGradients
        except ImportError:
            raise UsageError("explaining needs captum: pip install 'fedcomp[explain]'") from None
        was_training = model.training
        model.eval()
        try:
            maps: Tensor = IntegratedGradients(model).attribute(
                to_images(images.images), target=classes, n_steps=_STEPS, internal_batch_size=_BATCH_SIZE
            )
        finally:
            model.train(was_training)
    return maps.detach().sum(dim=1).float()


def saliency_drift(teacher: nn.Module, student: nn.Module, images: ImageDataset) -> SaliencyDrift:
    """Compare where two models look for the teacher's answer.

    Args:
        teacher: Left as it was.
        student: Left as it was.
        images: 1 or more.

    Raises:
        UsageError: The extra is not installed.
    """
    classes = predict_logits(teacher, images.images).argmax(dim=1)
    first, second = (integrated_gradients(model, images, classes) for model in (teacher, student))
    return SaliencyDrift(images, first, second, 1 - F.cosine_similarity(first.flatten(1), second.flatten(1)))
