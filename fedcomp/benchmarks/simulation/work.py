"""The work that every contestant does: who trains on what, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.data import ImageDataset, load_dataset
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from fedcomp.types import NDArray

_DATASET = "fashion-mnist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Rounds of FedAvg on images of 28 x 28.

    Args:
        model: ``perceptron`` (784-200-200-10, 199,210 parameters) or ``cnn`` (1,663,370).
        rounds: Number of rounds, the first one and that of the memory among them.
        num_clients: Clients that there are.
        images: Each client's number of images.
        clients: Clients a round.
        batch_size: Images a step.
        learning_rate: Of plain SGD.
        precision: ``float32`` or ``bfloat16``; of fedcomp's own client, others know float32 only.
        data: The data set, or ``random`` for random images of the same shape.
    """

    model: str
    rounds: int
    num_clients: int = 100
    images: int = 600
    clients: int = 10
    batch_size: int = 50
    learning_rate: float = 0.05
    precision: str = "float32"
    data: str = _DATASET

    @property
    def examples_a_round(self) -> int:
        """Images that are trained on in one round, of one epoch."""
        return self.clients * self.images

    def in_precision(self, precision: str) -> Work:
        """Return the same work in another number format."""
        return replace(self, precision=precision)


def find_data() -> str:
    """Return the data set that is here: Fashion-MNIST, or else random images."""
    try:
        load_dataset(_DATASET)
    except DataError:
        return "random"
    return _DATASET


def load_images(work: Work) -> ImageDataset:
    """Return the training images, as many as all clients have."""
    count = work.num_clients * work.images
    if work.data != "random":
        return load_dataset(work.data)[0].take(np.arange(count))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    return ImageDataset("random", pixels, rng.integers(0, 10, count), num_classes=10)


def partition(work: Work) -> NDArray:
    """Return the indices of each client's images: (num_clients, images), shuffled."""
    order = np.random.default_rng(0).permutation(work.num_clients * work.images)
    return order.reshape(work.num_clients, work.images)
