"""Proxy images without any data: a small generator is trained to make what the model is sure about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fedcomp.data import UNLABELLED, ImageDataset
from fedcomp.seeding import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

_LATENT, _WIDTH, _BATCH = 64, 64, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSettings:
    """How the generator learns.

    Args:
        steps: Batches of 64 images.
        learning_rate: Of Adam.
        diversity: Weight of the term that keeps images of a class apart.
    """

    steps: int = 300
    learning_rate: float = 1e-3
    diversity: float = 2.0


def generate_proxy(
    model: nn.Module,
    count: int,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    settings: GeneratorSettings,
    seed: int,
) -> ImageDataset:
    """Make images that a model takes for members of its classes, as many of each: a last resort where there are none.

    The generator is given noise and a class; it learns by the model's cross-entropy with that class, and by a term that
    rewards different images for different noise, since it would else make one image a class.

    Args:
        model: Labels the images; its weights are left as they are.
        count: Number of images, 1 or more.
        image_shape: Channels, height, width.
        num_classes: Of the model.
        settings: See there.
        seed: Same seed, same images.

    Returns:
        uint8 images without labels.

    References:
        Chen et al., Data-Free Learning of Student Networks (DAFL), ICCV 2019, section 3.2 (one-hot loss, balance);
        Mao et al., Mode Seeking Generative Adversarial Networks, CVPR 2019, section 3.2 (diversity).
    """
    source = torch.Generator().manual_seed(derive_seed(seed, "generator"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "generator weights"))
        generator = _Generator(image_shape, num_classes)
    was_training, needs_gradient = model.training, [parameter.requires_grad for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        _train(generator, model, num_classes, settings, source)
    finally:
        model.train(was_training)
        for parameter, needs in zip(model.parameters(), needs_gradient, strict=True):
            parameter.requires_grad_(needs)
    generator.eval()
    classes = torch.arange(count) % num_classes
    with torch.inference_mode():
        parts = [generator(_noise(len(part), source), part) for part in classes.split(_BATCH)]
    images = (torch.cat(parts) * 255).round().to(torch.uint8).numpy()
    return ImageDataset("generated", images, np.full(count, UNLABELLED, np.int64), num_classes=num_classes)


class _Generator(nn.Module):
    """Noise (B, 64) and classes (B,) in, images (B, C, H, W) in [0, 1] out."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self._small, self._size = (_WIDTH, -(-height // 4), -(-width // 4)), (height, width)
        self.embed = nn.Embedding(num_classes, _LATENT)
        self.project = nn.Linear(_LATENT, _WIDTH * self._small[1] * self._small[2])
        self.first = nn.Sequential(nn.BatchNorm2d(_WIDTH), nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.BatchNorm2d(_WIDTH), nn.Conv2d(_WIDTH, channels, 3, padding=1))

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        seeds = self.project(noise * self.embed(classes)).unflatten(1, self._small)
        doubled = F.interpolate(self.first(F.interpolate(seeds, scale_factor=2)), size=self._size)
        images: Tensor = self.second(doubled).sigmoid()
        return images


def _train(
    generator: _Generator, model: nn.Module, num_classes: int, settings: GeneratorSettings, source: torch.Generator
) -> None:
    optimizer = torch.optim.Adam(generator.parameters(), settings.learning_rate)
    for _ in range(settings.steps):
        noise = _noise(_BATCH, source)
        # Two halves of the same classes: what differs between them is the noise.
        classes = torch.randint(num_classes, (_BATCH // 2,), generator=source).repeat(2)
        images = generator(noise, classes)
        loss = F.cross_entropy(model(images), classes) - settings.diversity * _difference(images, noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def _difference(images: Tensor, noise: Tensor) -> Tensor:
    """Return the distance of images over the distance of their noise, between the halves of a batch."""
    first, second = images.chunk(2)
    left, right = noise.chunk(2)
    return ((first - second).abs().mean(dim=(1, 2, 3)) / (left - right).abs().mean(dim=1)).mean()


def _noise(count: int, source: torch.Generator) -> Tensor:
    return torch.randn(count, _LATENT, generator=source)
