"""Local training: what a client does with the global model."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, cos, pi
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fedcomp.data import UNLABELLED
from fedcomp.errors import ConfigError, DataError
from fedcomp.seeding import derive_seed
from fedcomp.training.batches import Batch, endless_batches, to_batch
from fedcomp.training.compute import Compute, in_precision, memory_format, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fedcomp.config import RunConfig
    from fedcomp.data import ClientData
    from fedcomp.training.objectives import Objective, Step


_FUSED_DEVICES = ("cpu", "cuda")


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
        compute: Number format and layout of the weights while training.
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
    compute: Compute = field(default_factory=Compute)

    @classmethod
    def of(cls, config: RunConfig, compute: Compute, *, server_round: int = 1) -> LocalSettings:
        """Return what a run's configuration says for a round: its learning rate follows the schedule."""
        progress = (server_round - 1) / config.num_server_rounds
        schedules = {"constant": 1.0, "cosine": 0.5 * (1 + cos(pi * progress))}
        return cls(
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            unlabelled_ratio=config.unlabelled_ratio,
            optimizer=config.optimizer,
            learning_rate=config.learning_rate * schedules[config.learning_rate_schedule],
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            proximal_mu=config.proximal_mu,
            max_grad_norm=config.max_grad_norm,
            device=config.device,
            threads=config.client_threads,
            compute=compute,
        )


def train_locally(
    model: nn.Module, data: ClientData, settings: LocalSettings, *, objective: Objective, seed: int
) -> dict[str, float]:
    """Train `model` in place on one client's data.

    Same weights, data and seed give the same result, bit for bit, on the same machine and number of threads. The
    weights are float32 and in the layout that they came in, whatever `settings.compute` says.

    Returns:
        ``num-examples``, ``train-loss`` (mean over steps) and, where unlabelled images were used,
        ``pseudo-coverage`` and, if the truth is known, ``pseudo-accuracy`` (of the confident ones; 0 if there
        was none).

    Raises:
        DataError: The client has no image that the objective can use.
    """
    model.to(settings.device).train()
    with torch_threads(settings.threads), memory_format(model, settings.compute.memory_format):
        return _train(model, data, settings, objective, seed)


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
    labelled_batches = endless_batches(labelled, settings.batch_size, generator)
    unlabelled_batches = endless_batches(unlabelled, settings.batch_size * settings.unlabelled_ratio, generator)
    predict = in_precision(model, settings.compute.precision, labelled.images.device.type)
    optimizer = _make_optimizer(model, settings)
    anchors = [parameter.detach().clone() for parameter in model.parameters()] if settings.proximal_mu else []

    steps: list[Step] = []
    for _ in range(settings.epochs * steps_per_epoch):
        step = objective(predict, next(labelled_batches), next(unlabelled_batches), generator)
        loss = step.loss
        if settings.proximal_mu:
            loss = loss + settings.proximal_mu / 2 * _squared_distance(model, anchors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        steps.append(step._replace(loss=loss.detach()))
    metrics = {
        "num-examples": float(len(labelled.labels) + len(unlabelled.labels)),
        "train-loss": torch.stack([step.loss for step in steps]).mean(dtype=torch.float64).item(),
    }
    if candidates := sum(step.candidates for step in steps):
        confident = sum(step.confident for step in steps)
        metrics["pseudo-coverage"] = confident / candidates
        if np.all(data.hidden_labels != UNLABELLED):
            metrics["pseudo-accuracy"] = sum(step.correct for step in steps) / confident if confident else 0.0
    return metrics


def _squared_distance(model: nn.Module, anchors: list[Tensor]) -> Tensor:
    distances = [(now - then).square().sum() for now, then in zip(model.parameters(), anchors, strict=True)]
    return torch.stack(distances).sum()


def _make_optimizer(model: nn.Module, settings: LocalSettings) -> torch.optim.Optimizer:
    # One pass over the weights a step instead of one for each term.
    fused = torch.device(settings.device).type in _FUSED_DEVICES or None
    optimizers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(
            model.parameters(),
            settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
            fused=fused,
        ),
        "adam": lambda: torch.optim.AdamW(
            model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=fused
        ),
    }
    if settings.optimizer not in optimizers:
        raise ConfigError(f"optimizer is {settings.optimizer!r}, expected one of {', '.join(optimizers)}")
    return optimizers[settings.optimizer]()
