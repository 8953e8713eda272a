"""Local training: what a client does with the global model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fedcomp.errors import ConfigError, DataError
from fedcomp.models import training_mode
from fedcomp.seeding import derive_seed
from fedcomp.training.batches import endless_batches, to_batch
from fedcomp.training.compute import Compute, in_precision, memory_format, torch_threads
from fedcomp.training.lone_examples import lone_examples
from fedcomp.training.objectives import Received
from fedcomp.training.regularizers import Proximal
from fedcomp.training.static_norm import untracked_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fedcomp.config import RunConfig
    from fedcomp.data import ClientData
    from fedcomp.training.batches import Batch
    from fedcomp.training.objectives import Objective
    from fedcomp.training.regularizers import Regularizer


_FUSED_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """How a client trains.

    Args:
        epochs: Passes over the labelled examples, or over the unlabelled ones where they take more steps.
        batch_size: Labelled examples a step.
        unlabelled_ratio: Unlabelled examples a step, as a multiple of `batch_size`.
        optimizer: ``sgd`` (Nesterov where there is momentum) or ``adam`` (AdamW).
        learning_rate: Above 0.
        momentum: For sgd.
        weight_decay: L2 penalty of sgd, decoupled decay of adam.
        proximal_mu: Weight of ``|w - w_global|^2 / 2`` (Li et al., FedProx, MLSys 2020, equation 2); 0 is off.
        max_grad_norm: Clip gradients to this norm; 0 is off.
        static_batch_norm: Leave the running statistics of BatchNorm layers as they are.
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
    static_batch_norm: bool = False
    device: str = "cpu"
    threads: int = 1
    compute: Compute = field(default_factory=Compute)

    @classmethod
    def of(cls, config: RunConfig, *, server_round: int = 1) -> LocalSettings:
        """Return what a run's configuration says for a round: its learning rate follows the schedule."""
        return cls(
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            unlabelled_ratio=config.unlabelled_ratio,
            optimizer=config.optimizer,
            learning_rate=config.learning_rate * config.rate_factor(server_round),
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            proximal_mu=config.proximal_mu,
            max_grad_norm=config.max_grad_norm,
            static_batch_norm=config.static_batch_norm,
            device=config.device,
            threads=config.client_threads,
            compute=Compute.of(config),
        )


def train_locally(
    model: nn.Module,
    data: ClientData,
    settings: LocalSettings,
    *,
    objective: Objective,
    seed: int,
    regularizer: Regularizer | None = None,
) -> dict[str, Any]:
    """Train `model` in place on one client's images; see `train_on_batches`."""
    labelled = to_batch(data.labelled, data.labelled.labels, settings.device)
    unlabelled = to_batch(data.unlabelled, data.hidden_labels, settings.device)
    return train_on_batches(
        model, labelled, unlabelled, settings, objective=objective, seed=seed, regularizer=regularizer
    )


def train_on_batches(
    model: nn.Module,
    labelled: Batch,
    unlabelled: Batch,
    settings: LocalSettings,
    *,
    objective: Objective,
    seed: int,
    regularizer: Regularizer | None = None,
) -> dict[str, Any]:
    """Train `model` in place on a client's examples, whatever they are.

    Same weights, data and seed give the same result, bit for bit, on the same machine and number of threads. The
    weights are float32 and in the layout that they came in, whatever `settings.compute` says. Parameters without
    gradient stay as they are, and parts that are frozen as a whole compute as in evaluation.

    Args:
        model: Any that takes a batch's inputs.
        labelled: All of the client's labelled examples.
        unlabelled: All others; their labels measure pseudo-labels.
        settings: How.
        objective: What is minimized.
        seed: Of all randomness.
        regularizer: A further term of the loss, of the weights alone.

    Returns:
        ``num-examples`` that were trained on, ``trusted-examples`` (labels and trusted guesses), each at least 1,
        ``train-loss`` (mean over steps, 0 without any) and, of objectives that guess, the counts of `PseudoLabels`.

    Raises:
        DataError: The client has no example that the objective can use.
    """
    training_mode(model.to(settings.device))
    norms = untracked_statistics(model) if settings.static_batch_norm else contextlib.nullcontext()
    layout = memory_format(model, settings.compute.memory_format)
    with torch_threads(settings.threads), layout, norms, lone_examples(model):
        return _train(model, labelled, unlabelled, settings, objective, seed, regularizer)


def _train(
    model: nn.Module,
    labelled: Batch,
    unlabelled: Batch,
    settings: LocalSettings,
    objective: Objective,
    seed: int,
    regularizer: Regularizer | None,
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "local"))
    precision = settings.compute.precision
    predict = in_precision(model, precision, labelled.inputs.device.type)
    unlabelled, state, counts = objective.begin(Received(model, predict, unlabelled, precision))
    unlabelled_batch_size = settings.batch_size * settings.unlabelled_ratio
    steps_per_epoch = max(
        ceil(len(labelled.labels) / settings.batch_size), ceil(len(unlabelled.labels) / unlabelled_batch_size)
    )
    if not steps_per_epoch and not (counts and counts.guessed):
        raise DataError("the client has no labelled example, and no unlabelled one that its objective could use")
    labelled_batches = endless_batches(labelled, settings.batch_size, generator)
    unlabelled_batches = endless_batches(unlabelled, unlabelled_batch_size, generator)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = _make_optimizer(parameters, settings)
    proximal = Proximal(parameters, settings.proximal_mu) if settings.proximal_mu else None
    regularizers = [term for term in (proximal, regularizer) if term]

    losses: list[Tensor] = []
    for _ in range(settings.epochs * steps_per_epoch):
        step = objective(predict, next(labelled_batches), next(unlabelled_batches), generator, state)
        loss, state = step.loss, step.state
        for term in regularizers:
            loss = loss + term()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.max_grad_norm:
            nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        losses.append(loss.detach())
        if counts and step.guessed:
            counts += step.guessed
    # Guesses of the steps are of all unlabelled examples; those of the beginning have left only the trusted ones.
    trust = (counts.coverage or 0.0) if counts and unlabelled.guesses is None else 1.0
    return {
        "num-examples": float(max(1, len(labelled.labels) + len(unlabelled.labels))),
        "trusted-examples": max(1.0, len(labelled.labels) + trust * len(unlabelled.labels)),
        "train-loss": torch.stack(losses).mean(dtype=torch.float64).item() if losses else 0.0,
        **(counts.to_metrics() if counts else {}),
    }


def _make_optimizer(parameters: list[nn.Parameter], settings: LocalSettings) -> torch.optim.Optimizer:
    # One pass over the weights a step instead of one for each term.
    fused = torch.device(settings.device).type in _FUSED_DEVICES or None
    optimizers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(
            parameters,
            settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
            fused=fused,
        ),
        "adam": lambda: torch.optim.AdamW(
            parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=fused
        ),
    }
    if settings.optimizer not in optimizers:
        raise ConfigError(f"optimizer is {settings.optimizer!r}, expected one of {', '.join(optimizers)}")
    return optimizers[settings.optimizer]()
