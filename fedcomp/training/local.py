"""Local training: what a client does with the global model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import chain, repeat
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fedcomp.errors import ConfigError, DataError
from fedcomp.seeding import derive_seed
from fedcomp.training.objectives import Batch, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Generator, Tensor

    from fedcomp.data import ClientData, ImageDataset
    from fedcomp.training.objectives import Objective
    from fedcomp.types import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """How a client trains.

    Args:
        epochs: Passes over the labelled images, or over the unlabelled ones where they take more steps.
        batch_size: Labelled images a step.
        unlabelled_ratio: Unlabelled images a step, as a multiple of `batch_size`.
        optimizer: ``sgd`` (Nesterov where there is momentum) or ``adam`` (AdamW).
        learning_rate: Above 0.
        momentum: For sgd.
        weight_decay: L2 penalty of sgd, decoupled decay of adam.
        proximal_mu: Weight of ``|w - w_global|^2 / 2`` (Li et al., FedProx, MLSys 2020, equation 2); 0 is off.
        max_grad_norm: Clip gradients to this norm; 0 is off.
        device: A torch device.
        threads: Threads that torch may use; 0 leaves them as they are. One is the fastest for small models, and
            results repeat bit for bit on the same number only.
    """

    epochs: int = 1
    batch_size: int = 16
    unlabelled_ratio: int = 2
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    proximal_mu: float = 0.0
    max_grad_norm: float = 0.0
    device: str = "cpu"
    threads: int = 1


def train_locally(
    model: nn.Module, data: ClientData, settings: LocalSettings, *, objective: Objective, seed: int
) -> dict[str, float]:
    """Train `model` in place on one client's data.

    Same weights, data and seed give the same result, bit for bit, on the same number of threads.

    Returns:
        ``num-examples``, ``train-loss`` (mean over steps) and, where unlabelled images were used,
        ``pseudo-coverage`` and ``pseudo-accuracy`` (of the confident ones; 0 if there was none).

    Raises:
        DataError: The client has no image that the objective can use.
    """
    with torch_threads(settings.threads):
        return _train(model.to(settings.device).train(), data, settings, objective, seed)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads, and restore what was; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    model: nn.Module, data: ClientData, settings: LocalSettings, objective: Objective, seed: int
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "local"))
    labelled = to_batch(data.labelled, data.labelled.labels, settings.device)
    unlabelled = to_batch(data.unlabelled, data.hidden_labels, settings.device)
    if not objective.uses_unlabelled:
        unlabelled = Batch(unlabelled.images[:0], unlabelled.labels[:0])
    steps_per_epoch = max(
        ceil(len(labelled.labels) / settings.batch_size),
        ceil(len(unlabelled.labels) / (settings.batch_size * settings.unlabelled_ratio)),
    )
    if not steps_per_epoch:
        raise DataError("the client has no labelled image, and no unlabelled one that its objective could use")
    labelled_batches = _endless_batches(labelled, settings.batch_size, generator)
    unlabelled_batches = _endless_batches(unlabelled, settings.batch_size * settings.unlabelled_ratio, generator)
    optimizer = _make_optimizer(model, settings)
    anchors = [parameter.detach().clone() for parameter in model.parameters()] if settings.proximal_mu else []

    losses, steps = 0.0, list[Step]()
    for _ in range(settings.epochs * steps_per_epoch):
        step = objective(model, next(labelled_batches), next(unlabelled_batches), generator)
        loss = step.loss
        if settings.proximal_mu:
            loss = loss + settings.proximal_mu / 2 * _squared_distance(model, anchors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        losses += loss.item()
        steps.append(step._replace(loss=loss.detach()))
    metrics = {
        "num-examples": float(len(labelled.labels) + len(unlabelled.labels)),
        "train-loss": losses / len(steps),
    }
    if candidates := sum(step.candidates for step in steps):
        confident = sum(step.confident for step in steps)
        metrics["pseudo-coverage"] = confident / candidates
        metrics["pseudo-accuracy"] = sum(step.correct for step in steps) / confident if confident else 0.0
    return metrics


def to_images(images: NDArray) -> Tensor:
    """Return uint8 images as floats in [0, 1]."""
    return torch.from_numpy(images.astype(np.float32)).div_(255)


def to_batch(data: ImageDataset, labels: NDArray, device: str = "cpu") -> Batch:
    """Return a whole data set as one batch."""
    return Batch(to_images(data.images).to(device), torch.from_numpy(labels).to(device))


def shuffled_batches(batch: Batch, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """Yield one pass over `batch` in random order; the last one may be smaller."""
    for indices in torch.randperm(len(batch.labels), generator=generator).split(batch_size):
        yield Batch(batch.images[indices], batch.labels[indices])


def _endless_batches(batch: Batch, batch_size: int, generator: Generator) -> Iterator[Batch | None]:
    if not len(batch.labels):
        return repeat(None)
    return chain.from_iterable(shuffled_batches(batch, batch_size, generator) for _ in repeat(None))


def _squared_distance(model: nn.Module, anchors: list[Tensor]) -> Tensor:
    distances = [(now - then).square().sum() for now, then in zip(model.parameters(), anchors, strict=True)]
    return torch.stack(distances).sum()


def _make_optimizer(model: nn.Module, settings: LocalSettings) -> torch.optim.Optimizer:
    optimizers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(
            model.parameters(),
            settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
        ),
        "adam": lambda: torch.optim.AdamW(
            model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        ),
    }
    if settings.optimizer not in optimizers:
        raise ConfigError(f"optimizer is {settings.optimizer!r}, expected one of {', '.join(optimizers)}")
    return optimizers[settings.optimizer]()
