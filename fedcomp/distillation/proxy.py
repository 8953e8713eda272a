"""Where proxy images are from: held out, of another data set, or made from the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from fedcomp.data import UNLABELLED, ImageDataset, load_dataset
from fedcomp.distillation.generator import GeneratorSettings, generate_proxy
from fedcomp.seeding import derive_rng
from fedcomp.training import to_images

if TYPE_CHECKING:
    from torch import nn

    from fedcomp.config import RunConfig
    from fedcomp.types import NDArray

GENERATED = "generated"


def proxy_images(config: RunConfig, held_out: ImageDataset, model: nn.Module) -> ImageDataset:
    """Return the unlabelled images that a configuration says to distill on.

    Args:
        config: `proxy_dataset` is empty for what is held out, ``generated``, or a data set's name.
        held_out: Of the run's own data; its shape, classes and symmetry are those of the result.
        model: Images are generated from it; left as it is.

    Raises:
        DataError: The other data set is not there.
    """
    if not config.proxy_dataset:
        return held_out
    if config.proxy_dataset == GENERATED:
        return generate_proxy(
            model,
            config.proxy_size,
            image_shape=held_out.image_shape,
            num_classes=held_out.num_classes,
            settings=GeneratorSettings(),
            seed=config.seed,
        )
    other, _ = load_dataset(config.proxy_dataset, config.proxy_dir)
    chosen = derive_rng(config.seed, "proxy").permutation(len(other))[: config.proxy_size]
    images = fit_images(other.images[chosen], held_out.image_shape)
    labels = np.full(len(images), UNLABELLED, np.int64)
    return ImageDataset(other.name, images, labels, num_classes=held_out.num_classes, flip_ok=held_out.flip_ok)


def fit_images(images: NDArray, image_shape: tuple[int, int, int]) -> NDArray:
    """Return images, uint8 (N, C, H, W), in another shape: bilinear, grey as the mean of the channels or repeated."""
    channels, height, width = image_shape
    if images.shape[1:] == image_shape:
        return images
    pixels = to_images(images)
    if pixels.shape[1] != channels:
        pixels = pixels.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
    fitted = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
    return (fitted * 255).round().clamp(0, 255).to(torch.uint8).numpy()
