"""A client's examples as tensors, in batches."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor

    from fedcomp.data import ImageDataset
    from fedcomp.types import NDArray


class Batch(NamedTuple):
    """Examples and what is known of them.

    Args:
        inputs: (B, ...), whatever the model takes; images are (B, C, H, W) in [0, 1].
        labels: int64, (B,). Of unlabelled examples they are for measuring only, and may be `UNLABELLED`.
        guesses: (B, K): probabilities of the classes that somebody has guessed before; None if nobody has.
    """

    inputs: Tensor
    labels: Tensor
    guesses: Tensor | None = None

    def take(self, indices: Tensor) -> Batch:
        """Return the examples at `indices`."""
        guesses = None if self.guesses is None else self.guesses.index_select(0, indices)
        return Batch(self.inputs.index_select(0, indices), self.labels.index_select(0, indices), guesses)


def to_images(images: NDArray) -> Tensor:
    """Return uint8 images as floats in [0, 1]."""
    return torch.from_numpy(images.astype(np.float32)).div_(255)


def to_batch(data: ImageDataset, labels: NDArray, device: str = "cpu") -> Batch:
    """Return a whole data set as one batch."""
    return Batch(to_images(data.images).to(device), torch.from_numpy(labels).to(device))


def shuffled_batches(batch: Batch, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """Yield one pass over `batch` in random order; the last one may be smaller."""
    order = torch.randperm(len(batch.labels), generator=generator).to(batch.labels.device)
    for indices in order.split(batch_size):
        yield batch.take(indices)


def endless_batches(batch: Batch, batch_size: int, generator: Generator) -> Iterator[Batch | None]:
    """Yield pass after pass; None for ever if `batch` is empty."""
    if not len(batch.labels):
        return repeat(None)
    return chain.from_iterable(shuffled_batches(batch, batch_size, generator) for _ in repeat(None))
