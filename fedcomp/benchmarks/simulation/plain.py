"""Models and local training in plain torch, as users of a bare loop or of stock Flower write them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedcomp.benchmarks.simulation.work import load_images, partition

if TYPE_CHECKING:
    from torch import Tensor

    from fedcomp.benchmarks.simulation.work import Work
    from fedcomp.types import NDArray


class Data(NamedTuple):
    """All clients' images (N, 1, 28, 28), labels (N,), and each client's indices."""

    images: Tensor
    labels: Tensor
    parts: NDArray


class Trained(NamedTuple):
    """What a client's training came to: images seen, mean loss over the steps."""

    examples: int
    loss: float


def make_model(name: str) -> nn.Module:
    """Return the model of that name."""
    models = {"perceptron": _perceptron, "cnn": _cnn}
    return models[name]()


@functools.lru_cache(maxsize=1)
def load_data(work: Work) -> Data:
    """Load the images, once a process."""
    images = load_images(work)
    # Strides (784, 1, 28, 1), as a transposed array has them, would turn the whole loop channels-last.
    pixels = torch.from_numpy(images.images).contiguous().float().div_(255)
    return Data(pixels, torch.from_numpy(images.labels), partition(work))


def train(model: nn.Module, data: Data, client: int, batch_size: int, learning_rate: float) -> Trained:
    """Train one epoch on one client's images."""
    images, labels = data.images[data.parts[client]], data.labels[data.parts[client]]
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    model.train()
    examples, losses = 0, []
    for batch in torch.randperm(len(labels)).split(batch_size):
        optimizer.zero_grad()
        loss = cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        examples += len(batch)
        losses.append(loss.detach())
    return Trained(examples, float(torch.stack(losses).mean()))


def _perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
    )


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )
