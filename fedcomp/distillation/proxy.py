"""Where proxy images are from: held out, of another data set, or made from the model; and views of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from fedcomp.data import UNLABELLED, ImageDataset, load_dataset
from fedcomp.distillation.generator import GeneratorSettings, generate_proxy
from fedcomp.seeding import derive_rng, derive_seed
from fedcomp.training import cutmix, to_images, weak_augment

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedcomp.config import RunConfig
    from fedcomp.types import NDArray

GENERATED = "generated"
_MIXED_AT_ONCE = 500


def proxy_images(config: RunConfig, held_out: ImageDataset, model: nn.Module) -> ImageDataset:
    """Return the unlabelled images that a configuration says to distill on, in `proxy_views` views.

    Args:
        config: `proxy_dataset` is empty for what is held out, ``generated``, or a data set's name.
        held_out: Of the run's own data; its shape, classes and symmetry are those of the result.
        model: Images are generated from it; left as it is.

    Raises:
        DataError: The other data set is not there.
    """
    if not config.proxy_dataset:
        proxy = held_out
    elif config.proxy_dataset == GENERATED:
        proxy = generate_proxy(
            model,
            config.proxy_size,
            image_shape=held_out.image_shape,
            num_classes=held_out.num_classes,
            settings=GeneratorSettings(),
            seed=config.seed,
        )
    else:
        other, _ = load_dataset(config.proxy_dataset, config.proxy_dir)
        chosen = derive_rng(config.seed, "proxy").permutation(len(other))[: config.proxy_size]
        proxy = _unlabelled_like(held_out, other.name, fit_images(other.images[chosen], held_out.image_shape))
    return proxy_views(proxy, config.proxy_views, augment=config.augment, seed=config.seed)


def proxy_views(proxy: ImageDataset, count: int, *, augment: bool, seed: int) -> ImageDataset:
    """Return images in several views, for a teacher to answer on each as it is.

    A student that sees an image changed and learns the answer to the unchanged one learns an invariance that its
    teacher may not have. What both see alike can be changed far more: it tells what the teacher does between images.

    Args:
        proxy: (N, C, H, W).
        count: V, 1 or more.
        augment: Whether the teacher has trained on shifted and mirrored images: then views are, too.
        seed: Of all randomness.

    Returns:
        (V * N, C, H, W), unlabelled: the images themselves, then V - 1 times all of them with a rectangle of another
        one pasted in.

    References:
        Beyer et al., Knowledge distillation: A good teacher is patient and consistent, CVPR 2022, section 3.1;
        Yun et al., CutMix, ICCV 2019, section 3.1.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "views"))

    def mixed(images: NDArray) -> NDArray:
        pixels = to_images(images)
        shown = weak_augment(pixels, generator, flip_ok=proxy.flip_ok) if augment else pixels
        return _to_bytes(cutmix(shown, torch.zeros(len(shown), 1), generator, alpha=1.0).inputs)

    starts = range(0, len(proxy), _MIXED_AT_ONCE)
    others = [mixed(proxy.images[i : i + _MIXED_AT_ONCE]) for _ in range(count - 1) for i in starts]
    return _unlabelled_like(proxy, proxy.name, np.concatenate([proxy.images, *others]))


def _unlabelled_like(like: ImageDataset, name: str, images: NDArray) -> ImageDataset:
    labels = np.full(len(images), UNLABELLED, np.int64)
    return ImageDataset(name, images, labels, num_classes=like.num_classes, flip_ok=like.flip_ok)


def fit_images(images: NDArray, image_shape: tuple[int, int, int]) -> NDArray:
    """Return images, uint8 (N, C, H, W), in another shape: bilinear, grey as the mean of the channels or repeated."""
    channels, height, width = image_shape
    if images.shape[1:] == image_shape:
        return images
    pixels = to_images(images)
    if pixels.shape[1] != channels:
        pixels = pixels.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
    fitted = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
    return _to_bytes(fitted)


def _to_bytes(pixels: Tensor) -> NDArray:
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8).numpy()
